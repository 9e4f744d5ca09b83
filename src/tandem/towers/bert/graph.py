"""The BERT-like text tower as an OpenVINO graph. Padding is told from the ids, inside the graph.

Shapes: b batch, t tokens, w width, d shared dimension.
"""

import numpy as np

from tandem.openvino_import import Node, PartialShape, Type, op
from tandem.towers.bert.description import Bert
from tandem.towers.bert.shapes import EMBEDDING, layer
from tandem.towers.parts.constants import constant, embedded, embedded_with, integers
from tandem.towers.parts.description import Wanted
from tandem.towers.parts.openvino import (
    activate,
    attention,
    layer_norm,
    merge_heads,
    split_heads,
    token_count,
)
from tandem.towers.parts.products import named_linear, unbiased
from tandem.towers.parts.tensors import Tensors

_TOKENS_AXIS = 1
_MASKED = np.finfo(np.float32).min  # not -inf: a row of nothing but padding has states, too


def inputs(text: Bert) -> list[Node]:
    """`token_ids` int32 [b t]."""
    return [op.parameter(PartialShape([-1, -1]), Type.i32, name="token_ids")]


def features(entries: list[Node], text: Bert, tensors: Tensors) -> Node:
    """`inputs` -> [b d], not of unit length."""
    (token_ids,) = entries
    is_token = _is_token(token_ids, text)
    x = _embed(token_ids, is_token, text, tensors)
    mask = _mask(is_token)
    for i in range(text.layers - 1):
        x = _layer(x, x, text, tensors, layer(i), mask)
    # Where only the first token's state leaves the tower, the last layer computes no other
    query = x if text.pooling == "mean" else op.gather(x, integers([0]), integers(_TOKENS_AXIS))
    x = _layer(query, x, text, tensors, layer(text.layers - 1), mask)
    return _project(_pool(x, is_token, text, tensors), text, tensors)


def states(token_ids: Node, text: Bert, tensors: Tensors, wanted: Wanted, added: Node | None = None) -> list[Node]:
    """Token ids int32 [b t] -> for each of `wanted` every token's state [b t w]. Each layer ends with its norm.

    added [m w]: the embeddings of ids from the vocabulary's end on.
    """
    is_token = _is_token(token_ids, text)
    mask = _mask(is_token)
    after = [_embed(token_ids, is_token, text, tensors, added)]
    for i in range(max(blocks for blocks, _ in wanted)):
        after.append(_layer(after[-1], after[-1], text, tensors, layer(i), mask))
    return [after[blocks] for blocks, _ in wanted]


def _is_token(token_ids: Node, text: Bert) -> Node:
    """[b t] -> int32 [b t]: 1 for a token, 0 for padding."""
    return op.convert(op.not_equal(token_ids, integers(text.pad_id)), "i32")


def _mask(is_token: Node) -> Node:
    """[b t] -> what is added to the scores [b 1 1 t]."""
    absent = op.subtract(constant(np.float32(1)), op.convert(is_token, "f32"))
    return op.unsqueeze(op.multiply(absent, constant(np.float32(_MASKED))), integers([1, 2]))


def _embed(token_ids: Node, is_token: Node, text: Bert, tensors: Tensors, added: Node | None = None) -> Node:
    """[b t] -> [b t w]"""
    prefix = "transformer.embeddings."
    x = embedded_with(token_ids, tensors, EMBEDDING, added)
    if text.positions_from_zero:
        positions = op.range(integers(0), token_count(token_ids), integers(1), "i32")  # [t]
    else:  # padding is at the position `pad_id`
        counted = op.multiply(op.cum_sum(is_token, integers(_TOKENS_AXIS)), is_token)
        positions = op.add(counted, integers(text.pad_id))  # [b t]
    x = op.add(x, embedded(positions, tensors, prefix + "position_embeddings.weight"))
    x = op.add(x, embedded(integers(0), tensors, prefix + "token_type_embeddings.weight"))
    return layer_norm(x, tensors, prefix + "LayerNorm.", text.norm_epsilon)


def _layer(query: Node, x: Node, text: Bert, tensors: Tensors, name: str, mask: Node) -> Node:
    """The new states of `query` [b q w], which are among those of x [b t w] -> [b q w]."""
    q, k, v = (
        split_heads(named_linear(source, tensors, f"{name}.attention.self.{part}"), text.heads, text.width)
        for source, part in ((query, "query"), (x, "key"), (x, "value"))
    )
    attended = merge_heads(attention(q, k, v, mask), text.width)
    query = _add_norm(attended, query, text, tensors, f"{name}.attention.output")
    hidden = activate(named_linear(query, tensors, f"{name}.intermediate.dense"), text.activation)
    return _add_norm(hidden, query, text, tensors, f"{name}.output")


def _add_norm(x: Node, residual: Node, text: Bert, tensors: Tensors, name: str) -> Node:
    x = op.add(named_linear(x, tensors, f"{name}.dense"), residual)
    return layer_norm(x, tensors, f"{name}.LayerNorm.", text.norm_epsilon)


def _pool(x: Node, is_token: Node, text: Bert, tensors: Tensors) -> Node:
    """[b t w], or [b 1 w] of the first token alone -> [b w]."""
    if text.pooling == "mean":
        counted = op.unsqueeze(op.convert(is_token, "f32"), integers(-1))  # [b t 1]
        axis = integers(_TOKENS_AXIS)
        return op.divide(op.reduce_sum(op.multiply(x, counted), axis), op.reduce_sum(counted, axis))
    x = op.squeeze(x, integers(_TOKENS_AXIS))
    return op.tanh(named_linear(x, tensors, "transformer.pooler.dense")) if text.pooling == "pooler" else x


def _project(x: Node, text: Bert, tensors: Tensors) -> Node:
    """[b w] -> [b d]"""
    names = {"mlp": ("proj.0.weight", "proj.2.weight"), "linear": ("proj.weight",), "none": ()}[text.projection]
    for i, name in enumerate(names):
        x = unbiased(activate(x, "gelu") if i else x, tensors, name)
    return x
