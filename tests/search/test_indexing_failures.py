"""Indexing: bad files are skipped, and an interrupted run can be resumed."""

import os
import shutil
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from support import toy
from support.collection_toys import ToyEngine, contents, counts, fresh, never, reasons, run, same, writing
from test_sources import encoded

from tandem.errors import EngineError
from tandem.model import Model
from tandem.search.indexing import preparing, progress
from tandem.search.indexing.ledger import Ledger
from tandem.search.indexing.progress import IndexingProgress


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A folder with `images/`, five of them, for a collection beside it."""
    toy.write_images(tmp_path / "images", 5)
    return tmp_path


# --- what is bad ---------------------------------------------------------------------------------------------------


def spoil(folder: Path) -> dict[str, str]:
    """Bad files of every kind, and what has to be said of them."""
    content = encoded(77)
    (folder / "truncated.png").write_bytes(content[: len(content) // 2])
    (folder / "zero.jpg").write_bytes(b"")
    (folder / "text.jpg").write_bytes(b"these are words")
    Image.new("1", (20000, 20000)).save(folder / "bomb.png")
    (folder / "pipe.png").write_bytes(b"")
    (folder / "pipe.png").unlink()
    os.mkfifo(folder / "pipe.png")
    with open(os.fsencode(folder) + b"/bad\xff.png", "wb") as file:
        file.write(content)
    return {
        "truncated.png": "truncated",
        "zero.jpg": "empty",
        "text.jpg": "not an image",
        "bomb.png": "more than the limit",
        "pipe.png": "not a regular file",
        "bad\\xff.png": "not UTF-8",
    }


@pytest.mark.slow
def test_bad_files_are_skipped_and_retried_only_when_they_change(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = spoil(home / "images")
    report = run(home, home / "images")
    assert counts(report) == {"added": 5}
    assert reasons(report).keys() == expected.keys()
    for name, reason in expected.items():
        assert reason in reasons(report)[name], name
    assert report.not_retried == 0

    again = run(home, home / "images", model=never)
    assert reasons(again) == reasons(report)
    assert {Path(one.path).name for one in again.failures if one.retried} == {"bad\\xff.png"}  # a name costs nothing
    assert again.not_retried == 5

    toy.random_image(78).save(home / "images/truncated.png")
    (home / "images/text.jpg").write_bytes(b"other words, still no image")
    third = run(home, home / "images")
    assert counts(third) == {"added": 1, "unchanged": 5}
    assert "truncated.png" not in reasons(third)
    assert [Path(one.path).name for one in third.failures if one.retried] == ["bad\\xff.png", "text.jpg"]


def test_an_unreadable_file_is_skipped_and_its_record_kept(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run(home, home / "images")
    before = contents(home)
    path = home / "images/3.png"
    os.utime(path)
    real = Path.open

    def locked(self: Path, *arguments: Any, **options: Any) -> Any:
        if self == path:
            raise PermissionError(13, "Permission denied")
        return real(self, *arguments, **options)

    monkeypatch.setattr(Path, "open", locked)
    report = run(home, home / "images")
    assert reasons(report) == {"3.png": "permission denied"}
    assert same(contents(home), before)
    assert run(home, home / "images").not_retried == 1
    monkeypatch.setattr(Path, "open", real)
    path.chmod(0o600)  # which changes neither size nor time of the content
    os.chmod(path, 0o640)
    report = run(home, home / "images")
    assert report.failures == []
    assert counts(report) == {"unchanged": 5}


def test_a_file_that_vanishes_midway_is_skipped_and_not_recorded(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = preparing.read_bytes

    def vanishing(source: Any, **options: Any) -> bytes:
        if str(source).endswith("2.png"):
            Path(source).unlink(missing_ok=True)
        return real(source, **options)

    content = (home / "images/2.png").read_bytes()
    monkeypatch.setattr(preparing, "read_bytes", vanishing)
    report = run(home, home / "images")
    assert reasons(report) == {"2.png": "no such file or folder"}
    monkeypatch.undo()
    (home / "images/2.png").write_bytes(content)
    assert counts(run(home, home / "images")) == {"unchanged": 4, "added": 1}


def test_an_image_that_becomes_bad_leaves(home: Path) -> None:
    run(home, home / "images")
    content = (home / "images/2.png").read_bytes()
    (home / "images/2.png").write_bytes(content[:100])
    (home / "images/3.png").write_bytes(b"")
    report = run(home, home / "images")
    assert set(reasons(report)) == {"2.png", "3.png"}
    assert same(contents(home), fresh(home, home / "images"))
    (home / "images/2.png").write_bytes(content)
    assert counts(run(home, home / "images")) == {"unchanged": 3, "added": 1}


def test_other_decoders_give_bad_files_another_chance(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (home / "images/bad.jpg").write_bytes(b"bad")
    run(home, home / "images")
    monkeypatch.setattr("tandem.search.indexing.reconciling._decoders", lambda given: "newer")
    assert run(home, home / "images").not_retried == 0
    assert run(home, home / "images").not_retried == 1


# --- stopped midway ------------------------------------------------------------------------------------------------


class Stopped(Exception):
    pass


@pytest.mark.parametrize("stop_at", [1, 2, 3])
@pytest.mark.parametrize("verb", ["before", "after"])
@pytest.mark.slow
def test_a_crash_between_the_store_and_the_ledger_loses_and_doubles_nothing(
    home: Path, monkeypatch: pytest.MonkeyPatch, stop_at: int, verb: str
) -> None:
    """The store has the batch and the ledger does not, also where files then change, move or go before the next run."""
    images = home / "images"
    run(home, images)
    toy.random_image(100).save(images / "0.png")
    (images / "1.png").rename(images / "9.png")
    toy.random_image(101).save(images / "new.png")
    real, calls = Ledger.update, 0

    def note(self: Ledger, *arguments: Any, **options: Any) -> None:
        nonlocal calls
        calls += 1
        if calls == stop_at and verb == "before":
            raise Stopped
        real(self, *arguments, **options)
        if calls == stop_at:
            raise Stopped

    with monkeypatch.context() as patched:
        patched.setattr(Ledger, "update", note)
        with pytest.raises(Stopped):
            run(home, images, batch_size=1)
    toy.random_image(102).save(images / "0.png")
    toy.random_image(103).save(images / "new.png")
    (images / "2.png").unlink()
    run(home, images, prune=True)
    assert same(contents(home), fresh(home, images))


def test_a_file_whose_old_content_is_back_after_a_crash_keeps_its_image(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(home, home / "images")
    path = home / "images/0.png"
    content = path.read_bytes()
    toy.random_image(100).save(path)

    def stop(self: Ledger) -> None:
        raise Stopped

    with monkeypatch.context() as patched:
        patched.setattr(Ledger, "pending_removals", stop)
        with pytest.raises(Stopped):
            run(home, home / "images")
    path.write_bytes(content)
    run(home, home / "images")
    assert same(contents(home), fresh(home, home / "images"))


def test_without_its_ledger_a_collection_is_brought_up_to_date_all_the_same(home: Path) -> None:
    shutil.copy(home / "images/0.png", home / "images/copy.png")
    run(home, home / "images")
    for path in home.glob("files.sqlite*"):
        path.unlink()
    toy.random_image(100).save(home / "images/0.png")
    toy.random_image(101).save(home / "images/1.png")
    engine = ToyEngine()
    report = run(home, home / "images", model=Model(toy.checkpoint(), engine))  # type: ignore[arg-type]
    assert counts(report) == {"unchanged": 4, "changed": 2}
    assert engine.encoded == 2
    assert same(contents(home), fresh(home, home / "images"))


def test_an_emptied_collection_is_filled_again(home: Path) -> None:
    run(home, home / "images")
    with writing(home) as (store, _):
        store.delete(list(contents(home)))
    assert counts(run(home, home / "images")) == {"added": 5}


def test_interrupted_what_was_committed_stays_and_the_next_run_goes_on(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress, "EVERY_S", 0)
    toy.write_images(home / "images", 40)

    def interrupt(now: IndexingProgress) -> None:
        if now.done >= 8:
            raise KeyboardInterrupt

    before = set(threading.enumerate())
    with pytest.raises(KeyboardInterrupt):
        run(home, home / "images", batch_size=4, on_progress=interrupt)
    assert set(threading.enumerate()) <= before
    done = len(contents(home))
    assert 8 <= done < 40
    engine = ToyEngine()
    report = run(home, home / "images", model=Model(toy.checkpoint(), engine))  # type: ignore[arg-type]
    assert counts(report) == {"unchanged": done, "added": 40 - done}
    assert engine.encoded == 40 - done


def test_an_engine_that_fails_stops_the_run_and_its_threads(home: Path) -> None:
    class Broken(ToyEngine):
        def encode_images(self, pixels: np.ndarray) -> np.ndarray:
            return super().encode_images(pixels) * (np.nan if self.encoded else 1)

    before = set(threading.enumerate())
    with pytest.raises(EngineError, match="not finite"):
        run(home, home / "images", model=Model(toy.checkpoint(), Broken()), batch_size=2)  # type: ignore[arg-type]
    assert set(threading.enumerate()) <= before
    assert counts(run(home, home / "images")) == {"added": 5}
