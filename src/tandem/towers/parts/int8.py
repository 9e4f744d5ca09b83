"""Weights of eight bits, and the ranges of the inputs that they are multiplied with, in numpy. Knows no graph, no file.

A layer is a linear layer or a convolution, known by its name. Of one that computes in eight bits, the weight has a
scale for each output channel, and the input is mapped from a range to 256 steps, after a division by `smooth` where
one is kept: outliers of the input then lie in the weight (SmoothQuant, Xiao et al. 2023).

Shapes: o outputs, i inputs, p parts of a stacked weight.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float32]

SCALE, COLUMN_SCALE, SMOOTH, INPUT, SHIFT = "::scale", "::column_scale", "::smooth", "::input", "::shift"
COLUMNS = ("visual.proj", "text_projection")  # matrices [i o]; all other weights are [o i] or [o i h w]
_LARGEST = 127  # symmetric: -128 is not used
STEPS = 256  # of an input's range


@dataclass(frozen=True)
class Int8:
    """A weight as int8 [o ...]; `scale` [o] and the division by `smooth` [p i] give it back."""

    ints: NDArray[np.int8]
    scale: Array
    smooth: Array | None = None

    def array(self) -> Array:
        """The weight that this stands for, float32 [o ...]."""
        made = self.ints * self.scale.reshape(-1, *(1,) * (self.ints.ndim - 1))
        if self.smooth is not None:
            made /= np.repeat(self.smooth, len(made) // len(self.smooth), axis=0)
        return made

    def part(self, index: int, parts: int) -> "Int8":
        """One of equal parts of the outputs."""
        rows = len(self.ints) // parts
        part = slice(index * rows, (index + 1) * rows)
        smooth = self.smooth
        if smooth is not None and len(smooth) > 1:
            smooth = smooth[index : index + 1]
        return Int8(self.ints[part], self.scale[part], smooth)

    def scaled(self, by: NDArray[np.floating[Any]]) -> "Int8":
        """Its outputs times `by` [o]."""
        return Int8(self.ints, (self.scale * by).astype(np.float32), self.smooth)


@dataclass(frozen=True)
class Range:
    """The range of a layer's input, two numbers; `shift` [o] corrects the output's mean."""

    low: np.float32
    high: np.float32
    shift: Array | None = None

    def rounded(self, x: Array) -> Array:
        """x [...] in 256 steps, as OpenVINO's FakeQuantize rounds it: half to even."""
        low, span = self.low, self.high - self.low
        steps = np.rint(np.clip((x - low) / span, 0, 1) * np.float32(STEPS - 1))
        rounded: Array = (steps * (span / np.float32(STEPS - 1)) + low).astype(np.float32, copy=False)
        return rounded


def quantized(weight: NDArray[Any], smooth: Array | None = None) -> Int8:
    """A weight [o ...] rounded to int8, by the largest of each output channel."""
    rows = np.asarray(weight, np.float32)
    if smooth is not None:
        rows = rows * np.repeat(smooth, len(rows) // len(smooth), axis=0)
    scale = np.abs(rows.reshape(len(rows), -1)).max(1, initial=0) / _LARGEST
    scale = np.where(scale > 0, scale, 1).astype(np.float32)
    ints = np.rint(rows / scale.reshape(-1, *(1,) * (rows.ndim - 1))).astype(np.int8)
    return Int8(ints, scale, smooth)


def weight_of(layer: str) -> str:
    """The name of the tensor that a layer multiplies with. A convolution folded from several has none of that name."""
    if layer in COLUMNS:
        return layer
    return layer[:-1] + "weight" if layer[:-1].endswith("in_proj_") else layer + ".weight"


class Int8Tensors(Mapping[str, np.ndarray], ABC):
    """Arrays by name that offer some of themselves as int8: what graphs ask of tensors beside the arrays."""

    @abstractmethod
    def int8(self, name: str) -> Int8 | None:
        """A weight as int8 with the outputs first; None for one that is kept in floating point."""

    def range_of(self, layer: str) -> Range | None:
        """The range of a layer's input; None where the layer computes in floating point."""
        return None


class QuantizedTensors(Int8Tensors):
    """A model's arrays by name, some kept as int8. Asked for by name, an array is float, computed anew each time.

    stored: arrays as their file holds them. The scales of an int8 one are beside it, under its name and a suffix; the
    range of a layer's input is under the layer's name and a suffix.
    """

    def __init__(self, stored: Mapping[str, np.ndarray]) -> None:
        self.stored = stored
        self._names = [name for name in stored if "::" not in name]

    def int8(self, name: str) -> Int8 | None:
        array = self.stored.get(name)
        if array is None or array.dtype != np.int8:
            return None
        smooth = self.stored.get(name + SMOOTH)
        if (scale := self.stored.get(name + COLUMN_SCALE)) is not None:
            return Int8(array.T, scale, smooth)
        return Int8(array, self.stored[name + SCALE], smooth)

    def range_of(self, layer: str) -> Range | None:
        limits = self.stored.get(layer + INPUT)
        if limits is None:
            return None
        low, high = limits.reshape(2)
        return Range(low, high, self.stored.get(layer + SHIFT))

    @property
    def layers(self) -> list[str]:
        """The layers that multiply eight bits with eight bits."""
        return [name.removesuffix(INPUT) for name in self.stored if name.endswith(INPUT)]

    def shape_and_dtype(self, name: str) -> tuple[tuple[int, ...], np.dtype[Any]]:
        """What `self[name]` has, without computing it."""
        array = self.stored[name]
        return array.shape, np.dtype(np.float32) if array.dtype == np.int8 else array.dtype

    def __getitem__(self, name: str) -> np.ndarray:
        int8 = self.int8(name)
        if int8 is None:
            return self.stored[name]
        made = int8.array()
        return made.T if name + COLUMN_SCALE in self.stored else made

    def __contains__(self, name: object) -> bool:
        return name in self.stored

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)


class WrappedTensors(Int8Tensors):
    """The same arrays by name. Which of them are int8 is for who wraps them to say."""

    def __init__(self, tensors: Mapping[str, np.ndarray]) -> None:
        self._tensors = tensors

    def __getitem__(self, name: str) -> np.ndarray:
        return self._tensors[name]

    def __contains__(self, name: object) -> bool:
        return name in self._tensors

    def __iter__(self) -> Iterator[str]:
        return iter(self._tensors)

    def __len__(self) -> int:
        return len(self._tensors)


class WithoutRanges(WrappedTensors):
    """Tensors whose int8 weights stay, but whose layers all compute in floating point."""

    def int8(self, name: str) -> Int8 | None:
        return int8_of(self._tensors, name)


def int8_of(tensors: Mapping[str, np.ndarray], name: str) -> Int8 | None:
    """`Int8Tensors.int8`; None for tensors of any other kind."""
    return tensors.int8(name) if isinstance(tensors, Int8Tensors) else None


def range_of(tensors: Mapping[str, np.ndarray], layer: str) -> Range | None:
    """`Int8Tensors.range_of`; None for tensors of any other kind."""
    return tensors.range_of(layer) if isinstance(tensors, Int8Tensors) else None


def is_quantized(tensors: Mapping[str, np.ndarray]) -> bool:
    """Whether they are a quantised model's, some of them kept as int8."""
    return isinstance(tensors, QuantizedTensors)


def multiplies_int8(tensors: Mapping[str, np.ndarray]) -> bool:
    """Whether some layers multiply eight bits with eight bits; else int8 is only how weights are kept."""
    return isinstance(tensors, QuantizedTensors) and bool(tensors.layers)


def stored(tensors: Mapping[str, np.ndarray]) -> Mapping[str, np.ndarray]:
    """The arrays as a file holds them: of quantised tensors int8, scales and ranges."""
    return tensors.stored if isinstance(tensors, QuantizedTensors) else tensors
