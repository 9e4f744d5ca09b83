"""The ledger remembers what was read, and is no more than a memory."""

import contextlib
import itertools
import sqlite3
from pathlib import Path

import pytest

from tandem.errors import StoreError
from tandem.search.indexing.entries import FileSignature
from tandem.search.indexing.ledger import BATCH, FileRecord, Ledger

SIGNATURE = FileSignature(10, 20, 30, "c")


def test_what_is_noted_is_found_also_by_the_next_who_opens_it(tmp_path: Path) -> None:
    path = tmp_path / "new" / "files.sqlite"
    seen = [FileRecord(f"/p/{i:04}.jpg", FileSignature(i, 2, 3), f"id{i}") for i in range(2 * BATCH + 7)]
    with Ledger.open(path) as ledger:
        ledger.update(seen)
        ledger.update([FileRecord("/p/bad.jpg", SIGNATURE, None, "broken")], gone=["/p/0000.jpg"])
    with Ledger.open(path) as ledger:
        paths = ["/p/nowhere.jpg", "/p/bad.jpg", *(one.path for one in seen)]
        found = ledger.lookup(paths)
        assert found == {one.path: one for one in [FileRecord("/p/bad.jpg", SIGNATURE, None, "broken"), *seen[1:]]}
        assert [one.path for one in ledger.under("/p/")] == sorted(found)
        assert ledger.counts_under("/p/") == (len(seen) - 1, 1)
        assert list(ledger.under("/p/00010")) == []


def test_a_place_is_as_it_was() -> None:
    good = FileRecord("/a", SIGNATURE, "id")
    assert good.is_unchanged(SIGNATURE)
    assert good.is_unchanged(FileSignature(10, 20, 99, "c"))  # permissions of what could be read do not matter
    assert good.is_unchanged(FileSignature(10, 20, 30))  # a source without captions
    assert not good.is_unchanged(FileSignature(10, 20, 30, "d"))
    assert not good.is_unchanged(FileSignature(11, 20, 30, "c"))
    assert not good.is_unchanged(FileSignature(10, 21, 30, "c"))
    bad = FileRecord("/a", SIGNATURE, None, "permission denied")
    assert bad.is_unchanged(SIGNATURE)
    assert not bad.is_unchanged(FileSignature(10, 20, 31, "c"))


def test_a_batch_is_noted_as_a_whole(tmp_path: Path) -> None:
    with Ledger.open(tmp_path / "l.sqlite") as ledger:
        ledger.update([FileRecord("/a", SIGNATURE, "1")])
        broken = FileRecord("/b", SIGNATURE, object())  # type: ignore[arg-type]  # nothing SQLite can keep
        try:
            ledger.update([FileRecord("/a", SIGNATURE, "2"), broken], pending_removals=[("/a", "1")], gone=["/a"])
        except sqlite3.Error:
            pass
        else:
            raise AssertionError("it was kept")
        assert ledger.lookup(["/a"])["/a"].id == "1"
        assert next(ledger.pending_removals(), None) is None


def test_pending_removals_are_listed_until_they_are_done(tmp_path: Path) -> None:
    pairs = {(f"/{i}", "id") for i in range(BATCH + 3)}
    with Ledger.open(tmp_path / "l.sqlite") as ledger:
        ledger.update(pending_removals=pairs)
        ledger.update(pending_removals=pairs)
        listed = set()
        for some in ledger.pending_removals():
            listed |= set(some)
            ledger.removals_done(some)
        assert listed == pairs


def test_one_that_is_damaged_or_of_another_version_is_begun_anew(tmp_path: Path) -> None:
    path = tmp_path / "l.sqlite"
    path.write_bytes(b"not a database" * 100)
    with Ledger.open(path) as ledger:
        ledger.update([FileRecord("/a", SIGNATURE, "1")])
        ledger.set_about({"format": "0"})
    with Ledger.open(path) as ledger:
        assert ledger.lookup(["/a"]) == {}


def test_one_of_format_1_stays_readable(tmp_path: Path) -> None:
    path = tmp_path / "l.sqlite"
    with contextlib.closing(sqlite3.connect(path)) as old, old:
        old.executescript(
            "CREATE TABLE files (path TEXT PRIMARY KEY, size INTEGER NOT NULL, mtime_ns INTEGER NOT NULL,"
            " ctime_ns INTEGER NOT NULL, caption TEXT NOT NULL, id TEXT, reason TEXT) WITHOUT ROWID;"
            "CREATE TABLE leaving (path TEXT, id TEXT, PRIMARY KEY (path, id)) WITHOUT ROWID;"
            "CREATE TABLE about (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;"
            "INSERT INTO files VALUES ('/a', 10, 20, 30, 'c', '1', NULL);"
            "INSERT INTO leaving VALUES ('/b', '2');"
            "INSERT INTO about VALUES ('format', '1'), ('settled', 'yes'), ('readers', 'pillow 1');"
        )
    for _ in range(2):
        with Ledger.open(path) as ledger:
            assert ledger.lookup(["/a"]) == {"/a": FileRecord("/a", SIGNATURE, "1")}
            assert list(itertools.islice(ledger.pending_removals(), 1)) == [[("/b", "2")]]
            assert (ledger.about("reconciled"), ledger.about("decoders")) == ("yes", "pillow 1")


def test_a_full_disk_is_one_line_and_loses_nothing(tmp_path: Path) -> None:
    with Ledger.open(tmp_path / "l.sqlite") as ledger:
        ledger.update([FileRecord("/a", SIGNATURE, "1")])
        (pages,) = ledger._connection.execute("PRAGMA page_count").fetchone()
        ledger._connection.execute(f"PRAGMA max_page_count = {pages}")
        many = [FileRecord(f"/{i}", SIGNATURE, "1") for i in range(1000)]
        with pytest.raises(StoreError, match=r"l\.sqlite: database or disk is full; .*run again") as raised:
            ledger.update(many)
        assert "\n" not in str(raised.value)
        assert set(ledger.lookup(["/a", "/1"])) == {"/a"}
        ledger._connection.execute("PRAGMA max_page_count = 100000")
        ledger.update(many)


def test_damage_is_one_line_that_says_what_to_do(tmp_path: Path) -> None:
    path = tmp_path / "l.sqlite"
    with Ledger.open(path) as ledger:
        ledger.update(FileRecord(f"/{i}", SIGNATURE, "1") for i in range(2000))
    content = bytearray(path.read_bytes())
    content[40960:] = b"x" * (len(content) - 40960)  # pages that opening does not look at
    path.write_bytes(content)
    with Ledger.open(path) as ledger, pytest.raises(StoreError, match=r"l\.sqlite: .*delete this file and run again"):
        ledger.lookup([f"/{i}" for i in range(2000)])
    folder = tmp_path / "folder"
    folder.mkdir()
    with pytest.raises(StoreError, match="folder: cannot be opened"):
        Ledger.open(folder)


def test_forgetting(tmp_path: Path) -> None:
    with Ledger.open(tmp_path / "l.sqlite") as ledger:
        ledger.update(
            [FileRecord("/good", SIGNATURE, "1"), FileRecord("/bad", SIGNATURE, None, "broken")],
            pending_removals=[("/x", "1")],
        )
        ledger.forget_reasons()
        assert not ledger.lookup(["/bad"])["/bad"].is_unchanged(SIGNATURE)
        assert ledger.lookup(["/good"])["/good"].is_unchanged(SIGNATURE)
        ledger.forget_images()
        assert set(ledger.lookup(["/good", "/bad"])) == {"/bad"}
        assert next(ledger.pending_removals(), None) is None
