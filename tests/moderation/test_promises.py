"""Thresholds keep their promises on images that they were not set on, and figures have honest intervals."""

import math

import numpy as np
import pytest

from tandem.moderation import promises
from tandem.moderation.category_fitting import Score, areas, calibration_figure, choose, fit_category
from tandem.moderation.fit_file import CategoryFit
from tandem.moderation.policy import Bands, Category


def normal_above(threshold: float, mean: float) -> float:
    """The share of a normal distribution of this mean above a threshold."""
    return 0.5 * math.erfc((threshold - mean) / math.sqrt(2))


def category(base_rate: float = 0.5, **changes: Bands) -> Category:
    return Category(("a cat",), ("a dog",), base_rate, **changes)


@pytest.mark.parametrize("n", [59, 60, 92, 93, 124, 500, 30_000])
def test_allowed_misses_are_the_largest_of_the_binomial_tail(n: int) -> None:
    found = promises.allowed_misses(n, 0.95)
    assert found is not None
    logs = [
        math.lgamma(n + 1) - math.lgamma(r + 1) - math.lgamma(n - r + 1) + r * math.log(0.05) + (n - r) * math.log(0.95)
        for r in range(found + 2)
    ]
    tails = np.cumsum(np.exp(logs))
    assert tails[found] <= 0.05 + 1e-9 < tails[found + 1]


def test_too_few_images_promise_no_recall() -> None:
    assert promises.needed_for_recall(0.95) == 59
    assert promises.allowed_misses(58, 0.95) is None
    assert promises.recall_threshold(np.arange(58.0), 0.95) is None
    assert promises.recall_threshold(np.arange(59.0), 0.95) == 0.0


def test_the_recall_holds_in_95_percent_of_draws() -> None:
    draw = np.random.default_rng(0)
    kept = []
    for _ in range(2000):
        threshold = promises.recall_threshold(draw.normal(1, 1, 130), 0.9)
        assert threshold is not None
        kept.append(normal_above(threshold, 1) >= 0.9)
    assert 0.94 <= np.mean(kept) <= 0.99  # sure enough, and no more careful than whole images make it


def test_the_precision_holds_in_95_percent_of_draws() -> None:
    """At another base rate than that of the labelled images."""
    draw = np.random.default_rng(1)
    kept, found = [], 0
    for _ in range(40):
        positives, negatives = draw.normal(2.5, 1, 150), draw.normal(0, 1, 300)
        threshold, best = promises.precision_threshold(positives, negatives, 0.8, 0.2)
        if threshold is None:
            assert best < 0.8
            continue
        found += 1
        true, false = normal_above(threshold, 2.5), normal_above(threshold, 0)
        kept.append(promises.precision_of(true, false, 0.2) >= 0.8)
    assert found >= 30
    assert np.mean(kept) >= 0.95


def test_ties_never_flatter() -> None:
    """Scores of a few values: what equals a threshold's neighbour lies below."""
    threshold, _ = promises.precision_threshold(np.repeat([0.0, 1.0], 200), np.repeat([0.0, 1.0], [400, 1]), 0.5, 0.5)
    assert threshold is not None
    assert 0 < threshold <= 1
    assert promises.precision_threshold(np.ones(200), np.ones(200), 0.5, 0.1) == (None, 0.0)


@pytest.mark.parametrize(("precision", "base_rate"), [(0.9, 0.5), (0.95, 0.1)])
def test_so_many_are_needed_and_one_fewer_do_not_do(precision: float, base_rate: float) -> None:
    needed = promises.needed_for_precision(precision, base_rate, 300)
    assert needed is not None
    positives = np.linspace(5, 6, 300)
    assert promises.precision_threshold(positives, np.linspace(0, 1, needed), precision, base_rate)[0] is not None
    assert promises.precision_threshold(positives, np.linspace(0, 1, needed // 2), precision, base_rate)[0] is None


def test_intervals_have_a_width_where_all_are_right() -> None:
    figure = promises.precision_figure(20, 20, 0, 50, 0.1)
    assert figure is not None
    assert figure.value == 1 == figure.high
    assert 0.3 < figure.low < 0.95
    assert figure.chance == 0.1
    assert promises.precision_figure(0, 20, 0, 50, 0.1) is None  # nothing was blocked: nothing is said
    recall = promises.recall_figure(20, 20, 5, 50, 0.1)
    assert recall is not None
    assert recall.chance == pytest.approx(0.1 + 0.9 * 0.1)


def test_areas_count_the_pairs_in_the_right_order_and_half_of_the_ties() -> None:
    draw = np.random.default_rng(0)
    scores, shown = draw.integers(0, 6, 60).astype(float), draw.random(60) < 0.4
    weights = draw.integers(0, 3, (2, 60)).astype(np.float32)
    found = areas([scores, -scores], shown)(weights)
    for row, counts in zip(found, weights, strict=True):
        pairs = np.outer(counts[shown], counts[~shown])
        higher = scores[shown][:, None] > scores[~shown]
        equal = scores[shown][:, None] == scores[~shown]
        assert row[0] == pytest.approx((pairs * (higher + equal / 2)).sum() / pairs.sum())
        assert row.sum() == pytest.approx(1)


# --- a category ------------------------------------------------------------------------------------------------------


def labelled(n: int, m: int, seed: int = 0, apart: float = 2.0) -> tuple[np.ndarray, np.ndarray]:
    draw = np.random.default_rng(seed)
    return np.concatenate([draw.normal(apart, 1, n), draw.normal(0, 1, m)]), np.repeat([True, False], [n, m])


@pytest.fixture(scope="module")
def fit() -> CategoryFit:
    values, shown = labelled(300, 300)
    return fit_category([Score("texts", values)], shown, category(0.1), block_precision=0.6, review_recall=0.9)


@pytest.mark.slow
def test_probabilities_are_true_at_the_stated_base_rate(fit: CategoryFit) -> None:
    """Fitted where half of the images show it, used where a tenth does."""
    values, shown = labelled(800, 7_200, seed=3)
    probability = fit.probabilities(values)[0]
    assert probability.mean() == pytest.approx(0.1, abs=0.02)
    assert calibration_figure(probability, shown, 0.1).value < 0.03
    for low, high in ((0.02, 0.1), (0.1, 0.4), (0.4, 0.8)):
        inside = (probability >= low) & (probability < high)
        assert shown[inside].mean() == pytest.approx(probability[inside].mean(), abs=0.08)


def test_the_bands_of_a_fit_keep_what_was_promised(fit: CategoryFit) -> None:
    assert fit.block_score is not None
    assert fit.review_score is not None
    true, false = normal_above(fit.block_score, 2), normal_above(fit.block_score, 0)
    assert promises.precision_of(true, false, 0.1) >= 0.6
    assert normal_above(fit.review_score, 2) >= 0.9
    measured = fit.figures["block_precision"]
    assert measured.low <= promises.precision_of(true, false, 0.1) <= measured.high
    assert measured.chance == 0.1
    assert fit.figures["auc"].chance == 0.5


def test_nothing_is_claimed_beyond_the_scores_that_were_seen(fit: CategoryFit) -> None:
    at_end, beyond = fit.probabilities(np.array([fit.high, fit.high + 100]))[0]
    assert at_end == beyond < 1
    value, low, high = (float(each[0]) for each in fit.probabilities(np.array([1.0])))
    assert low < value < high


def test_noise_cannot_tell() -> None:
    values, shown = labelled(60, 60, apart=0.0)
    fit = fit_category([Score("texts", values)], shown, category(), block_precision=0.9)
    assert "does not tell" in fit.cannot_tell
    assert fit.block_score is None
    assert fit.review_score is None
    assert set(fit.figures) == {"auc"}


def test_the_policys_own_bands_are_probabilities() -> None:
    values, shown = labelled(200, 200)
    fit = fit_category([Score("texts", values)], shown, category(0.5, bands=Bands(0.3, 0.8)))
    assert fit.review_probability == pytest.approx(0.3)
    assert fit.block_probability == pytest.approx(0.8)
    never = fit_category([Score("texts", values)], shown, category(0.01, bands=Bands(0.1, 0.999)))
    assert never.block_score is None
    assert any("0.999" in note for note in never.notes)


def test_another_score_is_taken_where_it_is_better_outside_of_the_noise() -> None:
    texts, shown = labelled(150, 150, apart=1.0)
    better, _ = labelled(150, 150, seed=5, apart=3.0)
    alike = texts + np.random.default_rng(2).normal(0, 0.05, 300)
    assert choose([Score("texts", texts), Score("learned", better)], shown)[0].kind == "learned"
    chosen, figure, notes = choose([Score("texts", texts), Score("learned", alike)], shown)
    assert chosen.kind == "texts"
    assert "not taken" in notes[0]
    assert figure.low < figure.value < figure.high


def test_what_only_folds_would_block_is_not_shown() -> None:
    """A fit that blocks nothing has no figures of blocking; one that blocks says where folds could not."""
    values, shown = labelled(60, 200, apart=1.5)
    nothing = fit_category([Score("texts", values)], shown, category(0.2), block_precision=0.95)
    assert nothing.block_score is None
    assert "nothing is blocked" in nothing.notes[-1]
    assert not [name for name in nothing.figures if name.startswith("block_")]


def test_thresholds_that_cannot_keep_the_promise_are_not_tried() -> None:
    """Each costs the others; which ones depends on counts and what is wanted, on no label."""
    assert promises.tried(755, 0.9, 0.2) == [0, 1, 2, 3, 4, 6, 9, 13, 19]
    assert promises.tried(10, 0.99, 0.01) == [0]
    assert max(promises.tried(20, 0.1, 0.9)) < 20
