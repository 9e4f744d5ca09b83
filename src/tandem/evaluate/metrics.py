"""Metrics: pure functions on arrays of scores. They know no model and no data set.

One rule for ties, everywhere: they count against the model. A rank is 1 plus the number of others whose score is not
lower, so constant scores are never right, and neither are scores that are not numbers.

Shapes: n images, m texts, c classes, q queries, g things searched in.
"""

import numpy as np
from numpy.typing import NDArray

from tandem.arrays import Vectors
from tandem.errors import DataError

# What validation measures on a set of each kind; the names of the figures end with these.
MEASURES = {
    "zero_shot": ("zero_shot_top1",),
    "retrieval": ("text_to_image_r10", "image_to_text_r10"),
    "classification": ("classification_top1",),
}

Scores = NDArray[np.floating]
CLIP_SCORE_FACTOR = 2.5


def label_ranks(scores: Scores, labels: NDArray[np.integer]) -> NDArray[np.int64]:
    """The rank of each row's label among all classes, from 1: scores [n c], labels [n] -> int64 [n]."""
    own = scores[np.arange(len(labels)), labels]
    return np.asarray(scores.shape[1] - (scores < own[:, None]).sum(1), dtype=np.int64).clip(1)


def match_ranks(scores: Scores, matches: NDArray[np.bool_]) -> NDArray[np.int64]:
    """The rank of each query's best match among what does not match, from 1: [q g] and bool [q g] -> int64 [q].

    Raises `DataError` for a query without a match.
    """
    if not matches.any(axis=1).all():
        raise DataError(f"query {int(np.argmin(matches.any(axis=1)))} has no match: leave it out")
    best = np.where(matches, scores, -np.inf).max(1)
    return np.asarray(1 + (~matches & ~(scores < best[:, None])).sum(1), dtype=np.int64)


def top_k_accuracy(scores: Scores, labels: NDArray[np.integer], k: int = 1) -> float:
    """Share of rows whose label is among the k highest scores: scores [n c], labels [n]. Chance is k / c."""
    return float(np.mean(label_ranks(scores, labels) <= k))


def recall_at_k(scores: Scores, matches: NDArray[np.bool_], k: int) -> float:
    """Share of queries with at least one match among their k highest scores: [q g] and bool [q g].

    Any match counts as a hit. Chance is `chance_recall`. Raises `DataError` for a query without a match.
    """
    return float(np.mean(match_ranks(scores, matches) <= k))


def chance_recall(gallery: int, matches: int, k: int) -> float:
    """The chance that k of `gallery` things, drawn at random, hold one of r `matches`: 1 - C(g - r, k) / C(g, k)."""
    hit, missed = 0.0, 1.0
    for j in range(matches):
        chance = min(1.0, k / (gallery - j))  # of the next match, where the ones before it were missed
        hit, missed = hit + missed * chance, missed * (1 - chance)
    return hit


def answers(scores: Scores, labels: NDArray[np.integer]) -> NDArray[np.int64]:
    """The class that each row is given, int64 [n]: the highest score's, and among equal ones a wrong one.

    So the share of answers that are right is the top-1 accuracy, where ties count against the model.
    """
    best = scores.argmax(axis=1)
    tied = (best == labels) & (label_ranks(scores, labels) > 1)
    for row in np.flatnonzero(tied):
        others = scores[row].copy()
        others[labels[row]] = -np.inf
        best[row] = others.argmax()
    return np.asarray(best, dtype=np.int64)


def per_class(
    outcomes: NDArray[np.floating] | NDArray[np.bool_], labels: NDArray[np.integer], classes: int
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """The number of images of each class [c] and the mean outcome of each [c]: NaN for a class without images."""
    count = np.bincount(labels, minlength=classes)
    total = np.bincount(labels, weights=outcomes.astype(np.float64), minlength=classes)
    return count, np.divide(total, count, out=np.full(classes, np.nan), where=count > 0)


def mean_per_class(
    outcomes: NDArray[np.floating] | NDArray[np.bool_], labels: NDArray[np.integer], classes: int
) -> float:
    """The mean over classes of the mean over their images. Classes without images do not count."""
    return float(np.nanmean(per_class(outcomes, labels, classes)[1]))


def confusion(labels: NDArray[np.integer], answered: NDArray[np.integer], classes: int) -> NDArray[np.int64]:
    """What was answered for what: rows of (class, answer, images) where there are any, int64 [p 3], in that order.

    Sparse: of 1,000 classes the whole matrix has a million cells, nearly all of them empty.
    """
    cells, count = np.unique(labels.astype(np.int64) * classes + answered, return_counts=True)
    return np.stack([cells // classes, cells % classes, count], axis=1)


def average_precision(scores: Scores, positives: NDArray[np.bool_]) -> float:
    """The area under the steps of precision over recall: the mean precision at the places of the positives.

    scores [n], positives bool [n]. Equal scores share one step, as in scikit-learn: nothing depends on the order of the
    rows. Chance is the share of positives. Raises `DataError` without any positive.
    """
    if not positives.any():
        raise DataError("average precision: expected at least one positive, got none")
    order, ends = precision_places(scores)
    right = positives[order].cumsum()[ends]  # among all down to the end of each one's group of equal scores
    return float((right / (ends + 1))[positives[order]].mean())


def precision_places(scores: Scores) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Rows by descending score [n], and for each place the last one with an equal score [n]."""
    order = np.argsort(-scores, kind="stable")
    last = np.append(np.flatnonzero(np.diff(scores[order])), len(scores) - 1)
    return order, last[np.searchsorted(last, np.arange(len(scores)))]


def average_precisions(scores: Scores, label_matrix: NDArray[np.bool_]) -> NDArray[np.float64]:
    """The average precision of each class: [n c] and bool [n c] -> [c], NaN for a class without positives."""
    found = np.full(scores.shape[1], np.nan)
    for place in np.flatnonzero(label_matrix.any(axis=0)):
        found[place] = average_precision(scores[:, place], label_matrix[:, place])
    return found


def clip_score(images: Vectors, texts: Vectors) -> NDArray[np.float32]:
    """CLIPScore of each image with its own text, `2.5 max(cos, 0)` (Hessel et al. 2021, section 3): [n d] twice -> [n].

    From 0 to 2.5. torchmetrics shows `100 max(cos, 0)`, 40 times as much.
    """
    if images.shape != texts.shape:
        raise DataError(f"CLIPScore: expected one text for each image, got {images.shape} and {texts.shape}")
    norms = np.linalg.norm(images, axis=1) * np.linalg.norm(texts, axis=1)
    cosines = np.einsum("nd,nd->n", images, texts) / norms
    return np.asarray(CLIP_SCORE_FACTOR * np.maximum(cosines, 0), dtype=np.float32)
