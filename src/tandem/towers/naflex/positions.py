"""Bilinear interpolation of a table of positions to any number of them, as weights in one table.

Interpolating an image's grid is separable: the weights of a patch are the product of those of its row and its column.
Weights for every length at once make this a lookup, exact in any precision, the same on every engine.

Shapes: s positions along a side of the learned table, n along a side of an image's grid.
"""

import functools

import numpy as np
from numpy.typing import NDArray


@functools.cache
def interpolation(longest: int, side: int) -> NDArray[np.float32]:
    """The weights of s positions in each of n, for every n up to `longest`: float32 [longest (longest + 1) / 2, s].

    Row n (n - 1) / 2 + i is for position i of n. As torch interpolates with `antialias`, corners not aligned: a
    triangle around the centre of i, as wide as the distance of two positions in the coarser of both grids. (torch 2.13
    itself repeats the first row of a grid with a single column, on CPUs: so no reference there.)
    """
    n = np.repeat(np.arange(1, longest + 1), np.arange(1, longest + 1)).astype(np.float64)
    i = np.concatenate([np.arange(length) for length in range(1, longest + 1)])
    step = side / n
    centre = (i + 0.5) * step
    away = np.abs(np.arange(side) + 0.5 - centre[:, None]) / np.maximum(step, 1)[:, None]
    weights = np.maximum(0, 1 - away)
    weights /= weights.sum(axis=1, keepdims=True)
    table: NDArray[np.float32] = weights.astype(np.float32)
    table.flags.writeable = False  # shared by all who ask
    return table
