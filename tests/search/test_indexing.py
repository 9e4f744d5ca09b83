"""Indexing: the collection ends as the sources are, whatever was there before."""

import io
import os
import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image
from support import toy
from support.collection_toys import ToyEngine, contents, counts, fresh, never, reasons, run, same, values
from support.tars import tar_of
from test_sources import encoded

from tandem.errors import TandemError
from tandem.model import Model
from tandem.search.indexing import preparing
from tandem.search.indexing import run as indexing_run
from tandem.search.indexing.image_record import COLUMNS, image_id


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A folder with `images/`, five of them, for a collection beside it."""
    toy.write_images(tmp_path / "images", 5)
    return tmp_path


# --- what goes in --------------------------------------------------------------------------------------------------


def test_images_go_in_with_the_vectors_of_the_model(home: Path) -> None:
    report = run(home, home / "images", batch_size=2)
    assert counts(report) == {"added": 5}
    assert report.total == 5
    assert report.failures == []
    engine = ToyEngine()
    model = Model(toy.checkpoint(), engine)  # type: ignore[arg-type]
    held = contents(home)
    for path in sorted((home / "images").iterdir()):
        paths, vector = held[image_id(path.read_bytes())]
        assert paths == [str(path)]
        np.testing.assert_allclose(vector, model.embed_images(path)[0], atol=1e-6)
    stored = values(home, home / "images/0.png")
    assert set(stored) == set(COLUMNS)
    assert (stored["width"], stored["height"], stored["format"], stored["decoding"]) == (48, 40, "PNG", "full")
    assert stored["bytes"] == (home / "images/0.png").stat().st_size
    assert str(stored["indexed"]).endswith("+00:00")
    assert Image.open(io.BytesIO(stored["thumbnail"])).size == (48, 40)


def test_unchanged_files_are_not_read_and_no_model_is_loaded(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run(home, home / "images")
    before = contents(home)
    monkeypatch.setattr(preparing, "read_bytes", lambda *_, **__: pytest.fail("a file was read"))
    report = run(home, home / "images", model=never)
    assert counts(report) == {"unchanged": 5}
    assert same(contents(home), before)


def test_duplicates_are_stored_once_with_all_their_places(home: Path) -> None:
    engine = ToyEngine()
    model = Model(toy.checkpoint(), engine)  # type: ignore[arg-type]
    (home / "images/sub").mkdir()
    copies = [home / "images" / name for name in ("copy.png", "sub/a.png", "sub/b.png", "zz.png")]
    for copy in copies:
        shutil.copy(home / "images/2.png", copy)
    report = run(home, home / "images", model=model, batch_size=2)
    assert counts(report) == {"added": 5, "duplicates": 4}
    assert engine.encoded == 5
    paths, _ = contents(home)[image_id(copies[0].read_bytes())]
    assert paths == sorted(str(path) for path in [*copies, home / "images/2.png"])
    shutil.copy(copies[0], home / "images/later.png")  # and one that comes in a later run
    assert counts(run(home, home / "images", model=model)) == {"unchanged": 9, "duplicates": 1}
    assert engine.encoded == 5


def test_many_threads_meet_the_same_image(home: Path) -> None:
    for i in range(150):
        shutil.copy(home / f"images/{i % 3}.png", home / f"images/x{i:03}.png")
    (home / "images/bad0.jpg").write_bytes(b"bad")
    shutil.copy(home / "images/bad0.jpg", home / "images/bad1.jpg")
    engine = ToyEngine()
    report = run(home, home / "images", model=Model(toy.checkpoint(), engine), batch_size=4)  # type: ignore[arg-type]
    assert counts(report) == {"added": 5, "duplicates": 150}
    assert set(reasons(report)) == {"bad0.jpg", "bad1.jpg"}
    assert engine.encoded == 5
    assert sum(len(paths) for paths, _ in contents(home).values()) == 155


def test_a_moved_file_keeps_its_vector(home: Path) -> None:
    run(home, home / "images")
    before = contents(home)
    (home / "images/new").mkdir()
    (home / "images/1.png").rename(home / "images/new/one.png")
    engine = ToyEngine()
    report = run(home, home / "images", model=Model(toy.checkpoint(), engine))  # type: ignore[arg-type]
    assert counts(report) == {"unchanged": 4, "moved": 1}
    assert engine.encoded == 0
    id = image_id((home / "images/new/one.png").read_bytes())
    paths, vector = contents(home)[id]
    assert paths == [str(home / "images/new/one.png")]
    assert vector.tobytes() == before[id][1].tobytes()
    assert values(home, paths[0])["thumbnail"]


def test_a_changed_file_leaves_its_old_image(home: Path) -> None:
    shutil.copy(home / "images/0.png", home / "images/copy.png")
    run(home, home / "images")
    toy.random_image(70).save(home / "images/0.png")  # whose old content is at another place too
    toy.random_image(71, size=(50, 50)).save(home / "images/1.png")  # whose old content is nowhere else
    report = run(home, home / "images")
    assert counts(report) == {"unchanged": 4, "changed": 2}
    assert report.total == 6
    assert same(contents(home), fresh(home, home / "images"))


def test_swapped_files_keep_their_vectors(home: Path) -> None:
    run(home, home / "images")
    before = contents(home)
    a, b, c = home / "images/0.png", home / "images/4.png", home / "images/tmp"
    a.rename(c), b.rename(a), c.rename(b)
    for path in (a, b):
        os.utime(path)
    engine = ToyEngine()
    model = Model(toy.checkpoint(), engine)  # type: ignore[arg-type]
    assert counts(run(home, home / "images", model=model, batch_size=1)) == {"unchanged": 3, "changed": 2}
    assert engine.encoded == 0
    after = contents(home)
    assert after.keys() == before.keys()
    assert after[image_id(a.read_bytes())][0] == [str(a)]
    assert after[image_id(b.read_bytes())][0] == [str(b)]


def test_a_touched_file_only_refreshes_the_ledger(home: Path) -> None:
    run(home, home / "images")
    os.utime(home / "images/0.png", (1, 1))
    assert counts(run(home, home / "images")) == {"unchanged": 5}
    assert counts(run(home, home / "images", model=never)) == {"unchanged": 5}


# --- what goes out -------------------------------------------------------------------------------------------------


def test_prune_takes_out_what_is_gone_and_only_under_the_sources(home: Path) -> None:
    toy.random_image(50).save(home / "elsewhere.png")
    (home / "other").mkdir()
    toy.random_image(51).save(home / "other/x.png")
    shutil.copy(home / "images/0.png", home / "other/copy.png")
    run(home, home / "images", home / "elsewhere.png", home / "other")
    for name in ("elsewhere.png", "images/0.png", "images/1.png"):
        (home / name).unlink()
    assert counts(run(home, home / "images")) == {"unchanged": 3}  # no pruning
    assert len(contents(home)) == 7
    report = run(home, home / "images", prune=True, model=never)
    assert counts(report) == {"unchanged": 3, "pruned": 2}
    held = contents(home)
    assert len(held) == 6  # 1.png is gone; 0.png has another place; elsewhere.png is not under the source
    assert held[image_id((home / "other/copy.png").read_bytes())][0] == [str(home / "other/copy.png")]
    assert counts(run(home, home / "images", prune=True)) == {"unchanged": 3}


def test_an_unmounted_disk_does_not_empty_the_collection(home: Path) -> None:
    (home / "disk").mkdir()
    toy.random_image(60).save(home / "disk/a.png")
    run(home, home / "images", home / "disk")
    (home / "disk/a.png").rename(home / "a.png")
    for _ in range(2):  # an empty folder where it was mounted; then not even that
        with pytest.raises(TandemError, match="disk"):
            run(home, home / "images", home / "disk", prune=True)
        assert len(contents(home)) == 6
        shutil.rmtree(home / "disk", ignore_errors=True)


def test_a_root_that_vanishes_midway_loses_nothing(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run(home, home / "images")
    (home / "images/4.png").unlink()
    monkeypatch.setattr(indexing_run.sources.Sources, "is_there", lambda *_: False)
    assert counts(run(home, home / "images", prune=True)) == {"unchanged": 4}
    assert len(contents(home)) == 5


def test_prune_with_a_list_takes_out_what_is_listed_and_gone(home: Path) -> None:
    run(home, home / "images")
    (home / "images/4.png").unlink()
    lines = "\n".join(str(home / f"images/{name}.png") for name in (0, 4, 9)).encode()
    report = run(home, "-", standard_input=io.BytesIO(lines))
    assert reasons(report) == {"4.png": "no such file", "9.png": "no such file"}
    report = run(home, "-", standard_input=io.BytesIO(lines), prune=True)
    assert counts(report) == {"unchanged": 1, "pruned": 1}
    assert reasons(report) == {"9.png": "no such file"}
    assert len(contents(home)) == 4


# --- captions ------------------------------------------------------------------------------------------------------


def test_captions_come_along_and_follow_their_file(home: Path) -> None:
    (home / "images/0.txt").write_text("a cat")
    (home / "images/1.json").write_text("{")
    report = run(home, home / "images")
    assert counts(report) == {"added": 5}
    assert list(reasons(report)) == ["1.png"]
    assert values(home, home / "images/0.png")["caption"] == "a cat"
    again = run(home, home / "images", model=never)
    assert reasons(again) == reasons(report)
    assert again.not_retried == 1
    before = contents(home)
    (home / "images/0.txt").write_text("a black cat")
    (home / "images/1.json").write_text('{"caption": "a dog"}')
    assert counts(run(home, home / "images")) == {"unchanged": 5}
    assert values(home, home / "images/0.png")["caption"] == "a black cat"
    assert values(home, home / "images/1.png")["caption"] == "a dog"
    assert same(contents(home), before)
    shutil.copy(home / "images/0.png", home / "images/zz.png")
    (home / "images/zz.txt").write_text("a black cat\nasleep")
    run(home, home / "images")
    assert values(home, home / "images/0.png")["caption"] == "a black cat\nasleep"


# --- shards --------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_an_unchanged_shard_is_not_looked_into(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    members = {"0.txt": b"zero"} | {f"{i}.png": encoded(i) for i in range(6)} | {"7.png": b"bad"}
    tar = tar_of(home / "s.tar", members)
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

    tar_of(tar, {"9.png": encoded(90)} | {f"{i}.png": encoded(i) for i in range(3, 6)})
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
    tar = tar_of(home / "s.tar", {f"{i}.png": encoded(i) for i in range(6)})
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
    pq.write_table(pa.table({"path": ["images/0.png", "images/1.png"], "text": ["zero", "one"]}), home / "t.parquet")
    assert counts(run(home, home / "t.parquet")) == {"added": 2}
    assert values(home, home / "images/1.png")["caption"] == "one"
    toy.random_image(99).save(home / "images/1.png")
    assert counts(run(home, home / "t.parquet")) == {"unchanged": 1, "changed": 1}
    assert counts(run(home, home / "images")) == {"unchanged": 2, "added": 3}  # its captions stay
    assert values(home, home / "images/1.png")["caption"] == "one"


def test_what_is_gone_is_counted_until_it_is_pruned(home: Path) -> None:
    """Not what merely cannot be looked at, and for each kind of source."""
    images = home / "images"
    assert run(home, images).gone == 0
    (images / "0.png").unlink()
    (images / "1.png").unlink()
    toy.random_image(50).save(images / "new.png")
    for named in ([images], [images / "*.png"], [images, images / "2.png"], [home]):
        assert run(home, *named).gone == 2
    assert run(home, images / "2.png").gone == 0  # says nothing of others
    report = run(home, images, prune=True)
    assert (report.pruned, report.gone) == (2, 0)
    assert run(home, images).gone == 0


def test_what_is_excluded_is_counted_and_stays_if_it_was_there(home: Path) -> None:
    images = home / "images"
    run(home, images)
    (images / ".tandemignore").write_text("0.png\n")
    report = run(home, images, exclude=("1.png", "nothing.png"))
    assert (report.excluded, report.unchanged, report.gone, report.total) == (2, 3, 0, 5)
