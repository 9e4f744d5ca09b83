"""Divides a collection into clusters.

Spherical k-means (Dhillon and Modha 2001) on a sample; every vector is then given to its nearest centre. Knows vectors;
no models or stores. `naming` names them.

Shapes: n vectors, c clusters, d dimensions.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from tandem.arrays import Vectors

ROUNDS, RESTARTS = 25, 3
MOST_CLUSTERS = 100  # by itself; a map with more names cannot be read
REPRESENTATIVES = 8


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
