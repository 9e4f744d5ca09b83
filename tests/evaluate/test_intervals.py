"""Intervals cover what they say, and resample what they should; tests of pairs against their definitions."""

from math import comb

import numpy as np
import pytest

from tandem.errors import DataError
from tandem.evaluate import intervals
from tandem.evaluate.figures import Figure
from tandem.evaluate.metrics import mean_per_class
from tandem.evaluate.report.formats import chance_text


def test_a_resample_draws_as_many_images_as_there_are() -> None:
    blocks = list(intervals.resamples_of(50, 30, seed=1))
    weights = np.concatenate(blocks)
    assert weights.shape == (30, 50)
    assert (weights.sum(1) == 50).all()
    assert abs(weights.mean(0) - 1).max() < 1
    assert (weights == np.concatenate(list(intervals.resamples_of(50, 30, seed=1)))).all()
    assert (weights != np.concatenate(list(intervals.resamples_of(50, 30, seed=2)))).any()


def test_values_are_those_of_all_images_once() -> None:
    rng = np.random.default_rng(0)
    outcomes, labels = (rng.random((40, 2)) < 0.5).astype(float), rng.choice([0, 2, 3], 40)
    plain = intervals.bootstrap(intervals.means(outcomes), 40, resamples=10)
    assert [each.value for each in plain] == pytest.approx(outcomes.mean(0))
    by_class = intervals.bootstrap(intervals.class_means(outcomes, labels), 40, resamples=10)
    assert [each.value for each in by_class] == pytest.approx([mean_per_class(o, labels, 5) for o in outcomes.T])
    sizes = np.array([1.0, 3])  # four captions of two images
    (grouped,) = intervals.bootstrap(intervals.means(np.array([[1.0], [1.0]]), sizes), 2, resamples=10)
    assert grouped.value == 0.5


def test_a_class_that_a_resample_lacks_is_left_out_of_its_mean() -> None:
    outcomes, labels = np.array([[1.0], [0.0], [1.0], [0.5]]), np.array([0, 0, 2, 3])
    statistic = intervals.class_means(outcomes, labels)
    weights = np.array([[1, 1, 1, 1], [4, 0, 0, 0], [1, 1, 2, 0], [0, 0, 1, 3]], dtype=np.float32)
    assert statistic(weights)[:, 0] == pytest.approx([2 / 3, 1.0, 0.75, 0.75])


@pytest.mark.parametrize("groups", [None, np.repeat(np.arange(3), 2)])
def test_medians_of_resamples_are_those_of_repeated_values(groups: np.ndarray | None) -> None:
    values = np.array([5, 1, 9, 3, 7, 3])
    statistic = intervals.medians(values, groups)
    for weights in np.concatenate(list(intervals.resamples_of(6 if groups is None else 3, 20))):
        each = weights if groups is None else weights[groups]
        repeated = np.repeat(values, each.astype(int))
        expected = np.sort(repeated)[(len(repeated) - 1) // 2]
        assert statistic(weights[None])[0, 0] == expected


def test_intervals_cover_the_truth_as_often_as_they_say() -> None:
    rng = np.random.default_rng(0)
    drawn = rng.random((200, 80)) < 0.7
    found = [intervals.mean_interval(each, resamples=200, seed=i) for i, each in enumerate(drawn)]
    assert 0.90 <= np.mean([each.low <= 0.7 <= each.high for each in found]) <= 0.99
    both = rng.random((200, 80)) < 0.6
    found = [intervals.paired_bootstrap(drawn[i], both[i], resamples=200, seed=i) for i in range(200)]
    assert 0.90 <= np.mean([each.low <= 0.1 <= each.high for each in found]) <= 0.99


def test_pairs_are_surer_than_each_alone() -> None:
    rng = np.random.default_rng(0)
    a = (rng.random(400) < 0.5).astype(float)
    b = np.where(rng.random(400) < 0.05, 0, a)  # never better, sometimes worse
    gain = intervals.paired_bootstrap(a, b)
    assert gain.high < 0 or gain.low > 0
    assert gain.high - gain.low < 0.3 * (intervals.mean_interval(a).high - intervals.mean_interval(a).low)
    mixed = intervals.paired_bootstrap(a, rng.permutation(a))
    assert mixed.low <= 0 <= mixed.high


def test_equal_outcomes_prove_little() -> None:
    """No resample of three right answers differs, but the next one may be wrong."""
    three = intervals.mean_interval(np.ones(3))
    assert (three.value, three.high) == (1.0, 1.0)
    assert 0.4 < three.low < 0.5
    one = intervals.mean_interval(np.zeros(1))
    assert (one.value, one.low) == (0.0, 0.0)
    assert one.high > 0.7
    same = intervals.paired_bootstrap(np.ones(5), np.ones(5))
    assert same.low < -0.3
    assert same.high > 0.3
    with pytest.raises(DataError, match="at least one image"):
        intervals.mean_interval(np.zeros(0))


def test_wilson_is_that_of_the_textbook() -> None:
    assert intervals.wilson(8, 10) == pytest.approx((0.4901625, 0.9433178), abs=1e-6)  # R: prop.test, no correction
    assert intervals.wilson(0, 10) == pytest.approx((0, 0.2775328), abs=1e-6)
    for n in range(1, 200):  # exactly: a bound a little off would exclude the value itself
        assert (intervals.wilson(0, n)[0], intervals.wilson(n, n)[1]) == (0.0, 1.0)


def test_mcnemar_is_the_binomial_of_the_pairs_that_differ() -> None:
    a, b = np.array([1] * 10 + [0] * 3 + [1, 0]), np.array([0] * 10 + [1] * 3 + [1, 0])
    test = intervals.mcnemar(a, b)
    assert (test.only_a, test.only_b) == (10, 3)
    tail = sum(comb(13, i) for i in range(4)) / 2**13
    assert test.p_exact == pytest.approx(2 * tail)
    assert intervals.mcnemar(b, a).p_exact == pytest.approx(2 * tail)
    assert intervals.mcnemar(a, a) == intervals.McNemar(0, 0, 1.0)
    assert intervals.mcnemar(np.array([1, 0]), np.array([0, 1])).p_exact == 1.0
    assert intervals.mcnemar(np.ones(5000), np.zeros(5000)).p_exact < 1e-300
    with pytest.raises(DataError, match="0 or 1"):
        intervals.mcnemar(np.array([0.5]), np.array([1.0]))


def test_the_chance_of_a_difference_is_zero() -> None:
    found = intervals.Interval(0.02, -0.01, 1.2)
    gain = Figure.of(found, 40, unit="difference")
    assert (gain.value, gain.n, gain.low, gain.high, gain.chance) == (0.02, 40, -0.01, 1.2, 0.0)
    assert chance_text(gain) == "0"
    assert Figure.of(found.within(0, 1), 40, unit="score") == Figure(0.02, 40, 0, 1, None, "score")
    assert Figure.of(found, 40, chance=0.5).chance == 0.5
