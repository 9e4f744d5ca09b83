"""The first few inputs of a process, in plain numpy, on the weights where they lie.

Compiling a tower takes longer than encoding one photo or a few labels with it, and a second copy of its weights. So a
new engine computes its first inputs here and compiles only for more work, or for a large image (measured on ViT-B/32
and SigLIP 2 B/16, one photo and three labels: see docs/benchmarks.md).

Knows pixels and vectors, in float32; the towers that can be computed in numpy have a module `arrays` in their rooms.

Shapes: b batch, s pixels a side, t tokens, d shared dimension.
"""

import numpy as np
from numpy.typing import NDArray

from tandem.config import ModelConfig
from tandem.towers import tower_part
from tandem.towers.parts.tensors import Tensors

Array = NDArray[np.float32]


def encode_images(
    config: ModelConfig, tensors: Tensors, pixels: NDArray[np.uint8] | Array, normalize: bool = True
) -> Array:
    """Pixels in 0..255 [b s s 3] -> vectors [b d], of unit length if `normalize`."""
    mean, std = (np.asarray(values, np.float32) for values in config.preprocessing.normalisation)
    x = (pixels / np.float32(255) - mean) / std
    return _vectors(tower_part(config.vision, "arrays").features(x, config.vision, tensors), normalize)


def encode_texts(
    config: ModelConfig,
    tensors: Tensors,
    token_ids: NDArray[np.int32],
    ends: NDArray[np.int32],
    normalize: bool = True,
) -> Array:
    """Token ids [b t] and the position each vector is read at [b] -> vectors [b d], of unit length if `normalize`."""
    return _vectors(tower_part(config.text, "arrays").features(token_ids, ends, config.text, tensors), normalize)


def _vectors(x: Array, normalize: bool) -> Array:
    found: Array = x / np.linalg.norm(x, axis=-1, keepdims=True) if normalize else x
    return found
