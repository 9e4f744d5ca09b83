"""Tip-Adapter: a cache of the shots beside zero-shot. Not a linear head, so it is evaluated and never saved.

Zhang et al. 2022, "Tip-Adapter: Training-free Adaption of CLIP for Few-shot Classification", equations 5-8, for shots K
with labels L, one-hot:

    logits = s f T' + alpha exp(-beta (1 - f K')) L

alpha and beta are chosen on the shots themselves, each classified without its own row of the cache.

Shapes: n images, m shots, c classes.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tandem.arrays import Vectors
from tandem.heads.shots import Shots

ALPHAS = np.array([0.0, *np.geomspace(0.1, 100, 19)], dtype=np.float32)
BETAS = np.geomspace(1, 50, 10, dtype=np.float32)
ALPHA, BETA = 1.0, 5.5  # the paper's, for shots that cannot be left out
_CELLS = 1 << 22  # of the cosines with the shots at once: 16 MB


@dataclass(frozen=True, eq=False)
class TipAdapter:
    """The shots as a cache, and its two numbers."""

    shots: Shots
    alpha: float
    beta: float

    def logits(self, vectors: Vectors) -> Vectors:
        """Vectors [n d] -> float32 [n c]."""
        step = max(1, _CELLS // len(self.shots.labels))
        return np.concatenate([self._block(vectors[at : at + step]) for at in range(0, len(vectors), step)])

    def _block(self, vectors: Vectors) -> Vectors:
        shots = self.shots
        zero_shot = np.float32(shots.logit_scale) * (vectors @ shots.class_vectors.T)
        affinities = np.exp(np.float32(-self.beta) * (1 - vectors @ shots.vectors.T))
        return np.asarray(zero_shot + np.float32(self.alpha) * _by_class(affinities, shots), dtype=np.float32)


def _by_class(affinities: Vectors, shots: Shots) -> Vectors:
    """Sums over the shots of each class, [n m] -> [n c]: the product with the one-hot labels."""
    order = np.argsort(shots.labels, kind="stable")
    starts = np.concatenate([[0], np.cumsum(shots.counts)[:-1]])
    return np.asarray(np.add.reduceat(affinities[:, order], starts, axis=1))


def fit_tip_adapter(shots: Shots) -> TipAdapter:
    """The cache with the alpha and beta that classify most of the shots, each left out in turn; of equal pairs the one
    that trusts the cache least. The paper's own where a class has one shot, which cannot be left out."""
    if shots.counts.min() < 2:
        return TipAdapter(shots, ALPHA, BETA)
    best = (-1, 0.0, 0.0)
    distances = 1 - shots.vectors @ shots.vectors.T
    for beta in BETAS:
        affinities = np.exp(-beta * distances)
        np.fill_diagonal(affinities, 0)
        cache = _by_class(affinities, shots)
        for alpha in ALPHAS:
            right = _right(shots.zero_shot_logits + alpha * cache, shots.labels)
            best = max(best, (right, -float(alpha), float(beta)))
    return TipAdapter(shots, -best[1], best[2])


def _right(logits: Vectors, labels: NDArray[np.int64]) -> int:
    own = logits[np.arange(len(labels)), labels]
    return int(((logits >= own[:, None]).sum(axis=1) == 1).sum())
