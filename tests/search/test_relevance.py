"""What a score means: pure arithmetic, and the fit that ships."""

import dataclasses
import json

import numpy as np
import pytest

import tandem
from tandem.cli.commands.search import percent
from tandem.errors import TandemError
from tandem.scores import calibration_files
from tandem.scores.calibration_files import FILE, from_json, load_calibration, to_json
from tandem.scores.query_prior import QueryPrior
from tandem.scores.relevance import (
    Calibration,
    Coefficients,
    QueryFeatures,
    ScoreStats,
    kind_of_text,
    number_of_words,
    score_stats,
)
from tandem.scores.scoring import LabelCoefficients, sigmoid
from tandem.search.calibration.fitting import fit_logistic

BASELINE = {"max_size": 1000, "baseline_mean": 0.1, "baseline_std": 0.2, "threshold": 0.3}
COEFFICIENTS = Coefficients(
    -2.0, 6.0, 1.5, -0.8, -4.0, -3.0, length_coef=-0.5, prior_coef=0.2, prior_size_coef=0.3, **BASELINE
)
KINDS = ("text", "image", "mixed")


def unit(*shape: int, seed: int = 0) -> np.ndarray:
    vectors = np.random.default_rng(seed).normal(size=shape).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)


FIT = Calibration(
    "f" * 64,
    "toy",
    COEFFICIENTS,
    dataclasses.replace(COEFFICIENTS, intercept=-4.0),
    dataclasses.replace(COEFFICIENTS, score_coef=0.0),
    QueryPrior.of(unit(20, 8, seed=7), np.linspace(0, 1, 20)),
)
UNKNOWN = QueryFeatures(np.zeros(1), np.zeros(1))


def test_the_background_is_how_the_sample_scores() -> None:
    queries, sample = unit(3, 8), unit(50, 8, seed=1)
    found = score_stats(queries, sample, 1234)
    scores = queries.astype(float) @ sample.T.astype(float)
    np.testing.assert_allclose(found.mean, scores.mean(1), atol=1e-6)
    np.testing.assert_allclose(found.std, scores.std(1), atol=1e-6)
    assert (found.sampled, found.count) == (50, 1234)


@pytest.mark.parametrize("size", [0, 1, 2, 10, 1000])
@pytest.mark.parametrize("kind", KINDS)
def test_it_is_a_probability_that_rises_with_the_score_however_small_the_collection(kind: str, size: int) -> None:
    queries, sample = unit(4, 8), unit(size, 8, seed=1) if size else np.zeros((0, 8), np.float32)
    scores = np.tile(np.linspace(-1, 1, 41), (4, 1))
    found = FIT.probability(
        kind, scores, score_stats(queries, sample, size), queries, [1, 2, 7, 300] if kind == "text" else ()
    )
    assert np.isfinite(found).all()
    assert (found > 0).all()
    assert (found < 1).all()
    assert (np.diff(found) > 0).all()


def test_a_collection_of_one_image_many_times_has_no_spread_and_still_an_answer() -> None:
    sample = np.tile(unit(1, 8), (500, 1))
    found = FIT.probability(
        "text", sample[:1] @ sample[:10].T, score_stats(unit(1, 8, seed=2), sample, 500), sample[:1], [2]
    )
    assert np.isfinite(found).all()


def test_a_few_images_hardly_move_what_is_usual_and_many_replace_it() -> None:
    """The fit's own background at first, the collection's in the end, and no jump in between."""
    scores = np.array([[0.6]])

    def probability(sampled: int) -> float:
        stats = ScoreStats(np.array([0.2]), np.array([0.1]), sampled, 1000)
        return float(FIT.probability("image", scores, stats, unit(1, 8))[0, 0])

    own = float(
        sigmoid(FIT.image.log_odds(scores, ScoreStats(np.array([0.1]), np.array([0.2]), 10**9, 1000), UNKNOWN))[0, 0]
    )
    theirs = float(
        sigmoid(FIT.image.log_odds(scores, ScoreStats(np.array([0.2]), np.array([0.1]), 10**9, 1000), UNKNOWN))[0, 0]
    )
    steps = [probability(sampled) for sampled in range(3000)]
    assert steps[0] == pytest.approx(own, rel=1e-6)
    assert steps[-1] == pytest.approx(theirs, abs=0.02)
    assert np.abs(np.diff(steps)).max() < 0.25 * abs(own - theirs)


def test_beyond_the_collections_it_was_fitted_on_size_counts_no_further() -> None:
    def probability(count: int) -> float:
        stats = ScoreStats(np.array([0.1]), np.array([0.2]), 4096, count)
        return float(FIT.probability("text", np.array([[0.5]]), stats, unit(1, 8, seed=3), [2])[0, 0])

    assert probability(10) > probability(100) > probability(1000) == probability(1_000_000)


def test_the_fit_finds_what_the_labels_were_drawn_from() -> None:
    random = np.random.default_rng(0)
    features = random.normal(size=(40_000, 2))
    truth = np.array([-1.0, 2.0, -0.5])
    labels = random.random(40_000) < sigmoid(truth[0] + features @ truth[1:])
    assert np.abs(fit_logistic(features, labels) - truth).max() < 0.06


def test_perfectly_separable_labels_give_finite_coefficients() -> None:
    features = np.linspace(-1, 1, 200)[:, None]
    found = fit_logistic(features, features[:, 0] > 0)
    assert np.isfinite(found).all()
    assert found[1] > 5
    assert np.isfinite(fit_logistic(features, np.zeros(200, dtype=bool))).all()


def test_it_is_written_and_read_whole() -> None:
    labels = LabelCoefficients(-1.0, 8.0, -3.0, (0.1, -0.2))
    areas = {"captions": {10: 0.9, 100: 0.75}, "labels": {1: 0.8}}
    fit = dataclasses.replace(FIT, labels=labels, areas=areas, figures={"images": 3})
    assert from_json(to_json(fit)) == fit
    assert fit.threshold == 0.3


@pytest.mark.parametrize(
    "damage",
    [
        lambda plain: plain | {"version": 1},
        lambda plain: plain | {"query_prior": plain["query_prior"] | {"precision": [2.0] * 20}},
        lambda plain: plain | {"query_prior": plain["query_prior"] | {"dimensions": 9}},
        lambda plain: {name: value for name, value in plain.items() if name != "query_prior"},
        lambda plain: plain | {"text": plain["text"] | {"score_coef": -1.0}},  # would fall as the score rises
        lambda plain: plain | {"text": plain["text"] | {"baseline_std": 0.0}},
        lambda plain: plain | {"text": plain["text"] | {"size_coef": "many"}},
        lambda plain: {name: value for name, value in plain.items() if name != "mixed"},
        lambda plain: plain | {"areas": {"captions": {"10": 1.2}}},
        lambda plain: plain | {"areas": {"captions": {"ten": 0.9}}},
        lambda plain: plain | {"areas": {"sounds": {"10": 0.9}}},
        lambda plain: plain | {"labels": {"intercept": 0.0}},
        lambda plain: [],
    ],
)
def test_what_is_no_fit_is_refused_by_name(damage: object) -> None:
    text = json.dumps(damage(json.loads(to_json(FIT))))  # type: ignore[operator]
    with pytest.raises(TandemError, match=r"^here\.json: expected a calibration"):
        from_json(text, "here.json")
    with pytest.raises(TandemError, match=r"^here\.json: expected a calibration"):
        from_json(text[: len(text) // 2], "here.json")


def test_a_calibration_of_version_3_has_the_areas_of_its_report() -> None:
    """Without a report nothing is known of how well it can tell; of labels it says nothing."""
    plain = json.loads(to_json(FIT)) | {"version": 3}
    del plain["labels"], plain["areas"]
    assert from_json(json.dumps(plain)) == FIT
    sizes = {"10": {"auc_present_emptied": 0.8}, "100": {"auc_present_emptied": None}}
    plain["figures"] = {"queries": {"phrases": {"collections": sizes}, "images": {"collections": {}}}}
    read = from_json(json.dumps(plain))
    assert (read.areas, read.labels) == ({"phrases": {10: 0.8}}, None)


def test_a_calibration_of_version_2_stays_readable() -> None:
    """As it was written before the numbers had the names that they have now."""
    v2_names = {new: old for names in (calibration_files._V2_COEFFICIENTS,) for old, new in names.items()}
    plain = json.loads(to_json(FIT)) | {"version": 2}
    del plain["labels"], plain["areas"]
    prior = plain.pop("query_prior")
    plain["experience"] = {"right": prior.pop("precision"), **prior}
    for kind, earlier in (("text", "words"), ("image", "picture"), ("mixed", "mixed")):
        plain[earlier] = {v2_names.get(name, name): value for name, value in plain.pop(kind).items()}
    assert plain["words"]["standing"] == 1.5
    assert plain["words"]["experience_size"] == 0.3
    assert from_json(json.dumps(plain)) == FIT


def test_an_unknown_kind_of_query_is_refused() -> None:
    with pytest.raises(TandemError, match="expected text, image or mixed, got 'sound'"):
        FIT.probability("sound", np.zeros((1, 1)), score_stats(unit(1, 8), unit(5, 8), 5), unit(1, 8))  # type: ignore[arg-type]


def test_the_model_that_ships_comes_with_its_fit(tmp_path: object, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TANDEM_HOME", str(tmp_path))
    mini = tandem.load()
    fit = load_calibration(mini)
    assert fit is not None
    assert fit == from_json((tandem.model.SHIPPED / FILE).read_text(encoding="utf-8"))
    assert fit.fingerprint == mini.fingerprint
    assert 0 < fit.threshold < 0.5
    query, images = mini.embed_texts("a dog"), unit(30, 256)
    found = fit.probability("text", query @ images.T, score_stats(query, images, 30), query, [2])
    assert np.isfinite(found).all()


# --- what it can tell ------------------------------------------------------------------------------------------------


def test_the_area_is_between_those_of_the_sizes_that_were_measured() -> None:
    fit = dataclasses.replace(FIT, areas={"images": {1000: 0.6, 10: 0.9}})
    assert [fit.area("images", count) for count in (0, 1, 10, 1000, 10**6)] == [0.9, 0.9, 0.9, 0.6, 0.6]
    assert fit.area("images", 100) == pytest.approx(0.75)  # half way, as sizes grow
    assert fit.area("phrases", 10) is None


def test_below_an_area_of_0_7_it_says_that_it_cannot_tell() -> None:
    fit = dataclasses.replace(FIT, areas={"images": {10: 0.95, 1000: 0.9}, "phrases": {10: 0.8, 1000: 0.6}})
    assert fit.cannot_tell(["images"], 10_000) is None
    assert fit.cannot_tell(["phrases"], 10) is None
    assert fit.cannot_tell(["phrases"], 100) is None  # 0.7 is enough
    said = fit.cannot_tell(["phrases"], 1000)
    assert said is not None
    assert "toy cannot separate matches of texts of up to 8 words from others among 1,000 images" in said
    assert "area under the ROC curve 0.600, below 0.7" in said
    assert fit.cannot_tell(["images", "phrases"], 1000) == said  # as the kind that is told worst
    assert "does not say how well it separates matches of texts of more than 8 words" in str(
        fit.cannot_tell(["captions"], 10)
    )


def test_a_text_of_more_than_8_words_counts_as_a_caption() -> None:
    assert kind_of_text("a brown dog runs through the green grass") == "phrases"
    assert kind_of_text("a brown dog runs through the very green grass") == "captions"


# --- what is known before ---------------------------------------------------------------------------------------------


def test_queries_like_those_that_went_well_are_expected_to_go_well_and_others_as_usual() -> None:
    well, badly, elsewhere = unit(3, 64)
    known = QueryPrior.of(np.stack([well, badly]), np.array([0.9, 0.1]))
    expected = known.log_odds(np.stack([well, badly, elsewhere]))
    assert expected[0] > 0.5
    assert expected[1] < -0.5
    assert abs(expected[2]) < 0.1  # the mean of both
    nearby = well + 0.2 * elsewhere
    assert expected[0] > known.log_odds(nearby[None] / np.linalg.norm(nearby))[0] > 0.2


def test_the_prior_counts_for_texts_alone() -> None:
    queries = FIT.query_prior.vectors[[0, 19]].astype(np.float32) / 127  # went badly, went well
    stats = ScoreStats(np.full(2, 0.1), np.full(2, 0.2), 4096, 1000)
    scores = np.full((2, 1), 0.4)
    badly, well = FIT.probability("text", scores, stats, queries, [2, 2])[:, 0]
    assert well > 1.5 * badly
    assert len(set(FIT.probability("image", scores, stats, queries)[:, 0])) == 1


def test_number_of_words() -> None:
    assert [number_of_words(text) for text in ("", "a dog", "Dogs, on grass!", "雪")] == [1, 2, 3, 1]


def test_small_probabilities_are_shown_with_a_decimal() -> None:
    assert [percent(value) for value in (0.004, 0.0411, 0.0994, 0.0998, 0.1, 0.734, 1.0, None)] == [
        *("0.4%", "4.1%", "9.9%", "10%", "10%", "73%", "100%", "-"),
    ]
