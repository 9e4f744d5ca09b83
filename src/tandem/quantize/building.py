"""The arrays of a quantised model: weights rounded to eight bits, beside them scales and the ranges of inputs.

Shapes: o outputs, i inputs, p parts.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tandem.config import ModelConfig
from tandem.quantize.calibration import Arrays, QuantizedLayer
from tandem.towers.blocks import TOWERS, Tower, block_of
from tandem.towers.parts.int8 import (
    COLUMN_SCALE,
    COLUMNS,
    INPUT,
    SCALE,
    SHIFT,
    SMOOTH,
    Int8,
    QuantizedTensors,
    WrappedTensors,
    quantized,
    weight_of,
)

_LEAST = 4096  # numbers in a weight that is rounded: less saves nothing


@dataclass(frozen=True)
class Plan:
    """The layers of each tower that compute in eight bits, and the blocks that are excluded: they stay in float32."""

    layers: Mapping[Tower, Mapping[str, QuantizedLayer]] = field(default_factory=dict)
    excluded: frozenset[str] = frozenset()

    def excluding(self, blocks: Collection[str]) -> "Plan":
        """The same with these blocks excluded, too."""
        return Plan(self.layers, self.excluded | frozenset(blocks))


def blocks(config: ModelConfig, tensors: Arrays) -> tuple[str, ...]:
    """All blocks of both towers that have weights to round, in their order."""
    return tuple(dict.fromkeys(map(block_of, weights(config, tensors))))


def weights(config: ModelConfig, tensors: Arrays) -> list[str]:
    """The tensors that towers take as int8: those that their graphs ask for, where rounding them saves something."""
    from tandem.engine import graph

    asked = _Asked(tensors)
    graph.image_graph(config, asked)
    graph.text_graph(config, asked)
    shapes = {name: asked[name].shape for name in asked.names}
    large = [name for name in shapes if int(np.prod(shapes[name])) >= _LEAST]
    return [name for name in large if len(shapes[name]) != 4 or shapes[name][1] > 1]  # none of depthwise ones


def build(config: ModelConfig, tensors: Arrays, plan: Plan, names: Collection[str] | None = None) -> QuantizedTensors:
    """The quantised tensors of a model. names: what `weights` gives, where it is known already."""
    rounded = [name for name in (names or weights(config, tensors)) if block_of(name) not in plan.excluded]
    layers = {name: layer for tower in TOWERS for name, layer in plan.layers.get(tower, {}).items()}
    layers = {
        name: layer
        for name, layer in layers.items()
        # A range of inputs that outliers have left holds only where the weights have taken them
        if block_of(name) not in plan.excluded and (layer.smooth is None or weight_of(name) in rounded)
    }
    stored: dict[str, NDArray[Any]] = {name: np.asarray(tensors[name]) for name in tensors if name not in rounded}
    for name in rounded:
        stored |= _rounded(name, np.asarray(tensors[name]), layers)
    for name, layer in layers.items():
        stored[name + INPUT] = np.stack([layer.low, layer.high])
        if layer.shift is not None:
            stored[name + SHIFT] = layer.shift
    return QuantizedTensors(stored)


def mismatched_tensors(source: Arrays, made: Arrays) -> list[str]:
    """The tensors of a quantised model that are not what rounding the source's gives, nor the source's as they are.

    Both as their files hold them.
    """
    tensors = QuantizedTensors(made)
    missing = sorted(tensors.keys() ^ source.keys())
    return [*missing, *(name for name in tensors if name in source and _differs(name, source, tensors))]


def _differs(name: str, source: Arrays, made: QuantizedTensors) -> bool:
    theirs, int8 = source[name], made.int8(name)
    if int8 is None:
        return not np.array_equal(theirs, made.stored[name])
    weight = theirs.T if name in COLUMNS else theirs
    if weight.shape != int8.ints.shape:
        return True
    expected = quantized(weight, int8.smooth)
    return not (np.array_equal(expected.ints, int8.ints) and np.array_equal(expected.scale, int8.scale))


def _rounded(name: str, array: NDArray[Any], layers: Mapping[str, QuantizedLayer]) -> dict[str, NDArray[Any]]:
    columns = name in COLUMNS
    made: Int8 = quantized(array.T if columns else array, _smooth(name, array, layers))
    stored: dict[str, NDArray[Any]] = {
        name: np.ascontiguousarray(made.ints.T if columns else made.ints),
        name + (COLUMN_SCALE if columns else SCALE): made.scale,
    }
    if made.smooth is not None:
        stored[name + SMOOTH] = made.smooth
    return stored


def _smooth(name: str, array: NDArray[Any], layers: Mapping[str, QuantizedLayer]) -> NDArray[np.float32] | None:
    """What the input of a weight's layers is divided by [p i]; None where none of them divides it."""
    if name.endswith("in_proj_weight"):
        parts = [layers.get(name.removesuffix("weight") + part) for part in "qkv"]
    else:
        parts = [layers.get(name.removesuffix(".weight"))]
    vectors = [None if layer is None else layer.smooth for layer in parts]
    if all(vector is None for vector in vectors):
        return None
    inputs = array.shape[0] if name in COLUMNS else array.shape[1]
    return np.stack([np.ones(inputs, np.float32) if vector is None else vector for vector in vectors])


class _Asked(WrappedTensors):
    """Tensors that note which of them a graph would take as int8."""

    def __init__(self, tensors: Arrays) -> None:
        super().__init__(tensors)
        self.names: dict[str, None] = {}

    def int8(self, name: str) -> None:
        self.names[name] = None
