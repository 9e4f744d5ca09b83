"""What is reported as stored is on the disk: which files and folders are synced, when, and how SQLite is set."""

import os
import sqlite3
from pathlib import Path

import numpy as np
import pytest
from support.embedded_toys import filled, index_for_toys, records

from tandem import files
from tandem.search.indexing.ledger import Ledger
from tandem.search.stores.embedded import generations, records_database, records_table, store, vector_file
from tandem.search.stores.embedded.backend import EmbeddedBackend

FULL = 2  # of `PRAGMA synchronous`: a commit waits until the disk has it


class Synced:
    """The size of a file or folder when it was synced the last time, in bytes; -1 if it never was.

    Told apart by inode: what is written under another name and renamed is the same file.
    """

    def __init__(self) -> None:
        self._sizes: dict[int, int] = {}

    def note(self, handle: int) -> None:
        status = os.fstat(handle)
        self._sizes[status.st_ino] = status.st_size

    def forget(self) -> None:
        self._sizes.clear()

    def __call__(self, path: Path) -> int:
        return self._sizes.get(path.stat().st_ino, -1)


@pytest.fixture
def synced(monkeypatch: pytest.MonkeyPatch) -> Synced:
    found, real = Synced(), os.fsync
    monkeypatch.setattr(os, "fsync", lambda handle: (found.note(handle), real(handle))[1])
    return found


def test_a_written_file_and_its_name_are_synced(tmp_path: Path, synced: Synced) -> None:
    files.write_bytes(tmp_path / "plain", b"12345")
    assert synced(tmp_path / "plain") == synced(tmp_path) == -1
    files.write_bytes(tmp_path / "a", b"12345", fsync=True)
    assert synced(tmp_path / "a") == 5
    assert synced(tmp_path) >= 0


def test_a_written_folder_is_synced_with_all_that_is_in_it(tmp_path: Path, synced: Synced) -> None:
    with files.atomic_folder(tmp_path / "model", fsync=True) as folder:
        (folder / "deep").mkdir()
        (folder / "deep" / "a").write_bytes(b"123")
        (folder / "b").write_bytes(b"12")
    assert synced(tmp_path / "model" / "deep" / "a") == 3
    assert synced(tmp_path / "model" / "b") == 2
    assert min(synced(tmp_path / "model" / "deep"), synced(tmp_path / "model"), synced(tmp_path)) >= 0


def test_vectors_are_synced_whole(tmp_path: Path, synced: Synced) -> None:
    vector_file.append(tmp_path / "v", 0, np.ones((3, 16), np.float32))
    assert synced(tmp_path / "v") == 3 * 64
    vector_file.append(tmp_path / "v", 3, np.ones((2, 16), np.float32))
    assert synced(tmp_path / "v") == 5 * 64


def test_a_new_collection_and_its_name_are_synced(tmp_path: Path, synced: Synced) -> None:
    url = tmp_path / "photos.tandem"
    filled(str(url), 3).close()
    assert synced(url / "current") == 2
    assert synced(url) >= 0
    assert synced(url / "g1") >= 0
    assert synced(url / "g1" / "vectors-1.f32") == 3 * 64


def test_the_generation_that_takes_another_ones_place_is_synced(tmp_path: Path, synced: Synced) -> None:
    url = str(tmp_path / "photos.tandem")
    filled(url, 3).close()
    EmbeddedBackend(url).create(filled(str(tmp_path / "other"), 1).schema, {}, staging=True).close()
    generations.promote(url)
    assert (tmp_path / "photos.tandem/current").read_text() == "g2"
    assert synced(tmp_path / "photos.tandem/current") == 2


def test_a_compaction_syncs_its_file_and_the_name_of_it(
    tmp_path: Path, synced: Synced, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store, "COMPACT_FROM", 5)
    with filled(str(tmp_path / "photos.tandem"), 10) as photos:
        named: list[int] = []
        real = records_table.renumber
        monkeypatch.setattr(
            records_table, "renumber", lambda *given: (named.append(synced(photos.folder)), real(*given))[1]
        )
        made = sorted(photos.folder.glob("vectors-*"))
        synced.forget()
        photos.delete([f"{i:06d}" for i in range(6)])
        (whole,) = photos.folder.glob("vectors-*")
        assert whole not in made
        assert synced(whole) == 4 * 64
        # The folder is synced after the new name is in it, and before the database names the file.
        assert min(named) >= 0


def test_an_index_is_synced(tmp_path: Path, synced: Synced, monkeypatch: pytest.MonkeyPatch) -> None:
    index_for_toys(monkeypatch)
    with filled(str(tmp_path / "photos.tandem"), 1200) as photos:
        pass
    (index,) = photos.folder.glob("index-*.faiss")
    assert synced(index) == index.stat().st_size


def pragma(connection: sqlite3.Connection, name: str) -> object:
    return connection.execute(f"PRAGMA {name}").fetchone()[0]


def test_commits_of_a_collection_wait_for_the_disk(tmp_path: Path) -> None:
    with filled(str(tmp_path / "photos.tandem"), 3) as photos:
        assert photos._writer is not None
        assert pragma(photos._writer, "synchronous") == FULL
        assert pragma(photos._writer, "journal_mode") == "wal"
        assert pragma(photos._writer, "busy_timeout") == 30_000
    with EmbeddedBackend(str(tmp_path / "photos.tandem")).open(write=True) as again:
        assert again._writer is not None
        assert pragma(again._writer, "synchronous") == FULL


def test_commits_of_a_ledger_wait_for_the_disk(tmp_path: Path) -> None:
    with Ledger.open(tmp_path / "files.sqlite") as ledger:
        assert pragma(ledger._connection, "synchronous") == FULL
        assert pragma(ledger._connection, "journal_mode") == "wal"


def test_vectors_are_there_before_a_commit_names_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A power failure between the two leaves rows that nobody counts, never a count of rows that are not there."""
    order: list[str] = []
    append, write_state = vector_file.append, records_database.write_state
    monkeypatch.setattr(vector_file, "append", lambda *given: (order.append("vectors"), append(*given))[1])
    monkeypatch.setattr(records_database, "write_state", lambda *given: (order.append("state"), write_state(*given))[1])
    with filled(str(tmp_path / "photos.tandem"), 3) as photos:
        order.clear()
        photos.upsert(records(3, 6))
    assert order == ["vectors", "state"]
