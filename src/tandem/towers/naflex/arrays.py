"""The NaFlex Vision Transformer in numpy, for the first photo of a process. The mathematics of `graph`.

Shapes: b batch, v values of a patch, t patches with padding, k patches without, w width.
"""

import numpy as np

from tandem.towers.naflex.description import NaFlex
from tandem.towers.naflex.positions import interpolation
from tandem.towers.parts.numpy import Array, attention_pool, block, get, layer_norm, linear
from tandem.towers.parts.tensors import Tensors


def features(pixels: Array, vision: NaFlex, tensors: Tensors) -> Array:
    """Normalised pixels [b t v], the grid's rows and columns in the last values -> [b w], not of unit length."""
    return np.concatenate([_features(image, vision, tensors) for image in pixels])


def _features(image: Array, vision: NaFlex, tensors: Tensors) -> Array:
    """[t v] -> [1 w]. Without padding, nothing need be masked."""
    high_rows, low_rows, high_columns, low_columns = (round(float(value)) for value in image[0, -4:])
    most = vision.max_patches  # arrays from anywhere must not lead outside of the table
    rows = min(max(256 * high_rows + low_rows, 1), most)
    columns = min(max(256 * high_columns + low_columns, 1), most)
    table = interpolation(vision.max_patches, vision.grid)
    by_row, by_column = (table[n * (n - 1) // 2 : n * (n + 1) // 2] for n in (rows, columns))
    both = np.einsum("rs,cu->rcsu", by_row, by_column).reshape(rows * columns, -1)[: len(image)]  # [k s*s]
    x = linear(image[: rows * columns, :-4], tensors, "visual.conv1")
    x = (x + both @ get(tensors, "visual.positional_embedding"))[None]  # [1 k w]
    for i in range(vision.layers):
        x = block(x, vision, tensors, f"visual.transformer.resblocks.{i}.")
    x = layer_norm(x, tensors, "visual.ln_post.", vision.norm_epsilon)
    return attention_pool(x, vision, tensors)
