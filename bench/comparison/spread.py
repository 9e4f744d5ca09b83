"""Figures of rounds: a median, with its quartiles."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Spread:
    """A median between its quartiles."""

    low: float
    median: float
    high: float


def spread(values: Sequence[float]) -> Spread:
    """Of at least one value. Quartiles are interpolated linearly between values."""
    low, median, high = np.quantile(np.asarray(values, dtype=np.float64), [0.25, 0.5, 0.75])
    return Spread(float(low), float(median), float(high))


def ratios(ours: Sequence[float], theirs: Sequence[float]) -> Spread:
    """How many times as fast, round by round: a machine that is slower for a while is slower for both.

    Both are rates, of the same rounds.
    """
    if len(ours) != len(theirs):
        raise ValueError(f"expected as many rounds on both sides, got {len(ours)} and {len(theirs)}")
    return spread([mine / other for mine, other in zip(ours, theirs, strict=True)])


def agreement(vectors: "np.ndarray", reference: "np.ndarray") -> tuple[float, float]:
    """Least cosine of matching rows [n d], as they are and with the reference's mean taken from both.

    Vectors of one model all point much the same way; without their mean they differ by what they say of their inputs.
    """
    if vectors.shape != reference.shape:
        raise ValueError(f"expected vectors of shape {reference.shape}, got {vectors.shape}")
    plain = _cosines(_unit(vectors), _unit(reference))
    mean = _unit(reference).mean(axis=0)
    return float(plain.min()), float(_cosines(_unit(vectors) - mean, _unit(reference) - mean).min())


def _unit(vectors: "np.ndarray") -> "np.ndarray":
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def _cosines(a: "np.ndarray", b: "np.ndarray") -> "np.ndarray":
    return (_unit(a) * _unit(b)).sum(axis=1)
