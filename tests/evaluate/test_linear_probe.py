"""The linear probe as a task: the sweep's table, figures by hand, and scikit-learn on the same split."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from support.task_toys import GivenModel, features

from tandem.errors import DataError
from tandem.evaluate.features import Features
from tandem.evaluate.linear_probe import linear_probe
from tandem.evaluate.result import TaskResult
from tandem.heads import logistic
from tandem.heads.sweep import held_out_fourth

D = 12
CLASSES = ("ant", "bee", "cow")
CENTRES = np.random.default_rng(0).standard_normal((3, D))
NOISE = np.geomspace(6, 0.6, D)  # some dimensions say little: too small a C trusts them all alike
MODEL: Any = GivenModel({"ant": [1.0] * D}, data="toys")


def images(each: int, seed: int, classes: int = 3) -> Features:
    labels = np.repeat(np.arange(classes), each)
    vectors = CENTRES[labels] + NOISE * np.random.default_rng(seed).standard_normal((len(labels), D))
    given = features(vectors, CLASSES, [[int(label)] for label in labels])
    digests = tuple(seed.to_bytes(16, "big") + place.to_bytes(16, "big") for place in range(len(labels)))
    return replace(given, dataset=replace(given.dataset, digests=digests))


TRAIN, TEST = images(40, 1), images(30, 2)


@pytest.fixture(scope="module")
def result() -> TaskResult:
    return linear_probe(MODEL, TRAIN, TEST)


def test_it_is_scikit_learns_classifier_at_the_same_c(result: TaskResult) -> None:
    """Fitted on all images: without those that chose C, others of 90 get another answer."""
    assert 0.1 < result.settings["c"] < 1000
    chances = fitted_by_scikit_learn(TRAIN, result.settings["c"])
    answer = result.outcomes["answer"].astype(int)
    assert (chances.argmax(axis=1) != answer).sum() <= 1
    assert np.abs(result.outcomes["probability"] - chances[range(90), answer]).max() < 0.03
    assert result.outcomes["top1"].min() == 0  # where an answer is wrong its probability is not the label's
    rest = fitted_by_scikit_learn(
        TRAIN.take(np.flatnonzero(~held_out_fourth(TRAIN.dataset.labels, 0))), result.settings["c"]
    )
    assert np.abs(rest[range(90), answer] - chances[range(90), answer]).max() > 0.1
    assert result.figures["top1"].value > 0.6


def fitted_by_scikit_learn(train: Features, c: float) -> np.ndarray:
    """The probabilities of the test images."""
    fitted = LogisticRegression(C=c, max_iter=5000, tol=1e-8).fit(
        np.sqrt(D) * train.vectors.astype(float), train.dataset.labels
    )
    return np.asarray(fitted.predict_proba(np.sqrt(D) * TEST.vectors))


def test_figures_and_tables_are_those_of_the_outcomes(result: TaskResult) -> None:
    labels, right = TEST.dataset.labels, result.outcomes["top1"]
    top1, mean = result.figures["top1"], result.figures["mean_per_class"]
    assert top1.value == pytest.approx(right.mean())
    assert mean.value == pytest.approx(np.mean([right[labels == each].mean() for each in range(3)]))
    assert (top1.n, top1.chance) == (90, pytest.approx(1 / 3))
    assert top1.low < top1.value < top1.high
    assert np.array_equal(result.outcomes["answer"] == labels, right == 1)
    for row in result.tables["per_class"]:
        place = CLASSES.index(row["class"])
        assert row["accuracy"] == pytest.approx(right[labels == place].mean())
        assert row["low"] <= row["accuracy"] <= row["high"]
    tried = [row["c"] for row in result.tables["sweep"]]
    assert tried == sorted(tried)
    assert result.settings["c"] in tried
    assert result.settings["held_out_to_choose_c"] == 30
    assert result.task == "linear-probe"
    assert any("toys" in note for note in result.notes)


def test_the_seed_moves_the_images_that_choose_and_nothing_else_does(result: TaskResult) -> None:
    again = linear_probe(MODEL, TRAIN, TEST)
    assert np.array_equal(again.outcomes["probability"], result.outcomes["probability"])
    other = linear_probe(MODEL, TRAIN, TEST, seed=1)
    assert [row["accuracy"] for row in other.tables["sweep"]] != [row["accuracy"] for row in result.tables["sweep"]]


def test_a_class_without_images_is_refused_and_one_image_noted() -> None:
    with pytest.raises(DataError, match="no image to learn from of cow"):
        linear_probe(MODEL, images(4, 3, classes=2), TEST)
    few = TRAIN.take([*range(6), *range(40, 46), 80])
    found = linear_probe(MODEL, few, TEST)
    assert any("One image to learn from, so none to choose C by: cow" in note for note in found.notes)


def test_a_fit_that_does_not_end_is_noted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logistic, "ITERATIONS", 1)
    assert "The fit stopped after 1 iterations, before its minimum." in linear_probe(MODEL, TRAIN, TEST).notes
