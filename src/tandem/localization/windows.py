"""Square windows over an image of any size and aspect. Pure geometry, in pixels of the image.

Shapes: r rows of windows, c columns of windows.
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

MOST_ALONG = 40  # windows along a side: of an endless panorama they stand further apart

FloatArray = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class WindowGrid:
    """Windows of one size: every combination of a top and a left edge."""

    tops: FloatArray  # [r]
    lefts: FloatArray  # [c]
    side: float

    def __len__(self) -> int:
        return len(self.tops) * len(self.lefts)

    @property
    def boxes(self) -> list[tuple[float, float, float, float]]:
        """Left, top, right, bottom of each window, row by row."""
        return [
            (float(left), float(top), float(left + self.side), float(top + self.side))
            for top in self.tops
            for left in self.lefts
        ]


def window_grid(width: int, height: int, scale: float, stride: float) -> WindowGrid:
    """Windows whose side is `scale` times the shorter side of the image, at most `stride` of a side apart.

    The first and the last ones touch the edges. `scale` is in 0..1, so that every window is inside.
    """
    side = scale * min(width, height)
    return WindowGrid(_starts(height, side, stride), _starts(width, side, stride), side)


def _starts(length: int, side: float, stride: float) -> FloatArray:
    room = length - side
    steps = math.ceil(room / (side * stride) - 1e-6) if room > 1e-6 else 0
    return np.linspace(0.0, max(room, 0.0), min(steps + 1, MOST_ALONG))
