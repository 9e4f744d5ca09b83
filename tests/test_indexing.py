"""Indexing: the collection ends as the sources are, whatever was there before and wherever a run was stopped."""

import gc
import io
import os
import shutil
import threading
import weakref
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import toy
from collection_toys import ToyEngine, contents, run, same, toy_model, values, writing
from PIL import Image
from test_sources import encoded, make_tar

from tandem.errors import EngineError, TandemError
from tandem.model import Model
from tandem.search.indexing import preparing, progress
from tandem.search.indexing import run as indexing_run
from tandem.search.indexing.ledger import Ledger
from tandem.search.indexing.local import Options, Progress, Report, index
from tandem.search.indexing.picture import COLUMNS, picture_id


def counts(report: Report) -> dict[str, int]:
    names = ("added", "unchanged", "duplicates", "moved", "changed", "pruned")
    return {name: getattr(report, name) for name in names if getattr(report, name)}


def reasons(report: Report) -> dict[str, str]:
    return {Path(failure.path).name: failure.reason for failure in report.failures}


def never() -> Model:
    raise AssertionError("the model was loaded although there is nothing to read")


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A folder with `pictures/`, five of them, for a collection beside it."""
    toy.pictures(tmp_path / "pictures", 5)
    return tmp_path


def fresh(home: Path, *named: Path, **options: Any) -> Any:
    """What a collection made from nothing would hold."""
    other = home / "fresh"
    shutil.rmtree(other, ignore_errors=True)
    other.mkdir()
    run(other, *named, **options)
    return contents(other)


# --- what goes in --------------------------------------------------------------------------------------------------


def test_pictures_go_in_with_the_vectors_of_the_model(home: Path) -> None:
    report = run(home, home / "pictures", batch_size=2)
    assert counts(report) == {"added": 5}
    assert report.total == 5
    assert report.failures == []
    engine = ToyEngine()
    model = Model(toy.checkpoint(), engine)  # type: ignore[arg-type]
    held = contents(home)
    for path in sorted((home / "pictures").iterdir()):
        paths, vector = held[picture_id(path.read_bytes())]
        assert paths == [str(path)]
        np.testing.assert_allclose(vector, model.embed_images(path)[0], atol=1e-6)
    stored = values(home, home / "pictures/0.png")
    assert set(stored) == set(COLUMNS)
    assert (stored["width"], stored["height"], stored["format"], stored["decoding"]) == (48, 40, "PNG", "full")
    assert stored["bytes"] == (home / "pictures/0.png").stat().st_size
    assert str(stored["indexed"]).endswith("+00:00")
    assert Image.open(io.BytesIO(stored["thumbnail"])).size == (48, 40)


def test_unchanged_files_are_not_read_and_no_model_is_loaded(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run(home, home / "pictures")
    before = contents(home)
    monkeypatch.setattr(preparing, "read_bytes", lambda *_, **__: pytest.fail("a file was read"))
    report = run(home, home / "pictures", model=never)
    assert counts(report) == {"unchanged": 5}
    assert same(contents(home), before)


def test_duplicates_are_stored_once_with_all_their_places(home: Path) -> None:
    engine = ToyEngine()
    model = Model(toy.checkpoint(), engine)  # type: ignore[arg-type]
    (home / "pictures/sub").mkdir()
    copies = [home / "pictures" / name for name in ("copy.png", "sub/a.png", "sub/b.png", "zz.png")]
    for copy in copies:
        shutil.copy(home / "pictures/2.png", copy)
    report = run(home, home / "pictures", model=model, batch_size=2)
    assert counts(report) == {"added": 5, "duplicates": 4}
    assert engine.encoded == 5
    paths, _ = contents(home)[picture_id(copies[0].read_bytes())]
    assert paths == sorted(str(path) for path in [*copies, home / "pictures/2.png"])
    shutil.copy(copies[0], home / "pictures/later.png")  # and one that comes in a later run
    assert counts(run(home, home / "pictures", model=model)) == {"unchanged": 9, "duplicates": 1}
    assert engine.encoded == 5


def test_many_threads_meet_the_same_picture(home: Path) -> None:
    for i in range(150):
        shutil.copy(home / f"pictures/{i % 3}.png", home / f"pictures/x{i:03}.png")
    (home / "pictures/bad0.jpg").write_bytes(b"bad")
    shutil.copy(home / "pictures/bad0.jpg", home / "pictures/bad1.jpg")
    engine = ToyEngine()
    report = run(home, home / "pictures", model=Model(toy.checkpoint(), engine), batch_size=4)  # type: ignore[arg-type]
    assert counts(report) == {"added": 5, "duplicates": 150}
    assert set(reasons(report)) == {"bad0.jpg", "bad1.jpg"}
    assert engine.encoded == 5
    assert sum(len(paths) for paths, _ in contents(home).values()) == 155


def test_a_moved_file_keeps_its_vector(home: Path) -> None:
    run(home, home / "pictures")
    before = contents(home)
    (home / "pictures/new").mkdir()
    (home / "pictures/1.png").rename(home / "pictures/new/one.png")
    engine = ToyEngine()
    report = run(home, home / "pictures", model=Model(toy.checkpoint(), engine))  # type: ignore[arg-type]
    assert counts(report) == {"unchanged": 4, "moved": 1}
    assert engine.encoded == 0
    id = picture_id((home / "pictures/new/one.png").read_bytes())
    paths, vector = contents(home)[id]
    assert paths == [str(home / "pictures/new/one.png")]
    assert vector.tobytes() == before[id][1].tobytes()
    assert values(home, paths[0])["thumbnail"]


def test_a_changed_file_leaves_its_old_picture(home: Path) -> None:
    shutil.copy(home / "pictures/0.png", home / "pictures/copy.png")
    run(home, home / "pictures")
    toy.picture(70).save(home / "pictures/0.png")  # whose old content is at another place too
    toy.picture(71, size=(50, 50)).save(home / "pictures/1.png")  # whose old content is nowhere else
    report = run(home, home / "pictures")
    assert counts(report) == {"unchanged": 4, "changed": 2}
    assert report.total == 6
    assert same(contents(home), fresh(home, home / "pictures"))


def test_swapped_files_keep_their_vectors(home: Path) -> None:
    run(home, home / "pictures")
    before = contents(home)
    a, b, c = home / "pictures/0.png", home / "pictures/4.png", home / "pictures/tmp"
    a.rename(c), b.rename(a), c.rename(b)
    for path in (a, b):
        os.utime(path)
    engine = ToyEngine()
    model = Model(toy.checkpoint(), engine)  # type: ignore[arg-type]
    assert counts(run(home, home / "pictures", model=model, batch_size=1)) == {"unchanged": 3, "changed": 2}
    assert engine.encoded == 0
    after = contents(home)
    assert after.keys() == before.keys()
    assert after[picture_id(a.read_bytes())][0] == [str(a)]
    assert after[picture_id(b.read_bytes())][0] == [str(b)]


def test_a_touched_file_only_refreshes_the_ledger(home: Path) -> None:
    run(home, home / "pictures")
    os.utime(home / "pictures/0.png", (1, 1))
    assert counts(run(home, home / "pictures")) == {"unchanged": 5}
    assert counts(run(home, home / "pictures", model=never)) == {"unchanged": 5}


# --- what goes out -------------------------------------------------------------------------------------------------


def test_prune_takes_out_what_is_gone_and_only_under_the_sources(home: Path) -> None:
    toy.picture(50).save(home / "elsewhere.png")
    (home / "other").mkdir()
    toy.picture(51).save(home / "other/x.png")
    shutil.copy(home / "pictures/0.png", home / "other/copy.png")
    run(home, home / "pictures", home / "elsewhere.png", home / "other")
    for name in ("elsewhere.png", "pictures/0.png", "pictures/1.png"):
        (home / name).unlink()
    assert counts(run(home, home / "pictures")) == {"unchanged": 3}  # not asked to
    assert len(contents(home)) == 7
    report = run(home, home / "pictures", prune=True, model=never)
    assert counts(report) == {"unchanged": 3, "pruned": 2}
    held = contents(home)
    assert len(held) == 6  # 1.png is gone; 0.png has another place; elsewhere.png is not under the source
    assert held[picture_id((home / "other/copy.png").read_bytes())][0] == [str(home / "other/copy.png")]
    assert counts(run(home, home / "pictures", prune=True)) == {"unchanged": 3}


def test_an_unmounted_disk_does_not_empty_the_collection(home: Path) -> None:
    (home / "disk").mkdir()
    toy.picture(60).save(home / "disk/a.png")
    run(home, home / "pictures", home / "disk")
    (home / "disk/a.png").rename(home / "a.png")
    for _ in range(2):  # an empty folder where it was mounted; then not even that
        with pytest.raises(TandemError, match="disk"):
            run(home, home / "pictures", home / "disk", prune=True)
        assert len(contents(home)) == 6
        shutil.rmtree(home / "disk", ignore_errors=True)


def test_a_root_that_vanishes_midway_loses_nothing(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run(home, home / "pictures")
    (home / "pictures/4.png").unlink()
    monkeypatch.setattr(indexing_run.sources.Sources, "is_there", lambda *_: False)
    assert counts(run(home, home / "pictures", prune=True)) == {"unchanged": 4}
    assert len(contents(home)) == 5


def test_prune_with_a_list_takes_out_what_is_listed_and_gone(home: Path) -> None:
    run(home, home / "pictures")
    (home / "pictures/4.png").unlink()
    lines = "\n".join(str(home / f"pictures/{name}.png") for name in (0, 4, 9)).encode()
    report = run(home, "-", standard_input=io.BytesIO(lines))
    assert reasons(report) == {"4.png": "no such file", "9.png": "no such file"}
    report = run(home, "-", standard_input=io.BytesIO(lines), prune=True)
    assert counts(report) == {"unchanged": 1, "pruned": 1}
    assert reasons(report) == {"9.png": "no such file"}
    assert len(contents(home)) == 4


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
        "text.jpg": "not a picture",
        "bomb.png": "more than the limit",
        "pipe.png": "not a regular file",
        "bad\\xff.png": "not UTF-8",
    }


def test_bad_files_are_set_aside_and_tried_again_only_when_they_change(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = spoil(home / "pictures")
    report = run(home, home / "pictures")
    assert counts(report) == {"added": 5}
    assert reasons(report).keys() == expected.keys()
    for name, reason in expected.items():
        assert reason in reasons(report)[name], name
    assert report.not_retried == 0

    again = run(home, home / "pictures", model=never)
    assert reasons(again) == reasons(report)
    assert {Path(one.path).name for one in again.failures if one.retried} == {"bad\\xff.png"}  # a name costs nothing
    assert again.not_retried == 5

    toy.picture(78).save(home / "pictures/truncated.png")
    (home / "pictures/text.jpg").write_bytes(b"other words, still no picture")
    third = run(home, home / "pictures")
    assert counts(third) == {"added": 1, "unchanged": 5}
    assert "truncated.png" not in reasons(third)
    assert [Path(one.path).name for one in third.failures if one.retried] == ["bad\\xff.png", "text.jpg"]


def test_what_cannot_be_read_is_set_aside_and_keeps_what_was_there(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run(home, home / "pictures")
    before = contents(home)
    path = home / "pictures/3.png"
    os.utime(path)
    real = Path.open

    def locked(self: Path, *arguments: Any, **options: Any) -> Any:
        if self == path:
            raise PermissionError(13, "Permission denied")
        return real(self, *arguments, **options)

    monkeypatch.setattr(Path, "open", locked)
    report = run(home, home / "pictures")
    assert reasons(report) == {"3.png": "permission denied"}
    assert same(contents(home), before)
    assert run(home, home / "pictures").not_retried == 1
    monkeypatch.setattr(Path, "open", real)
    path.chmod(0o600)  # which changes neither size nor time of the content
    os.chmod(path, 0o640)
    report = run(home, home / "pictures")
    assert report.failures == []
    assert counts(report) == {"unchanged": 5}


def test_a_file_that_vanishes_midway_is_set_aside_and_nothing_is_remembered(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = preparing.read_bytes

    def vanishing(source: Any, **options: Any) -> bytes:
        if str(source).endswith("2.png"):
            Path(source).unlink(missing_ok=True)
        return real(source, **options)

    content = (home / "pictures/2.png").read_bytes()
    monkeypatch.setattr(preparing, "read_bytes", vanishing)
    report = run(home, home / "pictures")
    assert reasons(report) == {"2.png": "no such file"}
    monkeypatch.undo()
    (home / "pictures/2.png").write_bytes(content)
    assert counts(run(home, home / "pictures")) == {"unchanged": 4, "added": 1}


def test_a_picture_that_becomes_bad_leaves(home: Path) -> None:
    run(home, home / "pictures")
    content = (home / "pictures/2.png").read_bytes()
    (home / "pictures/2.png").write_bytes(content[:100])
    (home / "pictures/3.png").write_bytes(b"")
    report = run(home, home / "pictures")
    assert set(reasons(report)) == {"2.png", "3.png"}
    assert same(contents(home), fresh(home, home / "pictures"))
    (home / "pictures/2.png").write_bytes(content)
    assert counts(run(home, home / "pictures")) == {"unchanged": 3, "added": 1}


def test_other_decoders_give_bad_files_another_chance(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (home / "pictures/bad.jpg").write_bytes(b"bad")
    run(home, home / "pictures")
    monkeypatch.setattr("tandem.search.indexing.settling._readers", lambda: "newer")
    assert run(home, home / "pictures").not_retried == 0
    assert run(home, home / "pictures").not_retried == 1


# --- captions ------------------------------------------------------------------------------------------------------


def test_captions_come_along_and_follow_their_file(home: Path) -> None:
    (home / "pictures/0.txt").write_text("a cat")
    (home / "pictures/1.json").write_text("{")
    report = run(home, home / "pictures")
    assert counts(report) == {"added": 5}
    assert list(reasons(report)) == ["1.png"]
    assert values(home, home / "pictures/0.png")["caption"] == "a cat"
    again = run(home, home / "pictures", model=never)
    assert reasons(again) == reasons(report)
    assert again.not_retried == 1
    before = contents(home)
    (home / "pictures/0.txt").write_text("a black cat")
    (home / "pictures/1.json").write_text('{"caption": "a dog"}')
    assert counts(run(home, home / "pictures")) == {"unchanged": 5}
    assert values(home, home / "pictures/0.png")["caption"] == "a black cat"
    assert values(home, home / "pictures/1.png")["caption"] == "a dog"
    assert same(contents(home), before)
    shutil.copy(home / "pictures/0.png", home / "pictures/zz.png")
    (home / "pictures/zz.txt").write_text("a black cat\nasleep")
    run(home, home / "pictures")
    assert values(home, home / "pictures/0.png")["caption"] == "a black cat\nasleep"


# --- shards --------------------------------------------------------------------------------------------------------


def test_an_unchanged_shard_is_not_looked_into(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    members = {"0.txt": b"zero"} | {f"{i}.png": encoded(i) for i in range(6)} | {"7.png": b"bad"}
    tar = make_tar(home / "s.tar", members)
    rows = [{"bytes": encoded(i), "path": None} for i in (0, 30, 31)]
    pq.write_table(pa.table({"image": rows, "caption": ["null", "thirty", None]}), home / "t.parquet")
    report = run(home, tar, home / "t.parquet", batch_size=2)
    assert counts(report) == {"added": 8, "duplicates": 1}
    assert set(reasons(report)) == {"7.png"}
    assert values(home, f"{tar}/0.png")["caption"] == "zero\nnull"
    assert values(home, f"{home}/t.parquet#1")["caption"] == "thirty"
    with monkeypatch.context() as patched:
        patched.setattr(indexing_run.shards, "entries", lambda *_: pytest.fail("it was looked into"))
        again = run(home, tar, home / "t.parquet", model=never)
    assert counts(again) == {"unchanged": 9}
    assert again.not_retried == 1

    make_tar(tar, {"9.png": encoded(90)} | {f"{i}.png": encoded(i) for i in range(3, 6)})
    assert counts(run(home, tar, home / "t.parquet", prune=True)) == {"unchanged": 6, "added": 1, "pruned": 3}
    assert same(contents(home), fresh(home, tar, home / "t.parquet"))
    tar.rename(home / "away.tar")
    with pytest.raises(TandemError, match=r"s\.tar"):
        run(home, tar, prune=True)
    assert counts(run(home, home / "*.parquet", home / "*.tar", prune=True))["moved"] == 4
    assert same(contents(home), fresh(home, home / "away.tar", home / "t.parquet"))
    (home / "away.tar").rename(tar)
    run(home, home / "*.parquet", home / "*.tar", prune=True)
    assert same(contents(home), fresh(home, tar, home / "t.parquet"))


def test_a_damaged_shard_gives_what_it_can(home: Path) -> None:
    tar = make_tar(home / "s.tar", {f"{i}.png": encoded(i) for i in range(6)})
    whole = tar.read_bytes()
    tar.write_bytes(whole[: 512 * 14 + 100])
    report = run(home, tar)
    assert 0 < report.added < 6
    assert "s.tar" in reasons(report)
    assert run(home, tar, model=never).not_retried == len(report.failures)
    tar.write_bytes(whole)
    assert run(home, tar).added == 6 - report.added
    assert len(contents(home)) == 6


def test_files_named_in_parquet_are_looked_at_though_it_has_not_changed(home: Path) -> None:
    pq.write_table(
        pa.table({"path": ["pictures/0.png", "pictures/1.png"], "text": ["zero", "one"]}), home / "t.parquet"
    )
    assert counts(run(home, home / "t.parquet")) == {"added": 2}
    assert values(home, home / "pictures/1.png")["caption"] == "one"
    toy.picture(99).save(home / "pictures/1.png")
    assert counts(run(home, home / "t.parquet")) == {"unchanged": 1, "changed": 1}
    assert counts(run(home, home / "pictures")) == {"unchanged": 2, "added": 3}  # its captions stay
    assert values(home, home / "pictures/1.png")["caption"] == "one"


# --- stopped midway ------------------------------------------------------------------------------------------------


class Stopped(Exception):
    pass


@pytest.mark.parametrize("stop_at", [1, 2, 3])
@pytest.mark.parametrize("verb", ["before", "after"])
def test_a_crash_between_the_store_and_the_ledger_loses_and_doubles_nothing(
    home: Path, monkeypatch: pytest.MonkeyPatch, stop_at: int, verb: str
) -> None:
    """The store has the batch and the ledger does not, also where files then change, move or go before the next run."""
    pictures = home / "pictures"
    run(home, pictures)
    toy.picture(100).save(pictures / "0.png")
    (pictures / "1.png").rename(pictures / "9.png")
    toy.picture(101).save(pictures / "new.png")
    real, calls = Ledger.note, 0

    def note(self: Ledger, *arguments: Any, **options: Any) -> None:
        nonlocal calls
        calls += 1
        if calls == stop_at and verb == "before":
            raise Stopped
        real(self, *arguments, **options)
        if calls == stop_at:
            raise Stopped

    with monkeypatch.context() as patched:
        patched.setattr(Ledger, "note", note)
        with pytest.raises(Stopped):
            run(home, pictures, batch_size=1)
    toy.picture(102).save(pictures / "0.png")
    toy.picture(103).save(pictures / "new.png")
    (pictures / "2.png").unlink()
    run(home, pictures, prune=True)
    assert same(contents(home), fresh(home, pictures))


def test_without_its_ledger_a_collection_is_brought_up_to_date_all_the_same(home: Path) -> None:
    shutil.copy(home / "pictures/0.png", home / "pictures/copy.png")
    run(home, home / "pictures")
    for path in home.glob("files.sqlite*"):
        path.unlink()
    toy.picture(100).save(home / "pictures/0.png")
    toy.picture(101).save(home / "pictures/1.png")
    engine = ToyEngine()
    report = run(home, home / "pictures", model=Model(toy.checkpoint(), engine))  # type: ignore[arg-type]
    assert counts(report) == {"unchanged": 4, "changed": 2}
    assert engine.encoded == 2
    assert same(contents(home), fresh(home, home / "pictures"))


def test_an_emptied_collection_is_filled_again(home: Path) -> None:
    run(home, home / "pictures")
    with writing(home) as (store, _):
        store.delete(list(contents(home)))
    assert counts(run(home, home / "pictures")) == {"added": 5}


def test_interrupted_what_was_committed_stays_and_the_next_run_goes_on(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress, "EVERY_S", 0)
    toy.pictures(home / "pictures", 40)

    def interrupt(now: Progress) -> None:
        if now.done >= 8:
            raise KeyboardInterrupt

    before = threading.active_count()
    with pytest.raises(KeyboardInterrupt):
        run(home, home / "pictures", batch_size=4, on_progress=interrupt)
    assert threading.active_count() == before
    done = len(contents(home))
    assert 8 <= done < 40
    engine = ToyEngine()
    report = run(home, home / "pictures", model=Model(toy.checkpoint(), engine))  # type: ignore[arg-type]
    assert counts(report) == {"unchanged": done, "added": 40 - done}
    assert engine.encoded == 40 - done


def test_an_engine_that_fails_stops_the_run_and_its_threads(home: Path) -> None:
    class Broken(ToyEngine):
        def encode_images(self, pixels: np.ndarray) -> np.ndarray:
            return super().encode_images(pixels) * (np.nan if self.encoded else 1)

    before = threading.active_count()
    with pytest.raises(EngineError, match="not finite"):
        run(home, home / "pictures", model=Model(toy.checkpoint(), Broken()), batch_size=2)  # type: ignore[arg-type]
    assert threading.active_count() == before
    assert counts(run(home, home / "pictures")) == {"added": 5}


# --- how it runs ---------------------------------------------------------------------------------------------------


def test_stages_overlap_and_only_the_caller_writes(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """While a batch is written the next one is encoded, and while that happens others are decoded."""
    toy.pictures(home / "pictures", 24)
    decoding, encoding = threading.Event(), threading.Event()
    seen: set[str] = set()
    engine = ToyEngine()
    real_encode, real_decode = engine.encode_images, preparing.decode

    def encode(pixels: np.ndarray) -> np.ndarray:
        encoding.set()
        decoding.clear()
        if decoding.wait(0.5):
            seen.add("decoded while encoding")
        return real_encode(pixels)

    def decode(*arguments: Any, **options: Any) -> Any:
        decoding.set()
        return real_decode(*arguments, **options)

    engine.encode_images = encode  # type: ignore[method-assign]
    monkeypatch.setattr(preparing, "decode", decode)
    with writing(home) as (store, ledger):
        real_upsert = store.upsert
        writers = set()

        def upsert(records: Any) -> None:
            writers.add(threading.get_ident())
            encoding.clear()
            if encoding.wait(0.5):
                seen.add("encoded while writing")
            real_upsert(records)

        monkeypatch.setattr(store, "upsert", upsert)
        index(store, Model(toy.checkpoint(), engine), [home / "pictures"], ledger, Options(batch_size=3))  # type: ignore[arg-type]
    assert seen == {"decoded while encoding", "encoded while writing"}
    assert writers == {threading.get_ident()}
    assert threading.get_ident() not in engine.threads


@pytest.mark.parametrize("count", [60, 180])
def test_memory_is_flat_in_the_number_of_files(home: Path, monkeypatch: pytest.MonkeyPatch, count: int) -> None:
    """The pictures alive at any time are those that are under way, however many there are."""
    toy.pictures(home / "pictures", count)
    alive: weakref.WeakSet[Any] = weakref.WeakSet()
    most = 0
    real = preparing.to_pixels

    class Counted(np.ndarray):
        pass

    def to_pixels(*arguments: Any) -> Any:
        nonlocal most
        pixels = real(*arguments).view(Counted)
        alive.add(Weak(pixels))
        most = max(most, len(alive))
        return pixels

    class Weak:
        def __init__(self, array: Counted) -> None:
            array.owner = self  # type: ignore[attr-defined]  # lives as long as the array

    monkeypatch.setattr(preparing, "to_pixels", to_pixels)
    run(home, home / "pictures", batch_size=4)
    gc.collect()
    assert 4 <= most <= 4 * 6  # two batches ahead of the encoder, one in it, and those waiting for the writer
    assert len(alive) == 0


def test_progress_counts_up_to_all_there_is(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "EVERY_S", 0)
    toy.pictures(home / "pictures", 30)
    (home / "pictures/bad.jpg").write_bytes(b"bad")
    make_tar(home / "s.tar", {f"{i}.png": encoded(100 + i) for i in range(5)})
    told: list[Progress] = []
    run(home, home / "pictures", home / "s.tar", batch_size=4, on_progress=told.append)
    assert [one.done for one in told] == sorted(one.done for one in told)
    assert len(told) > 2
    last = told[-1]
    assert (last.done, last.total, last.set_aside, last.seconds_left) == (36, 36, 1, 0)
    assert last.rate > 0
    told.clear()
    run(home, home / "pictures", home / "s.tar", on_progress=told.append, model=never)
    assert (told[-1].done, told[-1].set_aside) == (36, 1)


def test_a_collection_inside_its_own_source_is_left_alone(home: Path) -> None:
    toy.picture(99).save(home / "top.png")
    assert counts(run(home, home)) == {"added": 6}
    (home / "c.tandem/trap.png").write_bytes(encoded(98))
    assert counts(run(home, home)) == {"unchanged": 6}


def test_the_sources_are_checked_before_anything_is_done(home: Path) -> None:
    with pytest.raises(TandemError, match="nowhere"):
        run(home, home / "pictures", home / "nowhere", model=never)
    assert contents(home) == {}


# --- fast decoding -------------------------------------------------------------------------------------------------


def test_fast_decoding_is_recorded_and_counted(home: Path) -> None:
    photos = home / "photos"
    photos.mkdir()
    toy.picture(1, size=(2400, 1600)).save(photos / "large.jpg", quality=90)
    toy.picture(2, size=(300, 260)).save(photos / "small.jpg")
    toy.picture(3, size=(2400, 1600)).save(photos / "large.png", compress_level=1)
    report = run(home, photos, fast_decode=True)
    assert report.fast == 1
    large = values(home, photos / "large.jpg")
    assert (large["decoding"], large["width"], large["height"]) == ("fast", 2400, 1600)
    assert max(Image.open(io.BytesIO(large["thumbnail"])).size) == 256
    assert [values(home, photos / name)["decoding"] for name in ("small.jpg", "large.png")] == ["full", "full"]
    fast, full = contents(home), fresh(home, photos)
    assert fast.keys() == full.keys()
    for id, (_, vector) in fast.items():
        assert vector @ full[id][1] > 0.99
    assert run(home, photos).fast == 1  # what is there stays as it was made, and the report says so


def test_the_embedding_of_a_picture_does_not_depend_on_its_batch() -> None:
    """What makes a run after a crash end like one without: other batches, the same vectors."""
    from tandem import engine as engines

    described = toy.checkpoint()
    engine = engines.build(described.config, described.tensors, engine="openvino")
    pixels = np.random.default_rng(0).integers(0, 256, (33, toy.SIZE, toy.SIZE, 3), dtype=np.uint8)
    whole = engine.encode_images(pixels)
    for size in (1, 2, 7, 32):
        parts = [engine.encode_images(pixels[i : i + size]) for i in range(0, 33, size)]
        np.testing.assert_allclose(np.concatenate(parts), whole, atol=2e-6)


def test_the_toy_model_is_one() -> None:
    assert toy_model().engine.encode_images(np.zeros((2, toy.SIZE, toy.SIZE, 3), np.uint8)).shape == (2, 12)
