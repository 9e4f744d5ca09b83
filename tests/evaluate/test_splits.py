"""Draws and splits: stratified, nested, seeded; and two data sets that are made to fit."""

from dataclasses import replace

import numpy as np
import pytest
from support.task_toys import draw_shots, features

from tandem.errors import DataError
from tandem.evaluate.features import Features
from tandem.evaluate.model_checks import matched
from tandem.evaluate.splits import hold_out

LABELS = np.array([0, 1, 1, 0, 2, 1, 1, 0, 1])  # 3, 5 and 1


def test_a_draw_has_the_shots_of_every_class_and_contains_the_smaller_ones() -> None:
    for seed in range(5):
        one, two, four = (draw_shots(LABELS, shots, seed) for shots in (1, 2, 4))
        assert np.bincount(LABELS[one]).tolist() == [1, 1, 1]
        assert np.bincount(LABELS[two]).tolist() == [2, 2, 1]  # all of a class that has fewer
        assert np.bincount(LABELS[four]).tolist() == [3, 4, 1]
        assert set(one) < set(two) < set(four)


def test_draws_repeat_by_seed_and_differ_between_seeds() -> None:
    labels = np.repeat([0, 1], 50)
    assert np.array_equal(draw_shots(labels, 4, 7), draw_shots(labels, 4, 7))
    assert len({tuple(draw_shots(labels, 4, seed)) for seed in range(5)}) == 5


def test_every_image_is_drawn_equally_often() -> None:
    labels = np.repeat([0, 1], 5)
    counts = np.bincount(np.concatenate([draw_shots(labels, 1, seed) for seed in range(500)]), minlength=10)
    assert counts.min() > 60  # of 100 expected


def test_a_part_of_every_class_is_held_out_and_never_all_of_one() -> None:
    learnt, held = hold_out(LABELS, 0.4, seed=0)
    assert sorted([*learnt, *held]) == list(range(len(LABELS)))
    assert np.bincount(LABELS[held], minlength=3).tolist() == [1, 2, 0]
    assert np.bincount(LABELS[hold_out(LABELS, 0.999, 0)[1]], minlength=3).tolist() == [2, 4, 0]
    assert np.bincount(LABELS[hold_out(LABELS, 0.001, 0)[1]], minlength=3).tolist() == [1, 1, 0]
    with pytest.raises(DataError, match="between 0 and 1"):
        hold_out(LABELS, 1.0, 0)


def images(classes: tuple[str, ...], labels: list[int], first: int) -> Features:
    """Features whose images are numbered from `first`."""
    given = features(np.ones((len(labels), 2)), classes, [[label] for label in labels])
    digests = tuple(bytes([first + place]) * 32 for place in range(len(labels)))
    return replace(given, dataset=replace(given.dataset, digests=digests))


def test_classes_are_matched_by_name() -> None:
    train, test = images(("a", "b", "c"), [0, 1, 2], 0), images(("c", "a"), [0, 1, 1], 10)
    learnt, measured, notes = matched(train, test)
    assert learnt.dataset.classes == measured.dataset.classes == ("a", "b", "c")
    assert measured.dataset.labels.tolist() == [2, 0, 0]
    assert notes == ()


def test_images_to_measure_on_are_not_learnt_from() -> None:
    train, test = images(("a", "b"), [0, 0, 1, 1], 0), images(("a", "b"), [1, 0], 3)
    learnt, _, notes = matched(train, test)
    assert learnt.dataset.keys == ("0.png", "1.png", "2.png")
    assert notes == ("1 of 4 images to learn from are also measured on: left out",)
    with pytest.raises(DataError, match="no image to learn from of b; equal files count once"):
        matched(images(("a", "b"), [0, 1], 0), images(("a", "b"), [1, 0], 1))


def test_what_does_not_fit_is_named() -> None:
    with pytest.raises(DataError, match="no image to learn from of d"):
        matched(images(("a", "b"), [0, 1], 0), images(("a", "d"), [0, 1], 10))
    with pytest.raises(DataError, match="no image to learn from of b"):
        matched(images(("a", "b"), [0, 0], 0), images(("a",), [0], 10))
    other = replace(images(("a",), [0], 10), fingerprint="0" * 64, model_name="other")
    with pytest.raises(DataError, match="vectors of one model"):
        matched(images(("a",), [0], 0), other)
