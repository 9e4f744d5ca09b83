"""Estimates how well a model answers a query from the precision of similar queries with known answers.

A model knows some words better than others, and some things are in more images than others; the scores of a search do
not show that. So a calibration keeps the vectors of frequent queries and the precision of their best hits. A new query
gets the precision of the nearest of them, or the mean if none is near. Pure arithmetic.

Shapes: q queries, b queries kept, d dimensions.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tandem.scores.packed_vectors import pack, unpack

# A kept query counts e times less for each such step of cosine away from the new one. Between steps that were tried on
# halves of Flickr8k dev: 0.06 is better by 1% to 5% in log-loss than 0.1 for up to three words, no better for others.
BANDWIDTH = 0.08
MEAN_WEIGHT = 0.5  # the mean precision counts as so many kept queries at no distance


@dataclass(frozen=True, eq=False)
class QueryPrior:
    """The kept queries, unit vectors times 127 as int8 [b d], and the precision of the best hits of each [b]."""

    vectors: NDArray[np.int8]
    precision: NDArray[np.float64]

    @classmethod
    def of(cls, vectors: NDArray[np.float32], precision: NDArray[np.float64]) -> "QueryPrior":
        """From unit vectors [b d], and shares in 0..1 [b]."""
        return cls(np.round(vectors * 127).astype(np.int8), np.round(precision, 3))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, QueryPrior) and self.to_dict() == other.to_dict()

    def __hash__(self) -> int:
        return hash(self.vectors.tobytes())

    @cached_property
    def _unit(self) -> NDArray[np.float32]:
        """The queries kept, float32 [b d]: made once, since a server asks often."""
        return np.asarray(self.vectors.astype(np.float32) / 127, dtype=np.float32)

    def log_odds(self, queries: NDArray[np.float32]) -> NDArray[np.float64]:
        """The log-odds that a best hit is right, [q], for unit vectors [q d]. From -4 to 4; 0 if nothing is known."""
        if not len(self.precision):
            return np.zeros(len(queries))
        weight = np.exp((np.minimum(queries @ self._unit.T, 1).astype(np.float64) - 1) / BANDWIDTH)  # [q b]
        share = (weight @ self.precision + MEAN_WEIGHT * self.precision.mean()) / (weight.sum(1) + MEAN_WEIGHT)
        return np.asarray(np.log((share + 0.02) / (1.02 - share)))

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {"precision": self.precision.tolist(), **pack(self.vectors)}

    @classmethod
    def from_dict(cls, plain: Mapping[str, Any]) -> "QueryPrior":
        """Raises ValueError, TypeError or KeyError for anything but what `to_dict` gives."""
        precision = np.array(plain["precision"], dtype=np.float64)
        vectors = unpack(plain).reshape(len(precision), plain["dimensions"])
        if precision.ndim != 1 or not ((precision >= 0) & (precision <= 1)).all():
            raise ValueError("expected shares")
        return cls(vectors, precision)


NO_PRIOR = QueryPrior(np.zeros((0, 1), dtype=np.int8), np.zeros(0))
