"""Outcomes to figures with intervals; pairs and answers to outcomes. Plain arrays.

Shapes: n images, p pairs of images, c names, d dimensions.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tandem.arrays import Vectors
from tandem.evaluate.figures import Figure, Unit
from tandem.evaluate.intervals import bootstrap, mean_interval, means, paired_bootstrap

Floats = NDArray[np.floating]


def share(outcomes: NDArray[np.generic], chance: float | None) -> Figure:
    """The mean of outcomes [n] in 0..1, each of an image or a pair of its own."""
    found = mean_interval(np.asarray(outcomes, dtype=np.float64))
    return Figure.of(found, len(outcomes), chance=chance)


def difference(a: NDArray[np.generic], b: NDArray[np.generic]) -> Figure:
    """The mean of a - b over the same images [n]: above 0 where `a` is more."""
    found = paired_bootstrap(np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64))
    return Figure.of(found, len(a), unit="difference")


def mean(values: NDArray[np.generic], chance: float | None = None, unit: Unit = "score") -> Figure:
    """The mean of values [n] of any size."""
    (found,) = bootstrap(means(np.asarray(values, dtype=np.float64)[:, None]), len(values))
    return Figure.of(found, len(values), chance=chance, unit=unit)


@dataclass(frozen=True, eq=False)
class PairOutcomes:
    """Two images and their two captions, each right for one: cosines [p 2 2], of images and captions."""

    cosines: Vectors

    @property
    def caption(self) -> Floats:
        """How many of the two images of a pair prefer their own caption, [p], 0 to 1; a tie is half. Chance 1/2."""
        s = self.cosines
        return (_prefers(s[:, 0, 0], s[:, 0, 1]) + _prefers(s[:, 1, 1], s[:, 1, 0])) / 2

    @property
    def image(self) -> Floats:
        """How many of the two captions of a pair prefer their own image, [p]. Chance 1/2."""
        s = self.cosines
        return (_prefers(s[:, 0, 0], s[:, 1, 0]) + _prefers(s[:, 1, 1], s[:, 0, 1])) / 2

    @property
    def both(self) -> NDArray[np.bool_]:
        """Whether all four choices of a pair are right, [p].

        Chance is 1/6: of the 24 orders of four unrelated numbers, in four both own ones are the largest (Winoground's
        group score, Thrush et al. 2022). Cosines of captions that are nearly the same are not unrelated: whoever cannot
        tell them apart is right less often than that.
        """
        s = self.cosines
        own = np.minimum(s[:, 0, 0], s[:, 1, 1])
        return np.asarray(own > np.maximum(s[:, 0, 1], s[:, 1, 0]))


CHANCE_OF_BOTH = 1 / 6


def pair_outcomes(images: Vectors, texts: Vectors) -> PairOutcomes:
    """Vectors of images and captions [2p d], those of a pair beside one another."""
    images, texts = (vectors.reshape(-1, 2, vectors.shape[-1]) for vectors in (images, texts))
    return PairOutcomes(np.einsum("pid,pjd->pij", images, texts))


def _prefers(own: Floats, other: Floats) -> Floats:
    return np.asarray((own > other) + (own == other) / 2)


def right_answers(scores: Floats, labels: NDArray[np.int64]) -> Floats:
    """Whether the label has the highest of the scores [n c]; of k equal ones it counts 1/k, as a guess among them."""
    best = scores.max(1, keepdims=True)
    equal = scores == best
    return np.asarray(equal[np.arange(len(labels)), labels] / equal.sum(1))


def chance_agreement(a: NDArray[np.int64], b: NDArray[np.int64], names: int) -> float:
    """How often two unrelated answers agree that use the c names as often as `a` and `b` do (Cohen 1960)."""
    shares = [np.bincount(each, minlength=names) / len(each) for each in (a, b)]
    return float(shares[0] @ shares[1])
