"""Few-shot: the draws, what is chosen where, the intervals over images and draws, and what is refused or noted."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from support.task_toys import GivenModel, draw_shots, features, unit

from tandem.errors import DataError, TandemError
from tandem.evaluate.features import Features
from tandem.evaluate.few_shot import few_shot, interval_over_draws
from tandem.evaluate.result import TaskResult
from tandem.heads.fitting import fit_head

D = 10
CLASSES = ("ant", "bee", "cow", "dog")
CENTRES = np.random.default_rng(0).standard_normal((4, D))
TEXTS = unit(CENTRES + 2.5 * np.random.default_rng(1).standard_normal(CENTRES.shape))  # words that know a little
MODEL: Any = GivenModel(dict(zip(CLASSES, TEXTS.tolist(), strict=True)))


def images(counts: tuple[int, ...], seed: int) -> Features:
    labels = np.repeat(np.arange(4), counts)
    vectors = CENTRES[labels] + np.random.default_rng(seed).standard_normal((len(labels), D))
    given = features(vectors, CLASSES, [[int(label)] for label in labels], templates=("{}",))
    digests = tuple(seed.to_bytes(16, "big") + place.to_bytes(16, "big") for place in range(len(labels)))
    return replace(given, dataset=replace(given.dataset, digests=digests))


TRAIN, TEST = images((8, 8, 8, 8), 1), images((40, 40, 40, 40), 2)


@pytest.fixture(scope="module")
def result() -> TaskResult:
    return few_shot(MODEL, TRAIN, TEST, shots=(1, 2, 4, 8), seeds=(0, 1, 2))


def test_the_curve_is_that_of_heads_fitted_on_the_draws(result: TaskResult) -> None:
    labels = TEST.dataset.labels
    rows = {(row["method"], row["shots"]): row for row in result.tables["few_shot"]}
    zero = (TEST.vectors @ TEXTS.T).argmax(axis=1) == labels
    assert rows["zero_shot", 0]["value"] == pytest.approx(zero.mean())
    assert result.figures["zero_shot_top1"].value == pytest.approx(result.outcomes["zero_shot_top1"].mean())
    expected = []
    for seed in (0, 1, 2):
        places = draw_shots(TRAIN.dataset.labels, 4, seed)
        head = fit_head(
            "clap",
            TRAIN.vectors[places],
            TRAIN.dataset.labels[places],
            CLASSES,
            TEXTS,
            logit_scale=10.0,
            fingerprint="",
        )
        expected.append((head.logits(TEST.vectors).argmax(axis=1) == labels).mean())
    assert rows["clap", 4]["of_draws"] == pytest.approx(expected)
    assert rows["clap", 4]["value"] == pytest.approx(np.mean(expected))
    assert rows["clap", 4]["gain"] == pytest.approx(np.mean(expected) - zero.mean())
    figure, gain = result.figures["clap_4_shots"], result.figures["clap_4_shots_gain"]
    assert (figure.value, figure.n, figure.chance) == (rows["clap", 4]["value"], 160, 0.25)
    assert (gain.value, gain.unit) == (rows["clap", 4]["gain"], "difference")
    assert gain.low <= gain.value <= gain.high
    assert result.outcomes["clap_4_shots"].mean() == pytest.approx(figure.value)


def test_it_is_compared_with_the_prompts_that_were_asked_for() -> None:
    """Prompts that say the opposite: the zero-shot row is theirs, as is what heads begin at."""
    found = few_shot(
        MODEL, TRAIN, TEST, shots=(1,), seeds=(0,), methods=("clap",), templates=["not a {}.", "not the {}."]
    )
    opposite = (TEST.vectors @ -TEXTS.T).argmax(axis=1) == TEST.dataset.labels
    assert opposite.mean() < 0.25
    assert found.figures["zero_shot_top1"].value == pytest.approx(opposite.mean())
    assert found.outcomes["zero_shot_top1"].tolist() == opposite.tolist()


def test_more_shots_help_and_a_gain_is_shown_where_there_is_one(result: TaskResult) -> None:
    assert result.figures["clap_8_shots"].value > result.figures["clap_1_shot"].value
    assert result.figures["clap_8_shots_gain"].low > 0
    assert {row["method"] for row in result.tables["few_shot"]} == {
        "zero_shot",
        "clap",
        "gda",
        "tip_adapter",
        "nearest_mean",
    }


def test_the_draws_are_recorded_in_their_order(result: TaskResult) -> None:
    for drawn in result.tables["draws"]:
        for shots in (1, 2, 8):
            keys = {TRAIN.dataset.keys[place] for place in draw_shots(TRAIN.dataset.labels, shots, drawn["seed"])}
            assert set(drawn["keys"][: 4 * shots]) == keys
    assert result.settings["seeds"] == [0, 1, 2]
    assert result.settings["train_hash"] == TRAIN.dataset.hash


def test_what_a_method_cannot_do_has_no_figure_and_a_note(result: TaskResult) -> None:
    assert "gda_1_shot" not in result.figures
    assert "gda_2_shots" in result.figures
    assert any("gda needs two images of every class" in note and "for 1 shot." in note for note in result.notes)


def test_the_test_set_has_no_say_in_what_is_chosen() -> None:
    """GDA's alpha and Tip-Adapter's numbers are those of the shots: other test labels change the value alone."""
    other = replace(TEST, dataset=replace(TEST.dataset, label_sets=tuple(reversed(TEST.dataset.label_sets))))
    methods = ("gda", "tip_adapter", "linear_probe")
    first, second = (few_shot(MODEL, TRAIN, data, shots=(4,), seeds=(0,), methods=methods) for data in (TEST, other))
    labels = TEST.dataset.labels
    for method in methods:
        ours, theirs = (each.outcomes[f"{method}_4_shots"] for each in (first, second))
        # where an image was right under one labelling, it cannot be right under one that differs there
        differs = labels != other.dataset.labels
        assert not ((ours == 1) & (theirs == 1) & differs).any()
        assert ours.mean() > theirs.mean()


def test_classes_with_few_images_are_named_and_shots_that_none_has_left_out() -> None:
    found = few_shot(
        MODEL, images((1, 2, 2, 2), 3), TEST, shots=(1, 2, 16), seeds=(4,), methods=("clap", "linear_probe")
    )
    assert found.settings["shots"] == [1, 2]
    assert "linear_probe_2_shots" not in found.figures  # one class has one
    notes = " ".join(found.notes)
    assert "Fewer than 2 images to learn from, of which all are used: ant (1)." in notes
    assert "16 shots were left out" in notes
    assert "One draw of shots" in notes


def test_an_interval_is_over_images_and_over_draws() -> None:
    draw = np.random.default_rng(0)
    same = np.repeat((draw.random(400) < 0.5)[None].astype(float), 3, axis=0)
    alone = interval_over_draws(same[:1])
    of_same = interval_over_draws(same)
    assert (of_same.low, of_same.high) == (alone.low, alone.high)  # draws that do not differ add nothing
    apart = np.stack([(draw.random(400) < share).astype(float) for share in (0.3, 0.5, 0.7)])
    wide = interval_over_draws(apart)
    assert wide.high - wide.low > 3 * (alone.high - alone.low)


def test_its_intervals_hold_the_truth_as_often_as_they_say() -> None:
    """Images of different difficulty, draws of different worth: the mean of all is 0.5."""
    draw = np.random.default_rng(1)
    held = 0
    for trial in range(200):
        logits = draw.standard_normal((1, 100)) + 0.5 * draw.standard_normal((3, 1))
        outcomes = (draw.random((3, 100)) < 1 / (1 + np.exp(-logits))).astype(float)
        found = interval_over_draws(outcomes, seed=trial)
        held += found.low <= 0.5 <= found.high
    assert held / 200 > 0.92


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"methods": ("clip",)}, "did you mean 'clap'"),
        ({"methods": ()}, "at least one"),
        ({"shots": (0, 1)}, "at least 1"),
        ({"seeds": (1, 1)}, "each once"),
    ],
)
def test_settings_that_make_no_sense_are_refused(settings: dict[str, Any], says: str) -> None:
    with pytest.raises(TandemError, match=says):
        few_shot(MODEL, TRAIN, TEST, **settings)


def test_a_class_without_images_and_another_model_are_refused() -> None:
    with pytest.raises(DataError, match="no image to learn from of dog"):
        few_shot(MODEL, images((2, 2, 2, 0), 5), TEST)
    with pytest.raises(DataError, match="another model"):
        few_shot(MODEL, TRAIN, replace(TEST, fingerprint="0" * 64))
