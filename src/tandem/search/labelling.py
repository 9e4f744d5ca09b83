"""Labels for a whole collection at once: the best pictures of every label, and the best labels of every picture.

Blocked matrix products over a scan of the store: memory depends on the number of labels and on k, not on the number of
pictures. A label is a vector here; whoever calls made it from words.

Legend: c labels, b pictures of a block, k best, d dimensions.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tandem.errors import TandemError
from tandem.search.store import Store, Value, Vectors

# Scores of a block: 16 MB. Larger blocks are no faster and no longer fit the processor's caches.
CELLS = 4_000_000


@dataclass(frozen=True)
class Best:
    """A picture that is among the best of a label: its cosine, and its probability of the label among all labels."""

    id: str
    score: float
    probability: float


@dataclass(frozen=True, eq=False)
class Labelled:
    """Some pictures with the places of their k best labels [b k], best first, their cosines and probabilities."""

    ids: Sequence[str]
    labels: NDArray[np.intp]
    scores: NDArray[np.float32]
    probabilities: NDArray[np.float32]
    columns: Mapping[str, Sequence[Value]]

    def __len__(self) -> int:
        return len(self.ids)


def best_pictures(
    store: Store, class_vectors: Vectors, k: int, *, logit_scale: float, where: str | None = None
) -> list[list[Best]]:
    """For each label of [c d], the k pictures with the highest cosine, the highest first (equal ones by id).

    A probability is over the labels (softmax of `logit_scale` times the cosines): it says how a picture's labels
    compare with each other, not whether any fits.
    """
    count = _check(store, class_vectors, k)
    best = _Best(count, k)
    for records in store.scan(where=where, columns=(), batch_size=_block(count)):
        if records.vectors is None or not len(records):
            continue
        scores = class_vectors @ records.vectors.T  # [c d] [d b] -> [c b]
        label, place = best.candidates(scores)
        pictures, inverse = np.unique(place, return_inverse=True)  # probabilities of those alone that may stay
        their = scores[:, pictures]
        total, highest = _sum_of_exponents(their, logit_scale)[inverse], their.max(axis=0)[inverse]
        score = scores[label, place]
        probability = np.exp(logit_scale * (score - highest)) / total
        best.merge(label, score, probability, np.array(records.ids, dtype=np.str_)[place])
    return best.rows()


def best_labels(
    store: Store,
    class_vectors: Vectors,
    k: int,
    *,
    logit_scale: float,
    where: str | None = None,
    columns: Sequence[str] = (),
) -> Iterator[Labelled]:
    """Every picture once, in blocks as the scan gives them, with its k likeliest labels of [c d], likeliest first."""
    count = _check(store, class_vectors, k)
    k = min(k, count)
    for records in store.scan(where=where, columns=columns, batch_size=_block(count)):
        if records.vectors is None or not len(records):
            continue
        scores = np.asarray(records.vectors @ class_vectors.T)  # [b d] [d c] -> [b c]
        chosen = np.argpartition(scores, count - k, axis=1)[:, count - k :]
        chosen.sort(axis=1)  # equal scores: the label that was named first
        order = np.argsort(-np.take_along_axis(scores, chosen, 1), axis=1, kind="stable")
        labels = np.take_along_axis(chosen, order, 1)  # [b k]
        top = np.take_along_axis(scores, labels, 1)
        total = _sum_of_exponents(scores.T, logit_scale)
        probabilities = np.exp(logit_scale * (top - top[:, :1])) / total[:, None]
        yield Labelled(records.ids, labels, top, probabilities.astype(np.float32), records.columns)


class _Best:
    """The best k so far of every label: flat arrays, sorted by label and then by rank."""

    def __init__(self, labels: int, k: int) -> None:
        self.labels, self.k = labels, k
        self.label = np.zeros(0, dtype=np.intp)
        self.score = np.zeros(0, dtype=np.float32)
        self.probability = np.zeros(0, dtype=np.float32)
        self.id = np.zeros(0, dtype="U1")
        self.least = np.full(labels, -np.inf, dtype=np.float32)  # [c]; what a picture must reach to be among them

    def candidates(self, scores: NDArray[np.float32]) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
        """Labels and places in the block of scores [c b] that may be among the best."""
        able = scores >= self.least[:, None]
        if np.count_nonzero(able) > 4 * self.labels * self.k and scores.shape[1] > self.k:
            able = scores >= np.maximum(self.least, np.partition(scores, -self.k, axis=1)[:, -self.k])[:, None]
        label, place = np.nonzero(able)
        return label, place

    def merge(
        self,
        label: NDArray[np.intp],
        score: NDArray[np.float32],
        probability: NDArray[np.float32],
        id: NDArray[np.str_],
    ) -> None:
        """Take in candidates, keep the best k of each label."""
        label, score = np.concatenate([self.label, label]), np.concatenate([self.score, score])
        id, probability = np.concatenate([self.id, id]), np.concatenate([self.probability, probability])
        order = np.lexsort((id, -score, label))
        sorted_label = label[order]
        first = np.searchsorted(sorted_label, np.arange(self.labels))
        rank = np.arange(len(order)) - first[sorted_label]
        keep = order[rank < self.k]
        self.label, self.score, self.probability, self.id = label[keep], score[keep], probability[keep], id[keep]
        last = rank[rank < self.k] == self.k - 1
        self.least[self.label[last]] = self.score[last]

    def rows(self) -> list[list[Best]]:
        """For each label its pictures, best first."""
        rows: list[list[Best]] = [[] for _ in range(self.labels)]
        columns = (self.label.tolist(), self.id.tolist(), self.score.tolist(), self.probability.tolist())
        for label, id, score, probability in zip(*columns, strict=True):
            rows[label].append(Best(id, score, probability))
        return rows


def _sum_of_exponents(scores: NDArray[np.float32], logit_scale: float) -> NDArray[np.float32]:
    """Of what softmax divides by, for each picture of [c b], relative to its highest score: [b], at least 1."""
    return np.asarray(np.exp(logit_scale * (scores - scores.max(axis=0))).sum(axis=0))


def _check(store: Store, class_vectors: Vectors, k: int) -> int:
    dimensions = store.schema.dimensions
    if class_vectors.ndim != 2 or class_vectors.shape[1] != dimensions or not len(class_vectors):
        raise TandemError(f"labels: expected vectors [c {dimensions}], got an array {list(class_vectors.shape)}")
    if k < 1:
        raise TandemError(f"k: expected at least 1, got {k}")
    return len(class_vectors)


def _block(labels: int) -> int:
    """How many pictures are looked at together."""
    return max(64, min(8192, CELLS // labels))
