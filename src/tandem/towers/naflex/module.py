"""The NaFlex Vision Transformer in torch.

Shapes: n images, v values of a patch, t patches with padding, w width, s positions along a side of the table.
"""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn

from tandem.towers.naflex.description import NaFlex
from tandem.towers.naflex.positions import interpolation
from tandem.towers.parts.torch import (
    AttentionPool,
    LayerNorm,
    Transformer,
    normal,
    upcast,
)


class Module(nn.Module):
    """Patches with interpolated positions, blocks under a mask of padding, attention pooling."""

    weights: Tensor

    def __init__(self, vision: NaFlex, embed_dim: int) -> None:
        super().__init__()
        self.vision = vision
        w = vision.width
        self.conv1 = nn.Linear(3 * vision.patch_size**2, w)
        self.positional_embedding = nn.Parameter(torch.empty(vision.grid**2, w))
        self.transformer = Transformer(
            w, vision.layers, vision.heads, vision.mlp_width, vision.activation, vision.norm_epsilon
        )
        self.ln_post = LayerNorm(w, vision.norm_epsilon)
        self.pool = AttentionPool(vision)
        table = interpolation(vision.max_patches, vision.grid)
        self.register_buffer("weights", torch.from_numpy(table.copy()), persistent=False)

    def forward(self, pixels: Tensor) -> Tensor:
        """pixels [n v t], normalised, the grid's rows and columns in the last values -> [n w], not of unit length."""
        x, seen = self._embed(pixels)
        x = self.transformer(x, causal=False, mask=seen)
        return self.pool(self.ln_post(x), seen)  # type: ignore[no-any-return]

    def states(self, pixels: Tensor, blocks: int, final_norm: bool, projection: bool) -> Tensor:
        """pixels [n v t] -> every patch's state after so many blocks [n t w]; those of padding mean nothing.

        There is no projection: it is false.
        """
        x, seen = self._embed(pixels)
        x = self.transformer(x, causal=False, depth=blocks, mask=seen)
        return self.ln_post(x) if final_norm else x  # type: ignore[no-any-return]

    def _embed(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """[n v t] -> [n t w], and which patches are no padding [n 1 1 t]."""
        values = pixels.transpose(1, 2)  # [n t v]
        end = values.shape[2] - 4
        size = upcast(values[:, :1, end:]).round().long()  # [n 1 4]
        most = self.vision.max_patches  # arrays from anywhere must not lead outside of the table
        rows, columns = ((256 * size[..., at] + size[..., at + 1]).clamp(1, most) for at in (0, 2))  # [n 1]
        index = torch.arange(values.shape[1], device=pixels.device)  # [t]
        column = index % columns  # [n t]
        row = torch.minimum(index // columns, rows - 1)
        by_row = self.weights[rows * (rows - 1) // 2 + row]  # [n t s]
        by_column = self.weights[columns * (columns - 1) // 2 + column]
        both = (by_row[..., :, None] * by_column[..., None, :]).flatten(2)  # [n t s*s]
        table = upcast(self.positional_embedding)
        x = self.conv1(values[:, :, :end])
        return x + (both.to(table.dtype) @ table).to(x.dtype), (index < rows * columns)[:, None, None]

    def blocks(self) -> Sequence[nn.Module]:
        """What is checkpointed, compiled and sharded one by one, in order."""
        return list(self.transformer.resblocks)

    def after_blocks(self) -> Iterator[nn.Parameter]:
        """Parameters of what follows the last block."""
        yield from self.ln_post.parameters()
        yield from self.pool.parameters()

    def initialise(self, draw: torch.Generator) -> None:
        """Draw every weight in place, at the scales of the published code of CLIP."""
        std = self.vision.width**-0.5
        normal(self.positional_embedding, std, draw)
        nn.init.trunc_normal_(self.conv1.weight, std=self.conv1.weight.shape[1] ** -0.5, generator=draw)
        self.conv1.bias.zero_()
        self.transformer.initialise(draw)
        self.pool.initialise(draw)
