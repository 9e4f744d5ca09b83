"""The text transformer as an OpenVINO graph.

Shapes: b batch, t tokens, w width, d shared dimension.
"""

import numpy as np

from tandem.openvino_import import Node, PartialShape, Type, op
from tandem.towers.parts.constants import constant, embedded_with, integers, tensor
from tandem.towers.parts.description import Wanted
from tandem.towers.parts.openvino import block, last_block, layer_norm, token_count
from tandem.towers.parts.products import project
from tandem.towers.parts.tensors import Tensors
from tandem.towers.text_transformer.description import TextTransformer


def inputs(text: TextTransformer) -> list[Node]:
    """`token_ids` int32 [b t], and, where vectors are read at the end token, its position `ends` int32 [b]."""
    token_ids = op.parameter(PartialShape([-1, -1]), Type.i32, name="token_ids")
    if text.pooling != "end":
        return [token_ids]
    return [token_ids, op.parameter(PartialShape([-1]), Type.i32, name="ends")]


def features(entries: list[Node], text: TextTransformer, tensors: Tensors) -> Node:
    """`inputs` -> [b d], not of unit length."""
    token_ids, *ends = entries
    x = _embed(token_ids, tensors)
    mask = _causal_mask(x, text.context_length) if text.causal else None
    for i in range(text.layers - 1):
        x = block(x, text, tensors, _block_name(i), mask)
    # Only the state at one position leaves the tower, so the last block computes nothing else
    if ends:
        query = op.gather(x, op.unsqueeze(ends[0], integers(1)), integers(1), 1)  # [b 1 w]
    else:
        query = op.gather(x, integers([-1]), integers(1))  # the last position
    seen = None  # nothing is masked for the last position either
    if mask is not None and ends:
        seen = op.unsqueeze(op.gather(mask, ends[0], integers(0)), integers([1, 2]))  # [b 1 1 t]
    x = last_block(x, query, text, tensors, _block_name(text.layers - 1), seen)
    x = op.squeeze(layer_norm(x, tensors, "ln_final.", text.norm_epsilon), integers(1))
    return project(x, tensors, "text_projection", "text_projection_bias" if text.projection_bias else None)


def states(
    token_ids: Node, text: TextTransformer, tensors: Tensors, wanted: Wanted, added: Node | None = None
) -> list[Node]:
    """Token ids int32 [b t] -> for each of `wanted` the state of every token [b t w].

    added [m w]: the embeddings of ids from the vocabulary's end on.
    """
    x = _embed(token_ids, tensors, added)
    mask = _causal_mask(x, text.context_length) if text.causal else None
    after = [x]
    for i in range(max(blocks for blocks, _ in wanted)):
        after.append(block(after[-1], text, tensors, _block_name(i), mask))
    return [
        layer_norm(after[blocks], tensors, "ln_final.", text.norm_epsilon) if norm else after[blocks]
        for blocks, norm in wanted
    ]


def _block_name(i: int) -> str:
    return f"transformer.resblocks.{i}."


def _embed(token_ids: Node, tensors: Tensors, added: Node | None = None) -> Node:
    """[b t] -> [b t w]"""
    x = embedded_with(token_ids, tensors, "token_embedding.weight", added)
    positions = op.range(integers(0), token_count(token_ids), integers(1), "i32")
    return op.add(x, op.gather(tensor(tensors, "positional_embedding"), positions, integers(0)))


def _causal_mask(x: Node, context_length: int) -> Node:
    """[t t] for x [b t w]: 0 where a token (row) may look, -inf at what follows it."""
    whole = np.triu(np.full((context_length,) * 2, -np.inf, np.float32), 1)
    length = op.gather(op.shape_of(x, "i32"), integers([1]), integers(0))  # [1]
    stop = op.concat([length, length], 0)
    return op.slice(constant(whole), integers([0, 0]), stop, integers([1, 1]), integers([0, 1]))
