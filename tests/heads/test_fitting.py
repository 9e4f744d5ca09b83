"""`fit_head` for every method, what it refuses, and images that are left out."""

from typing import Any

import numpy as np
import pytest

from tandem.errors import DataError, TandemError
from tandem.heads.fitting import METHODS, fit_head, fit_shots
from tandem.heads.folds import stratified_folds
from tandem.heads.leave_out import leave_out
from tandem.heads.nearest_mean import fit_nearest_mean
from tandem.heads.shots import Shots, check_shots

CLASSES = ("cat", "dog", "owl")


def unit(rows: np.ndarray) -> np.ndarray:
    return rows / np.linalg.norm(rows, axis=-1, keepdims=True)


def data(each: int = 6, d: int = 8, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Vectors, labels and class vectors."""
    draw = np.random.default_rng(seed)
    centres = np.random.default_rng(9).standard_normal((3, d))
    labels = np.repeat(np.arange(3), each)
    vectors = unit(centres[labels] + 0.7 * draw.standard_normal((len(labels), d)))
    texts = unit(centres + 2 * np.random.default_rng(8).standard_normal(centres.shape))
    return vectors.astype(np.float32), labels, texts.astype(np.float32)


def shots(each: int = 6) -> Shots:
    vectors, labels, texts = data(each)
    return check_shots(vectors, labels, CLASSES, texts, 10.0)


@pytest.mark.parametrize("method", METHODS)
def test_every_method_learns_from_its_shots(method: str) -> None:
    vectors, labels, texts = data()
    head = fit_head(method, vectors, labels, CLASSES, texts, logit_scale=10.0, fingerprint="f" * 64)
    unseen, truth, _ = data(each=50, seed=1)
    right = (head.logits(unseen).argmax(axis=1) == truth).mean()
    assert right > ((unseen @ texts.T).argmax(axis=1) == truth).mean()
    assert (head.method, head.fingerprint, head.classes) == (method, "f" * 64, CLASSES)
    assert head.card["shots"] == {"cat": 6, "dog": 6, "owl": 6}
    assert head.weights.dtype == head.bias.dtype == np.float32


@pytest.mark.parametrize("method", METHODS)
def test_an_image_that_is_left_out_was_not_seen(method: str) -> None:
    """Labels without meaning: what a method says of its own images is far above chance, of those left out it is not."""
    draw = np.random.default_rng(0)
    vectors = unit(draw.standard_normal((60, 40)))
    texts = unit(draw.standard_normal((3, 40)))
    given = check_shots(vectors, np.arange(60) % 3, CLASSES, texts, 30.0)
    seen = fit_shots(method, given).logits(given.vectors).argmax(axis=1) == given.labels
    left_out = leave_out(method, given).logits.argmax(axis=1) == given.labels
    assert seen.mean() > 0.6
    assert left_out.mean() < 0.5


def test_folds_are_those_of_the_method_fitted_on_the_rest() -> None:
    given = shots(each=3)
    result = leave_out("clap", given, folds=8, seed=5)
    assert result.scheme == "8 folds"
    fold = stratified_folds(given.labels, 8, 5)
    for each in range(8):
        rest = fit_shots("clap", given.take(np.flatnonzero(fold != each)))
        assert np.allclose(result.logits[fold == each], rest.logits(given.vectors[fold == each]), atol=1e-5)


def test_every_class_is_spread_over_the_folds() -> None:
    labels = np.repeat([0, 1, 2], [5, 8, 3])
    fold = stratified_folds(labels, 3, seed=0)
    for each in range(3):
        counts = np.bincount(fold[labels == each], minlength=3)
        assert counts.max() - counts.min() <= 1
    assert not np.array_equal(fold, stratified_folds(labels, 3, seed=1))


def test_nearest_mean_without_an_image_is_the_mean_of_the_others() -> None:
    given = shots(each=3)
    logits = leave_out("nearest_mean", given).logits
    for image in range(len(given.labels)):
        others = fit_nearest_mean(given.take(np.delete(np.arange(len(given.labels)), image)))
        assert np.allclose(logits[image], others.logits(given.vectors[image]), atol=1e-4)


def test_nothing_can_be_left_out_of_one() -> None:
    with pytest.raises(DataError, match="at least 2 images of every class; fewer of 'cat', 'dog', 'owl'"):
        leave_out("clap", shots(each=1))


@pytest.mark.parametrize("method", ["clap", "nearest_mean"])
def test_the_only_image_of_a_class_stays_and_is_not_measured(method: str) -> None:
    given = shots(each=3).take(np.array([0, 1, 2, 3, 4, 5, 6]))
    assert given.counts.tolist() == [3, 3, 1]
    left_out = leave_out(method, given)
    assert left_out.scheme == "leave-one-out"
    assert np.isnan(left_out.logits).all(axis=1).tolist() == [False] * 6 + [True]
    rest = fit_shots(method, given.take(np.arange(1, 7)))
    assert np.allclose(left_out.logits[0], rest.logits(given.vectors[:1])[0], atol=1e-5)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"labels": np.array([0, 0, 1, 1])}, "no image of 'owl'"),
        ({"labels": np.array([0, 1, 2, 3])}, "labels from 0 to 2"),
        ({"labels": np.array([0.0, 1, 2, 2])}, "integers"),
        ({"labels": np.array([0, 1, 2])}, "a label for each of 4"),
        ({"vectors": np.ones((4, 5))}, r"\[n 3\]"),
        ({"vectors": np.full((4, 3), np.nan)}, "finite"),
        ({"class_vectors": np.eye(2)}, "each of 3 classes"),
        ({"classes": ()}, "each of 0 classes"),
    ],
)
def test_what_does_not_fit_is_refused_in_a_line(change: dict[str, Any], says: str) -> None:
    arguments: dict[str, Any] = {
        "vectors": np.eye(4, 3),
        "labels": np.array([0, 1, 2, 2]),
        "classes": CLASSES,
        "class_vectors": np.eye(3),
    }
    with pytest.raises(DataError, match=says):
        fit_head("clap", **(arguments | change), logit_scale=10.0, fingerprint="")


def test_unknown_methods_and_settings_are_refused() -> None:
    vectors, labels, texts = data()
    with pytest.raises(TandemError, match="unknown method 'clip'; did you mean 'clap'"):
        fit_head("clip", vectors, labels, CLASSES, texts, logit_scale=10.0, fingerprint="")
    with pytest.raises(TandemError, match="clap has no setting 'alpha': it takes none"):
        fit_head("clap", vectors, labels, CLASSES, texts, logit_scale=10.0, fingerprint="", alpha=1.0)
