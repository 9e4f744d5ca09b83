"""What is looked for -> one vector: words, a picture, both, less of others. Pure arithmetic on vectors.

Legend: d dimensions, m sampled records.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np

from tandem.errors import TandemError
from tandem.search.stores.protocol import Vectors

Kind: TypeAlias = Literal["words", "picture", "mixed"]
LEAST_SPREAD = 1e-3  # of cosines over a collection of one picture, or of one picture many times


@dataclass(frozen=True)
class Part:
    """One thing that is looked for (weight above 0) or to be avoided (below 0), and its unit vector [d]."""

    kind: Literal["words", "picture"]
    vector: Vectors
    weight: float


def combine(parts: Sequence[Part], sample: Vectors) -> Vectors:
    """The unit vector [d] whose cosines rank a collection by all parts at once; `sample` [m d] stands for it.

    Cosines of words spread far less over a collection than cosines of a picture do (the two lie in different regions
    of the space), so a plain sum would follow the picture alone. Each part is divided by the standard deviation of
    its cosines: the product with the sum is then, up to a constant, the weighted sum of standard scores.
    """
    parts = [part for part in parts if part.weight]
    if not any(part.weight > 0 for part in parts):
        raise TandemError("nothing to look for: give words or a picture; minus alone is no direction")
    if len(parts) == 1:
        return parts[0].vector
    total = np.zeros_like(parts[0].vector)
    for part in parts:
        spread = float((sample @ part.vector).std()) if len(sample) else 0.0
        total += np.float32(part.weight / max(spread, LEAST_SPREAD)) * part.vector
    length = float(np.linalg.norm(total))
    if length < 1e-6:
        raise TandemError("what is looked for and what is to be avoided are the same: nothing is left to look for")
    return np.asarray(total / np.float32(length), dtype=np.float32)


def kind_of(parts: Sequence[Part]) -> Kind:
    """What the query is made of: words alone, one picture alone, or several things."""
    used = [part for part in parts if part.weight]
    return used[0].kind if len(used) == 1 else "mixed"
