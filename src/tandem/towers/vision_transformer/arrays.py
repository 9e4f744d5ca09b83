"""The Vision Transformer in numpy, for the first photo of a process. The mathematics of `graph`.

Shapes: b batch, s pixels a side, t tokens, w width, d shared dimension.
"""

import numpy as np

from tandem.towers.parts.numpy import Array, attention, block, get, layer_norm, mlp
from tandem.towers.parts.tensors import Tensors
from tandem.towers.vision_transformer.description import VisionTransformer
from tandem.towers.vision_transformer.rotary import rotation


def features(pixels: Array, vision: VisionTransformer, tensors: Tensors) -> Array:
    """Normalised pixels [b s s 3] -> [b d], not of unit length."""
    grid, patch = vision.grid, vision.patch_size
    x = pixels[:, : grid * patch, : grid * patch]
    x = x.reshape(len(x), grid, patch, grid, patch, 3).transpose(0, 1, 3, 5, 2, 4)  # [b grid grid 3 patch patch]
    x = x.reshape(len(x), grid * grid, -1) @ get(tensors, "visual.conv1.weight").reshape(vision.width, -1).T
    if vision.patch_bias:
        x = x + get(tensors, "visual.conv1.bias")
    if vision.class_token:
        token = np.broadcast_to(get(tensors, "visual.class_embedding"), (len(x), 1, vision.width))
        x = np.concatenate([token, x], axis=1)
    x = x + get(tensors, "visual.positional_embedding")  # [b t w]
    if vision.first_norm:
        x = layer_norm(x, tensors, "visual.ln_pre.", vision.norm_epsilon)
    rotary = rotation(vision)
    for i in range(vision.layers):
        last = i == vision.layers - 1 and vision.pooling == "class"
        only = np.zeros(len(x), np.int64) if last else None
        x = block(x, vision, tensors, f"visual.transformer.resblocks.{i}.", only=only, rotary=rotary)
    x = _pool(x, vision, tensors)
    if vision.projection == "none":
        return x
    x = x @ get(tensors, "visual.proj")
    return x + get(tensors, "visual.proj_bias") if vision.projection == "biased" else x


def _pool(x: Array, vision: VisionTransformer, tensors: Tensors) -> Array:
    """[b t w] -> [b w]"""
    epsilon = vision.norm_epsilon
    if vision.pooling == "mean":
        x = x[:, int(vision.class_token) :]
        x = x.mean(axis=1, keepdims=True) if vision.norm_after_pooling else x
    x = layer_norm(x, tensors, "visual.ln_post.", epsilon)
    if vision.pooling != "attention":
        return np.asarray(x.mean(axis=1))  # of one token, or of the patches
    query = np.broadcast_to(get(tensors, "visual.pool.query"), (len(x), 1, vision.width))
    pooled = attention(query, x, tensors, "visual.pool.attn.", vision.pool_heads)[:, 0]
    return pooled + mlp(
        layer_norm(pooled, tensors, "visual.pool.ln.", epsilon), vision.activation, tensors, "visual.pool."
    )
