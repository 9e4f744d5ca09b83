"""What every method ends with: weights, biases, and what is worth saying of how they were found."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from tandem.arrays import Vectors


@dataclass(frozen=True, eq=False)
class LinearFit:
    """logits = vectors @ weights.T + bias; `facts` are plain values for the head's card."""

    weights: Vectors  # float32 [c d]
    bias: Vectors  # float32 [c]
    facts: Mapping[str, Any] = field(default_factory=dict)

    def logits(self, vectors: Vectors) -> Vectors:
        """[n d] -> float32 [n c]."""
        return vectors @ self.weights.T + self.bias
