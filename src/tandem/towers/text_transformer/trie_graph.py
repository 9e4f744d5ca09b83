"""The text transformer over a trie of tokens: what texts begin with alike is computed once. An OpenVINO graph.

Under a causal mask nothing that follows a token reaches it, so it has the same state in every text. Linear layers and
norms are computed for the nodes of the trie; for attention, queries, keys and values are gathered along each text's
path, and what comes of it is taken back to the nodes.

Shapes: m nodes, b texts, s tokens of the longest, w width, h heads, d shared dimension.
"""

import numpy as np

from tandem.openvino_import import Node, PartialShape, Type, op
from tandem.towers.parts.constants import constant, embedded, integers, tensor
from tandem.towers.parts.openvino import attention, layer_norm, merge_heads, mlp, split_heads
from tandem.towers.parts.products import named_linear, project, qkv_linear
from tandem.towers.parts.tensors import Tensors
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
        asked = paths
        if last:  # only the states at the ends leave the tower
            asked = op.unsqueeze(ends, integers(1))  # [b 1]
            x = op.gather(x, ends, zero)  # [b w]
            seen = op.unsqueeze(op.gather(seen, op.gather(positions, ends, zero), zero), integers([1, 2]))  # [b 1 1 s]
        q, k, v = (
            split_heads(_along(y, each, tensors, name, part, first=last and each is asked), text.heads, text.width)
            for part, each in enumerate((asked, paths, paths))
        )
        out = op.reshape(merge_heads(attention(q, k, v, seen), text.width), integers([-1, text.width]), False)
        if not last:
            out = op.gather(out, places, zero)  # [b*s w] -> [m w]
        x = op.add(x, named_linear(out, tensors, name + "attn.out_proj"))
        x = op.add(x, mlp(layer_norm(x, tensors, name + "ln_2.", text.norm_epsilon), text.activation, tensors, name))
    x = layer_norm(x, tensors, "ln_final.", text.norm_epsilon)
    return project(x, tensors, "text_projection", "text_projection_bias" if text.projection_bias else None)


def _along(y: Node, paths: Node, tensors: Tensors, name: str, part: int, *, first: bool) -> Node:
    """Queries, keys or values of the nodes y [m w], and their rows along paths [b s] -> [b s w].

    `first`: gathered before the product.
    """
    name += "attn.in_proj_"
    if first:
        return qkv_linear(op.gather(y, paths, integers(0)), tensors, name, part)
    return op.gather(qkv_linear(y, tensors, name, part), paths, integers(0))
