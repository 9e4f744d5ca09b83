"""The text transformer over a trie of tokens: what texts begin with alike is computed once. An OpenVINO graph.

Under a causal mask nothing that follows a token reaches it, so it has the same state in every text. Linear layers and
norms are computed for the nodes of the trie; for attention, queries, keys and values are gathered along each text's
path, and what comes of it is taken back to the nodes.

Shapes: m nodes, b texts, s tokens of the longest, w width, h heads, d shared dimension.
"""

import numpy as np
from numpy.typing import NDArray

from tandem.openvino_import import Node, PartialShape, Type, op
from tandem.towers.parts.openvino import (
    attention,
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
    """int32: `token_ids` and `positions` of the nodes [m], `paths` [b s], `places` [m] in them, and `ends` [b]."""
    shapes = {"token_ids": [-1], "positions": [-1], "paths": [-1, -1], "places": [-1], "ends": [-1]}
    return [op.parameter(PartialShape(shape), Type.i32, name=name) for name, shape in shapes.items()]


def features(entries: list[Node], text: TextTransformer, tensors: Tensors) -> Node:
    """`inputs` -> [b d], not of unit length. For towers that are causal and read at the end token."""
    token_ids, positions, paths, places, ends = entries
    zero = integers(0)
    x = embedded(token_ids, tensors, "token_embedding.weight")
    x = op.add(x, op.gather(tensor(tensors, "positional_embedding"), positions, zero))  # [m w]
    causal = constant(np.triu(np.full((text.context_length,) * 2, -np.inf, np.float32), 1))
    length = op.gather(op.shape_of(paths, "i32"), integers([1]), zero)  # [1]
    seen = op.slice(causal, integers([0, 0]), op.concat([length, length], 0), integers([1, 1]), integers([0, 1]))
    for i in range(text.layers):
        name, last = f"transformer.resblocks.{i}.", i == text.layers - 1
        y = layer_norm(x, tensors, name + "ln_1.", text.norm_epsilon)
        weights, biases = (split_qkv(tensors, f"{name}attn.in_proj_{kind}") for kind in ("weight", "bias"))
        asked = paths
        if last:  # only the states at the ends leave the tower
            asked = op.unsqueeze(ends, integers(1))  # [b 1]
            x = op.gather(x, ends, zero)  # [b w]
            seen = op.unsqueeze(op.gather(seen, op.gather(positions, ends, zero), zero), integers([1, 2]))  # [b 1 1 s]
        q, k, v = (
            split_heads(_along(y, each, weight, bias, first=last and each is asked), text.heads, text.width)
            for each, weight, bias in zip((asked, paths, paths), weights, biases, strict=True)
        )
        out = op.reshape(merge_heads(attention(q, k, v, seen), text.width), integers([-1, text.width]), False)
        if not last:
            out = op.gather(out, places, zero)  # [b*s w] -> [m w]
        x = op.add(x, named_linear(out, tensors, name + "attn.out_proj"))
        x = op.add(x, mlp(layer_norm(x, tensors, name + "ln_2.", text.norm_epsilon), text.activation, tensors, name))
    x = layer_norm(x, tensors, "ln_final.", text.norm_epsilon)
    return project(x, tensors, "text_projection", "text_projection_bias" if text.projection_bias else None)


def _along(y: Node, paths: Node, weight: NDArray[np.generic], bias: NDArray[np.generic], *, first: bool) -> Node:
    """A linear layer of the nodes y [m w], and its rows along paths [b s] -> [b s w]. `first`: gathered before it."""
    if first:
        return linear(op.gather(y, paths, integers(0)), weight, bias)
    return op.gather(linear(y, weight, bias), paths, integers(0))
