"""Interpolation of two models: weights averaged tensor by tensor (WiSE-FT, Wortsman et al. 2022, section 3).

A fine-tuned model is better at its task and worse at others than the model it started from; interpolations of the two
are often better at both. Needs no torch. Knows checkpoints; no training.
"""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from tandem.config import to_dict
from tandem.errors import ConfigError
from tandem.weights import Checkpoint, read, write
from tandem.weights.checkpoint import NOT_FINGERPRINTED
from tandem.weights.quantized import refuse_quantized
from tandem.weights.writing import refuse_in_use


def interpolate(a: Checkpoint, b: Checkpoint, alpha: float) -> Checkpoint:
    """(1 - alpha) a + alpha b, of every tensor, statistics of batch norms and the scale included.

    Computed in float32 at least and kept in the wider of both types. Raises `ConfigError` unless architecture,
    preprocessing and tokenizer are equal, for an alpha outside of 0..1, and for a quantised model.
    """
    if not 0 <= alpha <= 1:
        raise ConfigError(f"alpha: expected a number from 0 (the first model) to 1 (the second), got {alpha}")
    for each in (a, b):
        refuse_quantized(each, "interpolating", ConfigError)
    _check_same_architecture(a, b)
    tensors = {name: _mixed(array, b.tensors[name], alpha) for name, array in a.tensors.items()}
    config = dataclasses.replace(
        a.config,
        name=f"{a.config.name or a.source} and {b.config.name or b.source} at {alpha:g}",
        licence=_joined(a.config.licence, b.config.licence),
        data=_joined(a.config.data, b.config.data),
        notes={**a.config.notes, **b.config.notes},
    )
    return Checkpoint(config, tensors, a.tokenizer, f"{a.source} and {b.source}")


def interpolate_folders(
    a: str,
    b: str,
    alpha: float,
    target: Path,
    *,
    finish: Callable[[Checkpoint], Checkpoint] = lambda found: found,
    overwrite: bool = False,
) -> Checkpoint:
    """Read both models, interpolate, apply `finish`, and write the result to a folder."""
    refuse_in_use(target, overwrite=overwrite, say="--overwrite")
    found = finish(interpolate(read(a), read(b), alpha))
    write(found, target, "tandem", overwrite=overwrite)
    return found


def _mixed(a: np.ndarray, b: np.ndarray, alpha: float) -> np.ndarray:
    kind = a.dtype if a.dtype == b.dtype else np.result_type(a.dtype, b.dtype, np.float32)
    wide = np.float64 if kind == np.float64 else np.float32
    mixed: np.ndarray = np.multiply(a, 1 - alpha, dtype=wide) + np.multiply(b, alpha, dtype=wide)
    return mixed.astype(kind)


def _check_same_architecture(a: Checkpoint, b: Checkpoint) -> None:
    if difference := _first_difference(_sizes(a), _sizes(b)):
        raise ConfigError(
            f"{a.source} and {b.source} cannot be interpolated: {difference}; expected two models of one architecture "
            "and preprocessing, one fine-tuned from the other"
        )
    if a.tokenizer.to_json() != b.tokenizer.to_json():
        raise ConfigError(
            f"{a.source} and {b.source} cannot be interpolated: their tokenizers differ, so their embeddings mean "
            "different words"
        )


def _sizes(checkpoint: Checkpoint) -> dict[str, Any]:
    return {key: value for key, value in to_dict(checkpoint.config).items() if key not in NOT_FINGERPRINTED}


def _first_difference(a: dict[str, Any], b: dict[str, Any], prefix: str = "") -> str:
    for key in dict.fromkeys((*a, *b)):
        one, other = a.get(key), b.get(key)
        if isinstance(one, dict) and isinstance(other, dict):
            if found := _first_difference(one, other, f"{prefix}{key}."):
                return found
        elif one != other:
            return f"{prefix}{key} is {one!r} in the first, {other!r} in the second"
    return ""


def _joined(a: str, b: str) -> str:
    return a if a == b or not b else b if not a else f"{a}; {b}"
