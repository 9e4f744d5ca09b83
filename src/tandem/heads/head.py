"""A linear head on a model's vectors: its classes, weights and biases, and which model it belongs to.

Shapes: n images, d the shared dimension, c classes.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from tandem.arrays import Vectors
from tandem.errors import TandemError


@dataclass(frozen=True, eq=False)
class Head:
    """Logits of c classes from vectors of unit length: `vectors @ weights.T + bias`; softmax makes probabilities.

    `card` says how it was made and what it was measured to be worth, as plain values.
    """

    classes: tuple[str, ...]
    weights: Vectors  # float32 [c d]
    bias: Vectors  # float32 [c]
    fingerprint: str  # of the model whose vectors it was fitted on
    method: str  # "clap", "gda", "nearest_mean", "linear_probe"
    card: Mapping[str, Any] = field(default_factory=dict)

    def logits(self, vectors: Vectors) -> Vectors:
        """Vectors [n d] -> float32 [n c]."""
        if vectors.shape[-1] != self.weights.shape[1]:
            raise TandemError(
                f"expected vectors of {self.weights.shape[1]} dimensions for this head, got {vectors.shape[-1]}"
            )
        return np.asarray(np.atleast_2d(vectors) @ self.weights.T + self.bias, dtype=np.float32)
