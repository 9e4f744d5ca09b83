"""Softmax cross-entropy and its gradient in one pass over the logits. It knows nothing of where they come from.

Shapes: n images, c classes.
"""

import numpy as np
from numpy.typing import NDArray

from tandem.arrays import Vectors


def cross_entropy(logits: Vectors, labels: NDArray[np.int64]) -> tuple[float, Vectors]:
    """The mean over images, in nats, and its gradient in the logits times n: probabilities minus labels, [n c].

    `logits` is overwritten: it becomes the gradient.
    """
    rows = np.arange(len(labels))
    logits -= logits.max(axis=1, keepdims=True)
    own = logits[rows, labels]
    np.exp(logits, out=logits)
    sums = logits.sum(axis=1, keepdims=True)
    loss = float(np.mean(np.log(sums[:, 0], dtype=np.float64) - own))
    logits /= sums
    logits[rows, labels] -= 1
    return loss, logits
