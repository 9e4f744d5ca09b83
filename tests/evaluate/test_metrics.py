"""Metrics on cases small enough to count by hand."""

import numpy as np

from tandem.evaluate.metrics import recall_at_k, top_k_accuracy


def test_top_k_counts_rows_whose_label_is_among_the_best() -> None:
    scores = np.array([[3.0, 2, 1], [3, 2, 1], [3, 2, 1]])
    labels = np.array([0, 1, 2])
    assert top_k_accuracy(scores, labels) == 1 / 3
    assert top_k_accuracy(scores, labels, k=2) == 2 / 3


def test_a_constant_score_does_not_look_perfect() -> None:
    assert top_k_accuracy(np.zeros((50, 10)), np.arange(50) % 10) == 0.0


def test_any_matching_caption_is_a_hit() -> None:
    scores = np.array([[0.9, 0.1, 0.5, 0.2], [0.9, 0.8, 0.1, 0.2]])
    matches = np.array([[False, False, True, True], [False, False, True, True]])
    assert recall_at_k(scores, matches, 1) == 0.0
    assert recall_at_k(scores, matches, 2) == 0.5
    assert recall_at_k(scores, matches, 3) == 1.0
    assert recall_at_k(np.zeros((2, 4)), matches, 1) == 0.0  # all tied: not a hit
