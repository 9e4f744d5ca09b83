"""The text transformer in numpy, for the first texts of a process. The mathematics of `graph`.

Shapes: b batch, t tokens, d shared dimension.
"""

import numpy as np
from numpy.typing import NDArray

from tandem.towers.parts.numpy import Array, block, get, layer_norm, project
from tandem.towers.parts.tensors import Tensors
from tandem.towers.text_transformer.description import TextTransformer


def features(token_ids: NDArray[np.int32], ends: NDArray[np.int32], text: TextTransformer, tensors: Tensors) -> Array:
    """Token ids [b t], and the position of the token that each vector is read at [b] -> [b d], not of unit length."""
    tokens = token_ids.shape[1]
    x = tensors["token_embedding.weight"][token_ids].astype(np.float32)
    x = x + get(tensors, "positional_embedding")[:tokens]
    mask = np.triu(np.full((tokens, tokens), -np.inf, np.float32), 1) if text.causal else None
    for i in range(text.layers):
        x = block(x, text, tensors, f"transformer.resblocks.{i}.", mask, ends if i == text.layers - 1 else None)
    x = project(layer_norm(x[:, 0], tensors, "ln_final.", text.norm_epsilon), tensors, "text_projection")
    return x + get(tensors, "text_projection_bias") if text.projection_bias else x
