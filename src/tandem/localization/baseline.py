"""What texts get in windows that nobody chose for them: a text's score means something beside that.

Some words fit a little everywhere ("cloud" any pale ground), others nowhere. So a model's settings keep the vectors of
windows of many scenes and photos; a text's logits there give it a zero and a unit of its own.

Shapes: n vectors kept, t texts, d the shared dimension.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tandem.arrays import Vectors
from tandem.localization.contrast import Contrast
from tandem.scores.packed_vectors import pack, unpack


@dataclass(frozen=True, eq=False)
class Baseline:
    """Unit vectors times 127, int8 [n d], and which of a text's logits there, by size, is its zero."""

    vectors: NDArray[np.int8]
    quantile: float  # 0..1

    @classmethod
    def of(cls, vectors: Vectors, quantile: float) -> "Baseline":
        """From unit vectors [n d]."""
        return cls(np.round(vectors * 127).astype(np.int8), quantile)

    @cached_property
    def unit(self) -> Vectors:
        """The vectors, float32 [n d]."""
        return np.asarray(self.vectors.astype(np.float32) / 127, np.float32)

    def standardise(self, contrast: Contrast) -> Contrast:
        """Logits by what the same texts get in the baseline windows: 0 at the quantile, in standard deviations."""
        there = contrast.logits(self.unit)  # [n t]
        zero = np.quantile(there, self.quantile, axis=0).astype(np.float32)
        return replace(contrast, zero=zero, unit=np.maximum(there.std(axis=0), 1e-6))

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {"quantile": self.quantile, **pack(self.vectors)}

    @classmethod
    def from_dict(cls, plain: Mapping[str, Any]) -> "Baseline":
        """Raises ValueError, TypeError or KeyError for anything but what `to_dict` writes."""
        quantile = float(plain["quantile"])
        if not 0 < quantile < 1:
            raise ValueError(f"quantile: expected 0..1, got {quantile}")
        return cls(unpack(plain), quantile)
