"""A disk that fails once, memory that was short once, and content that came back: the next run puts it right."""

import errno
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from support import toy
from support.collection_toys import contents, counts, fresh, reasons, run, same, toy_model, writing

from tandem.image import Limits
from tandem.search.collection import Collection
from tandem.search.indexing import preparing, walking
from tandem.search.indexing.ledger import Ledger
from tandem.search.indexing.reconciling import reconcile


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A folder with `images/`, three of them, for a collection beside it."""
    toy.write_images(tmp_path / "images", 3)
    return tmp_path


def failing(monkeypatch: pytest.MonkeyPatch, owner: Any, name: str, error: BaseException, wanted: str) -> None:
    """A function that raises once, for the file whose path ends with `wanted`, or at its second call."""
    real, calls = getattr(owner, name), 0

    def once(*given: Any, **options: Any) -> Any:
        nonlocal calls
        calls += 1
        if str(given[0]).endswith(wanted) if wanted else calls == 2:
            raise error
        return real(*given, **options)

    monkeypatch.setattr(owner, name, once)


@pytest.mark.parametrize("code", [errno.EIO, errno.EMFILE])
def test_a_file_that_a_disk_gave_not_once_is_read_the_next_time(
    home: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    """It looks as it did, so nothing but what is written down of it could keep it from being read."""
    with monkeypatch.context() as patched:
        failing(patched, Path, "open", OSError(code, os.strerror(code)), "1.png")
        report = run(home, home / "images")
    assert list(reasons(report)) == ["1.png"]
    assert len(contents(home)) == 2
    again = run(home, home / "images")
    assert counts(again) == {"unchanged": 2, "added": 1}
    assert not again.failures
    assert same(contents(home), fresh(home, home / "images"))


def test_a_file_that_a_disk_gave_not_once_keeps_the_image_it_has(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run(home, home / "images")
    before = contents(home)
    os.utime(home / "images/1.png")
    with monkeypatch.context() as patched:
        failing(patched, Path, "open", OSError(errno.EIO, "Input/output error"), "1.png")
        assert list(reasons(run(home, home / "images"))) == ["1.png"]
    assert same(contents(home), before)
    assert counts(run(home, home / "images")) == {"unchanged": 3}


@pytest.mark.parametrize("error", [MemoryError(), OSError(errno.EIO, "Input/output error")])
def test_a_picture_that_could_not_be_decoded_once_is_decoded_the_next_time(
    home: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    with monkeypatch.context() as patched:
        failing(patched, preparing, "preprocess", error, "")
        report = run(home, home / "images")
    assert len(report.failures) == 1
    again = run(home, home / "images")
    assert counts(again) == {"unchanged": 2, "added": 1}
    assert same(contents(home), fresh(home, home / "images"))


def test_an_image_that_was_removed_and_came_back_elsewhere_is_at_both_places(home: Path) -> None:
    """Another machine removes it and indexes it from another folder: this one's ledger still knows the first place."""
    run(home, home / "images")
    path, other = home / "images/1.png", home / "other/1.png"
    with writing(home) as (store, _):
        (held,) = [each for each, (paths, _) in contents(home).items() if str(path) in paths]
        assert store.delete([held]) == 1
    other.parent.mkdir()
    other.write_bytes(path.read_bytes())
    for ledger in home.glob("files.sqlite*"):
        ledger.rename(home / f"kept-{ledger.name}")
    assert counts(run(home, home / "other")) == {"added": 1}
    for ledger in home.glob("files.sqlite*"):
        ledger.unlink()
    for ledger in home.glob("kept-files.sqlite*"):
        ledger.rename(home / ledger.name.removeprefix("kept-"))
    assert contents(home)[held][0] == [str(other)]
    run(home, home / "images")
    assert contents(home)[held][0] == sorted([str(other), str(path)])


def test_content_that_left_and_came_back_within_a_run_is_there_once(home: Path) -> None:
    """The first content of a file goes to another file, while it gets new content: one image each, at its place."""
    run(home, home / "images")
    first, second = home / "images/0.png", home / "images/1.png"
    old = first.read_bytes()
    first.write_bytes(second.read_bytes())
    second.write_bytes(old)
    (home / "images/2.png").unlink()
    run(home, home / "images", prune=True)
    assert same(contents(home), fresh(home, home / "images"))
    second.write_bytes(first.read_bytes())
    first.write_bytes(old)
    run(home, home / "images", prune=True)
    assert same(contents(home), fresh(home, home / "images"))


def test_a_picture_of_an_odd_mode_is_skipped_with_what_was_wrong(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patched:
        failing(patched, preparing, "preprocess", ValueError("an odd mode"), "")
        report = run(home, home / "images")
    assert list(reasons(report).values()) == ["cannot be converted: an odd mode"]
    assert run(home, home / "images").not_retried == 1


@pytest.mark.parametrize(
    ("code", "said"), [(errno.ENOENT, "no such file"), (errno.EACCES, "permission denied"), (errno.EIO, "odd")]
)
def test_a_file_that_vanishes_while_its_folder_is_read_is_skipped(
    home: Path, monkeypatch: pytest.MonkeyPatch, code: int, said: str
) -> None:
    with monkeypatch.context() as patched:
        failing(patched, walking, "_item", OSError(code, "odd"), "1.png")
        report = run(home, home / "images")
    assert reasons(report) == {"1.png": said}
    assert counts(run(home, home / "images")) == {"unchanged": 2, "added": 1}


def test_after_a_run_that_was_cut_short_only_what_is_unknown_is_read(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The ledger knows two files, and of the third another image than the collection: that one is read again."""
    run(home, home / "images")
    with Ledger.open(home / "files.sqlite") as ledger:
        ledger.set_about({"reconciled": "no"})
        path = str(home / "images/1.png")
        ledger.update([replace(ledger.lookup([path])[path], id="another")])
    read: list[str] = []
    real = preparing.read_bytes

    def noted(source: Any, **options: Any) -> bytes:
        read.append(Path(source).name)
        return real(source, **options)

    monkeypatch.setattr(preparing, "read_bytes", noted)
    assert counts(run(home, home / "images")) == {"unchanged": 3}
    assert read == ["1.png"]
    assert same(contents(home), fresh(home, home / "images"))


def test_images_whose_paths_the_ledger_confirms_lose_none(home: Path) -> None:
    run(home, home / "images")
    with writing(home) as (store, ledger):
        ledger.set_about({"reconciled": "no"})
        reconcile(store, ledger)
        assert next(ledger.pending_removals(), None) is None
        path = str(home / "images/1.png")
        ledger.update([replace(ledger.lookup([path])[path], id="another")])
        reconcile(store, ledger)
        assert next(ledger.pending_removals()) == [(path, "another")]


def test_what_was_too_large_is_tried_again_under_other_limits(home: Path) -> None:
    def added(limits: Limits) -> tuple[int, int, bool]:
        model = toy_model()
        model.limits = limits
        with Collection(str(home / "c.tandem"), model) as photos:
            report = photos.add([home / "images"])
        return report.added, len(report.failures), all(each.retried for each in report.failures)

    assert added(Limits(max_pixels=100)) == (0, 3, True)
    assert added(Limits(max_pixels=100)) == (0, 3, False)
    assert added(Limits()) == (3, 0, True)
    assert added(Limits()) == (0, 0, True)
