"""Both towers as OpenVINO graphs, from images and token ids to vectors; the towers' own graphs are in their rooms.

Knows pixels, vectors and OpenVINO's operators. It compiles and runs nothing, and knows no file.
Weights enter as constants that share the arrays' memory: whoever holds a graph must keep the arrays alive.

Shapes: b batch, s pixels a side, t tokens or patches, v values of a patch, w width, d shared dimension.
"""

from typing import Literal

import numpy as np

from tandem.config import ModelConfig, TextTower
from tandem.openvino_import import Node, PartialShape, Type, op, ov
from tandem.towers import tower_part
from tandem.towers.parts.constants import constant, integers
from tandem.towers.parts.description import Wanted
from tandem.towers.parts.tensors import Tensors


def image_graph(
    config: ModelConfig, tensors: Tensors, pixels: Literal["u8", "f32"] = "u8", normalize: bool = True
) -> ov.Model:
    """Pixels in 0..255 [b s s 3], or patches [b t v] -> vectors float32 [b d], of unit length if `normalize`."""
    entry, x = _pixels(config, pixels)
    x = tower_part(config.vision, "graph").features(x, config.vision, tensors)
    return ov.Model([_vectors(x, normalize)], [entry], "image")


def text_graph(config: ModelConfig, tensors: Tensors, normalize: bool = True) -> ov.Model:
    """Token ids int32 [b t], and what else the text tower takes -> vectors float32 [b d], of unit length if asked."""
    graph = tower_part(config.text, "graph")
    entries = graph.inputs(config.text)
    return ov.Model([_vectors(graph.features(entries, config.text, tensors), normalize)], entries, "text")


def text_trie_graph(config: ModelConfig, tensors: Tensors, normalize: bool = True) -> ov.Model:
    """The inputs of a `TokenTrie` -> vectors float32 [b d] of its different texts, of unit length if asked."""
    graph = tower_part(config.text, "trie_graph")
    entries = graph.inputs()
    return ov.Model([_vectors(graph.features(entries, config.text, tensors), normalize)], entries, "text_trie")


def image_states_graph(
    config: ModelConfig,
    tensors: Tensors,
    blocks: int,
    final_norm: bool,
    projection: bool,
    pixels: Literal["u8", "f32"] = "u8",
) -> ov.Model:
    """Pixels in 0..255 [b s s 3], or patches [b t v] -> the state of every token after so many blocks [b t w]."""
    entry, x = _pixels(config, pixels)
    x = tower_part(config.vision, "graph").states(x, config.vision, tensors, blocks, final_norm, projection)
    return ov.Model([op.result(x, name="states")], [entry], "image_states")


def dense_graph(config: ModelConfig, tensors: Tensors, pixels: Literal["u8", "f32"] = "u8") -> ov.Model:
    """Pixels in 0..255 [b s s 3] -> a unit vector for each patch or position, float32 [b p d]."""
    entry, x = _pixels(config, pixels)
    x = tower_part(config.vision, "graph").dense(x, config.vision, tensors)
    return ov.Model([_vectors(x, normalize=True)], [entry], "dense")


def text_states_graph(text: TextTower, tensors: Tensors, wanted: Wanted, with_added: bool = False) -> ov.Model:
    """Token ids int32 [b t] -> for each of the l `wanted` the state of every token, float32 [l b t w].

    with_added: a second input float32 [m w], the embeddings of ids from the vocabulary's end on.
    """
    token_ids = op.parameter(PartialShape([-1, -1]), Type.i32, name="token_ids")
    added = op.parameter(PartialShape([-1, text.width]), Type.f32, name="added") if with_added else None
    states = tower_part(text, "graph").states(token_ids, text, tensors, wanted, added)
    x = op.concat([op.unsqueeze(each, integers(0)) for each in states], 0)
    return ov.Model([op.result(x, name="states")], [token_ids] + ([] if added is None else [added]), "text_states")


def _pixels(config: ModelConfig, kind: Literal["u8", "f32"]) -> tuple[Node, Node]:
    """The entry of an image graph [b s s 3], and the normalised pixels [b 3 s s]; patches [b t v] -> [b v t]."""
    shape = config.preprocessing.pixel_shape
    entry = op.parameter(PartialShape([-1, *shape]), {"u8": Type.u8, "f32": Type.f32}[kind], name="pixels")
    mean, std = (255 * np.asarray(values, np.float32) for values in config.preprocessing.normalisation)
    x = op.transpose(op.convert(entry, "f32"), integers([0, len(shape), *range(1, len(shape))]))
    channels_first = (1, -1, *(1,) * (len(shape) - 1))
    x = op.divide(op.subtract(x, constant(mean.reshape(channels_first))), constant(std.reshape(channels_first)))
    return entry, x


def _vectors(x: Node, normalize: bool) -> Node:
    return op.result(op.normalize_l2(x, integers([-1]), 1e-12, "max") if normalize else x, name="vectors")
