"""FastViT in torch, with its branches apart: what is trained. Modules are named as in timm.

Shapes: n images, c channels, h and w rows and columns, t positions, d shared dimension.
"""

from collections.abc import Iterator, Sequence
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tandem.towers.fastvit.description import HEAD_WIDTH, FastViT
from tandem.towers.parts.torch import ConvNorm, LayerNorm, attend

FIRST_SCALE = 1e-5  # of what a block adds, before anything is learnt
FIRST_STD = 0.02  # of the weights of MLPs, attention and the projection


class SqueezeExcite(nn.Module):
    """Channels weighted by the mean of their positions (Hu et al. 2018)."""

    def __init__(self, width: int, inner: int) -> None:
        super().__init__()
        self.fc1 = nn.Conv2d(width, inner, 1)
        self.fc2 = nn.Conv2d(inner, width, 1)

    def forward(self, x: Tensor) -> Tensor:
        inner = F.relu(self.fc1(x.mean((2, 3), keepdim=True)))
        return x * torch.sigmoid(self.fc2(inner))


class Branches(nn.Module):
    """A sum of a convolution, one of 1 x 1 and a batch norm alone, where there are such (Vasu et al. 2023)."""

    def __init__(
        self,
        entering: int,
        leaving: int,
        kernel: int,
        stride: int = 1,
        groups: int = 1,
        scale: bool = True,
        squeeze: int = 0,
    ) -> None:
        super().__init__()
        self.conv_kxk = nn.ModuleList([ConvNorm(entering, leaving, kernel, stride, groups, kernel // 2)])
        self.stride = stride
        self.conv_scale = ConvNorm(entering, leaving, 1, groups=groups) if kernel > 1 and scale else None
        self.identity = nn.BatchNorm2d(entering) if entering == leaving and stride == 1 else None
        self.se = SqueezeExcite(leaving, squeeze) if squeeze else None

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv_kxk[0](x)
        if self.conv_scale is not None:
            # Its stride is taken here: oneDNN's gradient of a 1 x 1 convolution of stride 2 over the three channels of
            # pixels writes beyond its memory (oneDNN issue 6035).
            y = y + self.conv_scale(x[:, :, :: self.stride, :: self.stride])
        if self.identity is not None:
            y = y + self.identity(x)
        return y if self.se is None else self.se(y)  # type: ignore[no-any-return]


class Downsampling(nn.Module):
    """Half of the grid, twice the channels."""

    def __init__(self, entering: int, leaving: int, squeeze: int) -> None:
        super().__init__()
        self.proj = nn.Sequential(LargeKernel(entering, leaving, squeeze), Branches(leaving, leaving, 1))

    def forward(self, x: Tensor) -> Tensor:
        large, pointwise = self.proj
        return F.gelu(pointwise(F.gelu(large(x))))


class LargeKernel(nn.Module):
    """A depthwise 7 x 7 convolution of stride 2 with a branch of 3 x 3 (Ding et al. 2022)."""

    def __init__(self, entering: int, leaving: int, squeeze: int) -> None:
        super().__init__()
        self.large_conv = ConvNorm(entering, leaving, 7, 2, entering, 3)
        self.small_conv = ConvNorm(entering, leaving, 3, 2, entering, 1)
        self.se = SqueezeExcite(leaving, squeeze) if squeeze else None

    def forward(self, x: Tensor) -> Tensor:
        y = self.large_conv(x) + self.small_conv(x)
        return y if self.se is None else self.se(y)  # type: ignore[no-any-return]


class LayerScale(nn.Module):
    """A learned scale per channel (Touvron et al. 2021)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.empty(width, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.gamma.to(x.dtype)


class Skip(nn.Module):
    """A batch norm alone."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.identity = nn.BatchNorm2d(width)

    def forward(self, x: Tensor) -> Tensor:
        return self.identity(x)  # type: ignore[no-any-return]


class RepMixer(nn.Module):
    """Positions mixed by a depthwise convolution: x + scale (mixer(x) - norm(x)) (Vasu et al. 2023, 3.2)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = Skip(width)
        self.mixer = Branches(width, width, 3, groups=width)
        self.layer_scale = LayerScale(width)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.layer_scale(self.mixer(x) - self.norm(x))  # type: ignore[no-any-return]


class ConvolutionalMLP(nn.Module):
    """A depthwise 7 x 7 convolution and an MLP over channels."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.conv = ConvNorm(width, width, 7, 1, width, 3)
        self.fc1 = nn.Conv2d(width, hidden, 1)
        self.fc2 = nn.Conv2d(hidden, width, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(F.gelu(self.fc1(self.conv(x))))  # type: ignore[no-any-return]


class ConvolutionBlock(nn.Module):
    """Positions mixed by convolution, then the MLP, added back."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.token_mixer = RepMixer(width)
        self.mlp = ConvolutionalMLP(width, hidden)
        self.layer_scale = LayerScale(width)

    def forward(self, x: Tensor) -> Tensor:
        x = self.token_mixer(x)
        return x + self.layer_scale(self.mlp(x))  # type: ignore[no-any-return]


class Attention(nn.Module):
    """Multi-head self-attention over the positions."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.qkv = nn.Linear(width, 3 * width, bias=False)
        self.proj = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        """x [n c h w] -> [n c h w]."""
        n, c, h, w = x.shape
        qkv = self.qkv(x.flatten(2).transpose(1, 2))  # [n t 3c]
        q, k, v = qkv.view(n, h * w, 3, c // HEAD_WIDTH, HEAD_WIDTH).permute(2, 0, 3, 1, 4)  # each [n heads t 32]
        y = self.proj(attend(q, k, v, causal=False).transpose(1, 2).reshape(n, h * w, c))  # [n t c]
        return y.transpose(1, 2).reshape(n, c, h, w)  # type: ignore[no-any-return]


class ChannelNorm(LayerNorm):
    """A layer norm over the channels of each position: [n c h w] -> [n c h w]."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class AttentionBlock(nn.Module):
    """Positions mixed by attention, then the MLP, each added back."""

    def __init__(self, width: int, hidden: int, vision: FastViT) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(width) if vision.attention_norm == "batch" else ChannelNorm(width)
        self.token_mixer = Attention(width)
        self.layer_scale_1 = LayerScale(width)
        self.mlp = ConvolutionalMLP(width, hidden)
        self.layer_scale_2 = LayerScale(width)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.layer_scale_1(self.token_mixer(self.norm(x)))
        return x + self.layer_scale_2(self.mlp(x))  # type: ignore[no-any-return]


class Positions(nn.Module):
    """Positions from what surrounds them, by a depthwise 7 x 7 convolution (Chu et al. 2023)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.pos_enc = nn.Conv2d(width, width, 7, padding=3, groups=width)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.pos_enc(x)  # type: ignore[no-any-return]


class Stage(nn.Module):
    """Downsampling, positions where attention follows, blocks."""

    def __init__(self, vision: FastViT, stage: int) -> None:
        super().__init__()
        width, attention = vision.widths[stage], vision.mixes_by_attention(stage)
        self.downsample = Downsampling(width // 2, width, vision.squeeze_width(stage)) if stage else None
        self.pos_emb = Positions(width) if attention else None
        hidden, count = width * vision.mlp_ratio, vision.layers[stage]
        self.blocks = nn.Sequential(
            *(
                AttentionBlock(width, hidden, vision) if attention else ConvolutionBlock(width, hidden)
                for _ in range(count)
            )
        )

    def forward(self, x: Tensor) -> Tensor:
        for part in (self.downsample, self.pos_emb, self.blocks):
            x = x if part is None else part(x)
        return x


class Head(nn.Module):
    """The projection of the mean position."""

    def __init__(self, width: int, embed_dim: int) -> None:
        super().__init__()
        self.fc = nn.Linear(width, embed_dim)

    def forward(self, x: Tensor) -> Tensor:
        """x [n c h w] -> [n d]."""
        return self.fc(x.mean((2, 3)))  # type: ignore[no-any-return]


class Module(nn.Module):
    """Stem, stages, a last convolution, the mean position, a projection."""

    def __init__(self, vision: FastViT, embed_dim: int) -> None:
        super().__init__()
        w, scale = vision.width, vision.stem_scale
        self.stem = nn.Sequential(Branches(3, w, 3, 2, scale=scale), Branches(w, w, 3, 2, w, scale), Branches(w, w, 1))
        self.stages = nn.Sequential(*(Stage(vision, stage) for stage in range(len(vision.layers))))
        inner, last = vision.last_squeeze_width, vision.widths[-1]
        self.final_conv = Branches(last, vision.pool_width, 3, groups=last, squeeze=inner)
        self.head = Head(vision.pool_width, embed_dim)

    def forward(self, pixels: Tensor) -> Tensor:
        """pixels [n 3 H W], normalised -> [n d], not of unit length."""
        return self.head(F.gelu(self.final_conv(self._through_stages(pixels))))  # type: ignore[no-any-return]

    def states(self, pixels: Tensor, blocks: int, final_norm: bool, projection: bool) -> Tensor:
        """pixels [n 3 H W] -> every position after so many stages, row by row [n t c]; 0: the stem.

        There is no last norm, and no projection of a position: both are false.
        """
        return self._through_stages(pixels, blocks).flatten(2).transpose(1, 2)

    def _through_stages(self, x: Tensor, stages: int | None = None) -> Tensor:
        for part in self.stem:
            x = F.gelu(part(x))
        for stage in list(self.stages)[:stages]:
            x = stage(x)
        return x

    def blocks(self) -> Sequence[nn.Module]:
        """What is checkpointed, compiled and sharded one by one, in order."""
        return [block for stage in self.stages for block in cast(nn.Sequential, stage.blocks)]

    def after_blocks(self) -> Iterator[nn.Parameter]:
        """Parameters of what follows the last block."""
        yield from self.final_conv.parameters()
        yield from self.head.parameters()

    def initialise(self, draw: torch.Generator) -> None:
        """Convolutions by He's rule over their inputs, the rest as published: blocks start as almost identity."""
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu", generator=draw)
                if module.bias is not None:
                    module.bias.zero_()
            elif isinstance(module, LayerScale):
                module.gamma.fill_(FIRST_SCALE)
        for module in self.modules():
            layers: tuple[nn.Module, ...] = ()
            if isinstance(module, ConvolutionalMLP):
                layers = (module.conv.conv, module.fc1, module.fc2)
            elif isinstance(module, nn.Linear):
                layers = (module,)
            for layer in cast(tuple[nn.Conv2d | nn.Linear, ...], layers):
                nn.init.trunc_normal_(layer.weight, std=FIRST_STD, generator=draw)
                if layer.bias is not None:
                    layer.bias.zero_()
