"""Position embeddings on another grid than the one they were learned on."""

import torch
import torch.nn.functional as F
from torch import Tensor


def resize_grid(positions: Tensor, grid: tuple[int, int]) -> Tensor:
    """positions [1 + s*s, w], of a summary token and a square grid -> [1 + rows*columns, w].

    The summary token's embedding stands apart and stays; the grid is interpolated bicubically.
    """
    side = round((len(positions) - 1) ** 0.5)
    if grid == (side, side):
        return positions
    square = positions[1:].float().T.reshape(1, -1, side, side)
    resized = F.interpolate(square, size=grid, mode="bicubic", align_corners=False, antialias=True)
    return torch.cat([positions[:1], resized.flatten(2)[0].T.to(positions.dtype)])
