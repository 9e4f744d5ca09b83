"""Following folders: when a batch begins, what may matter, what may pass; and once a real folder with real photos."""

import dataclasses
import os
import queue
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support import toy

import tandem
from tandem.errors import EngineError, MissingExtraError, StoreBusyError, TandemError, WeightsError
from tandem.search.indexing.run import IndexingReport
from tandem.search.indexing.sources import NoImagesError, SourceNotFoundError
from tandem.search.watching import changes, following
from tandem.search.watching.following import (
    AT_MOST_S,
    REST,
    REST_AFTER_WORK_S,
    RETRY_S,
    Batch,
    follow,
    relevant_in,
)


class Clock:
    """Time that only the test moves."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


class Story:
    """Changes at given times, a tick every half second, and what the index was asked for."""

    def __init__(self, changes: dict[float, set[str]], until: float) -> None:
        self.clock, self.changes, self.until = Clock(), changes, until
        self.looked: list[float] = []
        self.answers: list[Exception] = []
        self.takes, self.adds = 0.0, 1

    def stream(self) -> Iterator[frozenset[str]]:
        while self.clock.now <= self.until:
            yield frozenset(self.changes.get(self.clock.now, set()))
            self.clock.now += 0.5

    def index(self) -> IndexingReport:
        self.looked.append(self.clock.now)
        self.clock.now += self.takes
        if self.answers:
            raise self.answers.pop(0)
        return IndexingReport(added=self.adds, unchanged=0)

    def batches(self, **options: object) -> list[Batch]:
        return list(follow(self.index, self.stream(), clock=self.clock, **options))  # type: ignore[arg-type]


# --- when ------------------------------------------------------------------------------------------------------------


def test_it_looks_once_at_the_beginning_and_then_only_after_changes() -> None:
    story = Story({}, until=100)
    assert len(story.batches()) == 1
    assert story.looked == [0]


def test_the_stream_begins_before_the_first_look() -> None:
    """What changes during the first look is in the second."""
    story = Story({0.0: {"a"}}, until=10)
    assert len(story.batches()) == 2
    assert story.looked == [0, 1]


def test_files_that_are_being_written_are_waited_for() -> None:
    story = Story({at / 2: {"film"} for at in range(10, 20)}, until=30)  # from 5 to 9.5 s
    batches = story.batches(quiet_s=1)
    assert story.looked == [0, 10.5]
    assert batches[1].unsettled == frozenset()


def test_many_changes_are_one_batch() -> None:
    story = Story({5.0: {"a", "b"}, 5.5: {"c"}}, until=20)
    story.batches()
    assert story.looked == [0, 6.5]


def test_a_folder_without_rest_is_looked_at_nevertheless() -> None:
    story = Story({at / 2: {"log"} | ({"photo"} if at == 10 else set()) for at in range(10, 200)}, until=60)
    batches = story.batches(quiet_s=1, at_most_s=20)
    assert story.looked == [0, 25, 45]
    assert batches[1].unsettled == {"log"}  # what is wrong with it may be right soon
    assert AT_MOST_S >= 20


def test_long_looks_are_followed_by_rests() -> None:
    story = Story({at / 2: {"x"} for at in range(0, 400, 10)}, until=150)
    story.takes, story.adds = 10, 0
    story.batches(quiet_s=1)
    gaps = [after - before for before, after in zip(story.looked, story.looked[1:], strict=False)]
    assert len(gaps) > 1
    assert min(gaps) >= 10 + 10 * REST


def test_work_is_followed_by_a_short_rest() -> None:
    """After a first run of hours, what came meanwhile is not left for as many more."""
    story = Story({at / 2: {"x"} for at in range(0, 8000, 2)}, until=4000)
    story.takes = 3600
    story.batches(quiet_s=1, at_most_s=1)
    assert story.looked[1] <= 3600 + REST_AFTER_WORK_S + 1


@pytest.mark.parametrize("done", ["added", "changed", "moved", "duplicates", "pruned"])
def test_whatever_read_photos_is_work(done: str) -> None:
    report = dataclasses.replace(IndexingReport(added=0, unchanged=5), **{done: 1})
    assert following._rest_s(report, 3600) == (3600 * REST if done == "pruned" else REST_AFTER_WORK_S)


# --- what may pass, and what may not ---------------------------------------------------------------------------------


def test_a_busy_collection_is_tried_again_and_said_once() -> None:
    story = Story({}, until=30)
    story.answers = [StoreBusyError("busy"), StoreBusyError("busy")]
    batches = story.batches()
    assert [batch.problem for batch in batches] == ["busy", None]
    assert story.looked == [0, RETRY_S, 2 * RETRY_S]
    assert batches[1].report is not None


def test_a_folder_that_is_gone_is_waited_for() -> None:
    story = Story({}, until=30)
    story.answers = [SourceNotFoundError("/photos: no such file or folder")]
    first, second = story.batches()
    assert first.problem == "/photos: no such file or folder; waiting for it"
    assert second.report is not None


def test_an_empty_folder_is_no_problem() -> None:
    story = Story({}, until=30)
    story.answers = [NoImagesError("/photos: no images in this folder")]
    assert story.batches() == [Batch()]
    assert story.looked == [0]


@pytest.mark.parametrize("error", [EngineError("vectors are not finite"), WeightsError("no such file or folder")])
def test_what_does_not_pass_is_raised(error: TandemError) -> None:
    story = Story({}, until=30)
    story.answers = [error]
    with pytest.raises(type(error), match=str(error)):
        story.batches()


def test_what_is_there_is_told_by_its_name_and_what_is_not_may_have_been_anything(tmp_path: Path) -> None:
    is_relevant = relevant_in([str(tmp_path)], str(tmp_path / "c.tandem"))
    for name in ("a.jpg", "B.PNG", "film.mp4", "a.txt", "a.json", ".tandemignore"):
        (tmp_path / name).touch()
        assert is_relevant(str(tmp_path / name)), name
    for name in ("notes.doc", "half.jpg.part", ".hidden.jpg"):
        (tmp_path / name).touch()
        assert not is_relevant(str(tmp_path / name)), name
    assert is_relevant(str(tmp_path / "vanished"))


def test_a_hidden_folder_that_was_named_is_followed(tmp_path: Path) -> None:
    folder = tmp_path / ".camera"
    (folder / ".thumbs").mkdir(parents=True)
    is_relevant = relevant_in([str(folder)], str(tmp_path / "c.tandem"))
    assert is_relevant(str(folder))
    assert is_relevant(str(folder / "a.jpg"))
    assert not is_relevant(str(folder / ".thumbs" / "a.jpg"))


def test_names_that_begin_alike_are_different_folders(tmp_path: Path) -> None:
    """A folder beside another of the same beginning; photos beside the collection; the collection through a link."""
    for name in ("photos", "photos-2", "photos-2/c.tandem", "photos-2/c.tandem-extra"):
        (tmp_path / name).mkdir()
    (tmp_path / "photos" / "link").symlink_to(tmp_path / "photos-2/c.tandem")
    folders = [str(tmp_path / "photos"), str(tmp_path / "photos-2")]
    is_relevant = relevant_in(folders, str(tmp_path / "photos-2/c.tandem"))
    for name in ("photos-2/a.jpg", "photos/a.jpg", "photos-2/c.tandem-extra/a.jpg"):
        assert is_relevant(str(tmp_path / name)), name
    for name in ("photos-2/c.tandem/a.jpg", "photos/link/a.jpg"):
        assert not is_relevant(str(tmp_path / name)), name


def test_changes_that_cannot_matter(tmp_path: Path) -> None:
    folder, collection = str(tmp_path), str(tmp_path / "c.tandem")
    (tmp_path / "sub.folder").mkdir()
    (tmp_path / "notes.doc").touch()
    is_relevant = relevant_in([folder], collection)
    for name in ("a.jpg", "x/b.PNG", "a.txt", "film.mp4", ".tandemignore", "sub.folder", "a-folder-that-is-gone"):
        assert is_relevant(f"{folder}/{name}"), name
    assert is_relevant(folder)
    for name in (".a.jpg.part", ".git/a.jpg", "c.tandem/a.jpg", "notes.doc", "c.tandem/current"):
        assert not is_relevant(f"{folder}/{name}"), name
    story = Story({5.0: {f"{folder}/notes.doc"}}, until=20)
    story.batches(is_relevant=is_relevant)
    assert story.looked == [0]


# --- streams ---------------------------------------------------------------------------------------------------------


def test_polling_reports_the_folders_every_so_often() -> None:
    clock = Clock()

    def sleep(seconds: float) -> None:
        clock.now += seconds

    stream = changes.polled(["/a"], 1.0, tick_s=0.25, clock=clock, sleep=sleep)
    found = []
    while clock.now < 3.5:
        if some := next(stream):
            found.append((clock.now, some))
    assert found == [(at, frozenset({"/a"})) for at in (1.0, 2.0, 3.0)]


def test_polling_more_often_than_the_tick_sleeps_no_longer_than_that() -> None:
    slept: list[float] = []
    stream = changes.polled(["/a"], 0.05, tick_s=0.25, clock=Clock(), sleep=slept.append)
    next(stream)
    next(stream)
    assert slept == [0.05]


def test_only_folders_that_are_there_are_watched_whatever_lies_in_them(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """One that vanishes at this very moment is tried again; one that may not be read ends nothing."""
    watchfiles = pytest.importorskip("watchfiles")
    asked: list[tuple[tuple[str, ...], dict[str, Any]]] = []

    def watch(*folders: str, **options: Any) -> Iterator[set[tuple[int, str]]]:
        asked.append((folders, options))
        if len(asked) == 1:
            raise FileNotFoundError(folders[0])
        yield {(1, str(tmp_path / "node_modules/.git/a.jpg"))}

    monkeypatch.setattr(watchfiles, "watch", watch)
    stream = changes.changes([str(tmp_path), str(tmp_path / "none")], tick_s=0.01)
    assert next(stream) == {str(tmp_path / "node_modules/.git/a.jpg")}
    assert [folders for folders, _ in asked] == [(str(tmp_path),)] * 2
    options = asked[0][1]
    assert options["watch_filter"] is None  # what is left out is the index's to say
    assert (options["ignore_permission_denied"], options["force_polling"]) == (True, False)


def test_without_any_folder_nothing_is_watched_and_the_clock_goes_on(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    watchfiles = pytest.importorskip("watchfiles")
    monkeypatch.setattr(watchfiles, "watch", lambda *_, **__: pytest.fail("nothing is there to be watched"))
    stream = changes.changes([str(tmp_path / "none")], tick_s=0.001)
    assert [next(stream) for _ in range(3)] == [frozenset()] * 3


def test_watchfiles_is_an_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "watchfiles", None)
    with pytest.raises(MissingExtraError, match=r"tandem-clip\[watch\]"):
        next(changes.changes(["/tmp"]))


def test_a_system_that_reports_nothing_says_what_to_do(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    watchfiles = pytest.importorskip("watchfiles")

    def watch(*_: object, **__: object) -> Iterator[set[object]]:
        raise OSError("OS file watch limit reached")
        yield set()

    monkeypatch.setattr(watchfiles, "watch", watch)
    with pytest.raises(TandemError, match="watch limit reached; --poll 60 looks"):
        next(changes.changes([str(tmp_path)]))


def test_a_folder_that_comes_back_counts_as_changed(tmp_path: Path) -> None:
    pytest.importorskip("watchfiles")
    folder = tmp_path / "disk"
    folder.mkdir()
    stream = changes.changes([str(folder)], tick_s=0.01)
    next(stream)
    folder.rename(tmp_path / "unmounted")
    seen = [next(stream) for _ in range(5)]
    assert frozenset({str(folder)}) in seen
    (tmp_path / "unmounted").rename(folder)
    assert any(str(folder) in next(stream) for _ in range(100))
    assert frozenset() in [next(stream) for _ in range(5)]  # once, and not again and again
    stream.close()  # type: ignore[attr-defined]


def test_another_folder_at_the_same_path_is_followed(tmp_path: Path) -> None:
    """As where a disk is mounted over an empty folder: no event says that the watched folder is not the one there."""
    pytest.importorskip("watchfiles")
    folder = tmp_path / "disk"
    folder.mkdir()
    stream = changes.changes([str(folder)], tick_s=0.01)
    next(stream)
    folder.rename(tmp_path / "away")
    folder.mkdir()
    assert any(str(folder) in next(stream) for _ in range(100))
    assert str(folder) in next(stream)  # again, when it is watched: what came in between is in it
    (folder / "new.jpg").touch()
    assert any(str(folder / "new.jpg") in next(stream) for _ in range(100))
    stream.close()  # type: ignore[attr-defined]


# --- all of it -------------------------------------------------------------------------------------------------------


def test_photos_of_a_real_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What came while nobody followed, new files, one that cannot be read, a moved one, a deleted one."""
    pytest.importorskip("watchfiles")
    monkeypatch.setenv("TANDEM_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(following, "REST", 0.0)
    folder = tmp_path / "photos"
    first, second = toy.write_images(folder, 2)
    photos = tandem.open(tmp_path / "c.tandem", toy.folder(tmp_path / "model"))
    photos.add(folder)
    toy.random_image(7).save(folder / "while-off.png")
    batches: queue.Queue[Batch] = queue.Queue()
    ended = threading.Event()

    def stream() -> Iterator[frozenset[str]]:
        for some in changes.changes([str(folder)], tick_s=0.02):
            yield some
            if ended.is_set():
                return

    def work() -> None:
        def index() -> IndexingReport:
            return photos.add(folder, prune=True, progress=False)

        for batch in follow(index, stream(), is_relevant=relevant_in([str(folder)], photos.url), quiet_s=0.05):
            batches.put(batch)

    def until(**wanted: int) -> IndexingReport:
        """The sum of the batches that it takes to see so much."""
        seen = dict.fromkeys(wanted, 0)
        while True:
            report = batches.get(timeout=60).report
            assert report is not None
            for name in wanted:
                failed = sum(failure.retried for failure in report.failures)
                seen[name] += failed if name == "failures" else getattr(report, name)
            if all(seen[name] >= count for name, count in wanted.items()):
                return report

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    try:
        assert until(added=1).total == 3  # it came while nobody followed
        toy.random_image(8).save(folder / "new.png")
        assert until(added=1).total == 4
        (folder / "late.png").write_bytes(b"not an image")
        assert until(failures=1).total == 4
        toy.random_image(9).save(folder / ".late.png.tmp", "png")  # as editors save: beside it, and then in its place
        os.replace(folder / ".late.png.tmp", folder / "late.png")
        assert until(added=1).total == 5
        toy.random_image(10).save(folder / ".new.png.tmp", "png")
        os.replace(folder / ".new.png.tmp", folder / "new.png")
        assert until(changed=1).total == 5
        (folder / "sub").mkdir()
        shutil.move(first, folder / "sub" / "moved.png")
        assert until(moved=1).total == 5  # one picture still
        (folder / "sub").rename(folder / "album")
        assert until(moved=1).total == 5  # with its folder
        second.unlink()
        assert until(pruned=1).total == 4
    finally:
        ended.set()
        thread.join(timeout=60)
    assert not thread.is_alive()
    names = sorted(str(Path(str(hit.metadata["path"])).relative_to(folder)) for hit in photos.search("a cat", k=9))
    assert names == ["album/moved.png", "late.png", "new.png", "while-off.png"]
    (hit,) = photos.search(image=toy.random_image(10), k=1)
    assert (Path(str(hit.metadata["path"])).name, hit.score > 0.9999) == ("new.png", True)  # as it is now
