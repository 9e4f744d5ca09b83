"""Pre-norm transformer blocks, the Vision Transformer and the text encoder.

Letters: n pictures or sentences, t tokens, w width, h heads, g patches along a side.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tandem.config import Activation, TextTransformer, VisionTransformer
from tandem.nn.positions import lifted, resize_grid


class LayerNorm(nn.LayerNorm):
    """Layer normalisation in float32 at least: in half precision its variance loses the small features."""

    def forward(self, x: Tensor) -> Tensor:
        weight, bias = lifted(self.weight), lifted(self.bias)
        return F.layer_norm(lifted(x), self.normalized_shape, weight, bias, self.eps).to(x.dtype)


class Attention(nn.Module):
    """Multi-head self-attention with the original's fused input projection."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.in_proj_weight = nn.Parameter(torch.empty(3 * width, width))
        self.in_proj_bias = nn.Parameter(torch.zeros(3 * width))
        self.out_proj = nn.Linear(width, width)

    def forward(self, x: Tensor, causal: bool) -> Tensor:
        """x [n t w] -> [n t w]."""
        n, t, w = x.shape
        qkv = F.linear(x, self.in_proj_weight, self.in_proj_bias)  # [n t 3w]
        q, k, v = qkv.view(n, t, 3, self.heads, w // self.heads).permute(2, 0, 3, 1, 4)  # each [n h t w/h]
        out = F.scaled_dot_product_attention(q, k, v, is_causal=causal)
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
        x = x * torch.sigmoid(1.702 * x) if self.activation == "quick_gelu" else F.gelu(x)
        return self.c_proj(x)  # type: ignore[no-any-return]


class Block(nn.Module):
    """Attention, then MLP, each on a normalised copy and added back."""

    def __init__(self, width: int, heads: int, mlp_width: int, activation: Activation) -> None:
        super().__init__()
        self.ln_1 = LayerNorm(width)
        self.attn = Attention(width, heads)
        self.ln_2 = LayerNorm(width)
        self.mlp = MLP(width, mlp_width, activation)

    def forward(self, x: Tensor, causal: bool) -> Tensor:
        x = x + self.attn(self.ln_1(x), causal)
        return x + self.mlp(self.ln_2(x))  # type: ignore[no-any-return]


class Transformer(nn.Module):
    """A stack of blocks, under the original's name `resblocks`."""

    def __init__(self, width: int, layers: int, heads: int, mlp_width: int, activation: Activation) -> None:
        super().__init__()
        self.resblocks = nn.ModuleList(Block(width, heads, mlp_width, activation) for _ in range(layers))

    def forward(self, x: Tensor, causal: bool, depth: int | None = None) -> Tensor:
        """x [n t w] through the first `depth` blocks, all by default."""
        for block in self.resblocks[:depth]:
            x = block(x, causal)
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

    def forward(self, pixels: Tensor) -> Tensor:
        """pixels [n 3 H W], normalised -> [n d], not normalised."""
        x = self.conv1(pixels)  # [n w g g]
        grid = (x.shape[2], x.shape[3])
        x = x.flatten(2).transpose(1, 2)  # [n g*g w]
        start = self.class_embedding.to(x.dtype).expand(len(x), 1, -1)
        positions = resize_grid(self.positional_embedding, grid)
        x = torch.cat([start, x], dim=1) + positions.to(x.dtype)  # [n 1+g*g w]
        x = self.transformer(self.ln_pre(x), causal=False)
        return self.ln_post(x[:, 0]) @ self.proj.to(x.dtype)  # type: ignore[no-any-return]


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
