"""How much each key has uploaded, and how much a folder of originals holds, beside the originals in a small database.

What is in the folder without a line in the database (of an earlier version, or of a crash in between) counts for the
folder and for no key. Knows files and names of keys; no HTTP and no collections.
"""

import contextlib
import errno
import os
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tandem.errors import TandemError

FILE = ".uploads.sqlite"
_NOBODY = ""
_SCHEMA = "create table if not exists kept (id text primary key, key text not null, bytes integer not null)"


class QuotaError(TandemError):
    """An upload is refused: the key has used up what it may store, or the server keeps no more."""


@dataclass(frozen=True)
class Quota:
    """What one key may store, and what a folder holds of all keys."""

    images: int
    bytes: int
    folder_bytes: int


class Uploads:
    """The uploads of a folder. For one thread at a time; other processes may write to the same folder."""

    def __init__(self, folder: Path, quota: Quota) -> None:
        """Makes the folder. Raises `OSError`."""
        self.folder, self.quota = folder, quota
        folder.mkdir(parents=True, exist_ok=True)
        with self._database() as database:
            database.execute(_SCHEMA)
            known = {row[0] for row in database.execute("select id from kept")}
            found = dict(_files(folder))
            database.executemany("delete from kept where id = ?", [(id,) for id in known - found.keys()])
            rows = [(id, _NOBODY, size) for id, size in found.items() if id not in known]
            database.executemany("insert or ignore into kept values (?, ?, ?)", rows)

    def check(self, key: str | None, new: Mapping[str, int]) -> None:
        """Raises `QuotaError` where images of these ids and sizes are more than may be stored. Those that are there
        already count for who brought them first.
        """
        with self._database() as database:
            there = _there(database, list(new))
            fresh = {id: size for id, size in new.items() if id not in there}
            if not fresh:
                return
            more = sum(fresh.values())
            held = database.execute("select coalesce(sum(bytes), 0) from kept").fetchone()[0]
            if held + more > self.quota.folder_bytes:
                raise QuotaError(f"the server keeps at most {_megabytes(self.quota.folder_bytes)} of added images")
            if key is None:
                return
            ours = "select count(*), coalesce(sum(bytes), 0) from kept where key = ?"
            images, size = database.execute(ours, (key,)).fetchone()
            if images + len(fresh) > self.quota.images:
                raise QuotaError(f"a key may add at most {self.quota.images:,} images; this one has added {images:,}")
            if size + more > self.quota.bytes:
                raise QuotaError(
                    f"a key may add at most {_megabytes(self.quota.bytes)}; this one has added {_megabytes(size)}"
                )

    def add(self, key: str | None, new: Mapping[str, int]) -> None:
        """Count what was stored."""
        rows = [(id, key or _NOBODY, size) for id, size in new.items()]
        with self._database() as database:
            database.executemany("insert or ignore into kept values (?, ?, ?)", rows)

    def remove(self, ids: Sequence[str]) -> None:
        """Count no longer what was removed."""
        with self._database() as database:
            database.executemany("delete from kept where id = ?", [(id,) for id in ids])

    @contextlib.contextmanager
    def _database(self) -> Iterator[sqlite3.Connection]:
        """A transaction. A full disk is `OSError`, as everywhere."""
        try:
            with contextlib.closing(sqlite3.connect(self.folder / FILE, timeout=10)) as database, database:
                yield database
        except sqlite3.Error as error:
            full = getattr(error, "sqlite_errorcode", 0) & 0xFF in (sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR)
            raise OSError(errno.ENOSPC if full else errno.EIO, f"the list of uploads: {error}") from error


def _there(database: sqlite3.Connection, ids: Sequence[str]) -> set[str]:
    return {id for id in ids if database.execute("select 1 from kept where id = ?", (id,)).fetchone()}


def _files(folder: Path) -> Iterator[tuple[str, int]]:
    """The originals in a folder: ids and sizes."""
    for part in os.scandir(folder):
        if part.is_dir(follow_symlinks=False):
            for file in os.scandir(part.path):
                if file.is_file(follow_symlinks=False) and not file.name.startswith("."):
                    yield Path(file.name).stem, file.stat().st_size


def _megabytes(size: int) -> str:
    return f"{size / 2**20:,.0f} MB"
