"""The NaFlex Vision Transformer as an OpenVINO graph.

Shapes: b batch, v values of a patch, t patches with padding, w width, s positions along a side of the table.
"""

import numpy as np

from tandem.openvino_import import Node, op
from tandem.towers.naflex.description import NaFlex
from tandem.towers.naflex.positions import interpolation
from tandem.towers.parts.constants import constant, integers, tensor
from tandem.towers.parts.openvino import attention_pool, block, layer_norm
from tandem.towers.parts.products import named_linear
from tandem.towers.parts.tensors import Tensors


def features(pixels: Node, vision: NaFlex, tensors: Tensors) -> Node:
    """Normalised pixels [b v t], the grid's rows and columns in the last values -> [b w], not of unit length."""
    x, seen = _embed(pixels, vision, tensors)
    for i in range(vision.layers):
        x = block(x, vision, tensors, f"visual.transformer.resblocks.{i}.", seen)
    return attention_pool(layer_norm(x, tensors, "visual.ln_post.", vision.norm_epsilon), vision, tensors, seen)


def states(pixels: Node, vision: NaFlex, tensors: Tensors, blocks: int, final_norm: bool, projection: bool) -> Node:
    """Normalised pixels [b v t] -> every patch's state after so many blocks [b t w]; those of padding mean nothing.

    There is no projection: it is false.
    """
    x, seen = _embed(pixels, vision, tensors)
    for i in range(blocks):
        x = block(x, vision, tensors, f"visual.transformer.resblocks.{i}.", seen)
    return layer_norm(x, tensors, "visual.ln_post.", vision.norm_epsilon) if final_norm else x


def _embed(pixels: Node, vision: NaFlex, tensors: Tensors) -> tuple[Node, Node]:
    """[b v t] -> [b t w], and what is added to scores so that no patch sees padding [b 1 1 t]."""
    values = op.transpose(pixels, integers([0, 2, 1]))  # [b t v]
    end = 3 * vision.patch_size**2
    patches = op.slice(values, integers([0]), integers([end]), integers([1]), integers([2]))
    size = op.slice(values, integers([0, end]), integers([1, end + 4]), integers([1, 1]), integers([1, 2]))  # [b 1 4]
    size = op.convert(op.round(size, "half_to_even"), "i32")
    most = integers(vision.max_patches)  # arrays from anywhere must not lead outside of the table
    rows, columns = (
        op.minimum(
            op.maximum(op.add(op.multiply(_one(size, at), integers(256)), _one(size, at + 1)), integers(1)), most
        )
        for at in (0, 2)
    )  # each [b 1]
    index = op.unsqueeze(integers(list(range(vision.max_patches))), integers(0))  # [1 t]
    row = op.divide(index, columns)  # [b t]
    column = op.subtract(index, op.multiply(row, columns))
    row = op.minimum(row, op.subtract(rows, integers(1)))  # of padding: any
    table = constant(interpolation(vision.max_patches, vision.grid))
    by_row, by_column = (
        op.gather(table, op.add(op.divide(op.multiply(n, op.subtract(n, integers(1))), integers(2)), i), integers(0))
        for n, i in ((rows, row), (columns, column))
    )  # each [b t s]
    both = op.multiply(op.unsqueeze(by_row, integers(3)), op.unsqueeze(by_column, integers(2)))
    both = op.reshape(both, integers([0, 0, vision.grid**2]), True)  # [b t s*s]
    positions = op.matmul(both, tensor(tensors, "visual.positional_embedding"), False, False)
    hidden = op.greater_equal(index, op.multiply(rows, columns))  # [b t]
    mask = op.select(hidden, constant(np.float32(-np.inf)), constant(np.float32(0)))
    x = op.add(named_linear(patches, tensors, "visual.conv1"), positions)
    return x, op.unsqueeze(mask, integers([1, 2]))


def _one(size: Node, at: int) -> Node:
    """[b 1 4] -> [b 1]"""
    return op.gather(size, integers(at), integers(2))
