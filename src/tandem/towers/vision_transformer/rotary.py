"""Rotary positions of patches (Su et al. 2021; in two dimensions, Heo et al. 2024), as tables. Numpy, no engine.

Queries and keys of a head with h numbers are turned in pairs of neighbours, (0, 1), (2, 3), ..., so that their product
depends on how far two patches are apart. The first h/4 pairs turn with the column, the other h/4 with the row; pair i
of either by `position * 10000^(-4i/h)`. Positions are counted in patches of the grid that the model was trained on:
other grids are stretched to it. A class token has no position and is not turned.

Shapes: t tokens, h numbers of a head.
"""

import numpy as np
from numpy.typing import NDArray

from tandem.towers.vision_transformer.description import VisionTransformer

TEMPERATURE = 10000.0


def rotation(vision: VisionTransformer) -> NDArray[np.float32] | None:
    """Cosines and sines of each token's angles, each given to both numbers of a pair: [2 t h]; None without them."""
    if not vision.rotary_grid:
        return None
    bands = vision.width // vision.heads // 4
    frequencies = TEMPERATURE ** (-np.arange(bands) / bands)
    steps = (np.arange(vision.grid) + vision.rotary_offset) * (vision.rotary_grid / vision.grid)
    rows, columns = np.meshgrid(steps, steps, indexing="ij")
    angles = np.concatenate([axis.reshape(-1, 1) * frequencies for axis in (columns, rows)], axis=1)  # [g*g h/2]
    angles = np.pad(angles, ((int(vision.class_token), 0), (0, 0))).repeat(2, axis=1)  # [t h]
    return np.stack([np.cos(angles), np.sin(angles)]).astype(np.float32)
