"""`tandem watch`: a line for each batch, Ctrl-C, and what it refuses."""

import json
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from support import toy
from support.commands import COMMAND, Run, one_line

from tandem.search.watching import changes


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


@pytest.mark.usefixtures("stream")
def test_json_lines_and_an_empty_folder(tandem: Run, model_folder: str, tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    options = ("--to", tmp_path / "c.tandem", "--model", model_folder, "--settle", "1e-9", "--json")
    done = tandem("watch", tmp_path / "photos", *options)
    assert "no photos yet: waiting for the first" in done.err
    first, *_ = map(json.loads, done.out.splitlines())
    assert (first["added"], first["total"], first["failures"][0]["image"][-7:]) == (1, 1, "bad.jpg")


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
