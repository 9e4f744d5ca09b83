"""What towers are made of, in numpy, on the weights where they lie. Float32, with the rounding of eight bits where
tensors say so: the numbers of `products`.

Shapes: b batch, t tokens or patches, w width, h heads, d shared dimension.
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from tandem.towers.parts.description import QUICK_GELU_SLOPE, Activation, AttentionPoolSizes, BlockSizes
from tandem.towers.parts.folding import Convolution
from tandem.towers.parts.int8 import Int8, WithoutRanges, int8_of, quantized, range_of
from tandem.towers.parts.tensors import Tensors, split_qkv

Array = NDArray[np.float32]


def block(
    x: Array,
    sizes: BlockSizes,
    tensors: Tensors,
    name: str,
    mask: Array | None = None,
    only: NDArray[np.integer] | None = None,
    rotary: Array | None = None,
) -> Array:
    """A pre-norm residual block: x [b t w], mask [t t] -> [b t w], or [b 1 w], the row `only` [b] of each.

    rotary [2 t w/h]: cosines and sines that turn queries and keys.
    """
    y = layer_norm(x, tensors, name + "ln_1.", sizes.norm_epsilon)
    queries, turned = y, rotary
    if only is not None:
        rows = np.arange(len(x))
        x, queries = x[rows, only][:, None], y[rows, only][:, None]
        mask = None if mask is None else mask[only][:, None, None]  # [b 1 1 t]
        turned = None if rotary is None else rotary[:, only][:, :, None, None]  # [2 b 1 1 w/h]
    turns = None if rotary is None or turned is None else (turned, rotary)
    x = x + attention(queries, y, tensors, name + "attn.", sizes.heads, mask, turns)
    return x + mlp(layer_norm(x, tensors, name + "ln_2.", sizes.norm_epsilon), sizes.activation, tensors, name)


def attention(
    queries: Array,
    x: Array,
    tensors: Tensors,
    name: str,
    heads: int,
    mask: Array | None = None,
    turns: tuple[Array, Array] | None = None,
    *,
    learned: bool = False,
) -> Array:
    """Multi-head attention of queries [b q w] to x [b t w], mask added to the scores [b h q t] -> [b q w].

    turns: rotary positions of the queries and of the keys, each [2 ... w/h]. learned: the queries are constants, whose
    product is of no eight bits.
    """
    sources = ((queries, WithoutRanges(tensors) if learned else tensors), (x, tensors), (x, tensors))
    q, k, v = (
        split_heads(_qkv_linear(source, given, name + "in_proj_", part), heads)
        for part, (source, given) in enumerate(sources)
    )
    if turns is not None:
        q, k = rotate(q, turns[0]), rotate(k, turns[1])
    scores = q @ k.transpose(0, 1, 3, 2) * np.float32(q.shape[-1] ** -0.5)  # [b h q t]
    if mask is not None:
        scores = scores + mask
    scores = np.exp(scores - scores.max(axis=-1, keepdims=True))
    attended = (scores / scores.sum(axis=-1, keepdims=True)) @ v  # [b h q w/h]
    attended = attended.transpose(0, 2, 1, 3).reshape(len(x), queries.shape[1], -1)
    return linear(attended, tensors, name + "out_proj")


def rotate(x: Array, rotary: Array) -> Array:
    """Queries or keys [b h t w/h] turned by rotary positions, cosines and sines [2 ... w/h]."""
    cosines, sines = rotary
    across = np.stack([-x[..., 1::2], x[..., ::2]], axis=-1).reshape(x.shape)  # each pair turned by a right angle
    turned: Array = x * cosines + across * sines
    return turned


def mlp(x: Array, activation: Activation, tensors: Tensors, name: str) -> Array:
    """Two linear layers with the activation between them."""
    return linear(ACTIVATIONS[activation](linear(x, tensors, name + "mlp.c_fc")), tensors, name + "mlp.c_proj")


def attention_pool(x: Array, sizes: AttentionPoolSizes, tensors: Tensors) -> Array:
    """[b t w] -> [b w]: a learned query attends to all tokens, an MLP with a residual follows."""
    query = np.broadcast_to(get(tensors, "visual.pool.query"), (len(x), 1, sizes.width))
    pooled = attention(query, x, tensors, "visual.pool.attn.", sizes.pool_heads, learned=True)[:, 0]
    normed = layer_norm(pooled, tensors, "visual.pool.ln.", sizes.norm_epsilon)
    return pooled + mlp(normed, sizes.activation, tensors, "visual.pool.")


def split_heads(x: Array, heads: int) -> Array:
    """[b t w] -> [b h t w/h]"""
    return x.reshape(*x.shape[:2], heads, -1).transpose(0, 2, 1, 3)


def layer_norm(x: Array, tensors: Tensors, name: str, epsilon: float) -> Array:
    """Over the last axis."""
    x = x - x.mean(axis=-1, keepdims=True)
    x = x / np.sqrt(np.square(x).mean(axis=-1, keepdims=True) + np.float32(epsilon))
    return x * get(tensors, name + "weight") + get(tensors, name + "bias")


def linear(x: Array, tensors: Tensors, name: str) -> Array:
    """[... in] -> [... out]"""
    weight = name + ".weight"
    made = _product(x, tensors, name, int8_of(tensors, weight), lambda: get(tensors, weight))
    return made + get(tensors, name + ".bias")


def unbiased(x: Array, tensors: Tensors, name: str) -> Array:
    """[... in] -> [... out] by the tensor `name` [out in]."""
    return _product(x, tensors, name, int8_of(tensors, name), lambda: get(tensors, name))


def project(x: Array, tensors: Tensors, name: str) -> Array:
    """[... in] -> [... out] by the tensor `name` [in out]."""
    return _product(x, tensors, name, int8_of(tensors, name), lambda: get(tensors, name).T)


def convolve_tiles(x: Array, side: int, folded: Convolution, tensors: Tensors, layer: str) -> Array:
    """A convolution whose stride is its kernel's side, without its bias: [b h w c] -> [b h/side w/side o]."""
    int8 = folded.int8
    kernel = folded.kernel if int8 is None else int8.array()
    if (limits := range_of(tensors, layer)) is not None:
        x, kernel = limits.rounded(x), (int8 or quantized(kernel)).array()
    batch, height, width, channels = x.shape
    x = x.reshape(batch, height // side, side, width // side, side, channels).transpose(0, 1, 3, 5, 2, 4)
    made: Array = x.reshape(*x.shape[:3], -1) @ float32(kernel).reshape(len(kernel), -1).T
    return made if limits is None or limits.shift is None else made + limits.shift


def _qkv_linear(x: Array, tensors: Tensors, name: str, part: int) -> Array:
    """`linear` with the rows for queries (0), keys (1) or values (2) of `name`weight and `name`bias."""
    weight = name + "weight"
    int8 = int8_of(tensors, weight)
    made = _product(
        x,
        tensors,
        name + "qkv"[part],
        None if int8 is None else int8.part(part, 3),
        lambda: float32(split_qkv(tensors, weight)[part]),
    )
    return made + float32(split_qkv(tensors, name + "bias")[part])


def _product(x: Array, tensors: Tensors, layer: str, int8: Int8 | None, weight: Callable[[], Array]) -> Array:
    """x [... in] by a weight [out in], of eight bits where the layer has a range for x."""
    limits = range_of(tensors, layer)
    if limits is None:
        return x @ (weight() if int8 is None else int8.array()).T
    int8 = int8 or quantized(weight())
    if int8.smooth is not None:
        x = x * (1 / int8.smooth[0])
    made = limits.rounded(x) @ Int8(int8.ints, int8.scale).array().T
    return made if limits.shift is None else made + limits.shift


def get(tensors: Tensors, name: str) -> Array:
    """A tensor in float32."""
    return float32(tensors[name])


def float32(array: NDArray[np.generic]) -> Array:
    """The same array where it is float32, else a copy that is."""
    return array.astype(np.float32, copy=False)


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


def _gelu_tanh(x: Array) -> Array:
    inner = (x + np.float32(0.044715) * x * x * x) * np.float32(np.sqrt(2 / np.pi))
    return (np.float32(0.5) * x * (np.float32(1) + np.tanh(inner))).astype(np.float32, copy=False)


ACTIVATIONS: dict[Activation, Callable[[Array], Array]] = {
    "quick_gelu": _quick_gelu,
    "gelu": _gelu,
    "gelu_tanh": _gelu_tanh,
}
