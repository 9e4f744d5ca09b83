"""Outcomes by hand, and what a figure may be called."""

import numpy as np
import pytest

from tandem.audit.estimates import PairOutcomes, chance_agreement, difference, pair_outcomes, right_answers, share
from tandem.audit.protocol import Finding
from tandem.evaluate.figures import Figure
from tandem.evaluate.intervals import wilson


def test_outcomes_of_pairs_by_hand() -> None:
    cosines = np.array(
        [
            [[0.9, 0.1], [0.2, 0.8]],  # all right
            [[0.9, 0.8], [0.95, 0.85]],  # always the first caption, and the second image
            [[0.5, 0.5], [0.5, 0.5]],  # ties
            [[0.1, 0.9], [0.8, 0.2]],  # all wrong
            [[0.7, 0.1], [0.8, 0.9]],  # each image has its own caption, both captions have the second image
            [[0.7, 0.8], [0.1, 0.9]],  # the other way round
        ]
    )
    outcomes = PairOutcomes(cosines.astype(np.float32))
    assert outcomes.caption.tolist() == [1, 0.5, 0.5, 0, 1, 0.5]
    assert outcomes.image.tolist() == [1, 0.5, 0.5, 0, 0.5, 1]
    assert outcomes.both.tolist() == [True, False, False, False, False, False]


def test_vectors_of_pairs_stand_beside_one_another() -> None:
    images = np.eye(4, dtype=np.float32)
    texts = np.eye(4, dtype=np.float32)[[0, 1, 3, 2]]
    assert pair_outcomes(images, texts).caption.tolist() == [1, 0]


def test_four_unrelated_numbers_are_all_right_once_in_six() -> None:
    cosines = np.random.default_rng(0).normal(size=(60_000, 2, 2)).astype(np.float32)
    assert PairOutcomes(cosines).both.mean() == pytest.approx(1 / 6, abs=0.005)


def test_a_tie_is_a_guess_among_equals() -> None:
    scores = np.array([[1, 1, 0, 0], [1, 0, 0, 0], [0, 0, 0, 0]], dtype=np.float32)
    assert right_answers(scores, np.array([1, 1, 2])).tolist() == [0.5, 0, 0.25]


def test_agreement_by_chance_follows_how_often_answers_are_given() -> None:
    always = np.zeros(10, dtype=np.int64)
    assert chance_agreement(always, always, 4) == 1
    assert chance_agreement(np.arange(8) % 4, np.arange(8) % 2, 4) == 0.25


@pytest.mark.parametrize(
    ("figure", "verdict", "at_chance"),
    [
        (Figure(0.6, 10, 0.51, 0.7, 0.5), "above chance", False),
        (Figure(0.6, 10, 0.5, 0.7, 0.5), "not shown to be above chance", True),
        (Figure(0.3, 10, 0.2, 0.49, 0.5), "below chance", False),
        (Figure(0.3, 10, 0.2, 0.49, None), "", False),
        (Figure(0.1, 10, 0.01, 0.2, 0.0, "difference"), "higher", False),
        (Figure(0.1, 10, -0.01, 0.2, 0.0, "difference"), "no difference shown", False),
    ],
)
def test_what_an_interval_shows(figure: Figure, verdict: str, at_chance: bool) -> None:
    finding = Finding("x", figure)
    assert (finding.verdict, finding.at_chance) == (verdict, at_chance)


def test_the_wrong_side_depends_on_what_is_wanted() -> None:
    above, below = Figure(0.6, 10, 0.51, 0.7, 0.5), Figure(0.3, 10, 0.2, 0.49, 0.5)
    assert not Finding("x", above).is_weakness
    assert Finding("x", above, better="lower").is_weakness
    assert Finding("x", below).is_weakness
    assert not Finding("x", below, better=None).is_weakness
    one_sided = Finding("x", below, one_sided=True)
    assert (one_sided.verdict, one_sided.at_chance, one_sided.is_weakness) == ("not above chance", False, False)


def test_whoever_always_prefers_a_caption_has_exactly_half_and_nothing_shown() -> None:
    figure = share(np.full(40, 0.5), 0.5)
    assert (figure.value, figure.low, figure.high) == (0.5, *wilson(20, 40))  # no draw differs, yet 40 prove no more
    assert Finding("x", figure).at_chance


def test_all_right_of_few_has_an_interval() -> None:
    assert share(np.ones(5), 0.2).low < 0.7
    same = difference(np.ones(5), np.ones(5))
    assert same.low < 0 < same.high
