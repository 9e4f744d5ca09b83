"""Metrics: pure functions on arrays of scores. They know no model and no data set.

Shapes: n images, m texts, c classes.
"""

import numpy as np

# What validation measures on a set of each kind; the names of the figures end with these.
MEASURES = {"zero_shot": ("zero_shot_top1",), "retrieval": ("text_to_image_r10", "image_to_text_r10")}


def top_k_accuracy(scores: np.ndarray, labels: np.ndarray, k: int = 1) -> float:
    """Share of rows whose label is among the k highest scores. scores [n c], labels [n]; chance is k / c."""
    own = scores[np.arange(len(labels)), labels]
    better = (scores > own[:, None]).sum(1)
    # A tie counts half way: a constant score must not look like a perfect one.
    ties = (scores == own[:, None]).sum(1) - 1
    return float(np.mean(better + ties / 2 < k))


def recall_at_k(scores: np.ndarray, matches: np.ndarray, k: int) -> float:
    """Share of rows that have at least one match among their k highest scores (any match counts as a hit).

    scores [q g] of queries against a gallery, matches [q g] bool with at least one in every row.
    Chance is 1 - C(g - r, k) / C(g, k) for r matches in a row, about k r / g.
    """
    best = np.where(matches, scores, -np.inf).max(1)
    better = (~matches & (scores >= best[:, None])).sum(1)
    return float(np.mean(better < k))
