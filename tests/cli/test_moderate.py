"""`tandem moderate` and its verbs."""

import json
from pathlib import Path

import pytest
from support.commands import Run, one_line
from support.moderation_toys import POLICY, draw, draw_labelled

import tandem as library
from tandem.moderation import read_fit


@pytest.fixture(autouse=True)
def _homes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TANDEM_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("TANDEM_HOME", str(tmp_path / "home"))


@pytest.fixture(scope="module")
def labelled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return draw_labelled(tmp_path_factory.mktemp("labelled") / "colours", 26)


@pytest.fixture
def policy(tmp_path: Path) -> Path:
    (tmp_path / "red.toml").write_text(POLICY)
    return tmp_path / "red.toml"


@pytest.fixture
def images(tmp_path: Path) -> Path:
    for i in range(4):
        draw(tmp_path / "images" / f"{i}.png", red=i < 2, seed=500 + i)
    return tmp_path / "images"


@pytest.mark.slow
def test_from_labelled_photos_to_a_log_that_holds(
    tandem: Run, policy: Path, labelled: Path, images: Path, model_folder: str, tmp_path: Path
) -> None:
    options = ("--policy", policy, "--model", model_folder)
    unfitted = tandem("moderate", images, *options)
    assert unfitted.code == 0, unfitted.err
    assert [row[1:4] for row in unfitted.rows] == [["not fitted", "red", ""]] * 4
    assert "tandem: not fitted: red; no probability and no band" in unfitted.err
    for band in ("review", "block"):
        refused = one_line(tandem("moderate", images, *options, "--fail-on", band))
        assert f"--fail-on {band}: not fitted: red: no photo would ever be in that band" in refused
    renamed = policy.with_name("crimson.toml")
    renamed.write_text(POLICY.replace("categories.red", "categories.crimson"))
    said = tandem("moderate", "fit", "--policy", renamed, "--model", model_folder, "--labelled", labelled)
    assert "as in --shows crimson=CLASS,CLASS" in said.err
    unjudged = tmp_path / "unjudged.jsonl"
    assert tandem("moderate", labelled, *options, "--log", unjudged).code == 0
    found = tandem("moderate", "report", unjudged, "--labelled", labelled)
    assert "red: no figures" in found.err
    assert "recall" not in found.out

    fitted = tandem("moderate", "fit", *options, "--labelled", labelled, "--review-recall", "0.8")
    assert fitted.code == 0, fitted.err
    assert read_fit(policy.with_name("red.fit.json")).categories["red"].promised == {"review_recall": 0.8}
    assert {row[1] for row in fitted.rows} >= {"auc", "block_precision", "review_recall", "calibration_error"}
    assert policy.with_name("red.fit.json").is_file()
    assert "red: fitted on 26 photos with it and 26 without, by the score of learned" in fitted.err

    before = {each.name: (each.read_bytes(), each.stat().st_mtime_ns) for each in images.iterdir()}
    log, rows = tmp_path / "log.jsonl", tmp_path / "rows.jsonl"
    (images / "broken.png").write_bytes(b"nothing")
    found = tandem("moderate", images, *options, "--log", log, "--out", rows, "--json")
    (images / "broken.png").unlink()
    assert found.code == 1
    document = found.json
    assert document["counts"]["all"]["allow"] == 2
    assert [each["image"] for each in document["failures"]] == [str(images / "broken.png")]
    assert len(rows.read_text().splitlines()) == 4
    first = json.loads(rows.read_text().splitlines()[0])
    assert first["band"] in ("review", "block")
    assert 0 < first["low"] < first["probability"] < first["high"] < 1
    assert before == {each.name: (each.read_bytes(), each.stat().st_mtime_ns) for each in images.iterdir()}

    verified = tandem("moderate", "verify-log", log, "--json").json
    assert verified["decisions"] == 4
    assert verified["digest"] == document["log"]["digest"]
    (images / "red").mkdir()
    (images / "blue").mkdir()
    for i in range(4):  # as if 1 were blue: a hard negative
        (images / f"{i}.png").rename(images / ("red" if i == 0 else "blue") / f"{i}.png")
    summed = tandem("moderate", "report", log, "--labelled", images, "--json").json
    (report,) = summed["reports"]
    assert report["labelled"] == 4
    assert Path(report["hard_negatives"][0]["image"]).name == "1.png"
    assert tandem("moderate", "report", log, "--labelled", images).code == 0
    log.write_bytes(log.read_bytes().replace(b'"allow"', b'"block"', 1))
    assert "the chain is broken" in one_line(tandem("moderate", "report", log))
    assert "line" in one_line(tandem("moderate", "verify-log", log))


@pytest.mark.slow
def test_a_collection_and_the_exit_code_of_a_band(
    tandem: Run, policy: Path, labelled: Path, images: Path, model_folder: str, tmp_path: Path
) -> None:
    collection = library.open(tmp_path / "photos.tandem", model_folder)
    collection.add(images)
    table = tmp_path / "labels.csv"
    known = library.open(tmp_path / "labelled.tandem", model_folder)
    known.add(labelled)
    table.write_text("".join(f"{each},{each.parent.name}\n" for each in sorted(labelled.rglob("*.png"))))
    stored = ("--labelled", known.url, "--table", table)
    assert tandem("moderate", "fit", "--policy", policy, *stored, "--shows", "red=red").code == 0
    found = tandem("moderate", collection.url, "--policy", policy, "--fail-on", "review")
    assert found.code == 3, found.err
    assert len(found.rows) == 4
    blue = tandem("moderate", images / "3.png", "--policy", policy, "--model", model_folder, "--fail-on", "review")
    assert blue.code == 0


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["x.png"], "no policy: name one with --policy"),
        (["x.png", "--policy", "peple"], "did you mean 'people'"),
        (["fit", "--policy", "people"], "no labelled photos"),
        (["fit", "more", "--policy", "people", "--labelled", "x"], "unrecognized arguments: more"),
        (["--json", "--policy", "people", "fit"], "put the verb first: tandem moderate fit"),
        (["report"], "no log: name the file that tandem moderate --log wrote"),
        (["report", "x", "--limit", "3"], "--limit goes with --labelled"),
        (["fit"], "no policy: name one with --policy"),
        ([], "nothing to moderate"),
        (["report", "x", "--policy", "people"], "no option --policy"),
        (["x.png", "--policy", "people", "--labelled", "y"], "no option --labelled"),
        (["x.png", "--policy", "people", "--limit", "3"], "no option --limit"),
        (
            ["fit", "--policy", "people", "--labelled", "x", "--limit", "0"],
            "--limit: expected a whole number of at least 1",
        ),
        (["fit", "--policy", "people", "--labelled", "x", "--seed", "-1"], "--seed: expected a whole number from 0"),
        (["x.png", "--policy", "people", "--fit", "a", "--no-fit"], "--fit and --no-fit cannot go together"),
        (["x.png", "--policy", "people", "--where", "width > 1"], "--where goes with a collection"),
        (["x.png", "--policy", "people", "--out", "x.txt"], "expected a name ending in .csv"),
        (["fit", "--policy", "people", "--labelled", "x", "--precision", "0.95"], "say --block-precision 0.95"),
        (
            ["fit", "--policy", "people", "--labelled", "x", "--precision", "95%"],
            "how the model computes, got 95%; for a share of right",
        ),
        (["fit", "--policy", "people", "--labelled", "x", "--shows", "people"], "expected CATEGORY=CLASS,CLASS"),
        (["verify-log", "none.jsonl"], "none.jsonl: the log cannot be read"),
    ],
)
def test_what_cannot_be_done_is_one_line(tandem: Run, arguments: list[str], said: str) -> None:
    assert said in one_line(tandem("moderate", *arguments))


def test_each_verb_has_its_own_help(tandem: Run) -> None:
    own = {"fit": "--review-recall", "report": "--labelled", "verify-log": "--digest"}
    for verb, option in own.items():
        for asked in (("moderate", verb, "--help"), ("help", "moderate", verb)):
            shown = tandem(*asked)
            assert shown.code == 0
            assert shown.out.startswith(f"usage: tandem moderate {verb} [options]")
            assert option in shown.out
            assert "--fail-on" not in shown.out
    assert "--review-recall S" not in tandem("moderate", "--help").out


def test_in_a_terminal_the_most_severe_come_first_below_headings(
    tandem: Run, policy: Path, labelled: Path, images: Path, model_folder: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = ("--policy", policy, "--model", model_folder)
    assert tandem("moderate", "fit", *options, "--labelled", labelled, "--review-recall", "0.8").code == 0
    piped = [row[0] for row in tandem("moderate", images, *options).rows]
    assert [Path(name).name for name in piped] == [f"{i}.png" for i in range(4)]
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", "120")
    lines = tandem("moderate", *sorted(images.iterdir(), reverse=True), *options).out.splitlines()
    assert [word for word in ("photo", "band", "probability", "score") if word in lines[0]] == [
        "photo", "band", "probability", "score",
    ]  # fmt: skip
    assert [line.split(".png")[0][-1] in "01" for line in lines[1:5]] == [True, True, False, False]
    monkeypatch.setattr("tandem.cli.moderation_view.SORTED", 2)
    lines = tandem("moderate", *sorted(images.iterdir(), reverse=True), *options).out.splitlines()
    assert [line.split(".png")[0][-1] for line in lines[1:5]] == list("3210")


def test_a_report_leaves_out_the_photos_of_the_fit(
    tandem: Run, policy: Path, labelled: Path, images: Path, model_folder: str, tmp_path: Path
) -> None:
    options = ("--policy", policy, "--model", model_folder)
    assert tandem("moderate", "fit", *options, "--labelled", labelled, "--review-recall", "0.8").code == 0
    assert "digests" not in tandem("moderate", "fit", *options, "--labelled", labelled, "--json").json["data"]
    log = tmp_path / "log.jsonl"
    assert tandem("moderate", labelled, *options, "--log", log).code == 0
    found = tandem("moderate", "report", log, "--labelled", labelled)
    assert "red: 52 photos of the labelled ones were used for the fit, and are left out of the figures" in found.err
    assert "recall" not in found.out
    for i in range(4):
        target = tmp_path / "new" / ("red" if i < 2 else "blue") / f"{i}.png"
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes((images / f"{i}.png").read_bytes())
        (labelled_too := tmp_path / "both" / target.parent.name).mkdir(parents=True, exist_ok=True)
        (labelled_too / f"new{i}.png").write_bytes(target.read_bytes())
        (labelled_too / f"old{i}.png").write_bytes((labelled / labelled_too.name / "0.png").read_bytes())
    assert tandem("moderate", tmp_path / "new", *options, "--log", log).code == 0
    (report,) = tandem("moderate", "report", log, "--labelled", tmp_path / "both", "--json").json["reports"]
    assert (report["labelled"], report["fitted_on"], report["unknown_whether_fitted_on"]) == (6, 2, 0)
    assert report["figures"]["review_recall"]["n"] == 2


def test_a_fit_replaces_fits_alone(tandem: Run, policy: Path, labelled: Path, model_folder: str) -> None:
    target = policy.with_name("notes.json")
    target.write_text("{}")
    options = ("--policy", policy, "--model", model_folder, "--labelled", labelled)
    assert "there is a file already that is no fit" in one_line(tandem("moderate", "fit", *options, "--to", target))
    assert target.read_text() == "{}"


def test_a_verb_that_is_misspelt_is_no_photo(tandem: Run) -> None:
    assert "no such verb; did you mean 'fit'?" in one_line(tandem("moderate", "fitt", "--policy", "people"))
