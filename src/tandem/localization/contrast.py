"""How well texts fit places, against words for backgrounds, which fit there too.

Knows texts and vectors; the encoder is passed in.

Shapes: t texts, b words, d the shared dimension.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tandem.arrays import Vectors

# What is behind and between things, in photos and drawings
BACKGROUND = (
    "background",
    "plain background",
    "empty space",
    "wall",
    "floor",
    "ground",
    "sky",
    "grass",
    "water",
    "texture",
    "shadow",
    "blurred background",
)
_SMALL = frozenset(("a", "an", "the", "of", "on", "in", "at", "with", "and", "or", "to", "from", "by", "for", "its"))


@dataclass(frozen=True, eq=False)
class Contrast:
    """Texts, the words they are held against, and which words each text is held against."""

    texts: Vectors  # [t d]
    words: Vectors  # [b d]
    against: NDArray[np.bool_]  # [t b]
    scale: float  # from cosines to logits
    zero: NDArray[np.float32] | float = 0.0  # [t], of each text's logits
    unit: NDArray[np.float32] | float = 1.0  # [t]

    @classmethod
    def of(
        cls,
        texts: Sequence[str],
        words: Sequence[str],
        embed: Callable[[Sequence[str]], Vectors],
        scale: float,
    ) -> "Contrast":
        """`embed` gives a vector for each text. A word that a text contains is nothing to hold it against."""
        said = [_stems(text) for text in texts]
        against = np.array([[not (_stems(word) & own) for word in words] for own in said])
        return cls(embed(texts), embed(words), against, scale)

    def logits(self, vectors: Vectors) -> NDArray[np.float32]:
        """Vectors [... d] -> [... t]: the log-odds of each text against all of its words, from `zero` in `unit`s."""
        flat = vectors.reshape(-1, vectors.shape[-1])
        ours = self.scale * (flat @ self.texts.T)  # [n t]
        others = self.scale * (flat @ self.words.T)  # [n b]
        highest = others.max(axis=1, keepdims=True)
        total = np.exp(others - highest) @ self.against.T.astype(np.float32)  # [n t]
        odds = ours - highest - np.log(np.maximum(total, 1e-30))
        odds = (odds - self.zero) / self.unit
        return np.asarray(odds.reshape(*vectors.shape[:-1], -1), np.float32)


def _stems(text: str) -> frozenset[str]:
    """The words of a text that mean something, without a plural's s."""
    words = re.findall(r"[^\W\d_]+", text.lower())
    return frozenset(word.removesuffix("s") if len(word) > 3 else word for word in words if word not in _SMALL)
