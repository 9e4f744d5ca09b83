"""Labels for a whole collection at once: the best images of every label, and the best labels of every image.

Blocked matrix products over a scan of the store: memory depends on the number of labels and on k, not on the number of
images. A label is a vector here; the caller makes it from a text, or takes it from a head.

Shapes: c labels, b images of a block, k best, d dimensions.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from tandem.arrays import Vectors
from tandem.errors import TandemError
from tandem.scores.scoring import Scoring
from tandem.search.stores.protocol import Store, Value

# Scores of a block: 16 MB. Larger blocks are no faster and no longer fit the processor's caches.
CELLS = 4_000_000
IDS_BATCH = 1000  # of which paths are asked for together


@dataclass(frozen=True)
class LabelledImage:
    """An image that is among the best of a label: its cosine (of a head its logit), and its probability."""

    id: str
    score: float
    probability: float
    path: str = ""  # one of its files, where it was asked for


@dataclass(frozen=True, eq=False)
class LabelBlock:
    """Some images with the indices of their k best labels [b k], best first, and the probabilities of these.

    `scores` are their cosines, of a head their logits.
    """

    ids: Sequence[str]
    labels: NDArray[np.intp]
    scores: NDArray[np.float32]
    probabilities: NDArray[np.float32]
    columns: Mapping[str, Sequence[Value]]

    def __len__(self) -> int:
        return len(self.ids)


def top_images(
    store: Store, class_vectors: Vectors, k: int, *, scoring: Scoring, where: str | None = None
) -> list[list[LabelledImage]]:
    """For each label of [c d], the k images most likely to have it, likeliest first, as `scoring` says.

    Among labels that compete, a probability compares an image's labels with each other and does not say whether any
    fits. Equal ones come by cosine, then by id. By cosine alone, images that are near everything come first everywhere:
    of the ten best for 20 words on Flickr8k dev 20% had the word in two captions or more, by softmax 35%.
    """
    count = _check(store, class_vectors, k)
    best = _TopK(count, k, scoring)
    for records in store.scan(where=where, columns=(), batch_size=_block(count)):
        if records.vectors is None or not len(records):
            continue
        scores = class_vectors @ records.vectors.T  # [c d] [d b] -> [c b]
        likely = scoring.evidence(scores)
        label, column = best.candidates(likely)
        ids = np.array(records.ids, dtype=np.str_)
        shown = scoring.shown(scores.T).T
        best.merge(label, likely[label, column], shown[label, column], ids[column])
    return best.rows()


def with_paths(store: Store, rows: Sequence[Sequence[LabelledImage]]) -> list[list[LabelledImage]]:
    """The same, each with the path of one of its files."""
    ids = list(dict.fromkeys(image.id for row in rows for image in row))
    paths: dict[str, str] = {}
    for start in range(0, len(ids), IDS_BATCH):
        some = store.get(ids[start : start + IDS_BATCH], columns=["path"], vectors=False)
        paths |= {id: str(path or "") for id, path in zip(some.ids, some.columns["path"], strict=True)}
    return [[replace(image, path=paths.get(image.id, "")) for image in row] for row in rows]


def top_labels(
    store: Store,
    class_vectors: Vectors,
    k: int,
    *,
    scoring: Scoring,
    where: str | None = None,
    columns: Sequence[str] = (),
) -> Iterator[LabelBlock]:
    """Every image once, in blocks as the scan gives them, with its k likeliest labels of [c d], likeliest first."""
    count = _check(store, class_vectors, k)
    k = min(k, count)
    for records in store.scan(where=where, columns=columns, batch_size=_block(count)):
        if records.vectors is None or not len(records):
            continue
        scores = np.asarray(records.vectors @ class_vectors.T)  # [b d] [d c] -> [b c]
        ranked = scores if scoring.keeps_order else scoring.logits(scores)
        chosen = np.argpartition(ranked, count - k, axis=1)[:, count - k :]
        chosen.sort(axis=1)  # equal scores: the label that was named first
        order = np.argsort(-np.take_along_axis(ranked, chosen, 1), axis=1, kind="stable")
        labels = np.take_along_axis(chosen, order, 1)  # [b k]
        top = np.take_along_axis(scores, labels, 1)
        probabilities = scoring.best_probabilities(scores, labels, top)
        shown = top if scoring.kind != "head" else np.take_along_axis(ranked, labels, 1)
        yield LabelBlock(records.ids, labels, shown, probabilities, records.columns)


class _TopK:
    """The best k so far of every label: flat arrays, sorted by label and then by rank."""

    def __init__(self, labels: int, k: int, scoring: Scoring) -> None:
        self.labels, self.k, self.scoring = labels, k, scoring
        self.label = np.zeros(0, dtype=np.intp)
        self.likely = np.zeros(0, dtype=np.float32)  # `Scoring.evidence`
        self.score = np.zeros(0, dtype=np.float32)
        self.id = np.zeros(0, dtype="U1")
        self.least = np.full(labels, -np.inf, dtype=np.float32)  # [c]; what an image must reach to be among them

    def candidates(self, likely: NDArray[np.float32]) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
        """The labels and columns in the block [c b] of images that may be among the best."""
        able = likely >= self.least[:, None]
        if np.count_nonzero(able) > 4 * self.labels * self.k and likely.shape[1] > self.k:
            able = likely >= np.maximum(self.least, np.partition(likely, -self.k, axis=1)[:, -self.k])[:, None]
        label, column = np.nonzero(able)
        return label, column

    def merge(
        self, label: NDArray[np.intp], likely: NDArray[np.float32], score: NDArray[np.float32], id: NDArray[np.str_]
    ) -> None:
        """Merge candidates, keeping the best k of each label."""
        label, likely = np.concatenate([self.label, label]), np.concatenate([self.likely, likely])
        score, id = np.concatenate([self.score, score]), np.concatenate([self.id, id])
        order = np.lexsort((id, -score, -likely, label))
        sorted_label = label[order]
        first = np.searchsorted(sorted_label, np.arange(self.labels))
        rank = np.arange(len(order)) - first[sorted_label]
        keep = order[rank < self.k]
        self.label, self.likely, self.score, self.id = label[keep], likely[keep], score[keep], id[keep]
        last = rank[rank < self.k] == self.k - 1
        self.least[self.label[last]] = self.likely[last]

    def rows(self) -> list[list[LabelledImage]]:
        """For each label its images, best first."""
        rows: list[list[LabelledImage]] = [[] for _ in range(self.labels)]
        columns = (self.label, self.id, self.score, self.scoring.from_evidence(self.likely))
        for label, id, score, probability in zip(*(column.tolist() for column in columns), strict=True):
            rows[label].append(LabelledImage(id, score, probability))
        return rows


def _check(store: Store, class_vectors: Vectors, k: int) -> int:
    dimensions = store.schema.dimensions
    if class_vectors.ndim != 2 or class_vectors.shape[1] != dimensions or not len(class_vectors):
        raise TandemError(f"labels: expected vectors [c {dimensions}], got an array {list(class_vectors.shape)}")
    if k < 1:
        raise TandemError(f"k: expected at least 1, got {k}")
    return len(class_vectors)


def _block(labels: int) -> int:
    """How many images are looked at together."""
    return max(64, min(8192, CELLS // labels))
