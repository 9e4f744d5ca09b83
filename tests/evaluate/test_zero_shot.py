"""Zero-shot classification on vectors that are given: every figure can be counted by hand, or by scikit-learn."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from support.task_toys import GivenModel, features, unit

from tandem.errors import DataError, TextError
from tandem.evaluate import confidence, intervals
from tandem.evaluate.features import Features
from tandem.evaluate.result import TaskResult
from tandem.evaluate.zero_shot import zero_shot
from tandem.prompts import ENSEMBLE

WORDS = ("cat", "dog", "fish", "bird", "horse", "snail", "worm")
EYE = np.eye(7)


def model(**changes: Any) -> GivenModel:
    return GivenModel({word: EYE[i] for i, word in enumerate(WORDS)}, **changes)


@pytest.fixture(scope="module")
def noisy() -> tuple[Features, TaskResult]:
    """Images near their words, 60 of the first five and none of the others."""
    rng = np.random.default_rng(0)
    labels = rng.choice(5, 60, p=[0.4, 0.2, 0.2, 0.1, 0.1])
    data = features(EYE[labels] + 0.4 * rng.standard_normal((60, 7)), WORDS, labels[:, None])
    return data, zero_shot(model(), data)


def test_figures_are_those_of_scikit_learn(noisy: tuple[Features, TaskResult]) -> None:
    from sklearn.metrics import recall_score, top_k_accuracy_score

    data, result = noisy
    scores, labels = data.vectors, data.dataset.labels
    for k in (1, 5):
        assert result.figures[f"top{k}"].value == top_k_accuracy_score(labels, scores, k=k, labels=np.arange(7))
    recalls = recall_score(labels, scores.argmax(1), labels=np.arange(5), average=None)
    assert result.figures["mean_per_class"].value == pytest.approx(recalls.mean())
    assert 0.3 < result.figures["top1"].value < 1


def test_every_figure_has_its_interval_and_chance(noisy: tuple[Features, TaskResult]) -> None:
    for key, figure in noisy[1].figures.items():
        assert figure.n == 60, key
        assert figure.low <= figure.value <= figure.high, key
        assert figure.low < figure.high, key
    figures = noisy[1].figures
    assert [figures[key].chance for key in ("top1", "top5", "mean_per_class")] == [1 / 7, 5 / 7, 1 / 7]


def test_outcomes_average_to_their_figures(noisy: tuple[Features, TaskResult]) -> None:
    data, result = noisy
    for key in result.outcomes.keys() - {"answer", "probability"}:
        assert result.outcomes[key].mean() == pytest.approx(result.figures[key].value, abs=1e-5), key
    assert result.keys == data.dataset.keys
    right = result.outcomes["answer"] == data.dataset.labels
    assert (right == result.outcomes["top1"]).all()
    weights = np.exp(10 * data.vectors)  # the scale of the model
    chances = (weights / weights.sum(1, keepdims=True)).max(1)
    assert result.outcomes["probability"] == pytest.approx(chances, abs=1e-5)


def test_tables_say_which_classes_go_wrong(noisy: tuple[Features, TaskResult]) -> None:
    data, result = noisy
    labels, answered = data.dataset.labels, result.outcomes["answer"].astype(int)
    whole = np.zeros((7, 7), dtype=int)
    np.add.at(whole, (labels, answered), 1)
    assert sum(count for *_, count in result.tables["confusion"]) == 60
    assert all(whole[true, given] == count for true, given, count in result.tables["confusion"])
    first = result.tables["per_class"][0]
    assert (first["class"], first["n"]) == ("cat", whole[0].sum())
    assert first["accuracy"] == pytest.approx(whole[0, 0] / whole[0].sum())
    assert first["low"] < first["accuracy"] < first["high"]
    np.fill_diagonal(whole, 0)
    assert first["confused_with"] == WORDS[whole[0].argmax()]
    assert [row["class"] for row in result.tables["per_class"]] == list(WORDS[:5])  # no None for what has no images
    assert any("2 of 7 classes have no images: snail, worm" in note for note in result.notes)


def test_the_most_frequent_mistake_and_the_interval_of_each_class() -> None:
    given = [2, 1, 1, 1, 0, 2, 2, 1, 0, 1]  # of cats, dogs and a bird
    labels = [0, 0, 0, 0, 0, 1, 1, 1, 3, 3]
    result = zero_shot(model(), features(EYE[given], WORDS, [[label] for label in labels]))
    mistakes = [(row["class"], row["confused_with"]) for row in result.tables["per_class"]]
    assert mistakes[:2] == [("cat", "dog"), ("dog", "fish")]
    assert mistakes[2] in [("bird", "cat"), ("bird", "dog")]  # once each
    for row, right in zip(result.tables["per_class"], (1, 1, 0), strict=True):
        assert (row["low"], row["high"]) == pytest.approx(intervals.wilson(right, row["n"]))


def test_the_fifth_place_is_among_the_first_five() -> None:
    order = np.arange(7, 0, -1)
    result = zero_shot(model(), features([order, order], WORDS, [[4], [5]]))
    assert result.outcomes["top5"].tolist() == [1, 0]


def test_one_prompt_and_the_ensemble_are_always_both_shown() -> None:
    data = features(EYE[:4], WORDS, [[0], [1], [2], [3]])
    both = zero_shot(model(), data, templates=["not a {}.", "not the {}."])
    shown = {key: both.figures[key].value for key in ("top1", "top1_one_prompt", "top1_ensemble", "ensemble_gain")}
    assert shown == {"top1": 0.0, "top1_one_prompt": 1.0, "top1_ensemble": 0.0, "ensemble_gain": -1.0}
    assert both.figures["ensemble_gain"].unit == "difference"
    one = zero_shot(model(), data, templates="not a {}.")
    shown = {key: one.figures[key].value for key in shown}
    assert shown == {"top1": 0.0, "top1_one_prompt": 0.0, "top1_ensemble": 1.0, "ensemble_gain": 1.0}
    assert one.settings["one_prompt"] == "not a {}."
    assert one.settings["ensemble"] == list(ENSEMBLE)


def test_templates_of_the_data_set_come_before_the_built_in_ones() -> None:
    own = features(EYE[:4], WORDS, [[0], [1], [2], [3]], templates=("not a {}.", "not the {}."))
    result = zero_shot(model(), own)
    assert result.settings["templates"] == ["not a {}.", "not the {}."]
    assert result.figures["top1"].value == 0.0
    assert zero_shot(model(), own, templates=ENSEMBLE).figures["top1"].value == 1.0
    plain = features(EYE[:4], WORDS, [[0], [1], [2], [3]])
    default = zero_shot(model(), plain)
    assert default.settings["templates"] == ["a photo of a {}."]  # what classifying uses
    assert default.figures["top1"] == default.figures["top1_one_prompt"]
    assert zero_shot(model(), plain, templates=ENSEMBLE).settings["templates"] == list(ENSEMBLE)
    german = zero_shot(model(), plain, language="de").settings
    assert german["one_prompt"] == german["templates"][0] != "a photo of a {}."


def test_a_fair_model_has_no_favourite() -> None:
    """Each class is answered once: whichever is chosen on one half is not answered on the other."""
    result = zero_shot(model(), features(EYE, WORDS, [[label] for label in range(7)]))
    favourite = result.figures["most_answered_share"]
    assert (favourite.value, favourite.chance) == (0.0, 0.0)
    two_thirds = np.repeat([2, 0], [60, 30])
    result = zero_shot(model(), features(EYE[two_thirds], WORDS, [[label % 3] for label in range(90)]))
    favourite = result.figures["most_answered_share"]
    assert (favourite.value, favourite.chance) == pytest.approx((2 / 3, 1 / 3))


def test_a_favoured_word_is_shown_and_corrected_for() -> None:
    """All images lie near `cat`, each a little nearer to its own word than others are."""
    labels = np.repeat(np.arange(7), 10)
    vectors = 0.6 * EYE[labels] + EYE[0]
    vectors[:, 0] += np.linspace(-0.2, 0.2, 70)
    result = zero_shot(model(), features(vectors, WORDS, labels[:, None]))
    favourite = result.figures["most_answered_share"]
    assert favourite.value == 1.0
    assert favourite.chance == pytest.approx(1 / 7)
    assert result.tables["class_prior"][0] == {
        "class": "cat",
        "share": 1.0,
        "true_share": pytest.approx(1 / 7),
        "share_after_correction": pytest.approx(1 / 7, abs=0.02),
    }
    moved = result.tables["class_prior_distance"]
    assert moved["plain"] == pytest.approx(6 / 7)
    assert moved["after_correction"] < 0.05
    assert result.figures["top1"].value == pytest.approx(1 / 7)
    assert result.figures["top1_prior_corrected"].value > 0.9
    assert result.figures["prior_correction_gain"].low > 0.5
    assert any("uses the test images, without their labels" in note for note in result.notes)


def test_overconfidence_is_shown_and_mended() -> None:
    rng = np.random.default_rng(1)
    labels = rng.integers(0, 7, 300)
    sure = model()
    sure.logit_scale = 60.0
    data = features(EYE[labels] + 0.6 * rng.standard_normal((300, 7)), WORDS, labels[:, None])
    result = zero_shot(sure, data)
    before, after = (result.figures[f"calibration_error{which}"] for which in ("", "_after_temperature"))
    assert before.low > after.high
    fitted = result.tables["temperature"]
    assert fitted["log_loss_after"] < fitted["log_loss_before"]
    assert len(fitted["of_halves"]) == 2
    assert sum(row["n"] for row in result.tables["calibration"]) == 300
    gap = sum(row["n"] * abs(row["confidence"] - row["accuracy"]) for row in result.tables["calibration"]) / 300
    assert before.value == pytest.approx(gap, abs=1e-5)
    statistic = confidence.calibration_errors(result.outcomes["probability"], result.outcomes["top1"])
    (expected,) = intervals.bootstrap(statistic, 300, centred=True)  # resampling alone makes it larger
    assert (before.low, before.high) == pytest.approx((expected.low, expected.high), abs=1e-5)


# --- cases at the edge -----------------------------------------------------------------------------------------------


def test_equal_scores_are_not_right() -> None:
    same = GivenModel(dict.fromkeys(WORDS, EYE[0]))
    result = zero_shot(same, features(EYE[:4] + 1, WORDS, [[0], [1], [2], [3]]))
    assert result.figures["top1"].value == result.figures["top5"].value == 0.0
    assert result.figures["top1"].high > 0.2  # of four images
    assert all(true != given for true, given, _ in result.tables["confusion"])


def test_one_image() -> None:
    result = zero_shot(model(), features(EYE[:1], WORDS, [[0]]))
    assert result.figures["top1"].value == 1.0
    assert result.figures["top1"].low < 0.3
    assert "calibration_error_after_temperature" not in result.figures  # nothing to fit on
    assert "temperature" not in result.tables
    assert result.figures["top1_prior_corrected"].value == 1.0


def test_top_5_needs_more_than_five_classes() -> None:
    assert "top5" not in zero_shot(model(), features(EYE[:2], WORDS[:5], [[0], [1]])).figures
    assert "top5" in zero_shot(model(), features(EYE[:2], WORDS[:6], [[0], [1]])).figures


def test_what_cannot_be_measured_is_refused() -> None:
    with pytest.raises(DataError, match="at least two classes, got cat"):
        zero_shot(model(), features(EYE[:2], ["cat"], [[0], [0]]))
    with pytest.raises(DataError, match="at least one image"):
        zero_shot(model(), features(np.zeros((0, 7)), WORDS, []))
    with pytest.raises(DataError, match="no labels"):
        zero_shot(model(), features(EYE[:2]))
    with pytest.raises(TextError, match="given twice"):
        zero_shot(model(), features(EYE[:2], ["cat", "Cat"], [[0], [1]]))
    other = replace(features(EYE[:2], WORDS, [[0], [1]]), fingerprint="0" * 64)
    with pytest.raises(DataError, match="those of another model"):
        zero_shot(model(), other)


def test_what_was_seen_in_training_is_said() -> None:
    data = features(EYE[:2], WORDS, [[0], [1]])
    assert any("trained on: toys. What was seen" in note for note in zero_shot(model(data="toys"), data).notes)
    assert any("does not say what it was trained on" in note for note in zero_shot(model(), data).notes)


def test_the_same_seed_gives_the_same_figures(noisy: tuple[Features, TaskResult]) -> None:
    data, result = noisy
    assert zero_shot(model(), data).figures == result.figures
    other = zero_shot(model(), data, seed=1).figures
    assert {key: figure.low for key, figure in other.items()} != {k: f.low for k, f in result.figures.items()}
    assert other["top1"].value == result.figures["top1"].value


# --- several labels --------------------------------------------------------------------------------------------------


def test_several_labels_are_ranked_class_by_class() -> None:
    from sklearn.metrics import average_precision_score

    rng = np.random.default_rng(0)
    truth = rng.random((80, 4)) < [0.5, 0.3, 0.1, 0.2]
    vectors = unit(np.pad(truth + 0.6 * rng.standard_normal((80, 4)), ((0, 0), (0, 3))))
    data = features(vectors, WORDS[:5], [np.flatnonzero(row) for row in truth], multi_label=True)
    result = zero_shot(model(), data)
    assert result.task == "multi-label"
    expected = [average_precision_score(truth[:, i], data.vectors[:, i]) for i in range(4)]
    rows = result.tables["average_precision"]
    assert [row["value"] for row in rows] == pytest.approx(expected, abs=1e-6)
    assert [row["chance"] for row in rows] == pytest.approx(truth.mean(0))
    assert all(row["low"] <= row["value"] <= row["high"] for row in rows)
    mean = result.figures["mean_average_precision"]
    assert mean.value == pytest.approx(np.mean(expected), abs=1e-6)
    assert mean.chance == pytest.approx(truth.mean())
    assert mean.low < mean.value < mean.high
    assert "top1" not in result.figures  # labels that do not compete have no accuracy
    assert any("1 of 5 classes have no images, and are left out: horse" in note for note in result.notes)


def test_several_labels_show_one_prompt_and_the_ensemble_too() -> None:
    truth = [[0], [0, 1], [1], []]
    data = features([EYE[0], EYE[0] + EYE[1], EYE[1], EYE[2]], WORDS[:2], truth, multi_label=True)
    result = zero_shot(model(), data, templates=["not a {}.", "not the {}."])
    figures = result.figures
    assert figures["mean_average_precision_one_prompt"].value == 1.0
    assert figures["mean_average_precision"].value == figures["mean_average_precision_ensemble"].value < 0.6
    own = [row["value"] for row in result.tables["average_precision"]]
    assert np.mean(own) == pytest.approx(figures["mean_average_precision"].value)
    gain = figures["ensemble_gain"]
    assert gain.value == pytest.approx(figures["mean_average_precision"].value - 1)
    assert gain.unit == "difference"
    nothing = features(EYE[:2], WORDS[:2], [[], []], multi_label=True)
    with pytest.raises(DataError, match="no image has any label"):
        zero_shot(model(), nothing)


def test_a_class_without_images_moves_no_others_name() -> None:
    data = features([EYE[1], EYE[1] + EYE[3], EYE[0]], WORDS[:4], [[1], [1, 3], [3]], multi_label=True)
    rows = zero_shot(model(), data).tables["average_precision"]
    assert [(row["class"], row["n"]) for row in rows] == [("dog", 2), ("bird", 2)]
    assert [row["value"] for row in rows] == pytest.approx([1.0, 0.5 + 0.5 * 2 / 3], abs=1e-6)


def test_resampled_average_precisions_are_those_of_repeated_images() -> None:
    from tandem.evaluate.metrics import average_precision
    from tandem.evaluate.multi_label import average_precision_statistic

    rng = np.random.default_rng(0)
    scores, truth = rng.integers(0, 5, (20, 2)).astype(float), rng.random((20, 2)) < 0.4  # many ties
    statistic = average_precision_statistic([scores, -scores], truth)
    weights = rng.multinomial(20, np.full(20, 0.05), size=10).astype(np.float32)
    for drawn, found in zip(weights.astype(int), statistic(weights), strict=True):
        expected = [
            average_precision(np.repeat(each[:, i], drawn), np.repeat(truth[:, i], drawn))
            for each in (scores, -scores)
            for i in range(2)
        ]
        means = [np.mean(expected[:2]), np.mean(expected[2:])]
        assert found == pytest.approx([*expected, *means, means[1] - means[0]], abs=1e-6)
