"""CLIP's ResNet in torch: a three-convolution stem, antialiased strides, attention pooling.

Shapes: n images, c channels, H and W rows and columns, d the shared dimension.
"""

from collections.abc import Iterator, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tandem.towers.parts.torch import normal, resize_grid
from tandem.towers.resnet.description import ResNet


def _downsample(channels_in: int, channels_out: int) -> nn.Sequential:
    """The shortcut's convolution and norm; the pooling before them has no weights and stands in `forward`."""
    return nn.Sequential(nn.Conv2d(channels_in, channels_out, 1, bias=False), nn.BatchNorm2d(channels_out))


class Bottleneck(nn.Module):
    """1 x 1, 3 x 3, 1 x 1 convolutions; a stride is an average pooling before the last one and in the shortcut."""

    def __init__(self, channels_in: int, channels: int, stride: int) -> None:
        super().__init__()
        channels_out = channels * 4
        self.stride = stride
        self.conv1 = nn.Conv2d(channels_in, channels, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.conv3 = nn.Conv2d(channels, channels_out, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(channels_out)
        changes = stride > 1 or channels_in != channels_out
        self.downsample = _downsample(channels_in, channels_out) if changes else None

    @property
    def last_norm(self) -> nn.BatchNorm2d:
        """The norm before the shortcut is added."""
        return self.bn3

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.bn1(self.conv1(x)))
        y = F.relu(self.bn2(self.conv2(y)))
        y = self.bn3(self.conv3(_pool(y, self.stride)))
        shortcut = x if self.downsample is None else self.downsample(_pool(x, self.stride))
        return F.relu(y + shortcut)


class BasicBlock(nn.Module):
    """Two 3 x 3 convolutions; a stride is an average pooling of the block's input."""

    def __init__(self, channels_in: int, channels: int, stride: int) -> None:
        super().__init__()
        self.stride = stride
        self.conv1 = nn.Conv2d(channels_in, channels, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        changes = stride > 1 or channels_in != channels
        self.downsample = _downsample(channels_in, channels) if changes else None

    @property
    def last_norm(self) -> nn.BatchNorm2d:
        """The norm before the shortcut is added."""
        return self.bn2

    def forward(self, x: Tensor) -> Tensor:
        x = _pool(x, self.stride)
        y = F.relu(self.bn1(self.conv1(x)))
        y = self.bn2(self.conv2(y))
        return F.relu(y + (x if self.downsample is None else self.downsample(x)))


def _pool(x: Tensor, stride: int) -> Tensor:
    return F.avg_pool2d(x, stride) if stride > 1 else x


class AttentionPool(nn.Module):
    """One attention layer whose only query is the mean position."""

    def __init__(self, vision: ResNet, embed_dim: int) -> None:
        super().__init__()
        w = vision.pool_width
        self.heads = vision.heads
        self.positional_embedding = nn.Parameter(torch.empty(vision.grid**2 + 1, w))
        self.q_proj = nn.Linear(w, w)
        self.k_proj = nn.Linear(w, w)
        self.v_proj = nn.Linear(w, w)
        self.c_proj = nn.Linear(w, embed_dim)

    def forward(self, x: Tensor) -> Tensor:
        """x [n c H W] -> [n d]."""
        n, c = x.shape[:2]
        positions = resize_grid(self.positional_embedding, (x.shape[2], x.shape[3]))
        x = x.flatten(2).transpose(1, 2)  # [n H*W c]
        x = torch.cat([x.mean(dim=1, keepdim=True), x], dim=1) + positions.to(x.dtype)  # [n 1+H*W c]
        q, k, v = self.q_proj(x[:, :1]), self.k_proj(x), self.v_proj(x)
        q, k, v = (y.view(n, -1, self.heads, c // self.heads).transpose(1, 2) for y in (q, k, v))  # [n heads t c/heads]
        out = F.scaled_dot_product_attention(q, k, v)  # [n heads 1 c/heads]
        return self.c_proj(out.reshape(n, c))  # type: ignore[no-any-return]

    def dense(self, x: Tensor) -> Tensor:
        """x [n c H W] -> what the pooling makes of each position alone [n H*W d] (Zhou et al. 2022)."""
        positions = resize_grid(self.positional_embedding, (x.shape[2], x.shape[3]))[1:]
        x = x.flatten(2).transpose(1, 2)  # [n H*W c]
        return self.c_proj(self.v_proj(x + positions.to(x.dtype)))  # type: ignore[no-any-return]


class Module(nn.Module):
    """Stem, four stages, attention pooling."""

    layer1: nn.Sequential
    layer2: nn.Sequential
    layer3: nn.Sequential
    layer4: nn.Sequential

    def __init__(self, vision: ResNet, embed_dim: int) -> None:
        super().__init__()
        w = vision.width
        self.stem_stride = vision.stem_stride
        self.conv1 = nn.Conv2d(3, w // 2, 3, stride=2, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(w // 2)
        self.conv2 = nn.Conv2d(w // 2, w // 2, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(w // 2)
        self.conv3 = nn.Conv2d(w // 2, w, 3, padding=1, bias=False)
        self.bn3 = nn.BatchNorm2d(w)
        block = Bottleneck if vision.block == "bottleneck" else BasicBlock
        channels_in = w
        for stage, depth in enumerate(vision.layers):
            channels = w * 2**stage
            blocks: list[nn.Module] = []
            for i in range(depth):
                blocks.append(block(channels_in, channels, stride=2 if stage > 0 and i == 0 else 1))
                channels_in = channels * vision.expansion
            self.add_module(f"layer{stage + 1}", nn.Sequential(*blocks))
        self.attnpool = AttentionPool(vision, embed_dim)

    def forward(self, pixels: Tensor) -> Tensor:
        """pixels [n 3 H W], normalised -> [n d], not of unit length."""
        return self.attnpool(self._stages(pixels, 4))  # type: ignore[no-any-return]

    def states(self, pixels: Tensor, blocks: int, final_norm: bool, projection: bool) -> Tensor:
        """pixels [n 3 H W] -> every position after so many stages, row by row [n p c]; 0: the stem.

        There is no last norm, and no projection of a position: both are false.
        """
        return self._stages(pixels, blocks).flatten(2).transpose(1, 2)

    def dense(self, pixels: Tensor) -> Tensor:
        """pixels [n 3 H W] -> a vector for each position [n p d], not of unit length."""
        return self.attnpool.dense(self._stages(pixels, 4))

    def _stages(self, pixels: Tensor, count: int) -> Tensor:
        """The stem and the first `count` stages: [n 3 H W] -> [n c h w]."""
        x = F.relu(self.bn1(self.conv1(pixels)))
        x = F.relu(self.bn2(self.conv2(x)))
        x = F.relu(self.bn3(self.conv3(x)))
        x = _pool(x, self.stem_stride // 2)
        for stage in (self.layer1, self.layer2, self.layer3, self.layer4)[:count]:
            x = stage(x)
        return x

    def blocks(self) -> Sequence[nn.Module]:
        """What is checkpointed, compiled and sharded one by one, in order."""
        return [block for stage in (self.layer1, self.layer2, self.layer3, self.layer4) for block in stage]

    def after_blocks(self) -> Iterator[nn.Parameter]:
        """Parameters of what follows the last block."""
        yield from self.attnpool.parameters()

    def initialise(self, draw: torch.Generator) -> None:
        """Convolutions by He's rule over their outputs; the last norm of each block 0: blocks start as identity."""
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu", generator=draw)
            elif isinstance(module, AttentionPool):
                std = module.c_proj.in_features**-0.5
                for linear in (module.q_proj, module.k_proj, module.v_proj, module.c_proj):
                    normal(linear.weight, std, draw)
                    linear.bias.zero_()
                normal(module.positional_embedding, std, draw)
        for module in self.modules():
            if isinstance(module, Bottleneck | BasicBlock):
                module.last_norm.weight.zero_()
