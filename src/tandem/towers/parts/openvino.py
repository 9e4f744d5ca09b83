"""What towers are made of, as OpenVINO operators on constants that share the arrays' memory.

Whoever holds a graph must keep the arrays alive.

Shapes: b batch, t tokens or patches, w width, h heads.
"""

import numpy as np
from numpy.typing import NDArray

from tandem.openvino_import import Node, op
from tandem.towers.parts.constants import constant, integers, tensor
from tandem.towers.parts.description import QUICK_GELU_SLOPE, Activation, AttentionPoolSizes, BlockSizes
from tandem.towers.parts.products import linear, named_linear, qkv_linear
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
    q, k, v = (qkv_linear(source, tensors, name, part) for part, source in enumerate(sources))
    width = q.get_output_partial_shape(0)[2].get_length()
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
    products = [qkv_linear(x, tensors, name + "in_proj_", part) for part in (1, 2)]
    k, v = (split_heads(each, sizes.heads, each.get_output_partial_shape(0)[2].get_length()) for each in products)
    return attention_out(attention(k, k, v, constant(near[None, None])), tensors, name)


def attention_out(x: Node, tensors: Tensors, name: str) -> Node:
    """[b h t w/h] -> [b t w]"""
    heads, width = (x.get_output_partial_shape(0)[axis].get_length() for axis in (1, 3))
    return named_linear(merge_heads(x, heads * width), tensors, name + "out_proj")


def attention_pool(x: Node, sizes: AttentionPoolSizes, tensors: Tensors, mask: Node | None = None) -> Node:
    """[b t w] -> [b w]: a learned query attends to all tokens, an MLP with a residual follows.

    mask, added to the scores: [b 1 1 t].
    """
    width, heads, name = sizes.width, sizes.pool_heads, "visual.pool."
    query = op.reshape(tensor(tensors, name + "query"), integers([1, 1, width]), False)
    # The learned query is a constant, and so is its product: of no eight bits
    weight, bias = (split_qkv(tensors, f"{name}attn.in_proj_{kind}")[0] for kind in ("weight", "bias"))
    q = split_heads(linear(query, {}, name + "attn.in_proj_q", weight, bias), heads, width)  # [1 h 1 w/h]
    k, v = (split_heads(qkv_linear(x, tensors, name + "attn.in_proj_", part), heads, width) for part in (1, 2))
    q = op.broadcast(q, op.concat([batch_size(x), integers([heads, 1, width // heads])], 0))
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


def batch_size(x: Node) -> Node:
    """The batch size, [1]."""
    return op.gather(op.shape_of(x, "i32"), integers([0]), integers(0))


def token_count(x: Node) -> Node:
    """The number of tokens, a scalar: x [b t ...]."""
    return op.gather(op.shape_of(x, "i32"), integers(1), integers(0))
