"""`tandem watch`: a line for each batch, Ctrl-C, and what it refuses."""

import dataclasses
import json
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support import toy
from support.commands import COMMAND, Run, one_line

from tandem.cli import known_collections
from tandem.cli.commands.watch import _Shown
from tandem.search.collection import Collection
from tandem.search.indexing.run import IndexingReport, SkippedFile
from tandem.search.watching import changes
from tandem.search.watching.following import Batch


@pytest.fixture
def stream(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """What happens in the folder, step by step; then Ctrl-C."""

    def happened(folders: list[str]) -> Iterator[frozenset[str]]:
        (folder,) = map(Path, folders)
        yield frozenset()  # the first look
        toy.random_image(9).save(folder / "new.png")
        (folder / "bad.jpg").write_bytes(b"no image")
        yield frozenset({str(folder)})
        yield frozenset()
        (folder / "new.png").unlink()
        yield frozenset({str(folder)})
        yield frozenset()
        raise KeyboardInterrupt

    monkeypatch.setattr(changes, "changes", happened)
    monkeypatch.setattr("tandem.search.watching.following.REST", 0.0)


@pytest.mark.usefixtures("stream")
def test_a_line_for_each_batch_and_a_sum_at_the_end(tandem: Run, model_folder: str, tmp_path: Path) -> None:
    toy.write_images(tmp_path / "photos", 2)
    options = ("--to", tmp_path / "c.tandem", "--model", model_folder, "--settle", "1e-9", "--prune")
    done = tandem("watch", tmp_path / "photos", *options)
    assert done.code == 0
    assert [line.split("  ", 1)[1] for line in done.out.splitlines()] == [
        "2 added; 2 photos",
        "1 added; 3 photos",
        "1 taken out; 2 photos",
    ]
    assert f"skipped {tmp_path / 'photos' / 'bad.jpg'}: not an image" in done.err
    assert "3 added, 1 taken out; 1 skipped; the same command goes on from here" in done.err


def test_moments_of_films_are_counted_and_long_lines_wrap(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    report = IndexingReport(added=4, unchanged=0, total=47, moments=4, gone=3)
    _Shown("c", as_json=False).add(Batch(report))
    line = capsys.readouterr().out
    assert "4 added; 47 photos (4 of films); 3 of files that are gone" in line
    assert line.count("\n") == 1
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    monkeypatch.setattr("tandem.cli.terminal.columns", lambda _: 60)
    _Shown("c", as_json=False).add(Batch(report))
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) > 1
    assert max(map(len, lines)) <= 60


@pytest.mark.usefixtures("stream")
def test_json_lines_and_an_empty_folder(tandem: Run, model_folder: str, tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    options = ("--to", tmp_path / "c.tandem", "--model", model_folder, "--settle", "1e-9", "--json")
    done = tandem("watch", tmp_path / "photos", *options)
    assert "no photos yet: waiting for the first" in done.err
    first, *_ = map(json.loads, done.out.splitlines())
    assert (first["added"], first["total"], first["failures"][0]["image"][-7:]) == (1, 1, "bad.jpg")


def test_what_is_asked_for_reaches_the_index_and_ctrl_c_in_it_ends_with_a_sum(
    tandem: Run, model_folder: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks: list[tuple[list[str], dict[str, Any]]] = []
    polls: list[float] = []

    def add(self: Collection, sources: list[str], **options: Any) -> IndexingReport:
        looks.append((sources, options))
        if len(looks) > 1:
            raise KeyboardInterrupt
        return IndexingReport(added=3, unchanged=0, total=3)

    def polled(folders: list[str], every_s: float) -> Iterator[frozenset[str]]:
        polls.append(every_s)
        (Path(folders[0]) / "notes.doc").touch()
        yield frozenset()
        yield from (frozenset({f"{folders[0]}/notes.doc"}), *[frozenset[str]()] * 9)
        polls.append(len(looks))  # it is no photo
        yield from (frozenset({f"{folders[0]}/new.jpg"}), *[frozenset[str]()] * 9)
        pytest.fail("nobody looked at a new photo")

    monkeypatch.setattr(Collection, "add", add)
    monkeypatch.setattr(changes, "polled", polled)
    monkeypatch.setattr("tandem.search.watching.following.REST", 0.0)
    folder = tmp_path / "photos"
    folder.mkdir()
    options = ("--to", tmp_path / "c.tandem", "--model", model_folder, "--settle", "1e-9", "--poll", "7", "--prune")
    options += ("--exclude", "thumbs/", "--caption", "words", "--fast-decode")
    done = tandem("watch", folder, *options)
    (sources, given), _ = looks
    assert polls == [7, 1]
    assert sources == [str(folder)]
    assert given == {
        "prune": True,
        "fast_decode": True,
        "caption": "words",
        "exclude": ["thumbs/"],
        "progress": False,
    }
    assert done.code == 0
    assert "3 added; the same command goes on from here" in done.err
    assert [Path(each.url).name for each in known_collections.known()] == ["c.tandem"]


def test_what_is_said_of_a_batch(capsys: pytest.CaptureFixture[str]) -> None:
    shown = _Shown("photos", as_json=False)
    quiet = IndexingReport(added=0, unchanged=2, total=2)
    failed = [SkippedFile("a.jpg", "cut", True), SkippedFile("b.jpg", "cut", True), SkippedFile("c.jpg", "old", False)]

    def said(report: IndexingReport, unsettled: frozenset[str] = frozenset()) -> tuple[list[str], list[str]]:
        shown.add(Batch(report, unsettled=unsettled))
        out, err = capsys.readouterr()
        return [line.split("  ", 1)[1] for line in out.splitlines()], err.splitlines()

    assert said(quiet) == (["nothing new; 2 photos"], [])  # the first look is shown in any case
    assert said(quiet) == ([], [])
    gone = dataclasses.replace(quiet, gone=1)
    assert said(gone) == (["nothing new; 2 photos; 1 of files that are gone (--prune removes them)"], [])
    assert said(gone) == ([], [])
    assert said(quiet)[0] == ["nothing new; 2 photos"]  # it is back
    out, err = said(dataclasses.replace(quiet, failures=failed), frozenset({"b.jpg"}))
    assert out == ["nothing new; 2 photos"]
    assert [line for line in err if "skipped" in line] == ["tandem: skipped a.jpg: cut"]  # not what is being written
    shown.end()
    assert "nothing new; 1 skipped" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("--to", "c.tandem"), "no folder to follow"),
        (("x",), "no collection to put them in"),
        (("nowhere", "--to", "c.tandem"), "expected a folder to follow, there is none"),
        (("a.jpg", "--to", "c.tandem"), "got a file: tandem index takes it"),
        (("x", "--to", "a.jpg"), "expected a folder or an address, got a file"),
        (("x", "--to", "c.tandem", "--poll", "0"), "expected seconds above 0"),
    ],
)
def test_what_is_refused(
    tandem: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...], says: str
) -> None:
    (tmp_path / "x").mkdir()
    (tmp_path / "a.jpg").touch()
    monkeypatch.chdir(tmp_path)
    assert says in one_line(tandem("watch", *arguments))


@pytest.mark.slow
def test_a_service_that_is_stopped_ends_with_a_sum(model_folder: str, tmp_path: Path) -> None:
    """In a process of its own, with the system's reports: a photo comes, then the signal that stops services."""
    pytest.importorskip("watchfiles")
    (tmp_path / "photos").mkdir()
    toy.random_image(1).save(tmp_path / "photos" / "first.png")
    options = ["--to", str(tmp_path / "c.tandem"), "--model", model_folder, "--settle", "0.1", "--json"]
    process = subprocess.Popen(
        [*COMMAND, "watch", str(tmp_path / "photos"), *options],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        assert json.loads(process.stdout.readline())["added"] == 1
        toy.random_image(2).save(tmp_path / "photos" / "second.png")
        assert json.loads(process.stdout.readline())["total"] == 2
        process.send_signal(signal.SIGTERM)
        _, said = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 0
    assert "2 added" in said
    assert "Traceback" not in said
