"""The text transformer for texts that begin alike: their common tokens are computed once. An OpenVINO graph.

Under a causal mask nothing that follows a token reaches it: the beginning has the same states in every text, and what
follows reads its keys and values. All tokens go through the linear layers as one row, so each weight is packed once.

Shapes: b texts, p tokens of the beginning, s tokens that follow, m = p + b s, w width, h heads, d shared dimension.
"""

import numpy as np

from tandem.openvino_import import Node, PartialShape, Type, op
from tandem.towers.parts.openvino import (
    attention,
    batch_size,
    constant,
    embedded,
    integers,
    layer_norm,
    linear,
    merge_heads,
    mlp,
    named_linear,
    project,
    split_heads,
    tensor,
)
from tandem.towers.parts.tensors import Tensors, split_qkv
from tandem.towers.text_transformer.description import TextTransformer


def inputs() -> list[Node]:
    """int32: `prefix_ids` [p], the `token_ids` that follow [b s], and where in these the end tokens are, `ends` [b]."""
    shapes = {"prefix_ids": [-1], "token_ids": [-1, -1], "ends": [-1]}
    return [op.parameter(PartialShape(shape), Type.i32, name=name) for name, shape in shapes.items()]


def features(entries: list[Node], text: TextTransformer, tensors: Tensors) -> Node:
    """`inputs` -> [b d], not of unit length. For towers that are causal and read at the end token."""
    prefix_ids, token_ids, ends = entries
    shape = op.shape_of(token_ids, "i32")  # [b s]
    p, s = op.shape_of(prefix_ids, "i32"), op.gather(shape, integers([1]), integers(0))  # [1] each
    x = op.concat([prefix_ids, op.reshape(token_ids, integers([-1]), False)], 0)  # [m]
    x = op.add(embedded(x, tensors, "token_embedding.weight"), _positions(p, s, shape, tensors))
    x = op.unsqueeze(x, integers(0))  # [1 m w]
    causal = constant(np.triu(np.full((text.context_length,) * 2, -np.inf, np.float32), 1))
    first = op.slice(causal, integers([0, 0]), op.concat([p, p], 0), integers([1, 1]), integers([0, 1]))  # [p p]
    until = op.concat([op.add(p, s)] * 2, 0)
    start = op.concat([p, integers([0])], 0)
    then = op.slice(causal, start, until, integers([1, 1]), integers([0, 1]))  # [s p+s]
    rows = op.concat([shape, integers([text.width])], 0)  # [b s w]
    for i in range(text.layers):
        name, last = f"transformer.resblocks.{i}.", i == text.layers - 1
        y = layer_norm(x, tensors, name + "ln_1.", text.norm_epsilon)
        (wq, wk, wv), (bq, bk, bv) = (split_qkv(tensors, f"{name}attn.in_proj_{kind}") for kind in ("weight", "bias"))
        k, v = (_split(linear(y, weight, bias), p, rows, text) for weight, bias in ((wk, bk), (wv, bv)))
        keys, values = (_joined(*pair) for pair in (k, v))  # [b h p+s w/h]
        if last:  # only the states at the ends leave the tower
            asking = _at_ends(y, p, rows, ends)  # [b 1 w]
            q = split_heads(linear(asking, wq, bq), text.heads, text.width)
            seen = op.unsqueeze(op.gather(then, ends, integers(0)), integers([1, 2]))  # [b 1 1 p+s]
            x = _at_ends(x, p, rows, ends)
            out = merge_heads(attention(q, keys, values, seen), text.width)
        else:
            q = _split(linear(y, wq, bq), p, rows, text)
            before = merge_heads(attention(q[0], k[0], v[0], first), text.width)  # [1 p w]
            after = merge_heads(attention(q[1], keys, values, then), text.width)  # [b s w]
            out = op.concat([before, op.reshape(after, integers([1, -1, text.width]), False)], 1)
        x = op.add(x, named_linear(out, tensors, name + "attn.out_proj"))
        x = op.add(x, mlp(layer_norm(x, tensors, name + "ln_2.", text.norm_epsilon), text.activation, tensors, name))
    x = op.squeeze(layer_norm(x, tensors, "ln_final.", text.norm_epsilon), integers(1))
    return project(x, tensors, "text_projection", "text_projection_bias" if text.projection_bias else None)


def _positions(p: Node, s: Node, shape: Node, tensors: Tensors) -> Node:
    """[m w]: those of the beginning, then for each text those of what follows."""
    zero, scalar = integers(0), integers([0])
    first, end = op.squeeze(p, scalar), op.squeeze(op.add(p, s), scalar)
    then = op.broadcast(op.range(first, end, integers(1), "i32"), shape)  # [b s]
    places = op.concat([op.range(zero, first, integers(1), "i32"), op.reshape(then, integers([-1]), False)], 0)
    return op.gather(tensor(tensors, "positional_embedding"), places, integers(0))


def _following(x: Node, p: Node, rows: Node) -> Node:
    """[1 m w] -> [b s w]"""
    after = op.slice(x, p, integers([np.iinfo(np.int32).max]), integers([1]), integers([1]))
    return op.reshape(after, rows, False)


def _split(x: Node, p: Node, rows: Node, text: TextTransformer) -> tuple[Node, Node]:
    """[1 m w] -> the heads of the beginning [1 h p w/h] and of what follows [b h s w/h]."""
    before = op.slice(x, integers([0]), p, integers([1]), integers([1]))
    return (
        split_heads(before, text.heads, text.width),
        split_heads(_following(x, p, rows), text.heads, text.width),
    )


def _joined(before: Node, after: Node) -> Node:
    """[1 h p w/h] and [b h s w/h] -> [b h p+s w/h]"""
    each = op.gather(op.shape_of(before, "i32"), integers([1, 2, 3]), integers(0))
    return op.concat([op.broadcast(before, op.concat([batch_size(after), each], 0)), after], 2)


def _at_ends(x: Node, p: Node, rows: Node, ends: Node) -> Node:
    """[1 m w] -> [b 1 w]"""
    return op.gather(_following(x, p, rows), op.unsqueeze(ends, integers(1)), integers(1), 1)
