"""A map's point and boxes. Pure arithmetic on arrays [h w]."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

MOST_BOXES = 5
LOW = 0.1  # the quantile of a map that counts as its ground
SPECK = 0.002  # of a map's places


@dataclass(frozen=True)
class Box:
    """Pixels of the upright image, from its top left corner; right and bottom are just outside."""

    left: int
    top: int
    right: int
    bottom: int
    heat: float  # 0..1, the highest in it

    @property
    def edges(self) -> tuple[int, int, int, int]:
        """Left, top, right, bottom: what PIL's `crop` takes."""
        return self.left, self.top, self.right, self.bottom

    def overlap(self, other: tuple[float, float, float, float]) -> float:
        """Intersection over union with another box (left, top, right, bottom), 0..1."""
        width = min(self.right, other[2]) - max(self.left, other[0])
        height = min(self.bottom, other[3]) - max(self.top, other[1])
        common = max(width, 0) * max(height, 0)
        areas = (self.right - self.left) * (self.bottom - self.top) + (other[2] - other[0]) * (other[3] - other[1])
        return float(common / (areas - common)) if areas > common else 0.0


def peak(values: NDArray[np.float32], width: int, height: int) -> tuple[int, int]:
    """Where a map is highest, as (x, y) in pixels of an image of this size."""
    row, column = divmod(int(values.argmax()), values.shape[1])
    rows, columns = values.shape
    return int((column + 0.5) * width / columns), int((row + 0.5) * height / rows)


def find_boxes(
    logits: NDArray[np.float32], heat: NDArray[np.float32], level: float, width: int, height: int
) -> tuple[Box, ...]:
    """Boxes around the regions where a map of logits is high, the one with the peak first, at most five.

    A region is what is connected and above `level` (0..1) of the way from the map's lowest tenth to its peak: things
    may fill most of an image. Specks beside the first region are left out. `heat` is the same map as shares.
    """
    low, high = float(np.quantile(logits, LOW)), float(logits.max())
    above = logits >= low + level * (high - low)
    rows, columns = logits.shape
    found = []
    for region in _regions(above):
        row, column = region
        box = Box(
            int(column.min() * width / columns),
            int(row.min() * height / rows),
            -(-(int(column.max()) + 1) * width // columns),
            -(-(int(row.max()) + 1) * height // rows),
            float(heat[row, column].max()),
        )
        found.append((float(logits[row, column].max()), box, len(row)))
    found.sort(key=lambda each: -each[0])
    found = found[:1] + [each for each in found[1:] if each[2] >= SPECK * above.size]
    return tuple(box for _, box, _ in found[:MOST_BOXES])


def _regions(above: NDArray[np.bool_]) -> list[tuple[NDArray[np.intp], NDArray[np.intp]]]:
    """The rows and columns of each region of true values that are connected by their sides."""
    rows, columns = above.shape
    left = above.copy()
    found = []
    for start in zip(*np.nonzero(above), strict=True):
        if not left[start]:
            continue
        left[start] = False
        inside, waiting = [], [start]
        while waiting:
            row, column = waiting.pop()
            inside.append((row, column))
            for at in ((row - 1, column), (row + 1, column), (row, column - 1), (row, column + 1)):
                if 0 <= at[0] < rows and 0 <= at[1] < columns and left[at]:
                    left[at] = False
                    waiting.append(at)
        where = np.array(inside)
        found.append((where[:, 0], where[:, 1]))
    return found
