"""`tandem evaluate`, `evaluate compare` and `evaluate card` on a folder of 30 tiny photos and a toy model."""

import json
import re
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from support import evaluations, toy
from support.commands import Run, one_line

from tandem import weights
from tandem.cli import main, terminal
from tandem.cli.comparison_tables import print_comparison
from tandem.cli.evaluation_tables import print_results
from tandem.datasets import Dataset
from tandem.evaluate import RunReport, compare
from tandem.evaluate.result import TaskResult

CLASSES = ("cat", "dog", "zebra")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data") / "animals"
    for at in range(30):
        path = folder / CLASSES[at % 3] / f"{at}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        toy.random_image(at).save(path)
    return folder


@pytest.fixture(scope="module")
def runs(data: Path, model_folder: str, tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """The same model twice on the same photos."""
    folders = [str(tmp_path_factory.mktemp("runs") / name) for name in ("a", "b")]
    for folder in folders:
        assert main(["-q", "evaluate", str(data), "--model", model_folder, "--out", folder]) == 0
    terminal.set_loudness(quiet=False, verbose=False)
    return folders


@pytest.mark.slow
def test_a_folder_of_classes_is_measured_and_reported(
    tandem: Run, data: Path, model_folder: str, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    done = tandem("evaluate", data, "--model", model_folder, "--out", out, "--limit", "24")
    assert done.code == 0, done.err
    lines = [line.split("\t") for line in done.out.splitlines()]
    assert lines[0][:3] == ["animals", "zero-shot", "top1"]
    value, low, high, chance, n = map(float, lines[0][3:])
    assert low <= value <= high
    assert (chance, n) == (pytest.approx(1 / 3, abs=1e-5), 24)
    assert {path.name for path in out.iterdir()} == {"result.json", "outcomes.npz", "report.md", "report.html"}
    assert "data:image/jpeg" in (out / "report.html").read_text(encoding="utf-8")
    for report in ("report.html", "report.md"):
        assert "prompts: a photo of a {}." in (out / report).read_text(encoding="utf-8")
    assert "darker" not in (out / "report.html").read_text(encoding="utf-8")  # the page has a dark mode
    again = tandem("evaluate", data, "--model", model_folder, "--limit", "24", "--json").json
    stored = json.loads((out / "result.json").read_text(encoding="utf-8"))
    assert again["results"] == stored["results"]  # seeded, and the same from the cache
    assert again["model"]["fingerprint"] == weights.fingerprint(weights.read(model_folder))


@pytest.mark.slow
def test_the_prompts_are_those_of_classify_and_are_named(tandem: Run, data: Path, model_folder: str) -> None:
    command = ("evaluate", data, "--model", model_folder)
    plain, ensemble = tandem(*command), tandem(*command, "--ensemble")
    assert "tandem: prompts: a photo of a {}." in plain.err.splitlines()
    assert re.search(r"prompts: a photo of a \{\}\., .*\(30 in all\)", ensemble.err)
    shown = [{row[2]: row[3] for row in done.rows} for done in (plain, ensemble)]
    assert shown[0]["top1"] == shown[0]["top1_one_prompt"] == shown[1]["top1_one_prompt"]
    assert shown[1]["top1"] == shown[1]["top1_ensemble"] == shown[0]["top1_ensemble"]


@pytest.mark.parametrize("task", ["few-shot", "linear-probe"])
def test_one_folder_is_halved_for_tasks_that_learn(tandem: Run, data: Path, model_folder: str, task: str) -> None:
    done = tandem("evaluate", data, "--model", model_folder, "--task", task, "--seed", "3", "--json")
    (result,) = done.json["results"]
    assert (result["dataset"]["images"], result["settings"]["seed"]) == (15, 3)
    (note,) = [note for note in result["notes"] if note.startswith("15 images were learnt from, 15 others measured on")]
    assert note.endswith("seed 3")
    assert f"tandem: {note}" in done.err.splitlines()


def test_the_data_sets_own_training_split_is_learnt_from(
    tandem: Run, data: Path, model_folder: str, tmp_path: Path
) -> None:
    folder = tmp_path / "animals"
    for split, some in (("train", slice(0, 4)), ("test", slice(4, 10))):
        for name in CLASSES:
            (folder / split / name).mkdir(parents=True)
            for path in sorted((data / name).iterdir())[some]:
                (folder / split / name / path.name).symlink_to(path)
    asked = ("evaluate", folder, "--model", model_folder, "--task", "linear-probe", "--split", "test", "--json")
    (result,) = tandem(*asked).json["results"]
    assert (result["dataset"]["split"], result["dataset"]["images"]) == ("test", 18)
    assert result["settings"]["train_images"] == 12
    assert not any("halves" in note for note in result["notes"])


@pytest.mark.slow
def test_no_cache_keeps_nothing(
    tandem: Run, data: Path, model_folder: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = tmp_path / "photos.csv"
    rows = [f"{path},a {path.parent.name} {path.stem}\n" for path in sorted(data.glob("*/*.png"))]
    table.write_text("".join(["path,caption\n", *rows]))
    asked = ("evaluate", table, "--model", model_folder, "--json")
    figures = []
    for options, kept in ((("--no-cache",), 0), ((), 60)):  # photos and captions
        monkeypatch.setenv("TANDEM_CACHE", str(tmp_path / f"cache{kept}"))
        done = tandem(*asked, *options)
        assert done.code == 0, done.err
        figures.append(done.json["results"][0]["figures"])
        features = list((tmp_path / f"cache{kept}").glob("features/**/*"))
        assert bool(features) == bool(kept)
    assert figures[0] == figures[1]


def terminal_lines(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, columns: int, show: Callable[[], None]
) -> list[str]:
    """What a terminal of so many columns shows."""
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", str(columns))
    show()
    return re.sub("\x1b\\[[0-9;?]*[a-zA-Z]", "", capsys.readouterr().out).splitlines()


@pytest.mark.parametrize("columns", [50, 80])
def test_narrow_terminals_keep_intervals_and_verdicts(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, columns: int
) -> None:
    right = np.arange(12) % 4 != 0
    first, other = (evaluations.zero_shot(evaluations.dataset(), each) for each in (right, np.roll(right, 1)))
    shown = terminal_lines(capsys, monkeypatch, columns, lambda: print_results([first, other]))
    assert sum("95% interval" in line and "chance" in line for line in shown) == 3
    assert sum("65.0 to 85.0%" in line for line in shown) == 4
    compared = compare([evaluations.run(first), evaluations.run(other, name="other")], ["runs/first", "runs/other"])
    shown = terminal_lines(capsys, monkeypatch, columns, lambda: print_comparison(compared))
    (row,) = (line for line in shown if "no difference shown" in line)
    assert re.search(r"-\d+\.\d to \+\d+\.\d", row)
    assert ("1.000" in row) == (columns == 80)
    assert "er " in row  # the end of the run's name
    assert any(line.startswith("top-1 ") for line in shown)
    cut = terminal_lines(capsys, monkeypatch, 30, lambda: print_comparison(compared))
    assert any(line.endswith("…") and "  no d" in line for line in cut)


def test_several_data_sets_make_one_table(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", "90")
    right = np.arange(12) % 4 != 0
    pets, birds = (evaluations.zero_shot(evaluations.dataset(name=name), right) for name in ("pets", "birds"))
    print_results([pets, birds])
    shown = re.sub("\x1b\\[[0-9;?]*[a-zA-Z]", "", capsys.readouterr().out).splitlines()
    assert "pets: zero-shot, 12 photos, 3 classes" in shown
    (heading,) = (at for at, line in enumerate(shown) if "data set" in line)
    assert [line.split()[:4] for line in shown[heading + 1 : heading + 3]] == [
        ["pets", "zero-shot", "top-1", "75.0%"],
        ["birds", "zero-shot", "top-1", "75.0%"],
    ]


@pytest.mark.slow
def test_a_run_of_other_data_or_another_model_is_kept(
    tandem: Run, data: Path, model_folder: str, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    asked = ("evaluate", data, "--out", out, "--model")
    assert tandem(*asked, model_folder).code == 0
    assert tandem(*asked, model_folder).code == 0  # the same again
    before = (out / "result.json").read_bytes()
    other = toy.folder(tmp_path / "other", seed=1)
    assert "holds a run of another model" in one_line(tandem(*asked, other))
    for options in (("--limit", "24"), ("--task", "linear-probe"), ("--limit", "24", "--skip-unreadable")):
        assert "holds a run on other data (animals)" in tandem(*asked, model_folder, *options).err
    assert (out / "result.json").read_bytes() == before
    assert tandem(*asked, other, "--overwrite").code == 0
    fingerprints = [json.loads(text)["model"]["fingerprint"] for text in (before, (out / "result.json").read_bytes())]
    assert fingerprints[0] != fingerprints[1]


@pytest.mark.slow
def test_runs_are_compared(tandem: Run, runs: list[str]) -> None:
    document = tandem("evaluate", "compare", *runs, "--json").json
    (task,) = document["tasks"]
    top1 = next(figure for figure in task["figures"] if figure["name"] == "top1")
    assert top1["others"][0]["verdict"] == "no difference shown"
    assert tandem("evaluate", "compare", *runs).out.startswith("# ")
    print_comparison(compare([RunReport.load(folder) for folder in runs], ["a", "b"]))
    refused = tandem("evaluate", "compare", runs[0])
    assert refused.code == 2
    assert "at least two runs" in refused.err


def test_a_card_has_the_figures_of_its_own_model_only(
    tandem: Run, runs: list[str], model_folder: str, tmp_path: Path
) -> None:
    card = tmp_path / "README.md"
    card.write_text("# Mine\n\nText.\n")
    for _ in range(2):
        assert tandem("evaluate", "card", runs[0], card).code == 0
    text = card.read_text(encoding="utf-8")
    assert text.startswith("# Mine\n\nText.\n\n## Figures\n")
    assert text.count("| top-1 |") == 1
    assert str(tmp_path) not in (tmp_path / "evaluation.json").read_text(encoding="utf-8")
    other = toy.folder(tmp_path / "other", seed=1)
    refused = tandem("evaluate", "card", runs[0], Path(other) / "README.md")
    assert refused.code == 2
    assert "holds another model" in refused.err


def test_unreadable_photos_are_said_and_may_be_left_out(
    tandem: Run, data: Path, model_folder: str, tmp_path: Path
) -> None:
    folder = tmp_path / "animals"
    (folder / "cat").mkdir(parents=True)
    (folder / "dog").symlink_to(data / "dog")
    (folder / "cat" / "ok.png").symlink_to(data / "cat" / "0.png")
    (folder / "cat" / "torn.png").write_bytes(b"\x89PNG\r\n\x1a\nno more")
    refused = tandem("evaluate", folder, "--model", model_folder)
    assert refused.code == 2
    assert "torn.png" in refused.err
    assert "--skip-unreadable" in refused.err
    done = tandem("evaluate", folder, "--model", model_folder, "--skip-unreadable", "--json")
    assert done.code == 1  # some inputs were skipped
    (result,) = done.json["results"]
    assert result["figures"]["top1"]["n"] == 11
    assert any("torn.png" in note for note in result["notes"])


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "no data set"),
        (["nowhere"], "nowhere: there is no such file"),
        (["{data}", "--task", "retrieval"], "retrieval needs images with captions"),
        (["{data}", "--task", "zero-shots"], "zero-shots"),
        (["{data}", "--train", "{data}"], "--train goes with --task linear-probe, few-shot or fine-tune"),
        (["{data}", "--out", "{data}"], "something else than a run"),
        (["{data}", "--seed", "-1"], "expected a whole number from 0 to"),
        (["{data}", "--seed", "9" * 5000], "expected a whole number from 0 to"),
        (["compare", "{data}", "{data}"], "found no result.json"),
        (["card", "{data}"], "expected a run and a Markdown file"),
        (["compare", "{data}", "{data}", "--model", "nope"], "--model does not go with compare"),
        (["card", "{data}", "x.md", "--skip-unreadable"], "--skip-unreadable does not go with card"),
    ],
)
def test_what_does_not_fit_is_said_in_one_line(tandem: Run, data: Path, arguments: list[str], said: str) -> None:
    assert said in one_line(tandem("evaluate", *(argument.format(data=data) for argument in arguments)))


@pytest.fixture
def given(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What the training is given; it is not run. The training itself is that of tests/train/test_fine_tune.py."""
    found: dict[str, Any] = {}

    def fine_tune(
        model: str, train: Dataset, test: Dataset, *, folder: Path, elsewhere: list[Dataset], steps: int = 300,
        seed: int = 0, templates: list[str] | None = None,
    ) -> TaskResult:  # fmt: skip
        found.update(model=model, train=train, test=test, folder=folder, elsewhere=elsewhere, steps=steps)
        return evaluations.zero_shot(test, np.ones(len(test), dtype=bool))

    monkeypatch.setitem(sys.modules, "tandem.train.fine_tune", SimpleNamespace(fine_tune=fine_tune))
    return found


def test_fine_tuning_learns_from_one_half_and_is_measured_on_the_other(
    tandem: Run, data: Path, model_folder: str, tmp_path: Path, given: dict[str, Any]
) -> None:
    asked = ["evaluate", data, "--model", model_folder, "--task", "fine-tune", "--steps", "2"]
    assert "fine-tune: expected --out RUN" in one_line(tandem(*asked))
    for options, said in (
        (("--engine", "openvino"), "--engine does not go with fine-tune"),
        (("--activation", "gelu"), "--activation does not go with fine-tune"),
        (("--language", "de"), "language: fine-tune takes none"),
    ):
        assert said in one_line(tandem(*asked, "--out", tmp_path / "tuned", *options))
    assert not given
    assert tandem(*asked, "--out", tmp_path / "tuned").code == 0
    assert (given["model"], given["steps"]) == (model_folder, 2)
    assert given["folder"] == tmp_path / "tuned-training"
    assert (len(given["train"]), len(given["test"])) == (15, 15)
    assert not set(given["train"].keys) & set(given["test"].keys)
    run = RunReport.load(tmp_path / "tuned")
    assert run.results[0].dataset.images == 15
    assert run.model.engine.startswith("torch ")  # what trained and measured


def torn(folder: Path, data: Path, readable: int = 1) -> Path:
    """A folder of cats and dogs of which some photos cannot be read."""
    (folder / "cat").mkdir(parents=True)
    (folder / "dog").symlink_to(data / "dog")
    for at in range(readable):
        (folder / "cat" / f"{at}.png").symlink_to(data / "cat" / f"{3 * at}.png")
    for at in range(15):
        (folder / "cat" / f"torn{at}.png").write_bytes(b"\x89PNG\r\n\x1a\n%d" % at)
    return folder


def test_photos_are_looked_at_before_the_training(
    tandem: Run, data: Path, model_folder: str, tmp_path: Path, given: dict[str, Any]
) -> None:
    folder = torn(tmp_path / "animals", data, readable=4)
    asked = ["evaluate", folder, data, "--model", model_folder, "--task", "fine-tune", "--out", tmp_path / "run"]
    assert "--skip-unreadable" in one_line(tandem(*asked, "--train", data))
    assert "--skip-unreadable" in one_line(tandem("evaluate", data, *asked[2:], "--train", folder))
    assert not given
    assert tandem(*asked, "--train", data, "--skip-unreadable").code == 1
    assert len(given["test"]) == 14
    (elsewhere,) = given["elsewhere"]
    assert len(elsewhere) == 30


@pytest.mark.slow
def test_unreadable_photos_to_learn_from_do_not_fail_a_finished_run(
    tandem: Run, data: Path, model_folder: str, tmp_path: Path
) -> None:
    """More photos to learn from are torn than there are photos to measure on."""
    train = torn(tmp_path / "train", data, readable=6)
    asked = ["--train", train, "--task", "few-shot", "--model", model_folder, "--skip-unreadable", "--json"]
    (tmp_path / "test").mkdir()
    for name in ("cat", "dog"):
        (tmp_path / "test" / name).mkdir()
        for path in sorted((data / name).iterdir())[8:]:
            (tmp_path / "test" / name / path.name).symlink_to(path)
    done = tandem("evaluate", tmp_path / "test", *asked)
    assert done.code == 1, done.err
    assert done.json["results"][0]["dataset"]["images"] == 4


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--steps", "5"), "steps: zero-shot takes none"),
        (("--task", "linear-probe", "--template", "a {}."), "templates: linear-probe takes none"),
    ],
)
def test_an_option_that_a_task_does_not_take_is_refused(
    tandem: Run, data: Path, options: tuple[str, ...], said: str
) -> None:
    assert said in one_line(tandem("evaluate", data, *options))
