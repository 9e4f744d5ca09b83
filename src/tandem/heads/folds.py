"""Labelled images in parts that have the same share of every class. Seeded."""

import numpy as np
from numpy.typing import NDArray


def stratified_folds(labels: NDArray[np.int64], folds: int, seed: int) -> NDArray[np.int64]:
    """The fold of each image, int64 [n]: every class is spread over the folds as evenly as it can be."""
    draw = np.random.default_rng(seed)
    order = draw.permutation(len(labels))
    order = order[np.argsort(labels[order], kind="stable")]  # class after class, shuffled within
    result = np.empty(len(labels), dtype=np.int64)
    result[order] = np.arange(len(labels)) % folds
    return result
