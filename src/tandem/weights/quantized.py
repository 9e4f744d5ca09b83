"""Quantised tensors as a file holds them, checked: what each array is, `towers/parts/int8.py` says."""

import re
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from tandem.errors import TandemError, WeightsError
from tandem.towers.parts.int8 import COLUMN_SCALE, COLUMNS, INPUT, SCALE, SHIFT, SMOOTH, QuantizedTensors, weight_of
from tandem.weights.checkpoint import Checkpoint

_SUFFIXES = (SCALE, COLUMN_SCALE, SMOOTH, INPUT, SHIFT)
_LARGEST = 1e9  # of a scale and the end of a range: no model computes with more, and products of more overflow
_SMALLEST = 1e-30  # of what is divided by: a range's width, and what its inputs are smoothed by
_FOLDED_PARTS = 16  # a name of more is none of a convolution


def refuse_quantized(checkpoint: Checkpoint, what: str, error: type[TandemError] = WeightsError) -> None:
    """Raise `error` for a quantised model, whose rounded weights would pass for its source's. `what` asks for them."""
    about = checkpoint.config.quantization
    if about is not None:
        raise error(
            f"{checkpoint.source}: {what} takes weights in floating point, and this model's are rounded to eight bits "
            f"({about.method}): take {about.source}, which it was made from"
        )


def quantized_tensors(stored: Mapping[str, np.ndarray], source: str) -> QuantizedTensors:
    """The tensors of a quantised model. Raises `WeightsError` where scales and ranges do not fit."""
    file = _File(stored, source, _folded(stored) if any(name.endswith(INPUT) for name in stored) else {})
    for name, array in stored.items():
        owner, mark, kind = name.partition("::")
        if mark:
            if f"::{kind}" not in _SUFFIXES:
                raise file.error(name, f"expected one of {', '.join(_SUFFIXES)}")
            file.check_beside(name, owner, mark + kind)
        elif array.dtype == np.int8 and not (name + SCALE in stored) ^ (name + COLUMN_SCALE in stored):
            raise file.error(name, f"int8 without its scales ({_shown(name)}{SCALE})")
    return QuantizedTensors(stored)


def _folded(stored: Mapping[str, np.ndarray]) -> dict[str, tuple[int, ...]]:
    """Convolutions that are folded from several: their layers, and the shape of one of their kernels."""
    found: dict[str, tuple[int, ...]] = {}
    for name, array in stored.items():
        if array.ndim == 4 and name.count(".") < _FOLDED_PARTS:
            parts = name.split(".")
            for length in range(2, len(parts)):
                found.setdefault(".".join(parts[:length]), array.shape)
    return found


@dataclass(frozen=True)
class _File:
    """What stands in one file, for the checks of each array."""

    stored: Mapping[str, np.ndarray]
    source: str
    folded: Mapping[str, tuple[int, ...]]

    def error(self, name: str, says: str) -> WeightsError:
        return WeightsError(f"{self.source}: {_shown(name)}: {says}; the file is damaged: quantize it again")

    def check_beside(self, name: str, owner: str, kind: str) -> None:
        """An array beside a weight or at a layer."""
        array = self.stored[name]
        if array.dtype != np.float32 or not np.isfinite(array).all():
            raise self.error(name, f"expected finite float32, got {array.dtype}")
        if (np.abs(array) > _LARGEST).any():
            raise self.error(name, f"expected numbers up to {_LARGEST:g}, got {float(np.abs(array).max()):g}")
        if kind == INPUT:
            self._check_range(name, owner, array)
        elif kind == SHIFT:
            outputs = self._shape_at(name, owner)[0]
            if array.shape != (outputs,) or owner + INPUT not in self.stored:
                raise self.error(name, f"expected [{outputs}] beside {_shown(owner)}{INPUT}, got {list(array.shape)}")
        else:
            self._check_scale(name, owner, kind, array)

    def _check_range(self, name: str, layer: str, array: np.ndarray) -> None:
        self._shape_at(name, layer)
        if not 1 <= array.ndim <= 5 or len(array) != 2 or array.size != 2:
            raise self.error(name, f"expected the two ends of a range, [2], got {list(array.shape)}")
        if not (array[1].astype(np.float64) - array[0] >= _SMALLEST).all():
            raise self.error(name, "expected the ends of a range, the lower one first")

    def _shape_at(self, name: str, layer: str) -> tuple[int, ...]:
        """The shape of the weight that a layer multiplies with: [o i] or [o i h w]."""
        weight, stacked = self.stored.get(weight_of(layer)), layer[:-1].endswith("in_proj_")
        if weight is None and layer[-2:] in (".q", ".k", ".v"):
            weight, stacked = self.stored.get(f"{layer[:-1]}qkv.weight"), True
        if weight is not None and weight.ndim in (2, 4):
            outputs, *inputs = weight.shape
            if layer in COLUMNS:
                return inputs[0], outputs
            return outputs // 3 if stacked else outputs, *inputs
        whole, half, _ = layer.partition(".half")
        shape = self.folded.get(whole)
        if shape is None:
            raise self.error(name, f"there is no layer {_shown(layer)}")
        return (shape[0], shape[1] // 2, *shape[2:]) if half else shape  # half of the inputs

    def _check_scale(self, name: str, owner: str, kind: str, array: np.ndarray) -> None:
        weight = self.stored.get(owner)
        if weight is None or weight.dtype != np.int8:
            raise self.error(name, f"there is no int8 tensor {_shown(owner)}")
        if kind == SMOOTH:
            parts = 3 if owner.endswith("in_proj_weight") else 1
            shape = (parts, *weight.shape[0 if owner in COLUMNS else 1 :][:1])
            if weight.ndim != 2 or array.shape != shape or len(weight) % parts or not (array > _SMALLEST).all():
                raise self.error(name, f"expected positive numbers {list(shape)}, got {list(array.shape)}")
            return
        if (kind == COLUMN_SCALE) != (owner in COLUMNS):
            raise self.error(name, f"expected it beside {' and '.join(COLUMNS)} alone, which have no {SCALE}")
        axis = 1 if kind == COLUMN_SCALE else 0
        if weight.ndim <= axis or array.shape != (weight.shape[axis],) or not (array > 0).all():
            asked = f"expected a positive number for each channel of {_shown(owner)}"
            raise self.error(name, f"{asked}, got {list(array.shape)}")


def _shown(name: str) -> str:
    """A name of others, short and in plain letters."""
    return re.sub(r"[^ -~]", "?", name[:80])
