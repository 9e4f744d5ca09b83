"""From searches with known answers to what a score means: trials, figures, and where fits are kept."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
from support import toy
from support.caption_tars import captioned_tar

import tandem
from tandem import weights
from tandem.cli import main
from tandem.cli.commands.calibrate import can_tell, show
from tandem.errors import DataError, TandemError
from tandem.scores.calibration_files import (
    FILE,
    from_json,
    load_calibration,
    own_path,
    replaced_by_own,
    reset_calibration,
    save_calibration,
    to_json,
)
from tandem.scores.relevance import Calibration, score_stats
from tandem.scores.scoring import LabelCoefficients
from tandem.search.calibration.calibrate import auc, calibrate, calibration_error, evaluate, reliability
from tandem.search.calibration.caption_set import CaptionSet, choose, embed, read_captioned
from tandem.search.calibration.fitting import fit, query_prior
from tandem.search.calibration.label_fitting import CANNOT_TELL, LABEL_PRIOR, NO_WORDS, fit_labels, label_counts
from tandem.search.calibration.trials import LabelledQueries, run_trials, sizes_up_to

pytestmark = pytest.mark.slow

# --- searches with known answers -------------------------------------------------------------------------------------


def a_set(strength: float, images: int = 250, seed: int = 0, dimensions: int = 32) -> CaptionSet:
    """Synthetic vectors: a text or a view is the vector of its image times `strength`, and noise."""
    random = np.random.default_rng(seed)

    def near(vectors: np.ndarray, strength: float) -> np.ndarray:
        noise = random.normal(size=vectors.shape) / np.sqrt(vectors.shape[1])
        found = strength * vectors + noise
        return (found / np.linalg.norm(found, axis=1, keepdims=True)).astype(np.float32)

    shown = near(np.zeros((images, dimensions)), 0)
    owner = np.repeat(np.arange(images), 3)
    return CaptionSet(
        shown,
        near(shown, 3 * strength),
        near(shown[owner], strength),
        owner,
        np.arange(len(owner)) % 3 == 2,
        tuple(f"w{own}x{place}" for place, own in enumerate(owner)),  # no two say the same
        near(np.zeros((300, dimensions)), 0),
        tuple(f"s{place}" for place in range(300)),
        near(shown[:40], strength),
        np.arange(40),
        tuple(f"w{own}x{3 * own}" for own in range(40)),  # of one image each
    )


@pytest.fixture(scope="module")
def strong() -> CaptionSet:
    return a_set(3.0)


@pytest.fixture(scope="module")
def strong_fit(strong: CaptionSet) -> Calibration:
    return fit("strong", "f" * 64, strong.known())


@pytest.fixture(scope="module")
def strong_report(strong: CaptionSet) -> Calibration:
    """Without images of a test: measured on the half that it was not fitted on."""
    return calibrate("strong", "f" * 64, strong)


@pytest.fixture(scope="module")
def noise() -> Calibration:
    return calibrate("noise", "f" * 64, a_set(0.0, 400), a_set(0.0, 400, seed=1))


def test_a_trial_is_the_same_collection_with_and_without_what_is_looked_for(strong: CaptionSet) -> None:
    known = strong.known()["text"]
    pairs = zip(run_trials(known, 20, 7, present=True), run_trials(known, 20, 7, present=False), strict=True)
    for there, gone in pairs:
        assert (there.query == gone.query).all()
        assert (there.stats.count == 20).all()
        assert (gone.stats.count == 19).all()
        assert not (gone.own | gone.matches)[gone.exists].any()
        for row in range(len(there)):
            others = there.scores[row][~there.own[row]]
            np.testing.assert_array_equal(gone.scores[row][: len(others)], others)


def test_every_query_finds_its_own_among_few(strong: CaptionSet) -> None:
    known = strong.known()["text"]
    for trials in run_trials(known, 10, 0, present=True):
        assert trials.own.sum(1).tolist() == [1] * len(trials)  # ten hits of ten images: its own is among them
        own = known.scores[trials.query, known.own[trials.query]]
        np.testing.assert_array_equal(trials.scores[trials.own], own)


def test_sizes() -> None:
    assert sizes_up_to(1000) == [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000]
    assert sizes_up_to(60) == [1, 2, 5, 10, 20, 50, 60]


# --- figures ---------------------------------------------------------------------------------------------------------


def test_area_counts_pairs_and_half_of_ties() -> None:
    random = np.random.default_rng(0)
    a, b = random.integers(0, 9, 50).astype(float), random.integers(0, 7, 70).astype(float)
    pairs = np.sign(a[:, None] - b[None]) / 2 + 0.5
    assert auc(a, b) == pytest.approx(pairs.mean())
    assert auc(a, np.zeros(0)) is None
    one, other = random.integers(1, 4, 50).astype(float), random.integers(0, 3, 70).astype(float)
    assert auc(a, b, one, other) == pytest.approx(auc(np.repeat(a, one.astype(int)), np.repeat(b, other.astype(int))))


def test_the_calibration_error_of_what_is_true_and_of_what_is_not() -> None:
    random = np.random.default_rng(0)
    stated = random.random(100_000)
    drawn = random.random(100_000) < stated
    assert calibration_error(stated, drawn) < 0.01
    assert calibration_error(stated, random.random(100_000) < 0.5) == pytest.approx(0.25, abs=0.01)
    assert calibration_error(np.ones(10), np.zeros(10, dtype=bool)) == 1
    assert sum(row["hits"] for row in reliability(stated, drawn)) == 100_000


def test_a_strong_model_is_well_calibrated(strong_fit: Calibration) -> None:
    """On images that the fit has not seen."""
    figures = evaluate(strong_fit, a_set(3.0, seed=1))["queries"]
    for name in ("captions", "phrases", "images"):
        at = figures[name]["collections"]["250"]
        assert at["auc_present_removed"] > 0.95
        assert at["no_match_said_found"] < 0.2
        assert at["no_match_said_removed"] > 0.5


def test_a_middling_model_says_what_is_true() -> None:
    """Some best hits match and some do not, and what is said of them is about true."""
    found = fit("middling", "f" * 64, a_set(0.5, 400).known())
    at = evaluate(found, a_set(0.5, 400, seed=1), sizes=(20,))["queries"]["captions"]["collections"]
    for size in ("20", "400"):
        assert 0.1 < at[size]["best_is_own"] < 0.9
        assert at[size]["ece_best"] < 0.08 < at[size]["ece_of_half"]
        stated = [row["mean_probability"] for row in at[size]["reliability_best"] if row["hits"] > 50]
        assert max(stated) - min(stated) > 0.2


def test_each_label_counts_as_much_however_many_images_have_it() -> None:
    matches = np.zeros((2, 50), dtype=bool)
    matches[0, :40] = matches[1, :1] = True
    counts = label_counts(matches)
    np.testing.assert_allclose(counts.sum(1), 50)
    np.testing.assert_allclose((counts * matches).sum(1) / 50, LABEL_PRIOR)


def test_the_fit_of_labels_finds_what_they_were_drawn_from() -> None:
    """Each label has a cosine of its own with everything: what is above that makes it true."""
    random = np.random.default_rng(0)
    usual = random.uniform(-0.3, 0.3, (300, 1))
    matches = random.random((300, 400)) < 0.3
    scores = (usual + 0.1 * random.normal(size=(300, 400)) + 0.2 * matches).astype(np.float32)
    known = LabelledQueries(scores, matches, np.zeros(300, int), np.zeros((300, 2), np.float32), np.zeros(300))
    found = fit_labels(known, np.array([0.5, 0.25], dtype=np.float32))
    assert isinstance(found, LabelCoefficients)
    # Two normal distributions whose means are 2 standard deviations apart: log-odds rise by 0.2 / 0.1**2 per cosine.
    assert found.score_coef == pytest.approx(20, rel=0.03)
    assert found.mean_coef == pytest.approx(-20, rel=0.03)
    assert found.mean_image == (0.5, 0.25)
    upside_down = LabelledQueries(-scores, matches, known.own, known.queries, known.length)
    assert fit_labels(upside_down, found_image := np.zeros(2, np.float32)) == CANNOT_TELL
    assert fit_labels(known.part(np.zeros(0, int)), found_image) == NO_WORDS


def test_a_fit_says_how_well_it_can_tell_for_every_kind_and_size(strong: CaptionSet, noise: Calibration) -> None:
    """Of the images and labels that it has not seen; a model that knows nothing is told so."""
    found = calibrate("strong", "f" * 64, strong, a_set(3.0, seed=1))
    assert {kind: list(sizes) for kind, sizes in found.areas.items()} == {
        "captions": [10, 100, 250], "phrases": [10, 100, 250], "images": [10, 100, 250], "labels": [1],
    }  # fmt: skip
    assert all(area > 0.9 for sizes in found.areas.values() for area in sizes.values())
    assert (
        found.areas["captions"][10] == found.figures["queries"]["captions"]["collections"]["10"]["auc_present_emptied"]
    )
    assert found.areas["labels"][1] == found.figures["labels"]["auc"]
    assert found.figures["labels"]["ece"] < 0.05
    assert found.figures["labels"]["match_rate"] == pytest.approx(LABEL_PRIOR)
    assert from_json(to_json(found)) == found
    assert all(max(noise.areas[kind].values()) < 0.55 for kind in ("captions", "phrases", "images", "labels"))  # type: ignore[index]
    assert noise.cannot_tell(["captions"], 400) is not None
    assert isinstance(noise.label_scoring(a_set(0.0).label_vectors), str)


def test_the_prior_is_of_frequent_queries() -> None:
    """A query that finds its own every time, and one that never does; both are kept once."""
    vectors = np.eye(4, dtype=np.float32)[[0, 0, 1]]
    scores = np.tile(np.linspace(1, 0, 40, dtype=np.float32), (3, 1))
    matches = np.zeros((3, 40), dtype=bool)
    matches[:2, :10] = True
    matches[2, 39] = True
    known = LabelledQueries(scores, matches, np.array([0, 1, 39]), vectors, np.zeros(3))
    kept = query_prior(known, np.arange(40))
    assert dict(zip(kept.vectors.argmax(1).tolist(), kept.precision.tolist(), strict=True)) == {0: 1.0, 1: 0.0}
    two = query_prior(known, np.arange(0, 40, 2), np.arange(1, 40, 2))
    assert dict(zip(two.vectors.argmax(1).tolist(), two.precision.tolist(), strict=True)) == {0: 0.5, 1: 0.0}


def test_queries_without_a_match_have_low_relevance(strong: CaptionSet, strong_fit: Calibration) -> None:
    queries = a_set(3.0, seed=5).out_of_domain
    scores = np.sort(queries @ strong.image_vectors.T, axis=1)[:, ::-1]
    stats = score_stats(queries, strong.image_vectors, 250)
    best = strong_fit.probability("text", scores, stats, queries, [1] * len(queries))[:, 0]
    assert np.mean(best < strong_fit.threshold) > 0.8


def test_a_model_that_knows_nothing_is_reported_so(noise: Calibration) -> None:
    at = noise.figures["queries"]["captions"]["collections"]["400"]
    assert abs(at["auc_present_removed"] - 0.5) < 0.03
    assert at["mean_probability_best"] < 0.02  # one of 400 is right, half of the time: nothing better can be said
    assert at["ece_best"] < 0.02


def test_without_a_test_set_the_report_is_of_images_not_fitted_on(
    strong: CaptionSet, strong_fit: Calibration, strong_report: Calibration
) -> None:
    found = strong_report
    assert found.figures["images"] == len(strong) // 2
    assert found.text == strong_fit.text
    one, other = strong.halves()
    assert not set(one.texts) & set(other.texts)
    assert json.loads(to_json(found))["figures"] == found.figures


# --- files -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TANDEM_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


@pytest.mark.filterwarnings("error")
def test_ones_own_fit_comes_first_then_the_models(tmp_path: Path, home: Path, strong_fit: Calibration) -> None:
    model = tandem.load(toy.folder(tmp_path / "model"))
    assert load_calibration(model) is None
    theirs = dataclasses.replace(strong_fit, model="toy", fingerprint=model.fingerprint)
    save_calibration(theirs, tmp_path / "model" / FILE)
    assert load_calibration(model) == theirs
    own = dataclasses.replace(theirs, areas={"captions": {10: 0.6}})
    assert save_calibration(own) == own_path(model.fingerprint)
    assert load_calibration(model) == own
    assert [file.name for file in (home / "relevance").iterdir()] == [f"{model.fingerprint}.json"]


def test_ones_own_says_what_it_replaces_and_can_be_reset(tmp_path: Path, home: Path, strong_fit: Calibration) -> None:
    model = tandem.load(toy.folder(tmp_path / "model"))
    assert replaced_by_own(model) is None
    assert not reset_calibration(model.fingerprint)
    theirs = dataclasses.replace(strong_fit, model="toy", fingerprint=model.fingerprint)
    save_calibration(theirs, tmp_path / "model" / FILE)
    assert replaced_by_own(model) == tmp_path / "model" / FILE
    save_calibration(dataclasses.replace(theirs, areas={"captions": {10: 0.6}}))
    assert replaced_by_own(model) == own_path(model.fingerprint)
    assert reset_calibration(model.fingerprint)
    assert load_calibration(model) == theirs


@pytest.mark.parametrize("name", ["another", "toy"])
def test_a_fit_of_other_weights_is_refused_aloud(
    tmp_path: Path, home: Path, strong_fit: Calibration, name: str
) -> None:
    model = tandem.load(toy.folder(tmp_path / "model"))
    other = dataclasses.replace(strong_fit, model=name, fingerprint="0" * 64)
    save_calibration(other, tmp_path / "model" / FILE)
    with pytest.warns(UserWarning, match=f"is for {name} .* not for toy .* tandem calibrate"):
        assert load_calibration(model) is None


def test_a_damaged_fit_is_an_error_that_names_it(tmp_path: Path, home: Path) -> None:
    model = tandem.load(toy.folder(tmp_path / "model"))
    own_path(model.fingerprint).parent.mkdir(parents=True)
    own_path(model.fingerprint).write_text("{")
    with pytest.raises(TandemError, match=rf"{model.fingerprint}\.json: expected a calibration"):
        load_calibration(model)


def test_a_model_folder_with_a_fit_is_still_one_and_the_fit_goes_with_the_weights(
    tmp_path: Path, home: Path, strong_fit: Calibration
) -> None:
    folder = toy.folder(tmp_path / "model")
    fingerprint = tandem.load(folder).fingerprint
    save_calibration(dataclasses.replace(strong_fit, model="toy", fingerprint=fingerprint), folder / FILE)
    weights.write(toy.checkpoint(seed=1), folder, "tandem", overwrite=True)
    assert not (folder / FILE).exists()
    assert load_calibration(tandem.load(folder)) is None


def test_too_few_images_are_refused(tmp_path: Path) -> None:
    model = tandem.load(toy.folder(tmp_path / "model"))
    with pytest.raises(DataError, match="expected at least 50 images with captions, got 20"):
        embed(model, choose(read_captioned([captioned_tar(tmp_path / "a.tar", 20)])))


def test_the_command(tmp_path: Path, home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = toy.folder(tmp_path / "model")
    tar, test = captioned_tar(tmp_path / "a.tar", 60, bad=True), captioned_tar(tmp_path / "b.tar", 50)
    out = tmp_path / "out" / FILE
    command = ["calibrate", str(tar), "--test", str(test), "--model", str(model), "--out", str(out), "--json"]
    assert main(command) == 1  # one image was skipped
    printed = capsys.readouterr()
    document = json.loads(printed.out)
    assert document["figures"]["images"] == 50
    assert document["figures"]["data"] == "b.tar"
    assert [failure["image"] for failure in document["failures"]] == ["a.tar/003"]
    fingerprint = tandem.load(model).fingerprint
    assert document["model"]["fingerprint"] == fingerprint
    assert document["files"] == [str(own_path(fingerprint)), str(out)]
    assert set(document["areas"]) >= {"captions", "phrases", "images"}
    assert set(document["areas"]["captions"]) == {"10", "50"}
    assert out.read_bytes() == own_path(fingerprint).read_bytes()

    assert main(["calibrate", str(test), "--model", str(model)]) == 2
    assert "is calibrated already" in capsys.readouterr().err
    assert main(["calibrate", str(test), "--model", str(model), "--yes"]) == 0
    printed = capsys.readouterr()
    assert "the half not fitted on" in printed.err
    assert {line.split("\t")[0] for line in printed.out.splitlines()} >= {"captions", "phrases"}
    assert str(home) in printed.err
    said = " ".join(printed.err.split())
    assert f"no row of labels, and no labels by themselves: {CANNOT_TELL}" in said
    assert "it cannot tell for any kind of query: only the order will be shown; to undo:" in said
    assert "nothing is said to match" not in said

    assert main(["calibrate", str(tmp_path / "c.tar"), "--model", str(model)]) == 2
    assert "c.tar: no such file; expected a WebDataset tar or a Parquet file" in capsys.readouterr().err


def test_what_cannot_be_told_is_not_promised(capsys: pytest.CaptureFixture[str], noise: Calibration) -> None:
    show(noise)
    assert "nothing is said to match" not in capsys.readouterr().err
    assert not can_tell(noise, "captions", "phrases", "images")
    able = dataclasses.replace(noise, areas={"images": {10: 0.4, 100: 0.8}})
    assert can_tell(able, "captions", "images")
    show(dataclasses.replace(noise, areas={"phrases": {10: 0.8}}))
    assert "nothing is said to match" in capsys.readouterr().err


def test_labels_that_were_left_out_say_why(strong: CaptionSet, strong_report: Calibration) -> None:
    """Upside down, images that a label is true of have the lowest cosines."""
    turned = dataclasses.replace(strong, label_vectors=-strong.label_vectors)
    found = calibrate("turned", "f" * 64, turned)
    assert (found.labels, found.labels_reason, "labels" in found.figures) == (None, CANNOT_TELL, False)
    again = from_json(to_json(found)).label_scoring(turned.label_vectors)
    assert again == f"its calibration says nothing of labels: {CANNOT_TELL}"  # and no command that was run already
    assert strong_report.labels is not None
    assert strong_report.labels_reason is None
