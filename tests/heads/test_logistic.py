"""The linear probe against scikit-learn's logistic regression, on the same vectors and C's."""

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from tandem.errors import DataError
from tandem.heads import logistic
from tandem.heads.fitting import fit_shots
from tandem.heads.shots import check_shots
from tandem.heads.sweep import CS, fit_linear_probe, held_out_fourth, sweep


def unit(rows: np.ndarray) -> np.ndarray:
    return (rows / np.linalg.norm(rows, axis=-1, keepdims=True)).astype(np.float32)


def data(n: int, d: int = 16, classes: int = 5, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Vectors with a common part, as CLIP's have, and their labels."""
    draw, centres = np.random.default_rng(seed), np.random.default_rng(99).standard_normal((classes, d))
    labels = np.arange(n) % classes
    return unit(2 + centres[labels] + 1.5 * draw.standard_normal((n, d))), labels


@pytest.mark.parametrize("C", [1e-4, 1e-2, 1.0])
@pytest.mark.parametrize("d", [16, 80])  # fewer and more dimensions than images
def test_coefficients_are_scikit_learns(C: float, d: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logistic, "DECREMENT", 1e-9)
    vectors, labels = data(60, d)
    scaled = np.sqrt(d) * vectors.astype(np.float64)
    theirs = LogisticRegression(C=C, max_iter=5000, tol=1e-9).fit(scaled, labels)
    ours = logistic.fit_logistic(vectors, labels, 5, C)
    assert np.allclose(ours.weights / np.sqrt(d), theirs.coef_, atol=2e-3 * np.abs(theirs.coef_).max())
    # biases are free: only their differences are settled
    bias = ours.bias - ours.bias.mean()
    assert np.allclose(bias, theirs.intercept_ - theirs.intercept_.mean(), atol=1e-2 * np.abs(theirs.coef_).max())
    unseen, truth = data(300, d, seed=1)
    right = (ours.logits(unseen).argmax(axis=1) == truth).mean()
    assert abs(right - theirs.score(np.sqrt(d) * unseen, truth)) < 0.01


def test_the_gradient_is_that_of_the_value() -> None:
    vectors, labels = data(40)
    prepared = logistic.principal_axes(vectors, labels, 5)
    objective = logistic._objective(prepared, np.full(17, 0.1, dtype=np.float32))
    draw = np.random.default_rng(0)
    weights, towards = (draw.standard_normal(prepared.start.shape).astype(np.float32) for _ in range(2))
    slope = (objective(weights + 1e-2 * towards)[0] - objective(weights - 1e-2 * towards)[0]) / 2e-2
    assert slope == pytest.approx(float((objective(weights)[1] * towards).sum()), rel=1e-2)


def test_the_sweep_goes_from_coarse_to_fine_and_takes_the_best(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logistic, "DECREMENT", 1e-7)
    vectors, labels = data(100)
    held_out = held_out_fourth(labels, seed=0)
    assert np.bincount(labels[held_out]).tolist() == [5] * 5
    found = sweep(vectors, labels, 5, held_out)
    tried = [each.c for each in found.points]
    assert tried == sorted(tried)
    assert {float(CS[place]) for place in range(0, 97, 16)} <= set(tried)
    assert len(tried) <= 15
    assert found.best.accuracy == max(each.accuracy for each in found.points)
    near = CS[np.abs(np.log10(CS / found.best.c)) < 0.13]
    assert set(near) <= set(tried)  # its neighbours were tried
    for each in found.points[4:8]:
        fit = logistic.fit_logistic(vectors[~held_out], labels[~held_out], 5, each.c)
        right = (fit.logits(vectors[held_out]).argmax(axis=1) == labels[held_out]).mean()
        assert abs(right - each.accuracy) <= 0.09  # two images of 25: both are within their tolerance
    alone = logistic.fit_logistic(vectors, labels, 5, found.best.c)  # all images, from another start
    assert np.allclose(found.fit.logits(vectors), alone.logits(vectors), atol=0.1)


def test_of_equally_good_cs_the_one_with_the_best_probabilities_is_taken() -> None:
    """Classes far apart: nearly every C is right for all, and the smallest calls every class a third."""
    labels = np.repeat(np.arange(3), 8)
    vectors = unit(np.eye(3, 8)[labels] + 0.05 * np.random.default_rng(0).standard_normal((24, 8)))
    held_out = held_out_fourth(labels, seed=0)
    found = sweep(vectors, labels, 3, held_out)
    best = [each for each in found.points if each.accuracy == 1]
    assert len(best) > 8
    assert best[0].c < 1e-3
    assert found.best == min(best, key=lambda each: each.log_loss)
    scores = found.fit.logits(vectors).astype(float)
    assert (np.exp(scores) / np.exp(scores).sum(1, keepdims=True)).max(1).min() > 0.9
    alone = logistic.fit_logistic(vectors[~held_out], labels[~held_out], 3, 1.0).logits(vectors[held_out]).astype(float)
    own = alone[range(6), labels[held_out]]
    at_one = next(each for each in found.points if each.c == 1.0)
    assert at_one.log_loss == pytest.approx((np.log(np.exp(alone).sum(1)) - own).mean(), rel=0.05)


def test_one_image_of_a_class_is_learnt_from_and_one_of_each_needs_a_c() -> None:
    vectors, labels = data(9, classes=5)  # the last class has one
    assert not held_out_fourth(labels, seed=0)[4]
    shots = check_shots(vectors[:5], labels[:5], tuple("abcde"), np.eye(5, 16), 10.0)
    with pytest.raises(DataError, match="give more images"):
        fit_linear_probe(shots)
    assert (fit_shots("linear_probe", shots, C=1.0).logits(vectors[:5]).argmax(axis=1) == labels[:5]).all()
    with pytest.raises(DataError, match="C > 0"):
        fit_linear_probe(shots, C=0.0)
