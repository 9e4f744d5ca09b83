"""Divides a collection into clusters, each named by the word that best distinguishes it from the others.

Spherical k-means (Dhillon and Modha 2001) on a sample; every vector is then given to its nearest centre. Names are the
words of a vocabulary that fit its members more often than other images. Knows vectors and words; no models or stores.

Shapes: n vectors, c clusters, w words, d dimensions.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tandem import prompts
from tandem.arrays import Vectors
from tandem.errors import TandemError

VOCABULARY = Path(__file__).parents[2] / "assets" / "vocabulary.txt"
# The bare word names clusters slightly better with tandem-mini; other models were trained on the usual prompt.
TEMPLATES = ("{}", prompts.DEFAULT_TEMPLATE)
ROUNDS, RESTARTS = 25, 3
BLOCK = 2048
MOST_CLUSTERS = 100  # by itself; a map with more names cannot be read
REPRESENTATIVES = 8
WORDS = 3  # that describe a cluster; the first is its name, and no other cluster's


def choose_count(vectors: int) -> int:
    """The default number of clusters: one and a half times the cube root of the number of vectors, at most 100.

    5 for 40 images, 15 for 1,000, 32 for 10,000, 70 for 100,000: enough to tell things apart, few enough to read.
    """
    wanted = round(1.5 * float(np.cbrt(vectors)))
    return max(1, min(wanted, MOST_CLUSTERS, vectors))


def find_centres(sample: Vectors, count: int, *, seed: int = 0) -> Vectors:
    """Centres [c d] of unit length of a sample [n d], the largest cluster first; fewer where there is too little.

    The same sample and seed give the same centres.
    """
    import faiss

    distinct = np.unique(sample, axis=0)
    count = min(count, len(distinct))
    centres: Vectors = distinct
    if count < len(distinct):
        means = faiss.Kmeans(
            sample.shape[1], count, niter=ROUNDS, nredo=RESTARTS, spherical=True, seed=seed + 1,
            min_points_per_centroid=1, max_points_per_centroid=max(256, -(-len(sample) // count)),
        )  # fmt: skip
        means.train(np.ascontiguousarray(sample, dtype=np.float32))
        centres = np.asarray(means.centroids, dtype=np.float32)
    sizes = np.bincount(assign(sample, centres)[0], minlength=len(centres))
    return np.ascontiguousarray(centres[np.argsort(-sizes, kind="stable")], dtype=np.float32)


def assign(vectors: Vectors, centres: Vectors) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    """[n d], [c d] -> the nearest centre of each, int32 [n], and the cosine to it, float32 [n]."""
    scores = vectors @ centres.T  # [n c]
    nearest = scores.argmax(axis=1)
    return nearest.astype(np.int32), np.take_along_axis(scores, nearest[:, None], axis=1)[:, 0]


@dataclass
class Census:
    """Statistics of each cluster, batch by batch: how many members, how near, and which are nearest."""

    centres: Vectors  # [c d]
    sizes: NDArray[np.int64] = field(init=False)  # [c]
    totals: NDArray[np.float64] = field(init=False)  # [c], of cosines
    nearest: list[list[tuple[float, str]]] = field(init=False)  # for each cluster (cosine, id), the nearest first

    def __post_init__(self) -> None:
        count = len(self.centres)
        self.sizes, self.totals = np.zeros(count, np.int64), np.zeros(count)
        self.nearest = [[] for _ in range(count)]

    def add(self, ids: Sequence[str], vectors: Vectors) -> NDArray[np.int32]:
        """Add a batch; returns the cluster of each vector, int32 [n]."""
        clusters, scores = assign(vectors, self.centres)
        self.sizes += np.bincount(clusters, minlength=len(self.centres))
        self.totals += np.bincount(clusters, scores, minlength=len(self.centres))
        for cluster in np.unique(clusters):
            members = np.flatnonzero(clusters == cluster)
            best = members[np.argsort(-scores[members], kind="stable")[:REPRESENTATIVES]]
            both = self.nearest[cluster] + [(float(scores[i]), ids[i]) for i in best]
            self.nearest[cluster] = sorted(both, key=lambda item: (-item[0], item[1]))[:REPRESENTATIVES]
        return clusters

    def coherence(self) -> NDArray[np.float64]:
        """Mean cosine of a cluster's members to its centre, [c]."""
        return np.asarray(self.totals / np.maximum(self.sizes, 1))


def name(
    sample: Vectors, clusters: NDArray[np.int32], count: int, words: Sequence[str], word_vectors: Vectors, scale: float
) -> list[tuple[str, ...]]:
    """The words that distinguish each of `count` clusters, its name first; names are unique.

    Each image of the sample [n d] is classified with all words [w d] (softmax of cosines times `scale`); a word's
    weight in a cluster is its share p there times log(p / its share everywhere), its part of the divergence of
    the two. Words that fit every image of a collection, and words that the gap between images and texts
    favours, have no weight. On about 1,000 photos with captions, names were in the captions of 25% of a
    cluster's images, and of 19% when chosen by cosine to the centre, both sides centred.
    """
    if len(words) < count:
        raise TandemError(
            f"vocabulary: expected at least {count} words for {count} clusters, got {len(words)}; "
            "give a longer one or fewer clusters"
        )
    shares = np.zeros((count, len(words)))
    for begin in range(0, len(sample), BLOCK):
        logits = sample[begin : begin + BLOCK] @ word_vectors.T * scale  # [block w]
        likely = np.exp(logits - logits.max(axis=1, keepdims=True))
        likely /= likely.sum(axis=1, keepdims=True)
        np.add.at(shares, clusters[begin : begin + BLOCK], likely)
    everywhere = shares.sum(axis=0) / max(len(sample), 1)
    shares /= np.maximum(np.bincount(clusters, minlength=count), 1)[:, None]
    weights = shares * np.log((shares + 1e-6) / (everywhere + 1e-6))  # [c w]

    named: dict[int, int] = {}
    free = weights.copy()
    for _ in range(count):  # the clearest case first
        cluster, word = divmod(int(free.argmax()), len(words))
        named[cluster] = word
        free[cluster, :] = -np.inf
        free[:, word] = -np.inf
    described = []
    for cluster in range(count):
        order = np.argsort(-weights[cluster], kind="stable")[: WORDS + 1].tolist()
        others = [word for word in order if word != named[cluster]]
        described.append(tuple(words[word] for word in (named[cluster], *others[: WORDS - 1])))
    return described


def read_vocabulary(path: Path | None = None) -> list[str]:
    """The words for names: a user's file with one per line, or the built-in list."""
    return list(prompts.read_labels(path or VOCABULARY))
