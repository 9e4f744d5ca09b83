"""Scores, folds, intervals and bands of a category, on numbers that are known beforehand."""

from collections.abc import Callable
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from support.moderation_toys import labelled_set

from tandem.datasets.dataset import Dataset
from tandem.errors import DataError
from tandem.moderation import category_fitting, promises
from tandem.moderation.category_fitting import Score, calibration_figure, fit_category, scores
from tandem.moderation.category_scores import AGAINST, FOR, CategoryVectors, Side
from tandem.moderation.decisions import decide, worst
from tandem.moderation.fit_file import CategoryFit
from tandem.moderation.labelled import classes_of, distinct
from tandem.moderation.policy import Category

FIT = CategoryFit(
    score_kind="texts",
    center=0.0,
    spread=1.0,
    intercept=0.0,
    slope=1.0,
    covariance=(0.0, 0.0, 0.0),
    low=-100.0,
    high=100.0,
    base_rate=0.5,
    fitted_base_rate=0.5,
    positives=30,
    negatives=30,
    review_score=None,
    block_score=None,
)


def vectors(*rows: list[float]) -> np.ndarray[Any, np.dtype[np.float32]]:
    found = np.array(rows, np.float32)
    return found / np.linalg.norm(found, axis=1, keepdims=True)


def side(texts: np.ndarray[Any, np.dtype[np.float32]]) -> Side:
    names = tuple(f"text {i}" for i in range(len(texts)))
    return Side(names, texts, (), np.zeros((0, texts.shape[1]), np.float32))


def seen(against: list[list[float]], in_favour: list[list[float]]) -> CategoryVectors:
    return CategoryVectors(side(vectors(*against)), side(vectors(*in_favour)), 10.0)


# --- scores ----------------------------------------------------------------------------------------------------------


def test_a_side_counts_as_one_text_however_many_it_has() -> None:
    category = seen([[1, 0]], [[1, 0], [1, 0], [1, 0]])
    assert category.text_scores(vectors([1, 0], [0, 1], [1, 1])) == pytest.approx([0, 0, 0], abs=1e-6)


def test_a_head_begins_at_the_texts_of_its_own_side() -> None:
    category = seen([[1, 0]], [[0, 1]])
    assert category.class_vectors[FOR].tolist() == [0, 1]
    assert category.class_vectors[AGAINST].tolist() == [1, 0]


def test_a_head_is_judged_on_images_that_it_was_not_fitted_with(monkeypatch: pytest.MonkeyPatch) -> None:
    used: list[set[float]] = []

    def remembering(shots: Any) -> Any:
        used.append(set(shots.vectors[:, 0].tolist()))
        return lambda images: np.array([each in used[-1] for each in images[:, 0].tolist()], float)

    monkeypatch.setattr(category_fitting, "head_score", remembering)
    images = vectors(*[[i + 1, 100] for i in range(60)])
    found = scores(seen([[1, 0]], [[0, 1]]), images, np.repeat([True, False], 30))[-1]
    assert [len(each) for each in used] == [*[54] * 10, 60]
    assert not found.values.any()


# --- fits ------------------------------------------------------------------------------------------------------------


def test_what_is_measured_was_set_on_the_other_folds(monkeypatch: pytest.MonkeyPatch) -> None:
    used: list[int] = []
    original: Callable[..., Any] = category_fitting._set

    def spied(values: Any, *rest: Any) -> Any:
        used.append(len(values))
        return original(values, *rest)

    monkeypatch.setattr(category_fitting, "_set", spied)
    draw = np.random.default_rng(0)
    values = np.concatenate([draw.normal(2, 1, 50), draw.normal(0, 1, 50)])
    fit_category([Score("texts", values)], np.repeat([True, False], 50), Category(("a",), ("b",), 0.5))
    assert used == [100, *[90] * 10]


def test_an_area_that_may_be_chance_cannot_tell() -> None:
    """Above a half, but not outside of the noise."""
    values = np.concatenate([np.arange(30) + 1.5, np.arange(30.0)])
    fit = fit_category([Score("texts", values)], np.repeat([True, False], 30), Category(("a",), ("b",), 0.5))
    assert fit.slope > 0
    assert fit.figures["auc"].value > 0.5 > fit.figures["auc"].low
    assert "does not tell" in fit.cannot_tell


def test_a_clean_cut_is_as_sure_as_each_side_is_large() -> None:
    shown = np.repeat([True, False], [20, 400])
    fit = fit_category([Score("texts", shown.astype(float))], shown, Category(("a",), ("b",), 20 / 420))
    low, high = fit.probabilities(np.array([0.0, 1.0]))[0]
    assert high == pytest.approx(21 / 22, rel=0.02)
    assert low == pytest.approx(1 / 402, rel=0.1)


def test_where_blocking_begins_first_looking_does_too() -> None:
    draw = np.random.default_rng(0)
    values, shown = np.concatenate([draw.normal(3, 1, 150), draw.normal(0, 1, 150)]), np.repeat([True, False], 150)
    category = Category(("a",), ("b",), 0.5)
    fit = fit_category([Score("texts", values)], shown, category, block_precision=0.6, review_recall=0.3)
    block = promises.precision_threshold(values[shown], values[~shown], 0.6, 0.5)[0]
    review = promises.recall_threshold(values[shown], 0.3)
    assert block is not None
    assert review is not None
    assert block < review
    assert (fit.review_score, fit.block_score) == (block, block)


def test_the_calibration_error_is_at_the_stated_base_rate() -> None:
    shown = np.repeat([True, False], 100)
    assert calibration_figure(np.full(200, 0.1), shown, 0.1).value == pytest.approx(0, abs=1e-6)


def test_the_bound_of_the_precision_is_that_of_order_statistics() -> None:
    """With every image above it, the share F of the others above the highest of 5 is Beta(1, 5)."""
    false = 1 - 0.05 ** (1 / 5)
    assert promises.precision_bound(10**6, 10**6, 0, 5, 0.5, 0.05) == pytest.approx(1 / (1 + false), abs=0.012)


def test_thresholds_that_are_tried_share_one_error(monkeypatch: pytest.MonkeyPatch) -> None:
    errors: list[float] = []
    monkeypatch.setattr(promises, "precision_bound", lambda *given: errors.append(given[-1]) or 0.0)
    promises.precision_threshold(np.arange(300.0), np.arange(300.0), 0.8, 0.3)
    assert len(errors) > 3
    assert sum(errors) == pytest.approx(1 - promises.CONFIDENCE)


def test_the_interval_is_that_of_intercept_and_slope() -> None:
    fit = replace(FIT, center=1.0, spread=2.0, covariance=(0.04, 0.01, 0.09))
    _, low, high = (float(each[0]) for each in fit.probabilities(np.array([5.0])))  # z = 2
    half = 1.959964 * (0.04 + 2 * 2 * 0.01 + 4 * 0.09) ** 0.5
    assert low == pytest.approx(1 / (1 + np.exp(half - 2)))
    assert high == pytest.approx(1 / (1 + np.exp(-half - 2)))


# --- bands -----------------------------------------------------------------------------------------------------------


def test_a_band_begins_at_its_score() -> None:
    category, image = seen([[1, 0]], [[0, 1]]), vectors([1, 2])
    score = float(category.text_scores(image)[0])
    (at,) = decide(category, replace(FIT, review_score=-1.0, block_score=score), image)
    (below,) = decide(category, replace(FIT, review_score=score, block_score=np.nextafter(score, 99)), image)
    (under,) = decide(category, replace(FIT, review_score=np.nextafter(score, 99)), image)
    assert [each.band for each in (at, below, under)] == ["block", "review", "allow"]


def test_an_interval_from_allow_to_block_cannot_tell() -> None:
    category, image = seen([[1, 0]], [[0, 1]]), vectors([1, 1])  # a score of 0, a probability of a half
    unsure = replace(FIT, covariance=(0.16, 0.0, 0.0), review_score=-0.4, block_score=0.4)
    (found,) = decide(category, unsure, image)
    assert found.interval is not None
    assert found.interval[1] - found.interval[0] < 0.5
    assert found.band == "cannot tell"
    (sure,) = decide(category, replace(unsure, block_score=5.0), image)
    assert sure.band == "review"


def test_what_somebody_must_look_at_is_worse_than_what_cannot_be_told() -> None:
    assert worst(["cannot tell", "review", "allow"]) == "review"
    assert worst(["cannot tell", "not fitted", "allow"]) == "cannot tell"


# --- labels ----------------------------------------------------------------------------------------------------------


def labelled(digests: list[bytes], *shown: tuple[int, ...]) -> Dataset:
    return labelled_set(digests, ("blue", "crimson", "scarlet"), shown, multi_label=True)


def test_one_of_several_classes_shows_a_category() -> None:
    data = labelled([b"a", b"b", b"c", b"d"], (0,), (1,), (2,), (1, 2))
    found = classes_of(["red"], data, {"red": ["crimson", "scarlet"]})
    assert found["red"].tolist() == [False, True, True, True]


def test_one_image_with_two_labels_is_refused() -> None:
    data: Any = SimpleNamespace(dataset=labelled([b"a", b"b", b"a"], (0,), (1,), (2,)))
    with pytest.raises(DataError, match="one image has two labels: 0 and 2 are the same"):
        distinct(data)
