"""Tip-Adapter against loops over its equation."""

import numpy as np
import pytest

from tandem.heads import tip_adapter
from tandem.heads.shots import Shots, check_shots
from tandem.heads.tip_adapter import ALPHAS, BETAS, TipAdapter, fit_tip_adapter

SCALE = 10.0


def unit(rows: np.ndarray) -> np.ndarray:
    return (rows / np.linalg.norm(rows, axis=-1, keepdims=True)).astype(np.float32)


def shots(each: int = 3) -> Shots:
    draw = np.random.default_rng(5)
    centres = draw.standard_normal((3, 6))
    labels = np.tile([2, 0, 1], each)
    vectors = unit(centres[labels] + draw.standard_normal((len(labels), 6)))
    return check_shots(vectors, labels, ("a", "b", "c"), unit(centres + 3 * draw.standard_normal((3, 6))), SCALE)


def brute(vector: np.ndarray, given: Shots, alpha: float, beta: float, without: int | None = None) -> np.ndarray:
    logits = SCALE * given.class_vectors.astype(np.float64) @ vector
    for place, (key, label) in enumerate(zip(given.vectors, given.labels, strict=True)):
        if place != without:
            logits[label] += alpha * np.exp(-beta * (1 - float(vector @ key)))
    return logits


def test_logits_are_the_papers_in_blocks_too(monkeypatch: pytest.MonkeyPatch) -> None:
    given = shots()
    unseen = unit(np.random.default_rng(1).standard_normal((7, 6)))
    expected = np.stack([brute(each, given, 2.0, 5.5) for each in unseen])
    adapter = TipAdapter(given, 2.0, 5.5)
    assert np.allclose(adapter.logits(unseen), expected, atol=1e-4)
    monkeypatch.setattr(tip_adapter, "_CELLS", 20)  # two rows at once
    assert np.allclose(adapter.logits(unseen), expected, atol=1e-4)


def test_alpha_and_beta_are_the_best_on_shots_that_are_left_out() -> None:
    given = shots(each=5)

    def right(alpha: float, beta: float) -> int:
        return sum(
            int(brute(vector, given, alpha, beta, without=place).argmax() == given.labels[place])
            for place, vector in enumerate(given.vectors)
        )

    found = fit_tip_adapter(given)
    counts = {(float(alpha), float(beta)): right(alpha, beta) for alpha in ALPHAS for beta in BETAS}
    most = max(counts.values())
    assert counts[found.alpha, found.beta] == most > counts[0.0, float(BETAS[0])]
    assert found.alpha == min(alpha for (alpha, _), count in counts.items() if count == most)


def test_one_shot_takes_the_papers_numbers() -> None:
    found = fit_tip_adapter(shots(each=1))
    assert (found.alpha, found.beta) == (tip_adapter.ALPHA, tip_adapter.BETA)
