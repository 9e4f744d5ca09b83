"""Nearest class mean: the cosine with the mean vector of each class, at the model's scale. Texts play no part.

Snell et al. 2017, "Prototypical Networks", with the cosine in place of the distance.

Shapes: n images, d the shared dimension, c classes.
"""

import numpy as np

from tandem.arrays import Vectors
from tandem.heads.linear import LinearFit
from tandem.heads.shots import Shots


def fit_nearest_mean(shots: Shots) -> LinearFit:
    """Weights are the means at unit length times the scale."""
    lengths = np.linalg.norm(shots.means, axis=1, keepdims=True)
    weights = shots.logit_scale * shots.means / np.maximum(lengths, 1e-12)  # opposite images have no mean direction
    return LinearFit(np.asarray(weights, dtype=np.float32), np.zeros(len(shots.classes), dtype=np.float32))


def leave_one_out(shots: Shots) -> Vectors:
    """For each image, the logits of the head fitted without it, float32 [n c]: only the mean of its own class moves."""
    shots.at_least(2, "leaving one out")
    head = fit_nearest_mean(shots)
    logits = head.logits(shots.vectors)
    counts = shots.counts[shots.labels, None]
    without = (counts * shots.means[shots.labels] - shots.vectors) / (counts - 1)  # [n d]
    without /= np.maximum(np.linalg.norm(without, axis=1, keepdims=True), 1e-12)
    logits[np.arange(len(shots.labels)), shots.labels] = shots.logit_scale * (without * shots.vectors).sum(axis=1)
    return logits
