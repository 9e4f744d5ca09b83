"""CLAP and ZS-LP against a plain transcription of the paper's objective."""

import numpy as np
import pytest

from tandem.heads import clap
from tandem.heads.clap import fit_clap, fit_zs_lp, objective_of_directions, penalties
from tandem.heads.shots import Shots, check_shots

SCALE = 20.0


def unit(rows: np.ndarray) -> np.ndarray:
    return rows / np.linalg.norm(rows, axis=-1, keepdims=True)


def shots(counts: tuple[int, ...] = (4, 4, 4, 2, 1), d: int = 12, seed: int = 0) -> Shots:
    draw = np.random.default_rng(seed)
    centres = draw.standard_normal((len(counts), d))
    labels = np.repeat(np.arange(len(counts)), counts)
    vectors = unit(centres[labels] + 1.5 * draw.standard_normal((len(labels), d)))
    texts = unit(centres + 1.5 * draw.standard_normal((len(counts), d)))
    return check_shots(vectors, labels, tuple(f"class {each}" for each in range(len(counts))), texts, SCALE)


def paper(weights: np.ndarray, given: Shots, multipliers: np.ndarray) -> float:
    """Mean cross-entropy of s cos(f_i, w_c), plus sum_c lambda_c |w_c - t_c|^2, in float64 and loops."""
    total = 0.0
    for vector, label in zip(given.vectors.astype(np.float64), given.labels, strict=True):
        logits = np.array([SCALE * vector @ each / np.linalg.norm(each) for each in weights])
        total += np.log(np.exp(logits - logits.max()).sum()) + logits.max() - logits[label]
    distance = sum(m * ((w - t) ** 2).sum() for m, w, t in zip(multipliers, weights, given.class_vectors, strict=True))
    return total / len(given.labels) + distance


def paper_multipliers(given: Shots) -> np.ndarray:
    """The mean probability that zero-shot gives each class on its own images."""
    result = []
    for each in range(len(given.classes)):
        own = np.exp(SCALE * given.vectors[given.labels == each].astype(np.float64) @ given.class_vectors.T)
        result.append((own[:, each] / own.sum(axis=1)).mean())
    return np.array(result)


def numerical_gradient(weights: np.ndarray, given: Shots, multipliers: np.ndarray) -> np.ndarray:
    result = np.zeros_like(weights)
    for place in np.ndindex(weights.shape):
        change = np.zeros_like(weights)
        change[place] = 1e-5
        result[place] = (
            paper(weights + change, given, multipliers) - paper(weights - change, given, multipliers)
        ) / 2e-5
    return result


def test_multipliers_are_the_mean_zero_shot_probabilities() -> None:
    assert np.allclose(penalties(shots()), paper_multipliers(shots()), atol=1e-6)


@pytest.mark.parametrize(("tolerance", "zero"), [(clap.TOLERANCE, 5e-3), (1e-6, 5e-4)])
def test_the_gradient_of_the_papers_objective_is_zero_at_our_solution(
    tolerance: float, zero: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(clap, "TOLERANCE", tolerance)
    given = shots()
    multipliers = paper_multipliers(given)
    fit = fit_clap(given)
    assert fit.facts["converged"]
    directions = fit.weights.astype(np.float64) / SCALE
    # the head has unit lengths; the objective's own are the cosines with the class vectors, the best for the penalty
    weights = directions * np.maximum((directions * given.class_vectors).sum(axis=1, keepdims=True), 0)
    assert np.abs(numerical_gradient(weights, given, multipliers)).max() < zero
    start = given.class_vectors.astype(np.float64)
    assert np.abs(numerical_gradient(start, given, multipliers)).max() > 0.1  # which says that the test can fail
    assert paper(weights, given, multipliers) < paper(start, given, multipliers)


def test_its_own_gradient_is_that_of_its_value() -> None:
    given, draw = shots(), np.random.default_rng(1)
    objective = objective_of_directions(given, penalties(given))
    weights = draw.standard_normal(given.class_vectors.shape).astype(np.float32)
    towards = draw.standard_normal(weights.shape).astype(np.float32)
    slope = (objective(weights + 1e-2 * towards)[0] - objective(weights - 1e-2 * towards)[0]) / 2e-2
    assert slope == pytest.approx(float((objective(weights)[1] * towards).sum()), rel=2e-2)


def test_it_gets_no_lower_from_elsewhere_and_does_not_depend_on_order() -> None:
    given = shots()
    fit = fit_clap(given)
    order = np.random.default_rng(2).permutation(len(given.labels))
    assert np.allclose(fit_clap(given.take(order)).weights, fit.weights, atol=0.02)
    assert np.array_equal(fit_clap(given).weights, fit.weights)


def test_without_a_penalty_it_is_further_from_the_texts_and_closer_to_its_images() -> None:
    given = shots()
    free, held = fit_zs_lp(given), fit_clap(given)

    def drift(weights: np.ndarray) -> float:
        return float((1 - (weights / SCALE * given.class_vectors).sum(axis=1)).mean())

    def loss(weights: np.ndarray) -> float:
        return paper(weights.astype(np.float64), given, np.zeros(len(given.classes)))

    assert drift(free.weights) > drift(held.weights) > 0
    assert loss(free.weights) < loss(held.weights)


def test_one_shot_duplicates_and_one_class() -> None:
    single = shots((1, 1, 1), d=40)
    assert (fit_clap(single).logits(single.vectors).argmax(axis=1) == single.labels).all()
    twice = check_shots(
        np.repeat(single.vectors, 2, axis=0), np.repeat(single.labels, 2), single.classes, single.class_vectors, SCALE
    )
    assert np.allclose(fit_clap(twice).weights, fit_clap(single).weights, atol=0.02)
    alone = shots((3,))
    assert np.allclose(fit_clap(alone).weights, SCALE * alone.class_vectors, atol=1e-4)  # nothing to tell apart
