"""Seeded splits and draws: which images a task learns from. By class, and the same for the same seed and labels.

Shapes: n images, c classes.
"""

import numpy as np
from numpy.typing import NDArray

from tandem.errors import DataError


def ranks_within_class(labels: NDArray[np.int64], seed: int) -> NDArray[np.int64]:
    """The place of each image in a random order of its class, int64 [n]: images below k are a draw of k shots.

    So the draw of two shots contains that of one.
    """
    order = np.random.default_rng(seed).permutation(len(labels))
    order = order[np.argsort(labels[order], kind="stable")]
    counts = np.bincount(labels)
    starts = np.cumsum(counts) - counts
    result = np.empty(len(labels), dtype=np.int64)
    result[order] = np.arange(len(labels)) - starts[labels[order]]
    return result


def hold_out(labels: NDArray[np.int64], share: float, seed: int) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """The places of images to learn from, and of those held out: a share of every class, at least one of each and never
    all. The only image of a class is learnt from. Raises `DataError` for a share that is not between 0 and 1."""
    if not 0 < share < 1:
        raise DataError(f"expected a share between 0 and 1 to hold out, got {share}")
    counts = np.bincount(labels)
    held = np.clip(np.round(share * counts), 1, np.maximum(counts - 1, 0))
    chosen = ranks_within_class(labels, seed) < np.where(counts > 1, held, 0)[labels]
    return np.flatnonzero(~chosen), np.flatnonzero(chosen)
