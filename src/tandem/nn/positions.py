"""Position embeddings on another grid than the one they were learned on."""

import torch
import torch.nn.functional as F
from torch import Tensor


def lifted(x: Tensor) -> Tensor:
    """Half precisions as float32; float32 and float64 as they are."""
    return x if x.dtype == torch.float64 else x.float()


def resize_grid(positions: Tensor, grid: tuple[int, int]) -> Tensor:
    """positions [1 + s*s, w], of a summary token and a square grid -> [1 + rows*columns, w].

    The summary token's embedding stands apart and stays; the grid is interpolated bicubically.
    """
    side = round((len(positions) - 1) ** 0.5)
    if grid == (side, side):
        return positions
    square = lifted(positions[1:]).T.reshape(1, -1, side, side)
    resized = F.interpolate(square, size=grid, mode="bicubic", align_corners=False, antialias=True)
    return torch.cat([positions[:1], resized.flatten(2)[0].T.to(positions.dtype)])
