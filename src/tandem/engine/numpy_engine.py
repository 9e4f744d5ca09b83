"""The first few inputs of a process, in plain numpy, on the weights where they lie.

Compiling a tower takes longer than encoding one photo or a few labels with it, and a second copy of its weights. So a
new engine computes its first inputs here and compiles only for more work (measured on
ViT-B/32, one photo and three labels: see docs/benchmarks.md).

Knows transformers only, in float32: the same mathematics as `graph.py`, tied to it by the contract tests.

Shapes: b batch, t tokens or patches, w width, h heads, d shared dimension.
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from tandem.config import QUICK_GELU_SLOPE, Activation, ModelConfig, VisionTransformer
from tandem.engine.tensors import NORM_EPSILON, Tensors, split_qkv

Array = NDArray[np.float32]


def encode_images(config: ModelConfig, tensors: Tensors, pixels: NDArray[np.uint8] | Array) -> Array:
    """Pixels in 0..255 [b s s 3] -> unit vectors [b d]. The vision tower must be a transformer."""
    vision = config.vision
    assert isinstance(vision, VisionTransformer)
    grid, patch = vision.grid, vision.patch_size
    mean, std = (np.asarray(values, np.float32) for values in (config.preprocessing.mean, config.preprocessing.std))
    x = (pixels[:, : grid * patch, : grid * patch] / np.float32(255) - mean) / std
    x = x.reshape(len(x), grid, patch, grid, patch, 3).transpose(0, 1, 3, 5, 2, 4)  # [b grid grid 3 patch patch]
    x = x.reshape(len(x), grid * grid, -1) @ _get(tensors, "visual.conv1.weight").reshape(vision.width, -1).T
    token = np.broadcast_to(_get(tensors, "visual.class_embedding"), (len(x), 1, vision.width))
    x = np.concatenate([token, x], axis=1) + _get(tensors, "visual.positional_embedding")  # [b 1+patches w]
    x = _layer_norm(x, tensors, "visual.ln_pre.")
    for i in range(vision.layers):
        only = np.zeros(len(x), np.int64) if i == vision.layers - 1 else None
        x = _block(x, tensors, f"visual.transformer.resblocks.{i}.", vision.heads, vision.activation, only=only)
    return _unit(_layer_norm(x[:, 0], tensors, "visual.ln_post.") @ _get(tensors, "visual.proj"))


def encode_texts(config: ModelConfig, tensors: Tensors, token_ids: NDArray[np.int32], ends: NDArray[np.int32]) -> Array:
    """Token ids [b t] and the place of each end token [b] -> unit vectors [b d]."""
    text, tokens = config.text, token_ids.shape[1]
    x = tensors["token_embedding.weight"][token_ids].astype(np.float32)
    x = x + _get(tensors, "positional_embedding")[:tokens]
    mask = np.triu(np.full((tokens, tokens), -np.inf, np.float32), 1)
    for i in range(text.layers):
        only = ends if i == text.layers - 1 else None
        x = _block(x, tensors, f"transformer.resblocks.{i}.", text.heads, text.activation, mask, only)
    return _unit(_layer_norm(x[:, 0], tensors, "ln_final.") @ _get(tensors, "text_projection"))


def _block(
    x: Array,
    tensors: Tensors,
    name: str,
    heads: int,
    activation: Activation,
    mask: Array | None = None,
    only: NDArray[np.integer] | None = None,
) -> Array:
    """A pre-norm residual block: x [b t w], mask [t t] -> [b t w], or [b 1 w], the row `only` [b] of each."""
    y = _layer_norm(x, tensors, name + "ln_1.")
    queries = y
    if only is not None:
        rows = np.arange(len(x))
        x, queries = x[rows, only][:, None], y[rows, only][:, None]
        mask = None if mask is None else mask[only][:, None, None]  # [b 1 1 t]
    weights, biases = (split_qkv(tensors, name + f"attn.in_proj_{kind}") for kind in ("weight", "bias"))
    q, k, v = (
        _heads(source @ weight.astype(np.float32, copy=False).T + bias.astype(np.float32, copy=False), heads)
        for source, weight, bias in zip((queries, y, y), weights, biases, strict=True)
    )
    scores = q @ k.transpose(0, 1, 3, 2) * np.float32(q.shape[-1] ** -0.5)  # [b h t t]
    if mask is not None:
        scores = scores + mask
    scores = np.exp(scores - scores.max(axis=-1, keepdims=True))
    attended = (scores / scores.sum(axis=-1, keepdims=True)) @ v  # [b h t w/h]
    attended = attended.transpose(0, 2, 1, 3).reshape(x.shape)
    x = x + _linear(attended, tensors, name + "attn.out_proj")
    y = _linear(_layer_norm(x, tensors, name + "ln_2."), tensors, name + "mlp.c_fc")
    return x + _linear(_ACTIVATIONS[activation](y), tensors, name + "mlp.c_proj")


def _heads(x: Array, heads: int) -> Array:
    """[b t w] -> [b h t w/h]"""
    return x.reshape(*x.shape[:2], heads, -1).transpose(0, 2, 1, 3)


def _layer_norm(x: Array, tensors: Tensors, name: str) -> Array:
    x = x - x.mean(axis=-1, keepdims=True)
    x = x / np.sqrt(np.square(x).mean(axis=-1, keepdims=True) + np.float32(NORM_EPSILON))
    return x * _get(tensors, name + "weight") + _get(tensors, name + "bias")


def _linear(x: Array, tensors: Tensors, name: str) -> Array:
    return x @ _get(tensors, name + ".weight").T + _get(tensors, name + ".bias")


def _quick_gelu(x: Array) -> Array:
    """x * sigmoid(1.702 x), as x / (1 + exp(-1.702 x))."""
    with np.errstate(over="ignore"):  # exp of a large number is inf, and x / inf the 0 that is meant
        gated: Array = x / (1 + np.exp(np.float32(-QUICK_GELU_SLOPE) * x))
        return gated


def _gelu(x: Array) -> Array:
    gated: Array = np.float32(0.5) * x * (np.float32(1) + _erf(x * np.float32(0.5**0.5)))
    return gated


def _erf(x: Array) -> Array:
    """The error function to 1.5e-7 (Abramowitz and Stegun 1964, 7.1.26); numpy has none."""
    one = np.float32(1)
    t: Array = one / (one + np.float32(0.3275911) * np.abs(x))
    polynomial = np.full_like(t, 1.061405429)
    for coefficient in (-1.453152027, 1.421413741, -0.284496736, 0.254829592):
        polynomial = polynomial * t + np.float32(coefficient)
    erf: Array = np.sign(x) * (one - polynomial * t * np.exp(-np.square(x)))
    return erf


_ACTIVATIONS: dict[Activation, Callable[[Array], Array]] = {"quick_gelu": _quick_gelu, "gelu": _gelu}


def _unit(x: Array) -> Array:
    unit: Array = x / np.linalg.norm(x, axis=-1, keepdims=True)
    return unit


def _get(tensors: Tensors, name: str) -> Array:
    return tensors[name].astype(np.float32, copy=False)
