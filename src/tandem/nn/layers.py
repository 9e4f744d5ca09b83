"""Parts that both towers are made of: layer norm, attention's arithmetic, the activation, the grid of positions.

Shapes: n images or texts, t tokens, w width, h heads, s positions along a side.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from tandem.config import QUICK_GELU_SLOPE

SPELT_OUT_TOKENS = 256  # on CPUs attention over so many tokens is spelt out; beyond, its matrices cost too much memory


def upcast(x: Tensor) -> Tensor:
    """Half precisions as float32; float32 and float64 as they are."""
    return x if x.dtype == torch.float64 else x.float()


class LayerNorm(nn.LayerNorm):
    """Layer normalisation in float32 at least: in half precision its variance loses the small features."""

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


def resize_grid(positions: Tensor, grid: tuple[int, int]) -> Tensor:
    """positions [1 + s*s, w], of a summary token and a square grid -> [1 + rows*columns, w].

    The summary token's embedding stands apart and stays; the grid is interpolated bicubically.
    """
    side = round((len(positions) - 1) ** 0.5)
    if grid == (side, side):
        return positions
    square = upcast(positions[1:]).T.reshape(1, -1, side, side)
    resized = F.interpolate(square, size=grid, mode="bicubic", align_corners=False, antialias=True)
    return torch.cat([positions[:1], resized.flatten(2)[0].T.to(positions.dtype)])
