"""`tandem demo`: what it prints, draws and leaves."""

import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from support.commands import Run, one_line

from tandem import sample_photos
from tandem.cli import terminal
from tandem.cli.commands import demo
from tandem.plots import page

pytestmark = pytest.mark.slow


def test_demo_as_json(tandem: Run, model_folder: str, tmp_path: Path) -> None:
    for package in ("skimage", "sklearn", "matplotlib"):
        pytest.importorskip(package)
    out = tmp_path / "new" / "answer.png"
    outcome = tandem("demo", "--json", "--model", model_folder, "--out", out)
    assert outcome.code == 0
    document = outcome.json
    assert len(document["results"]) == 6
    for search in document["searches"]:
        scores = [hit["score"] for hit in search["hits"]]
        assert scores == sorted(scores, reverse=True)
    assert out.stat().st_size > 10_000
    assert out.with_name("search.png").stat().st_size > 10_000


def test_it_says_which_photos_it_takes_for_something_else(tandem: Run, model_folder: str, tmp_path: Path) -> None:
    """By what is on the photos, not by what the model says of itself; nothing where all are right."""
    out = tmp_path / "answer.png"
    document = tandem("demo", "--json", "--model", model_folder, "--out", out).json
    best = {Path(each["image"]).name: each["best"] for each in document["results"]}
    assert best.keys() == demo.SHOWN.keys()
    wrong = {name: label for name, label in best.items() if label != demo.SHOWN[name]}
    assert wrong  # the toy's weights are random
    assert {each["image"]: each["best"] for each in document["wrong"]} == wrong
    shown = tandem("demo", "--model", model_folder, "--out", out).out
    [line] = [line for line in shown.splitlines() if " wrong: " in line]
    assert line.startswith(f"  {len(wrong)} of 6 wrong: ")
    for name, label in wrong.items():
        assert f"{name} is a {demo.SHOWN[name]}, not a {label}" in line


def test_nothing_is_wrong_where_all_photos_are_right() -> None:
    right = list(demo.SHOWN.values())
    assert demo.misclassified(list(demo.SHOWN), right) == []
    assert demo.misclassified(list(demo.SHOWN), ["dog", *right[1:]]) == [("chelsea.png", "dog", "cat")]


def test_the_commands_that_demo_prints_work_as_printed(
    tandem: Run, model_folder: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for package in ("skimage", "sklearn", "matplotlib"):
        pytest.importorskip(package)
    monkeypatch.chdir(tmp_path)
    outcome = tandem("demo", "--model", model_folder)
    printed = [shlex.split(line) for line in outcome.err.splitlines() if line.startswith("  ")]
    assert [command[1] for command in printed] == ["search", "classify"]
    for command in printed:
        assert subprocess.run(command, check=True, capture_output=True).stdout
    photos = sorted((tmp_path / "demo" / "photos").iterdir())
    assert len(photos) == 6
    paths = tandem("search", "demo/photos-toy.tandem", "a", "cat", "--paths-only").out.splitlines()
    assert sorted(paths) == list(map(str, photos))  # beside the collection, not in a package that may go
    assert tandem("demo", "--model", model_folder, "-q").err == ""


def test_clean_leaves_the_demo() -> None:
    makefile = (Path(__file__).resolve().parents[2] / "Makefile").read_text()
    (clean,) = (line for line in makefile.splitlines() if line.startswith("\trm -rf .venv"))
    assert "demo" not in clean.split()


def test_the_program_is_named_as_it_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bin_folder = tmp_path / ".venv" / "bin"
    bin_folder.mkdir(parents=True)
    own = bin_folder / "tandem"
    own.write_text("#!/bin/sh\n")
    monkeypatch.setattr(sys, "executable", str(bin_folder / "python"))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(shutil, "which", lambda name: None)
    assert terminal.program() == ".venv/bin/tandem"
    monkeypatch.setattr(shutil, "which", lambda name: str(own))
    assert terminal.program() == "tandem"
    own.unlink()
    monkeypatch.setattr(shutil, "which", lambda name: None)
    assert terminal.program() == f"{bin_folder / 'python'} -m tandem"


def test_a_base_install_names_the_extra_of_the_demo(
    tandem: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (page, sample_photos):
        monkeypatch.setattr(module, "find_spec", lambda _: None)
    assert "tandem-clip[demo]" in one_line(tandem("demo", "--out", tmp_path / "answer.png"))


def test_what_is_piped_has_no_trailing_spaces(tandem: Run, model_folder: str, tmp_path: Path) -> None:
    for package in ("skimage", "sklearn", "matplotlib"):
        pytest.importorskip(package)
    shown = tandem("demo", "--model", model_folder, "--out", tmp_path / "answer.png").out
    assert shown.count("%") >= 18
    assert [line for line in shown.splitlines() if line != line.rstrip()] == []
