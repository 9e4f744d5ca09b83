"""Pre-norm transformer blocks, the Vision Transformer and the text encoder.

Shapes: n images or texts (or rows of several packed ones), t tokens, w width, h heads, g patches along a side,
p pixels along a side of a patch, k patches kept, c chosen tokens.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tandem.config import Activation, TextTransformer, VisionTransformer
from tandem.nn.layers import LayerNorm, attend, quick_gelu, resize_grid


class Attention(nn.Module):
    """Multi-head self-attention with the original's fused input projection."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.in_proj_weight = nn.Parameter(torch.empty(3 * width, width))
        self.in_proj_bias = nn.Parameter(torch.zeros(3 * width))
        self.out_proj = nn.Linear(width, width)

    def forward(self, x: Tensor, causal: bool, mask: Tensor | None = None, chosen: Tensor | None = None) -> Tensor:
        """x [n t w] -> [n t w]; with `chosen`, indices into n*t, for those tokens only: [c w]."""
        n, t, w = x.shape
        qkv = F.linear(x, self.in_proj_weight, self.in_proj_bias)  # [n t 3w]
        q, k, v = qkv.view(n, t, 3, self.heads, w // self.heads).permute(2, 0, 3, 1, 4)  # each [n h t w/h]
        out = attend(q, k, v, causal, mask).transpose(1, 2).reshape(n, t, w)
        if chosen is not None:
            out = out.flatten(0, 1).index_select(0, chosen)
        return self.out_proj(out)  # type: ignore[no-any-return]


class MLP(nn.Module):
    """Two linear layers with the model's activation between them."""

    def __init__(self, width: int, hidden: int, activation: Activation) -> None:
        super().__init__()
        self.activation = activation
        self.c_fc = nn.Linear(width, hidden)
        self.c_proj = nn.Linear(hidden, width)

    def forward(self, x: Tensor) -> Tensor:
        x = self.c_fc(x)
        x = quick_gelu(x) if self.activation == "quick_gelu" else F.gelu(x)
        return self.c_proj(x)  # type: ignore[no-any-return]


class Block(nn.Module):
    """Attention, then MLP, each on a normalised copy and added back."""

    def __init__(self, width: int, heads: int, mlp_width: int, activation: Activation) -> None:
        super().__init__()
        self.ln_1 = LayerNorm(width)
        self.attn = Attention(width, heads)
        self.ln_2 = LayerNorm(width)
        self.mlp = MLP(width, mlp_width, activation)

    def forward(self, x: Tensor, causal: bool, mask: Tensor | None = None, chosen: Tensor | None = None) -> Tensor:
        """x [n t w] -> [n t w], or the `chosen` tokens of it, indices into n*t: [c w]."""
        attended = self.attn(self.ln_1(x), causal, mask, chosen)
        if chosen is not None:
            x = x.flatten(0, 1).index_select(0, chosen)
        x = x + attended
        return x + self.mlp(self.ln_2(x))  # type: ignore[no-any-return]


class Transformer(nn.Module):
    """A stack of blocks, under the original's name `resblocks`."""

    def __init__(self, width: int, layers: int, heads: int, mlp_width: int, activation: Activation) -> None:
        super().__init__()
        self.resblocks = nn.ModuleList(Block(width, heads, mlp_width, activation) for _ in range(layers))

    def forward(
        self,
        x: Tensor,
        causal: bool,
        depth: int | None = None,
        mask: Tensor | None = None,
        chosen: Tensor | None = None,
    ) -> Tensor:
        """x [n t w] through the first `depth` blocks, all by default.

        mask, True where a token may look: [n 1 t t]. chosen, indices into n*t: the tokens whose last state is wanted
        [c w]; the last block computes no others (7% of a 12-layer tower's work).
        """
        blocks = list(self.resblocks[:depth])
        for i, block in enumerate(blocks):
            x = block(x, causal, mask, chosen if i == len(blocks) - 1 else None)
        return x


class VisionTower(nn.Module):
    """The Vision Transformer: patches, a class token, blocks, a projection of the class token."""

    def __init__(self, config: VisionTransformer, embed_dim: int) -> None:
        super().__init__()
        w = config.width
        self.conv1 = nn.Conv2d(3, w, config.patch_size, config.patch_size, bias=False)
        self.class_embedding = nn.Parameter(torch.empty(w))
        self.positional_embedding = nn.Parameter(torch.empty(config.grid**2 + 1, w))
        self.ln_pre = LayerNorm(w)
        self.transformer = Transformer(w, config.layers, config.heads, config.mlp_width, config.activation)
        self.ln_post = LayerNorm(w)
        self.proj = nn.Parameter(torch.empty(w, embed_dim))

    def forward(self, pixels: Tensor, kept: Tensor | None = None) -> Tensor:
        """pixels [n 3 H W], normalised -> [n d], not normalised.

        kept [n k]: the patches that are looked at, numbered row by row (Li et al. 2023); the class token always is.
        """
        n, p = len(pixels), self.conv1.kernel_size[0]
        grid = (pixels.shape[2] // p, pixels.shape[3] // p)
        pixels = pixels[:, :, : grid[0] * p, : grid[1] * p]
        # Patches do not overlap: their convolution is one product, which has a faster gradient.
        x = pixels.reshape(n, 3, grid[0], p, grid[1], p).permute(0, 2, 4, 1, 3, 5).reshape(n, -1, 3 * p * p)
        positions = resize_grid(self.positional_embedding, grid)
        positional = positions[1:]  # [g*g w]
        if kept is not None:
            x = x.gather(1, kept[:, :, None].expand(-1, -1, x.shape[2]))  # [n k 3*p*p]
            positional = positional[kept]  # [n k w]
        x = F.linear(x, self.conv1.weight.flatten(1))  # [n g*g w]
        x = x + positional.to(x.dtype)
        start = (self.class_embedding + positions[0]).to(x.dtype).expand(n, 1, -1)
        x = self.ln_pre(torch.cat([start, x], dim=1))  # [n 1+g*g w]
        starts = torch.arange(n, device=x.device) * x.shape[1]
        x = self.transformer(x, causal=False, chosen=starts)  # [n w]
        return self.ln_post(x) @ self.proj.to(x.dtype)  # type: ignore[no-any-return]


class TextTower(nn.Module):
    """Names for the text encoder's parts; `CLIP` holds them at its root, where the original has them."""

    def __init__(self, config: TextTransformer, embed_dim: int) -> None:
        super().__init__()
        self.end_id = config.end_id
        self.context_length = config.context_length
        self.token_embedding = nn.Embedding(config.vocabulary_size, config.width)
        self.positional_embedding = nn.Parameter(torch.empty(config.context_length, config.width))
        self.transformer = Transformer(config.width, config.layers, config.heads, config.mlp_width, config.activation)
        self.ln_final = LayerNorm(config.width)
        self.text_projection = nn.Parameter(torch.empty(config.width, embed_dim))
