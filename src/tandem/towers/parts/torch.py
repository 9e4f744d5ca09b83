"""What towers are made of, in torch: layer norm, attention, MLP, pre-norm blocks, activations, the grid of positions.

Shapes: n images or texts (or rows of several packed ones), t tokens, w width, h heads, s positions along a side,
c chosen tokens.
"""

from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from tandem.towers.parts.description import NORM_EPSILON, QUICK_GELU_SLOPE, Activation, AttentionPoolSizes

SPELT_OUT_TOKENS = 256  # on CPUs attention over so many tokens is spelt out; beyond, its matrices cost too much memory


def upcast(x: Tensor) -> Tensor:
    """Half precisions as float32; float32 and float64 as they are."""
    return x if x.dtype == torch.float64 else x.float()


class LayerNorm(nn.LayerNorm):
    """Layer normalisation in float32 at least: in half precision its variance loses the small features."""

    def __init__(self, width: int, epsilon: float = NORM_EPSILON) -> None:
        super().__init__(width, eps=epsilon)

    def forward(self, x: Tensor) -> Tensor:
        weight, bias = upcast(self.weight), upcast(self.bias)
        return F.layer_norm(upcast(x), self.normalized_shape, weight, bias, self.eps).to(x.dtype)


def attend(q: Tensor, k: Tensor, v: Tensor, causal: bool, mask: Tensor | None = None) -> Tensor:
    """Scaled dot-product attention, q, k, v [n h t w/h] -> [n h t w/h]; mask, True where it may look: [n 1 t t].

    Spelt out on CPUs: the fused operator's backward is slow there (32 x 50 tokens of width 768 in bfloat16, forward
    and backward on one core: 62 ms against 13 ms; 11 x 77 tokens of width 512: 26 against 6).
    """
    t = q.shape[2]
    if q.device.type != "cpu" or t > SPELT_OUT_TOKENS:
        return F.scaled_dot_product_attention(q, k, v, attn_mask=mask, is_causal=causal and mask is None)
    if causal and mask is None:
        mask = torch.ones(t, t, dtype=torch.bool, device=q.device).tril()
    scores = (q * q.shape[-1] ** -0.5) @ k.transpose(-2, -1)  # [n h t t]
    if mask is not None:
        scores = scores.masked_fill(~mask, float("-inf"))
    # Under autocast a softmax would come out, and be kept, in float32; it computes in float32 inside in any case.
    weights = torch._softmax(scores, -1, False) if scores.dtype == torch.bfloat16 else scores.softmax(-1)
    return weights @ v


def rotate(x: Tensor, rotary: Tensor) -> Tensor:
    """Queries or keys [n h t w/h] turned by rotary positions, cosines and sines [2 ... t w/2h] of pairs of numbers."""
    cosines, sines = rotary
    first, second = x.reshape(*x.shape[:-1], -1, 2).unbind(-1)  # each [n h t w/2h]
    turned = torch.stack([first * cosines - second * sines, first * sines + second * cosines], dim=-1)
    return turned.flatten(-2).to(x.dtype)


def quick_gelu(x: Tensor) -> Tensor:
    """x * sigmoid(1.702 x), the published models' activation. A compiler fuses the plain formula by itself."""
    if torch.compiler.is_compiling() or not x.requires_grad:
        return x * torch.sigmoid(QUICK_GELU_SLOPE * x)
    return _QuickGELU.apply(x)  # type: ignore[no-any-return, no-untyped-call]


class _QuickGELU(torch.autograd.Function):
    """The same as silu(1.702 x) / 1.702: keeps x alone for the gradient, and passes over it half as often."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return F.silu(x * QUICK_GELU_SLOPE, inplace=True).mul_(1 / QUICK_GELU_SLOPE)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        out: Tensor = torch.ops.aten.silu_backward(gradient, x * QUICK_GELU_SLOPE)
        return out


def resize_grid(positions: Tensor, grid: tuple[int, int], before: int = 1) -> Tensor:
    """positions [before + s*s, w], of a square grid after `before` other tokens -> [before + rows*columns, w].

    The others (a class token) stand apart and stay; the grid is interpolated bicubically.
    """
    side = round((len(positions) - before) ** 0.5)
    if grid == (side, side):
        return positions
    square = upcast(positions[before:]).T.reshape(1, -1, side, side)
    resized = F.interpolate(square, size=grid, mode="bicubic", align_corners=False, antialias=True)
    return torch.cat([positions[:before], resized.flatten(2)[0].T.to(positions.dtype)])


def activate(x: Tensor, activation: Activation) -> Tensor:
    """The model's activation."""
    if activation == "quick_gelu":
        return quick_gelu(x)
    return F.gelu(x, approximate="tanh" if activation == "gelu_tanh" else "none")


def empty_embedding(rows: int, width: int) -> nn.Embedding:
    """A table that is not drawn: for the 901,629 entries of XLM-V that would take seconds, for nothing."""
    table: nn.Embedding = nn.Embedding.from_pretrained(  # type: ignore[no-untyped-call]
        torch.empty(rows, width), freeze=False
    )
    return table


def stretch_positions(positions: Tensor, length: int) -> Tensor:
    """positions [t w] -> [length w]: the first ones where that is fewer, else interpolated between both ends."""
    if length <= len(positions):  # texts that fit keep their vectors
        return positions[:length].clone()
    return F.interpolate(positions.T[None], length, mode="linear", align_corners=True)[0].T.contiguous()


class ConvNorm(nn.Module):
    """A convolution without bias, and a batch norm; or, without the norm, a convolution with a bias."""

    def __init__(
        self,
        entering: int,
        leaving: int,
        kernel: int,
        stride: int = 1,
        groups: int = 1,
        padding: int = 0,
        norm: bool = True,
    ) -> None:
        super().__init__()
        self.conv = nn.Conv2d(entering, leaving, kernel, stride, padding, groups=groups, bias=not norm)
        self.bn = nn.BatchNorm2d(leaving) if norm else None

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(x)
        return x if self.bn is None else self.bn(x)


class Attention(nn.Module):
    """Multi-head self-attention with the original's fused input projection."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.in_proj_weight = nn.Parameter(torch.empty(3 * width, width))
        self.in_proj_bias = nn.Parameter(torch.zeros(3 * width))
        self.out_proj = nn.Linear(width, width)

    def forward(
        self,
        x: Tensor,
        causal: bool,
        mask: Tensor | None = None,
        chosen: Tensor | None = None,
        rotary: Tensor | None = None,
    ) -> Tensor:
        """x [n t w] -> [n t w]; with `chosen`, indices into n*t, for those tokens only: [c w]."""
        n, t, w = x.shape
        qkv = F.linear(x, self.in_proj_weight, self.in_proj_bias)  # [n t 3w]
        q, k, v = qkv.view(n, t, 3, self.heads, w // self.heads).permute(2, 0, 3, 1, 4)  # each [n h t w/h]
        if rotary is not None:
            q, k = rotate(q, rotary), rotate(k, rotary)
        out = attend(q, k, v, causal, mask).transpose(1, 2).reshape(n, t, w)
        if chosen is not None:
            out = out.flatten(0, 1).index_select(0, chosen)
        return self.out_proj(out)  # type: ignore[no-any-return]

    def among_neighbours(self, x: Tensor, near: Tensor) -> Tensor:
        """NACLIP (Hajimiri et al. 2024): tokens attend to similar keys and to neighbours; x [n t w], near [t t]."""
        n, t, w = x.shape
        kv = F.linear(x, self.in_proj_weight[w:], self.in_proj_bias[w:])  # [n t 2w]
        k, v = kv.view(n, t, 2, self.heads, w // self.heads).permute(2, 0, 3, 1, 4)  # each [n h t w/h]
        scores = (k * k.shape[-1] ** -0.5) @ k.transpose(-2, -1) + near
        out = scores.softmax(-1).to(v.dtype) @ v
        return self.out_proj(out.transpose(1, 2).reshape(n, t, w))  # type: ignore[no-any-return]


class MLP(nn.Module):
    """Two linear layers with the model's activation between them."""

    def __init__(self, width: int, hidden: int, activation: Activation) -> None:
        super().__init__()
        self.activation = activation
        self.c_fc = nn.Linear(width, hidden)
        self.c_proj = nn.Linear(hidden, width)

    def forward(self, x: Tensor) -> Tensor:
        x = self.c_fc(x)
        return self.c_proj(activate(x, self.activation))  # type: ignore[no-any-return]


class Block(nn.Module):
    """Attention, then MLP, each on a normalised copy and added back."""

    def __init__(
        self, width: int, heads: int, mlp_width: int, activation: Activation, epsilon: float = NORM_EPSILON
    ) -> None:
        super().__init__()
        self.ln_1 = LayerNorm(width, epsilon)
        self.attn = Attention(width, heads)
        self.ln_2 = LayerNorm(width, epsilon)
        self.mlp = MLP(width, mlp_width, activation)

    def forward(
        self,
        x: Tensor,
        causal: bool,
        mask: Tensor | None = None,
        chosen: Tensor | None = None,
        rotary: Tensor | None = None,
    ) -> Tensor:
        """x [n t w] -> [n t w], or the `chosen` tokens of it, indices into n*t: [c w]."""
        attended = self.attn(self.ln_1(x), causal, mask, chosen, rotary)
        if chosen is not None:
            x = x.flatten(0, 1).index_select(0, chosen)
        x = x + attended
        return x + self.mlp(self.ln_2(x))  # type: ignore[no-any-return]


class Transformer(nn.Module):
    """A stack of blocks, under the original's name `resblocks`."""

    def __init__(
        self,
        width: int,
        layers: int,
        heads: int,
        mlp_width: int,
        activation: Activation,
        epsilon: float = NORM_EPSILON,
    ) -> None:
        super().__init__()
        self.resblocks = nn.ModuleList(Block(width, heads, mlp_width, activation, epsilon) for _ in range(layers))

    def forward(
        self,
        x: Tensor,
        causal: bool,
        depth: int | None = None,
        mask: Tensor | None = None,
        chosen: Tensor | None = None,
        rotary: Tensor | None = None,
    ) -> Tensor:
        """x [n t w] through the first `depth` blocks, all by default.

        mask, True where a token may look: [n 1 t t]. chosen, indices into n*t: the tokens whose last state is wanted
        [c w]; the last block computes no others (7% of a 12-layer tower's work). rotary: see `rotate`.
        """
        blocks = list(self.resblocks[:depth])
        for i, block in enumerate(blocks):
            x = block(x, causal, mask, chosen if i == len(blocks) - 1 else None, rotary)
        return x

    def initialise(self, draw: torch.Generator) -> None:
        """Attention width^-0.5, what is added back smaller by (2 layers)^-0.5, MLP in (2 width)^-0.5; biases 0."""
        for block in cast(list[Block], self.resblocks):
            initialise_attention(block.attn, draw, shrink=(2 * len(self.resblocks)) ** -0.5)
            initialise_mlp(block.mlp, draw, shrink=(2 * len(self.resblocks)) ** -0.5)


def normal(parameter: Tensor, std: float, draw: torch.Generator) -> None:
    """Draw a parameter in place."""
    parameter.normal_(0.0, std, generator=draw)


def initialise_attention(attention: Attention, draw: torch.Generator, shrink: float = 1.0) -> None:
    """Draw the projections in place; the last one is smaller by `shrink`. Biases are 0."""
    width = attention.out_proj.weight.shape[0]
    normal(attention.in_proj_weight, width**-0.5, draw)
    normal(attention.out_proj.weight, width**-0.5 * shrink, draw)
    attention.in_proj_bias.zero_()
    attention.out_proj.bias.zero_()


def initialise_mlp(mlp: MLP, draw: torch.Generator, shrink: float = 1.0) -> None:
    """Draw both layers in place; the second is smaller by `shrink`. Biases are 0."""
    width = mlp.c_fc.weight.shape[1]
    normal(mlp.c_fc.weight, (2 * width) ** -0.5, draw)
    normal(mlp.c_proj.weight, width**-0.5 * shrink, draw)
    mlp.c_fc.bias.zero_()
    mlp.c_proj.bias.zero_()


class AttentionPool(nn.Module):
    """One learned query attends to all tokens; an MLP with a residual follows (Zhai et al. 2022)."""

    def __init__(self, sizes: AttentionPoolSizes) -> None:
        super().__init__()
        self.query = nn.Parameter(torch.empty(sizes.width))
        self.attn = Attention(sizes.width, sizes.pool_heads)
        self.ln = LayerNorm(sizes.width, sizes.norm_epsilon)
        self.mlp = MLP(sizes.width, sizes.pool_mlp_width, sizes.activation)

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """x [n t w] -> [n w]; mask, True where the query may look: [n 1 1 t]."""
        n, t, w = x.shape
        h = self.attn.heads
        weight, bias = self.attn.in_proj_weight, self.attn.in_proj_bias
        q = F.linear(self.query.to(x.dtype), weight[:w], bias[:w]).view(1, h, 1, w // h).expand(n, -1, -1, -1)
        k, v = F.linear(x, weight[w:], bias[w:]).view(n, t, 2, h, w // h).permute(2, 0, 3, 1, 4)  # each [n h t w/h]
        pooled = self.attn.out_proj(attend(q, k, v, causal=False, mask=mask).reshape(n, w))
        return pooled + self.mlp(self.ln(pooled))  # type: ignore[no-any-return]

    def initialise(self, draw: torch.Generator) -> None:
        """Draw every weight in place."""
        normal(self.query, len(self.query) ** -0.5, draw)
        initialise_attention(self.attn, draw)
        initialise_mlp(self.mlp, draw)


def embed_with(table: nn.Embedding, ids: Tensor, added: Tensor | None) -> Tensor:
    """Rows of the table [... w]; ids from its end on are rows of `added` [m w], which no vocabulary has."""
    if added is None:
        return table(ids)  # type: ignore[no-any-return]
    rows = table.num_embeddings
    known = table(ids.clamp(max=rows - 1))
    return torch.where((ids >= rows)[..., None], added[(ids - rows).clamp(min=0)].to(known.dtype), known)
