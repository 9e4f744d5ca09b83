"""Quantised tensors as a file holds them, checked: what each array is, `towers/parts/int8.py` says."""

import re
from collections.abc import Mapping

import numpy as np

from tandem.errors import TandemError, WeightsError
from tandem.towers.parts.int8 import COLUMN_SCALE, INPUT, SCALE, SHIFT, SMOOTH, QuantizedTensors
from tandem.weights.checkpoint import Checkpoint

_SUFFIXES = (SCALE, COLUMN_SCALE, SMOOTH, INPUT, SHIFT)


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
    for name, array in stored.items():
        owner, mark, kind = name.partition("::")
        if mark:
            if f"::{kind}" not in _SUFFIXES:
                raise _error(source, name, f"expected one of {', '.join(_SUFFIXES)}")
            _check_beside(stored, source, name, owner, mark + kind)
        elif array.dtype == np.int8 and not (name + SCALE in stored) ^ (name + COLUMN_SCALE in stored):
            raise _error(source, name, f"int8 without its scales ({name}{SCALE})")
    return QuantizedTensors(stored)


def _check_beside(stored: Mapping[str, np.ndarray], source: str, name: str, owner: str, kind: str) -> None:
    array = stored[name]
    if array.dtype != np.float32 or not np.isfinite(array).all():
        raise _error(source, name, f"expected finite float32, got {array.dtype}")
    if kind == INPUT:
        if array.ndim < 1 or len(array) != 2 or not (array[0] < array[1]).all():
            raise _error(source, name, f"expected the ends of a range, [2 ...], got {list(array.shape)}")
        return
    if kind == SHIFT:
        if array.ndim != 1 or owner + INPUT not in stored:
            raise _error(source, name, f"expected [o] beside {owner}{INPUT}, got {list(array.shape)}")
        return
    weight = stored.get(owner)
    if weight is None or weight.dtype != np.int8:
        raise _error(source, name, f"there is no int8 tensor {owner}")
    axis = 1 if kind == COLUMN_SCALE else 0
    if kind == SMOOTH:
        inputs = weight.shape[0] if owner + COLUMN_SCALE in stored else weight.shape[-1]
        parts = array.shape[0] if array.ndim == 2 else 0
        if not parts or array.shape[1] != inputs or len(weight) % parts or weight.ndim != 2 or not (array > 0).all():
            raise _error(source, name, f"expected positive numbers [p {inputs}], got {list(array.shape)}")
    elif weight.ndim <= axis or array.shape != (weight.shape[axis],) or not (array > 0).all():
        raise _error(source, name, f"expected a positive number for each channel of {owner}, got {list(array.shape)}")


def _error(source: str, name: str, says: str) -> WeightsError:
    return WeightsError(f"{source}: {re.sub(r'[^ -~]', '?', name):.80}: {says}; the file is damaged: quantize it again")
