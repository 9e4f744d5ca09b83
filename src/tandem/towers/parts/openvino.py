"""What towers are made of, as OpenVINO operators on constants that share the arrays' memory.

Whoever holds a graph must keep the arrays alive.

Shapes: b batch, t tokens or patches, w width, h heads. Of convolutions: i channels in, o channels out, h rows,
w columns.
"""

import numpy as np
from numpy.typing import NDArray

from tandem.openvino_import import Node, Type, op, ov
from tandem.towers.parts.description import QUICK_GELU_SLOPE, Activation, AttentionPoolSizes, BlockSizes
from tandem.towers.parts.folding import Convolution
from tandem.towers.parts.tensors import Tensors, split_qkv


def block(
    x: Node,
    sizes: BlockSizes,
    tensors: Tensors,
    name: str,
    mask: Node | None = None,
    rotary: NDArray[np.float32] | None = None,
) -> Node:
    """A pre-norm residual attention block: x [b t w], mask [t t] -> [b t w].

    rotary [2 t w/h]: cosines and sines that turn queries and keys.
    """
    y = layer_norm(x, tensors, name + "ln_1.", sizes.norm_epsilon)
    turns = None if rotary is None else (rotary, rotary)
    q, k, v = projections((y, y, y), tensors, name + "attn.in_proj_", sizes.heads, turns)
    x = op.add(x, attention_out(attention(q, k, v, mask), tensors, name + "attn."))
    return op.add(x, mlp(layer_norm(x, tensors, name + "ln_2.", sizes.norm_epsilon), sizes.activation, tensors, name))


def last_block(
    x: Node,
    query: Node,
    sizes: BlockSizes,
    tensors: Tensors,
    name: str,
    mask: Node | None = None,
    rotary: NDArray[np.float32] | None = None,
) -> Node:
    """`block` for one token of each row alone: x [b t w], query [b 1 w] (a row of x), mask [b 1 1 t] -> [b 1 w].

    With rotary positions the token is the first one.
    """
    epsilon = sizes.norm_epsilon
    y = layer_norm(x, tensors, name + "ln_1.", epsilon)
    asking = layer_norm(query, tensors, name + "ln_1.", epsilon)
    turns = None if rotary is None else (rotary[:, :1], rotary)
    q, k, v = projections((asking, y, y), tensors, name + "attn.in_proj_", sizes.heads, turns)
    query = op.add(query, attention_out(attention(q, k, v, mask), tensors, name + "attn."))
    return op.add(query, mlp(layer_norm(query, tensors, name + "ln_2.", epsilon), sizes.activation, tensors, name))


def projections(
    sources: tuple[Node, Node, Node],
    tensors: Tensors,
    name: str,
    heads: int,
    turns: tuple[NDArray[np.float32], NDArray[np.float32]] | None = None,
) -> list[Node]:
    """What queries, keys and values are made from, each [b t w] -> q, k, v, each [b h t w/h].

    turns: rotary positions of queries and of keys, each [2 t w/h].

    Three products, not one: as fast (measured), and weights that a file holds in three parts are never stacked.
    """
    weights, biases = (split_qkv(tensors, name + kind) for kind in ("weight", "bias"))
    width = weights[0].shape[1]
    q, k, v = (linear(source, weight, bias) for source, weight, bias in zip(sources, weights, biases, strict=True))
    if turns is not None:
        return [
            *(turned_heads(x, rotary, heads, width) for x, rotary in zip((q, k), turns, strict=True)),
            split_heads(v, heads, width),
        ]
    return [split_heads(x, heads, width) for x in (q, k, v)]


def attention(q: Node, k: Node, v: Node, mask: Node | None = None) -> Node:
    """q, k, v [b h t w/h], mask added to the scores -> [b h t w/h].

    A masked score is spelt out in products: as the fused operator it takes 45 ms more to compile for 12 layers, and
    3 to 6% longer to run (measured). Unmasked, both are equal, and the operator never holds all scores of a large
    image in memory.
    """
    if mask is None:
        return op.scaled_dot_product_attention(q, k, v)
    width = q.get_output_partial_shape(0)[3].get_length()
    scores = op.matmul(op.multiply(q, constant(np.float32(width**-0.5))), k, False, True)  # [b h t t]
    return op.matmul(op.softmax(op.add(scores, mask), -1), v, False, False)


def neighbour_attention(x: Node, near: NDArray[np.float32], sizes: BlockSizes, tensors: Tensors, name: str) -> Node:
    """NACLIP (Hajimiri et al. 2024): tokens attend to similar keys and to neighbours; x [b t w], near [t t] -> [b t w].

    Neither the residual nor the MLP of a block.
    """
    weights, biases = (split_qkv(tensors, f"{name}in_proj_{kind}") for kind in ("weight", "bias"))
    k, v = (
        split_heads(linear(x, weight, bias), sizes.heads, weight.shape[1])
        for weight, bias in zip(weights[1:], biases[1:], strict=True)
    )
    return attention_out(attention(k, k, v, constant(near[None, None])), tensors, name)


def attention_out(x: Node, tensors: Tensors, name: str) -> Node:
    """[b h t w/h] -> [b t w]"""
    width = tensors[name + "out_proj.weight"].shape[1]
    return named_linear(merge_heads(x, width), tensors, name + "out_proj")


def attention_pool(x: Node, sizes: AttentionPoolSizes, tensors: Tensors, mask: Node | None = None) -> Node:
    """[b t w] -> [b w]: a learned query attends to all tokens, an MLP with a residual follows.

    mask, added to the scores: [b 1 1 t].
    """
    width, heads, name = sizes.width, sizes.pool_heads, "visual.pool."
    (wq, wk, wv), (bq, bk, bv) = (split_qkv(tensors, f"{name}attn.in_proj_{kind}") for kind in ("weight", "bias"))
    query = op.reshape(tensor(tensors, name + "query"), integers([1, 1, width]), False)
    q = split_heads(linear(query, wq, bq), heads, width)  # [1 h 1 w/h]
    q = op.broadcast(q, op.concat([batch_size(x), integers([heads, 1, width // heads])], 0))
    k, v = (split_heads(linear(x, weight, bias), heads, width) for weight, bias in ((wk, bk), (wv, bv)))
    pooled = op.squeeze(attention_out(attention(q, k, v, mask), tensors, name + "attn."), integers(1))  # [b w]
    normed = layer_norm(pooled, tensors, name + "ln.", sizes.norm_epsilon)
    return op.add(pooled, mlp(normed, sizes.activation, tensors, name))


def mlp(x: Node, activation: Activation, tensors: Tensors, name: str) -> Node:
    """Two linear layers with the activation between them: [b t w] -> [b t w]."""
    x = activate(named_linear(x, tensors, name + "mlp.c_fc"), activation)
    return named_linear(x, tensors, name + "mlp.c_proj")


def activate(x: Node, activation: Activation) -> Node:
    """The model's activation. quick_gelu is swish with a beta of 1.702, which fuses with the product before it."""
    if activation == "quick_gelu":
        return op.swish(x, constant(np.float32(QUICK_GELU_SLOPE)))
    return op.gelu(x, "tanh" if activation == "gelu_tanh" else "erf")


def layer_norm(x: Node, tensors: Tensors, name: str, epsilon: float) -> Node:
    """Over the last axis."""
    x = op.mvn(x, integers([-1]), True, epsilon, "inside_sqrt")
    return op.add(op.multiply(x, tensor(tensors, name + "weight")), tensor(tensors, name + "bias"))


def split_heads(x: Node, heads: int, width: int) -> Node:
    """[b t w] -> [b h t w/h]"""
    return op.transpose(op.reshape(x, integers([0, 0, heads, width // heads]), True), integers([0, 2, 1, 3]))


def turned_heads(x: Node, rotary: NDArray[np.float32], heads: int, width: int) -> Node:
    """`split_heads` of queries or keys, turned by rotary positions: cosines and sines [2 t w/h].

    In each head the first numbers of all pairs come first, then the second ones: products of queries and keys do not
    depend on the order, and in this one the formula is compiled to a single operator: rotary positions take 3% of the
    time of PE-Core's B/16 instead of 14% (measured).
    """
    half = width // heads // 2
    pairs = op.reshape(x, integers([0, 0, heads, half, 2]), True)
    x = op.reshape(op.transpose(pairs, integers([0, 2, 1, 4, 3])), integers([0, heads, 0, 2 * half]), True)
    cosines, sines = (constant(np.tile(table[None, None, :, ::2], 2)) for table in rotary)  # [1 1 t w/h]
    first, second = op.variadic_split(x, integers(3), integers([half, half])).outputs()
    across = op.concat([op.multiply(second, constant(np.float32(-1))), first], -1)  # each pair turned by a right angle
    return op.add(op.multiply(x, cosines), op.multiply(across, sines))


def merge_heads(x: Node, width: int) -> Node:
    """[b h t w/h] -> [b t w]"""
    return op.reshape(op.transpose(x, integers([0, 2, 1, 3])), integers([0, 0, width]), True)


def linear(x: Node, weight: NDArray[np.generic], bias: NDArray[np.generic]) -> Node:
    """[... in] -> [... out], weight [out in]"""
    return op.add(op.matmul(x, constant(weight), False, True), constant(bias))


def named_linear(x: Node, tensors: Tensors, name: str) -> Node:
    """`linear` with the tensors `name`.weight and `name`.bias."""
    return linear(x, tensors[name + ".weight"], tensors[name + ".bias"])


def project(x: Node, tensors: Tensors, name: str, bias: str | None = None) -> Node:
    """[b w] -> [b d] by the matrix `name` [w d], and `bias` where there is one."""
    x = op.matmul(x, tensor(tensors, name), False, False)
    return x if bias is None else op.add(x, tensor(tensors, bias))


def convolve(x: Node, folded: Convolution, stride: int = 1, groups: int = 1, padding: int | None = None) -> Node:
    """[b i h w] -> [b o h w], padded by half of the kernel unless `padding` says otherwise."""
    kernel = folded.kernel.astype(np.float32)
    around = [kernel.shape[2] // 2 if padding is None else padding] * 2
    if groups > 1:
        grouped = constant(kernel.reshape(groups, -1, *kernel.shape[1:]))
        x = op.group_convolution(x, grouped, [stride] * 2, around, around, [1, 1])
    else:
        x = op.convolution(x, constant(kernel), [stride] * 2, around, around, [1, 1])
    return op.add(x, constant(folded.bias.astype(np.float32).reshape(1, -1, 1, 1))) if folded.bias.any() else x


def tensor(tensors: Tensors, name: str) -> Node:
    """A tensor as a constant."""
    return constant(tensors[name])


def embedded(ids: Node, tensors: Tensors, name: str) -> Node:
    """The rows `ids` [...] of a table -> float32 [... w]. The table stays as it is stored, and where it is.

    In float16 the conversion must stand before the lookup, where OpenVINO moves it behind: written behind, the whole
    table is converted (XLM-V's 901,629 rows: 3.9 GB and 40 s to compile instead of 0.3 GB and 1.5 s, measured). In
    bfloat16 it stays with the conversion behind.
    """
    array = tensors[name]
    if array.dtype.name != "bfloat16":
        return op.gather(constant(array), ids, integers(0))
    array = np.ascontiguousarray(array)
    words = ov.Tensor(_writeable(array.view(np.uint16)), array.shape, Type.bf16)  # numpy has no type for it
    return op.convert(op.gather(op.constant(words, shared_memory=True), ids, integers(0)), "f32")


def embedded_with(ids: Node, tensors: Tensors, name: str, added: Node | None) -> Node:
    """`embedded`; ids from the table's end on are rows of `added` [m w], which no vocabulary has."""
    if added is None:
        return embedded(ids, tensors, name)
    rows = tensors[name].shape[0]
    known = embedded(op.minimum(ids, integers(rows - 1)), tensors, name)
    new = op.gather(added, op.maximum(op.subtract(ids, integers(rows)), integers(0)), integers(0))
    return op.select(op.unsqueeze(op.greater_equal(ids, integers(rows)), integers(-1)), new, known)


def constant(array: NDArray[np.generic] | np.float32) -> Node:
    """A constant of float32, that shares the array's memory wherever it can."""
    array = np.asarray(array)
    if array.dtype not in (np.float32, np.float16):
        array = array.astype(np.float32)  # bfloat16, which has no numpy dtype of its own
    array = array if array.flags.c_contiguous else np.ascontiguousarray(array)
    made = op.constant(_writeable(array), shared_memory=True)
    return op.convert(made, "f32") if array.dtype == np.float16 else made


def _writeable(array: NDArray[np.generic]) -> NDArray[np.generic]:
    """OpenVINO shares writeable arrays only, though it never writes to a constant. Copies where the memory is not."""
    if array.flags.writeable:
        return array
    view = array.view()
    try:
        view.flags.writeable = True
    except ValueError:
        return array.copy()
    return view


def integers(values: int | list[int]) -> Node:
    """A constant of int32."""
    return op.constant(np.asarray(values, np.int32))


def batch_size(x: Node) -> Node:
    """The batch size, [1]."""
    return op.gather(op.shape_of(x, "i32"), integers([0]), integers(0))


def token_count(x: Node) -> Node:
    """The number of tokens, a scalar: x [b t ...]."""
    return op.gather(op.shape_of(x, "i32"), integers(1), integers(0))
