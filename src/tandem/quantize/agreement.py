"""How far a model's answers are those of another: cosines, best texts, nearest images. Arithmetic on vectors.

Shapes: n images, c classes, m texts, d the shared dimension.
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tandem.arrays import Vectors
from tandem.config import MeasuredAgreement

NEIGHBOURS = 10


@dataclass(frozen=True, eq=False)
class Answers:
    """A model's vectors of the same images, texts and classes, float32 of unit length."""

    images: Vectors  # [n d]
    texts: Vectors  # [m d]
    classes: Vectors  # [c d]


@dataclass(frozen=True)
class Agreement(MeasuredAgreement):
    """Of a model with its source. Shares of 0 to 1; cosines over all images and texts."""

    top1: float
    neighbours: float
    mixed_neighbours: float  # its own query among the source's vectors: an image's, or a text's, the lesser of both
    mean_cosine: float
    least_cosine: float

    def holds_with_room(self, images: int) -> bool:
        """Whether it is good by more than chance may give: by a standard error of a share, measured on so many images.

        What is chosen by some images does a little worse on others.
        """
        return all(
            value >= min(1.0, least + standard_error(least, counted))
            for (_, value, least), counted in zip(self.promised, (images, NEIGHBOURS * images), strict=True)
        )


def standard_error(share: float, counted: int) -> float:
    """Of a share of so many."""
    return math.sqrt(share * (1 - share) / max(1, counted))


def agreement(source: Answers, other: Answers) -> Agreement:
    """The agreement of `other` with `source`. The neighbours of an image are the ten nearest of the others."""
    cosines = np.concatenate([_cosines(source.images, other.images), _cosines(source.texts, other.texts)])
    theirs, mine = (np.argmax(each.images @ each.classes.T, axis=1) for each in (source, other))
    count = min(NEIGHBOURS, len(source.images) - 1)
    nearest = _nearest(source.images, source.images, count, itself=False)
    by_texts = _nearest(source.texts, source.images, count)
    mixed = (
        overlap(nearest, _nearest(other.images, source.images, count, itself=False)),
        overlap(by_texts, _nearest(other.texts, source.images, count)),
    )
    return Agreement(
        top1=float((theirs == mine).mean()),
        neighbours=overlap(nearest, _nearest(other.images, other.images, count, itself=False)),
        mixed_neighbours=min(mixed),
        mean_cosine=float(cosines.mean()),
        least_cosine=float(cosines.min()),
    )


def overlap(a: NDArray[np.intp], b: NDArray[np.intp]) -> float:
    """The mean share of a row's places that the other's row has, too: [n k] and [n k]."""
    return float((a[:, :, None] == b[:, None, :]).any(2).mean())


def accuracy(answers: Answers, labels: NDArray[np.int64]) -> float:
    """The share of images whose nearest class is their own."""
    return float((np.argmax(answers.images @ answers.classes.T, axis=1) == labels).mean())


def _cosines(a: Vectors, b: Vectors) -> NDArray[np.float64]:
    cosines: NDArray[np.float64] = np.einsum("nd,nd->n", a.astype(np.float64), b.astype(np.float64))
    return np.minimum(1.0, cosines, out=cosines)


def _nearest(queries: Vectors, gallery: Vectors, count: int, *, itself: bool = True) -> NDArray[np.intp]:
    """The places of each query's nearest vectors [n count]; without `itself` not the vector at its own place."""
    scores = queries @ gallery.T
    if not itself:
        np.fill_diagonal(scores, -np.inf)
    return np.argpartition(-scores, count - 1, axis=1)[:, :count]
