"""Random views of a picture: what an encoder must recognise it in, so that it is no pattern for one position.

Knows tensors and a generator; nothing of models. Shapes: n views, s pixels along a side.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

BLURS = (0.0, 0.8, 1.6)  # deviations in pixels of the canvas; each view has one of them


@dataclass(frozen=True)
class Augmentation:
    """How far views differ. All are drawn evenly."""

    nearest: float = 0.6  # sides of views, as shares of the picture's shorter side
    farthest: float = 1.1  # above 1 the picture's border is seen, mirrored
    turn: float = 0.15  # radians
    stretch: float = 0.1
    light: float = 0.15  # added to all values
    contrast: float = 0.5  # of the logarithm of the factor
    noise: float = 0.25  # the largest deviation: faint patterns drown in it
    flips: bool = True


def draw_views(picture: Tensor, count: int, size: int, draw: torch.Generator, how: Augmentation) -> Tensor:
    """picture [3 h w] in 0..1 -> views [n 3 s s], about 0..1."""

    def evenly(low: float, high: float) -> Tensor:
        return torch.rand(count, generator=draw) * (high - low) + low

    height, width = picture.shape[1:]
    shorter = min(height, width)
    side, angle = evenly(how.nearest, how.farthest), evenly(-how.turn, how.turn)
    stretch = torch.exp(evenly(-how.stretch, how.stretch))
    flip = torch.where(evenly(0, 1) < 0.5, -1.0, 1.0) if how.flips else torch.ones(count)
    half_x, half_y = side * shorter / width * stretch, side * shorter / height / stretch  # of 1: the whole
    # A view stays inside where it can; a larger one is anywhere around the middle.
    x, y = (evenly(-1, 1) * (1 - half).abs() for half in (half_x, half_y))
    cos, sin = torch.cos(angle), torch.sin(angle)
    rows = torch.stack(
        [flip * half_x * cos, -half_x * sin, x, flip * half_y * sin, half_y * cos, y], dim=1
    )  # the affine map of each view
    grid = functional.affine_grid(rows.view(count, 2, 3), [count, 3, size, size], align_corners=False)
    levels = torch.stack([blurred(picture, deviation) for deviation in BLURS])
    chosen = levels[torch.randint(len(BLURS), (count,), generator=draw)]
    views = functional.grid_sample(chosen, grid, mode="bilinear", padding_mode="reflection", align_corners=False)
    gain = torch.exp(evenly(-how.contrast, how.contrast)).view(-1, 1, 1, 1)
    views = (views - 0.5) * gain + 0.5 + evenly(-how.light, how.light).view(-1, 1, 1, 1)
    return views + torch.randn(views.shape, generator=draw) * evenly(0, how.noise).view(-1, 1, 1, 1)


def blurred(picture: Tensor, deviation: float) -> Tensor:
    """A Gaussian blur of [3 h w]; the border is mirrored."""
    if deviation <= 0:
        return picture
    reach = max(1, math.ceil(2.5 * deviation))
    kernel = torch.exp(-0.5 * (torch.arange(-reach, reach + 1) / deviation) ** 2)
    kernel = (kernel / kernel.sum()).to(picture)
    channels = functional.pad(picture[:, None], (reach,) * 4, mode="reflect")
    channels = functional.conv2d(channels, kernel.view(1, 1, 1, -1))
    return functional.conv2d(channels, kernel.view(1, 1, -1, 1))[:, 0]


def total_variation(picture: Tensor) -> Tensor:
    """The mean absolute difference between neighbouring pixels of [3 h w]."""
    down, across = picture[:, 1:] - picture[:, :-1], picture[:, :, 1:] - picture[:, :, :-1]
    return down.abs().mean() + across.abs().mean()
