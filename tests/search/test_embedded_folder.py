"""The folder of a local store: odd names, damage, other users, interrupted creations and promotions."""

import contextlib
import errno
import os
import shutil
import sqlite3
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import pytest
from support.embedded_toys import SCHEMA, filled, index_for_toys, records, unit

from tandem.errors import StoreBusyError, StoreError, StoreExistsError, StoreNotFoundError
from tandem.search.stores import backends
from tandem.search.stores.embedded import checksum_table, generations
from tandem.search.stores.embedded.backend import EmbeddedBackend
from tandem.search.stores.embedded.sqlite_errors import database_errors


@pytest.fixture
def url(tmp_path: Path) -> str:
    return str(tmp_path / "photos.tandem")


# Places and damage


@pytest.mark.parametrize("name", ["with space", "what?mode=memory", "50%20#1", "日本", "a'b\"c;d&e"])
def test_odd_names_of_folders(tmp_path: Path, name: str) -> None:
    url = str(tmp_path / name / name)
    filled(url, 10).close()
    with EmbeddedBackend(url).open() as store:
        assert store.count() == 10
    assert sorted(path.name for path in tmp_path.iterdir()) == [name]


def test_folders_that_are_no_collection(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="no collection there"):
        EmbeddedBackend(str(tmp_path / "nothing")).open()
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "a.jpg").write_bytes(b"")
    with pytest.raises(StoreError, match="got a folder of other things"):
        EmbeddedBackend(str(tmp_path / "images")).open()
    with pytest.raises(StoreError, match=r"'a.jpg' in it"):
        EmbeddedBackend(str(tmp_path / "images")).create(SCHEMA, {})
    assert [path.name for path in (tmp_path / "images").iterdir()] == ["a.jpg"]
    with pytest.raises(StoreError, match="this is a file"):
        EmbeddedBackend(str(tmp_path / "images" / "a.jpg")).create(SCHEMA, {})
    with pytest.raises(StoreError, match="got a file"):
        EmbeddedBackend(str(tmp_path / "images" / "a.jpg")).open()
    assert not backends.exists(str(tmp_path / "images"))
    assert not backends.exists(str(tmp_path / "images" / "a.jpg"))


def test_of_threads_that_create_a_collection_at_once_one_wins_and_the_others_fail(url: str) -> None:
    inside, go_on = threading.Event(), threading.Event()

    def fill(draft: Path) -> None:
        inside.set()
        assert go_on.wait(60)

    with ThreadPoolExecutor(1) as pool:
        winner = pool.submit(generations.prepare, url, fill)
        assert inside.wait(60)
        with pytest.raises(StoreBusyError, match="another process is making"):
            EmbeddedBackend(url).create(SCHEMA, {})
        with pytest.raises(StoreNotFoundError, match="another process may be making it"):
            EmbeddedBackend(url).open()
        go_on.set()
        assert winner.result().is_dir()
    with pytest.raises(StoreExistsError):
        EmbeddedBackend(url).create(SCHEMA, {})
    assert sorted(os.listdir(url)) == ["current", "g1"]


def test_a_creation_that_fails_leaves_no_folder(url: str) -> None:
    def fill(draft: Path) -> None:
        raise OSError(errno.ENOSPC, "no space")

    with pytest.raises(StoreError, match="cannot be made here"):
        generations.prepare(url, fill)
    assert not os.path.exists(url)


def test_a_writer_without_a_process_id_is_another_process(url: str) -> None:
    with filled(url, 10):
        (generations.folder(url) / generations.WRITER).write_text("")
        with pytest.raises(StoreBusyError, match="another process is writing"):
            EmbeddedBackend(url).open(write=True)


def test_the_folder_of_a_store_is_known_by_what_is_in_it(url: str, tmp_path: Path) -> None:
    filled(url, 10).close()
    assert backends.is_store_folder(url, os.listdir(url))
    assert not backends.is_store_folder(url, ["a.jpg"])
    (tmp_path / "photos").mkdir()
    assert not backends.is_store_folder(str(tmp_path / "photos"), os.listdir(tmp_path / "photos"))


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:100])


def scribble(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[100:] = b"\x5a" * (len(data) - 100)
    path.write_bytes(data)


def newer(path: Path) -> None:
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA user_version = 4")
    connection.close()


def foreign(path: Path) -> None:
    path.unlink()
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE something (a)")
    connection.close()


@pytest.mark.parametrize("write", [False, True])
@pytest.mark.parametrize(
    ("name", "damage", "message"),
    [
        ("g1/records.sqlite", Path.unlink, "records.sqlite, and it is missing"),
        ("g1/records.sqlite", lambda path: path.write_bytes(b"no database at all" * 100), "damaged"),
        ("g1/records.sqlite", lambda path: path.write_bytes(b""), "another program's"),
        ("g1/records.sqlite", scribble, "damaged"),
        ("g1/records.sqlite", newer, "format 4, this Tandem knows 3; install a newer Tandem"),
        ("g1/records.sqlite", foreign, "another program's"),
        ("g1/vectors-1.f32", Path.unlink, "vectors are missing"),
        ("g1/vectors-1.f32", cut, r"expected 640 bytes, got 100"),
        ("current", Path.unlink, "write g1 into"),
        ("current", lambda path: path.write_text("../../etc"), "expected the name of a generation"),
        ("current", lambda path: path.write_bytes(b"\xff\xfe"), "cannot be read"),
        ("current", lambda path: path.write_text("g7"), "expected the data of a collection"),
    ],
)
def test_damage_is_named(url: str, name: str, damage: Callable[[Path], object], message: str, write: bool) -> None:
    filled(url, 10).close()
    damage(Path(url) / name)
    with pytest.raises(StoreError, match=message) as caught:
        EmbeddedBackend(url).open(write=write)
    assert "\n" not in str(caught.value)
    if name != "current":  # and nobody is locked out by the attempt
        generations.lock_for_writing(url, Path(url) / "g1").release()


def test_a_frozen_folder_can_be_read(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Media that cannot be written to, without and with a writer elsewhere."""
    filled(url, 20).close()
    frozen = Path(url + " copy")
    shutil.copytree(url, frozen)
    before = {path: path.stat().st_mtime_ns for path in frozen.rglob("*")}
    may = os.access
    monkeypatch.setattr(
        os,
        "access",
        lambda path, mode, **more: mode != os.W_OK and may(path, mode, **more),  # type: ignore[arg-type]
    )
    with EmbeddedBackend(str(frozen)).open() as store:
        assert store.count("number < 5") == 5
        assert len(store.search(unit(1), 3)[0]) == 3
        assert {path: path.stat().st_mtime_ns for path in frozen.rglob("*")} == before, "something was written"
        with EmbeddedBackend(str(frozen)).open(write=True) as writer:
            writer.upsert(records(20, 40))
            assert store.count() == 40
        assert store.count() == 40


@pytest.mark.skipif(not hasattr(os, "getuid") or os.getuid() != 0, reason="only root can become somebody else")
@pytest.mark.parametrize("writing", [False, True])
def test_somebody_else_can_read(tmp_path: Path, writing: bool) -> None:
    place = Path("/tmp") / f"tandem-test-{os.getpid()}-{writing}"  # where everybody may go
    try:
        store = filled(str(place / "photos.tandem"), 20)
        for path in place.rglob("*"):
            path.chmod(0o755 if path.is_dir() else 0o644)
        if not writing:
            store.close()
        child = os.fork()
        if not child:
            try:
                os.setuid(65534)
                reader = EmbeddedBackend(str(place / "photos.tandem")).open()
                right = reader.count() == 20 and len(reader.search(unit(1), 3)[0]) == 3
                try:
                    EmbeddedBackend(str(place / "photos.tandem")).open(write=True)
                    right = False
                except StoreError:
                    pass
                os._exit(0 if right else 1)
            except BaseException:
                import traceback

                traceback.print_exc()
                os._exit(2)
        assert os.waitpid(child, 0)[1] == 0
        store.close()
    finally:
        shutil.rmtree(place, ignore_errors=True)


# A full disk


def no_space(*_: object) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


def test_a_full_disk_is_one_line_and_loses_nothing(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with filled(url, 10) as store:
        assert store._writer is not None
        pages = store._writer.execute("PRAGMA page_count").fetchone()[0]
        store._writer.execute(f"PRAGMA max_page_count = {pages}")  # what SQLite then says, it says of a full disk too
        with pytest.raises(StoreError, match="the disk is full; make room"):
            store.upsert(records(10, 1000))
        store._writer.execute("PRAGMA max_page_count = 1000000")
        with monkeypatch.context() as full:
            full.setattr(os, "fsync", no_space)
            with pytest.raises(StoreError, match="the disk is full; make room"):
                store.upsert(records(10, 20))
        with monkeypatch.context() as full:
            full.setattr(shutil, "disk_usage", lambda folder: SimpleNamespace(free=0))
            with pytest.raises(StoreError, match="the disk is full"), database_errors(Path(url)):
                raise _of_sqlite("disk I/O error", sqlite3.SQLITE_IOERR_WRITE)
        assert store.count() == 10
        store.upsert(records(10, 20))
        assert store.count() == 20


def test_an_index_that_does_not_fit_on_the_disk_is_one_warning(
    url: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    faiss = pytest.importorskip("faiss")
    index_for_toys(monkeypatch)

    write = faiss.write_index

    def write_index(index: object, target: object, *more: object) -> None:
        if isinstance(target, str):
            Path(target).write_bytes(b"half")
            raise RuntimeError("Error: 'ret == (1)' failed: write error: No space left on device")
        write(index, target, *more)

    monkeypatch.setattr(faiss, "write_index", write_index)
    filled(url, 1200).close()
    assert "its index is not up to date" in caplog.text
    assert "Traceback" not in caplog.text
    assert not list(generations.folder(url).glob("index-*"))
    with EmbeddedBackend(url).open() as store:
        assert len(store.search(unit(1), 5)[0]) == 5


# Generations


def test_an_interrupted_creation_can_be_done_again(url: str) -> None:
    EmbeddedBackend(url).create(SCHEMA, {}).close()
    (Path(url) / "current").unlink()  # a kill before the last step
    (Path(url) / "g1.draft-123").mkdir()
    assert not backends.exists(url)
    with EmbeddedBackend(url).create(SCHEMA, {}) as store:
        assert store.count() == 0


def test_records_without_the_file_that_names_them_are_not_taken_for_an_interrupted_creation(url: str) -> None:
    filled(url, 10).close()
    (Path(url) / "current").unlink()  # left out of a copy
    with pytest.raises(StoreError, match="write g1 into"):
        EmbeddedBackend(url).create(SCHEMA, {})
    (Path(url) / "current").write_text("g1")
    with EmbeddedBackend(url).open() as store:
        assert store.count() == 10


def test_what_crashes_left_of_small_files_is_removed(url: str) -> None:
    Path(url).mkdir()
    (Path(url) / ".current.1234.part").write_text("g")
    EmbeddedBackend(url).create(SCHEMA, {}).close()
    assert sorted(path.name for path in Path(url).iterdir()) == ["current", "g1"]


FORMAT_2 = """
ALTER TABLE records DROP COLUMN _checksum;
ALTER TABLE attachments DROP COLUMN _checksum;
ALTER TABLE state DROP COLUMN _checksum;
ALTER TABLE state DROP COLUMN schema_checksum;
ALTER TABLE state DROP COLUMN notes_checksum;
ALTER TABLE state DROP COLUMN deleted_checksum;
DROP TABLE vector_checksums;
PRAGMA user_version = 2;
"""  # had no checksums
FORMAT_1 = f"""{FORMAT_2}
ALTER TABLE deleted RENAME TO dead;
ALTER TABLE state RENAME COLUMN deleted_count TO deaths;
PRAGMA user_version = 1;
"""  # how tables were called before


@pytest.mark.parametrize("to_earlier_format", [FORMAT_1, FORMAT_2])
def test_a_collection_of_an_earlier_format_is_read_and_written(url: str, to_earlier_format: str) -> None:
    with filled(url, 30) as store:
        store.delete(["000003", "000007"])
    connection = sqlite3.connect(generations.folder(url) / "records.sqlite")
    connection.executescript(to_earlier_format)
    connection.close()
    expected = {f"{i:06d}" for i in range(30)} - {"000003", "000007"}
    with EmbeddedBackend(url).open() as reader:
        assert {each for batch in reader.scan() for each in batch.ids} == expected
        with EmbeddedBackend(url).open(write=True) as writer:
            assert writer.count() == 28
            assert reader.count() == 28  # open before the upgrade
            assert writer.delete(["000004"]) == 1
            assert {hit.id for hit in reader.search(unit(1), 40)[0]} == expected - {"000004"}
    with EmbeddedBackend(url).open() as reader:
        assert reader.count() == 27
        assert len(reader.search(unit(1), 40)[0]) == 27
        with reader.snapshots.take() as snapshot:
            assert checksum_table.reach(snapshot.connection, snapshot.state.vectors) == 30


def test_promote_waits_for_no_writer(url: str) -> None:
    with filled(url, 10) as store:
        EmbeddedBackend(url).create(SCHEMA, {}, staging=True).close()
        with pytest.raises(StoreBusyError):
            backends.promote(url)
        assert store.count() == 10
    with pytest.raises(StoreError, match="already"):
        EmbeddedBackend(url).create(SCHEMA, {}, staging=True)
    old = generations.folder(url)
    backends.promote(url)
    assert generations.folder(url) != old
    assert not old.exists()
    with pytest.raises(StoreError, match="no staging collection"):
        backends.promote(url)
    old.mkdir()  # as if it could not be removed
    EmbeddedBackend(url).open(write=True).close()
    assert not old.exists()


@pytest.mark.skipif(os.name == "nt", reason="Windows removes no folder that is open")
def test_a_folder_that_was_removed_and_made_anew_is_another_store(url: str) -> None:
    filled(url, 10).close()
    with EmbeddedBackend(url).open() as reader:
        assert not reader.is_stale()
        shutil.rmtree(url)
        with pytest.raises(StoreNotFoundError):
            reader.is_stale()
        filled(url, 20).close()
        assert reader.is_stale()
    with EmbeddedBackend(url).open() as reader:
        assert not reader.is_stale()
        assert reader.count() == 20


def test_a_reader_of_what_was_replaced(url: str) -> None:
    filled(url, 10).close()
    with EmbeddedBackend(url).open() as reader:
        assert reader.count() == 10
        EmbeddedBackend(url).create(SCHEMA, {}, staging=True).close()
        backends.promote(url)
        try:
            assert reader.count() == 10  # what it has open is what it answers from
            answered = True
        except StoreError:
            answered = False
        assert answered or os.name == "nt"


def _of_sqlite(text: str, code: int) -> sqlite3.OperationalError:
    error = sqlite3.OperationalError(text)
    error.sqlite_errorcode = code
    return error


def test_errors_of_the_database_are_distinguished_by_their_codes(tmp_path: Path) -> None:
    """A message may quote a name such as `full-moon.tandem`: it does not decide."""
    with pytest.raises(StoreError, match="cannot be used"), database_errors(tmp_path):
        raise _of_sqlite("unable to open full and interrupted", sqlite3.SQLITE_CANTOPEN)
    with pytest.raises(StoreError, match="cannot be used"), database_errors(tmp_path):
        raise sqlite3.OperationalError("full: an error of the module itself")
    with pytest.raises(StoreError, match="the disk is full"), database_errors(tmp_path):
        raise _of_sqlite("no matter what", sqlite3.SQLITE_FULL)
    with pytest.raises(sqlite3.OperationalError), database_errors(tmp_path):
        raise _of_sqlite("no matter what", sqlite3.SQLITE_INTERRUPT)
    with database_errors(tmp_path), contextlib.closing(sqlite3.connect(":memory:")) as connection:  # as SQLite says it
        connection.execute("create table t (a)")
        connection.execute("pragma max_page_count = 2")
        with pytest.raises(StoreError, match="the disk is full"), database_errors(tmp_path):
            connection.execute("insert into t values (zeroblob(100000))")
