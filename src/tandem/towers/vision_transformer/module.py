"""The Vision Transformer in torch.

Shapes: n images, t tokens, w width, d shared dimension, g patches along a side, p pixels along a side of a patch,
k patches kept.
"""

from collections.abc import Iterator, Sequence
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tandem.towers.parts.neighbours import closeness
from tandem.towers.parts.torch import (
    AttentionPool,
    Block,
    ConvNorm,
    LayerNorm,
    Transformer,
    activate,
    normal,
    resize_grid,
    upcast,
)
from tandem.towers.vision_transformer.description import VisionTransformer
from tandem.towers.vision_transformer.rotary import TEMPERATURE


class Module(nn.Module):
    """Patches and perhaps a class token, blocks, pooling, and perhaps a projection."""

    def __init__(self, vision: VisionTransformer, embed_dim: int) -> None:
        super().__init__()
        self.vision = vision
        w = vision.width
        if vision.stem:
            sizes = enumerate(vision.stem)
            self.stem = nn.ModuleList(ConvNorm(*size, size[2], norm=i < len(vision.stem) - 1) for i, size in sizes)
        else:
            self.conv1 = nn.Conv2d(3, w, vision.patch_size, vision.patch_size, bias=vision.patch_bias)
        self.class_embedding = nn.Parameter(torch.empty(w)) if vision.class_token else None
        self.positional_embedding = nn.Parameter(torch.empty(vision.positions, w))
        self.ln_pre = LayerNorm(w, vision.norm_epsilon) if vision.first_norm else None
        self.transformer = Transformer(
            w, vision.layers, vision.heads, vision.mlp_width, vision.activation, vision.norm_epsilon
        )
        self.ln_post = LayerNorm(w, vision.norm_epsilon)
        self.pool = AttentionPool(vision) if vision.pooling == "attention" else None
        self.proj = None if vision.projection == "none" else nn.Parameter(torch.empty(w, embed_dim))
        self.proj_bias = nn.Parameter(torch.zeros(embed_dim)) if vision.projection == "biased" else None

    def forward(self, pixels: Tensor, kept: Tensor | None = None) -> Tensor:
        """pixels [n 3 H W], normalised -> [n d], not of unit length.

        kept [n k]: the patches that are looked at, numbered row by row (Li et al. 2023); a class token always is.
        """
        x, rotary = self._embed(pixels, kept), self._rotation(pixels, kept)
        if self.vision.pooling == "class":
            starts = torch.arange(x.shape[0], device=x.device) * x.shape[1]
            return self._project(self.ln_post(self.transformer(x, causal=False, chosen=starts, rotary=rotary)))
        x = self.transformer(x, causal=False, rotary=rotary)
        if self.pool is not None:
            return self._project(self.pool(self.ln_post(x)))
        x = x[:, 1:] if self.vision.class_token else x
        if self.vision.norm_after_pooling:
            return self._project(self.ln_post(x.mean(dim=1)))
        return self._project(self.ln_post(x).mean(dim=1))

    def states(self, pixels: Tensor, blocks: int, final_norm: bool, projection: bool) -> Tensor:
        """pixels [n 3 H W] -> every token's state after so many blocks [n t w], a class token first.

        With `projection` every token goes through the tower's own: [n t d].
        """
        x = self.transformer(self._embed(pixels), causal=False, depth=blocks, rotary=self._rotation(pixels))
        x = self.ln_post(x) if final_norm else x
        return self._project(x) if projection else x

    def dense(self, pixels: Tensor) -> Tensor:
        """pixels [n 3 H W] -> a vector for each patch [n p d], not of unit length (`naclip`)."""
        x = self.transformer(self._embed(pixels), causal=False, depth=self.vision.layers - 1)
        last = cast(Block, self.transformer.resblocks[-1])
        near = torch.from_numpy(closeness(*self._grid(pixels), self.vision.class_token)).to(x)
        x = last.attn.among_neighbours(last.ln_1(x), near)
        return self._project(self.ln_post(x[:, 1:] if self.vision.class_token else x))

    def _embed(self, pixels: Tensor, kept: Tensor | None = None) -> Tensor:
        """[n 3 H W] -> [n t w]"""
        n, p = pixels.shape[0], self.vision.patch_size
        grid = self._grid(pixels)
        pixels = pixels[:, :, : grid[0] * p, : grid[1] * p]
        if self.vision.stem:
            x = self._through_stem(pixels)  # [n g*g w]
        else:
            # Patches do not overlap: their convolution is one product, which has a faster gradient.
            x = pixels.reshape(n, 3, grid[0], p, grid[1], p).permute(0, 2, 4, 1, 3, 5).reshape(n, -1, 3 * p * p)
        before = int(self.vision.class_token and self.vision.class_position)
        positions = resize_grid(self.positional_embedding, grid, before)
        of_patches = positions[before:]  # [g*g w]
        if kept is not None:
            x = x.gather(1, kept[:, :, None].expand(-1, -1, x.shape[2]))  # [n k 3*p*p], or [n k w] behind a stem
            of_patches = of_patches[kept]  # [n k w]
        if not self.vision.stem:
            x = F.linear(x, self.conv1.weight.flatten(1), self.conv1.bias)  # [n g*g w]
        x = x + of_patches.to(x.dtype)
        if self.class_embedding is not None:
            start = self.class_embedding + positions[0] if before else self.class_embedding
            start = start.to(x.dtype).expand(n, 1, -1)
            x = torch.cat([start, x], dim=1)  # [n 1+g*g w]
        return x if self.ln_pre is None else self.ln_pre(x)

    def _grid(self, pixels: Tensor) -> tuple[int, int]:
        """Rows and columns of patches."""
        return pixels.shape[2] // self.vision.patch_size, pixels.shape[3] // self.vision.patch_size

    def _rotation(self, pixels: Tensor, kept: Tensor | None = None) -> Tensor | None:
        """Cosines and sines of each token's angles [2 t w/2h], of kept patches [2 n 1 t w/2h]; see `rotary`."""
        vision = self.vision
        if not vision.rotary_grid:
            return None
        like = upcast(pixels.new_empty(0))
        bands = vision.width // vision.heads // 4
        frequencies = TEMPERATURE ** (-torch.arange(bands, device=like.device, dtype=like.dtype) / bands)
        rows, columns = (
            (torch.arange(side, device=like.device, dtype=like.dtype) + vision.rotary_offset)
            * (vision.rotary_grid / side)
            for side in self._grid(pixels)
        )
        by_column = (columns[:, None] * frequencies).expand(len(rows), -1, -1)  # [rows columns w/4h]
        by_row = (rows[:, None] * frequencies)[:, None].expand(-1, len(columns), -1)
        angles = torch.cat([by_column, by_row], dim=-1).flatten(0, 1)  # [g*g w/2h]
        if kept is not None:
            angles = angles[kept][:, None]  # [n 1 k w/2h]
        angles = F.pad(angles, (0, 0, int(vision.class_token), 0))  # a class token is not turned
        return torch.stack([angles.cos(), angles.sin()])

    def _through_stem(self, x: Tensor) -> Tensor:
        """[n 3 g*p g*p] -> [n g*g w]"""
        for i, convolution in enumerate(self.stem):
            x = convolution(activate(x, self.vision.activation) if i else x)
        return x.flatten(2).transpose(1, 2)

    def _project(self, x: Tensor) -> Tensor:
        if self.proj is not None:
            x = x @ self.proj.to(x.dtype)
        return x if self.proj_bias is None else x + self.proj_bias.to(x.dtype)

    def blocks(self) -> Sequence[nn.Module]:
        """What is checkpointed, compiled and sharded one by one, in order."""
        return list(self.transformer.resblocks)

    def after_blocks(self) -> Iterator[nn.Parameter]:
        """Parameters of what follows the last block."""
        yield from self.ln_post.parameters()
        if self.pool is not None:
            yield from self.pool.parameters()
        yield from (each for each in (self.proj, self.proj_bias) if each is not None)

    def initialise(self, draw: torch.Generator) -> None:
        """Draw every weight in place, at the scales of the published code."""
        std = self.vision.width**-0.5
        if self.class_embedding is not None:
            normal(self.class_embedding, std, draw)
        normal(self.positional_embedding, std, draw)
        if self.proj is not None:
            normal(self.proj, std, draw)
        if self.proj_bias is not None:
            self.proj_bias.zero_()
        stem = [cast(ConvNorm, each).conv for each in self.stem] if self.vision.stem else [self.conv1]
        for layer in stem:
            nn.init.trunc_normal_(layer.weight, std=layer.weight[0].numel() ** -0.5, generator=draw)
            if layer.bias is not None:
                layer.bias.zero_()
        self.transformer.initialise(draw)
        if self.pool is not None:
            self.pool.initialise(draw)
