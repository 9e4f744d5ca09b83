"""The Vision Transformer in numpy, for the first photo of a process. The mathematics of `graph`.

Shapes: b batch, s pixels a side, g patches along a side, t tokens, w width, d shared dimension.
"""

import numpy as np

from tandem.towers.parts.folding import normed_convolution, plain_convolution
from tandem.towers.parts.numpy import (
    ACTIVATIONS,
    Array,
    attention_pool,
    block,
    convolve_tiles,
    get,
    layer_norm,
    project,
)
from tandem.towers.parts.tensors import Tensors
from tandem.towers.vision_transformer.description import VisionTransformer
from tandem.towers.vision_transformer.rotary import rotation


def features(pixels: Array, vision: VisionTransformer, tensors: Tensors) -> Array:
    """Normalised pixels [b s s 3] -> [b d], not of unit length."""
    x = pixels[:, : vision.grid * vision.patch_size, : vision.grid * vision.patch_size]
    x = _stem(x, vision, tensors) if vision.stem else _patches(x, vision, tensors)
    x = x.reshape(len(x), -1, vision.width)  # [b patches w]
    if vision.patch_bias:
        x = x + get(tensors, "visual.stem.2.conv.bias" if vision.stem else "visual.conv1.bias")
    if not vision.class_position:
        x = x + get(tensors, "visual.positional_embedding")
    if vision.class_token:
        token = np.broadcast_to(get(tensors, "visual.class_embedding"), (len(x), 1, vision.width))
        x = np.concatenate([token, x], axis=1)
    if vision.class_position:
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
    x = project(x, tensors, "visual.proj")
    return x + get(tensors, "visual.proj_bias") if vision.projection == "biased" else x


def _patches(x: Array, vision: VisionTransformer, tensors: Tensors) -> Array:
    """[b s s 3] -> [b g g w]"""
    return convolve_tiles(x, vision.patch_size, plain_convolution(tensors, "visual.conv1"), tensors, "visual.conv1")


def _stem(x: Array, vision: VisionTransformer, tensors: Tensors) -> Array:
    """[b s s 3] -> [b g g w], the last convolution's bias left out."""
    for i, (_, _, side) in enumerate(vision.stem):
        name = f"visual.stem.{i}."
        layer = name + "conv"
        if i == len(vision.stem) - 1:
            return convolve_tiles(x, side, plain_convolution(tensors, layer), tensors, layer)
        folded = normed_convolution(tensors, layer, name + "bn")
        x = convolve_tiles(x, side, folded, tensors, layer) + folded.bias.astype(np.float32)
        x = ACTIVATIONS[vision.activation](x)
    return x


def _pool(x: Array, vision: VisionTransformer, tensors: Tensors) -> Array:
    """[b t w] -> [b w]"""
    epsilon = vision.norm_epsilon
    if vision.pooling == "mean":
        x = x[:, int(vision.class_token) :]
        x = x.mean(axis=1, keepdims=True) if vision.norm_after_pooling else x
    x = layer_norm(x, tensors, "visual.ln_post.", epsilon)
    if vision.pooling != "attention":
        return np.asarray(x.mean(axis=1))  # of one token, or of the patches
    return attention_pool(x, vision, tensors)
