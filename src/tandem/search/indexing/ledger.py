"""Which files were read, with size and times, and the outcome: an image's id, or a reason.

Only a cache, which avoids reading files again. The store is the truth about what is in a collection; a ledger that
is lost, damaged or out of date is repaired from it. It is written after the store's own commits. Any thread may use
it, one at a time. One that turns out to be damaged while it is used is begun anew (`with_ledger`).
"""

import contextlib
import os
import sqlite3
import threading
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import quote

from tandem.errors import StoreError, StoreFullError
from tandem.search.indexing.entries import FileSignature, shard_of

_T = TypeVar("_T")

FORMAT = "2"
BATCH = 500  # paths in one query: SQLite binds 999 values or more
LAST = "\U0010ffff"  # sorts after what any path goes on with

SHARD = ""  # stands for the id of a shard that was read to its end
UNKNOWN = FileSignature(-1, -1, -1)  # of a path that the store knows and the ledger does not: it will be read

_TABLES = """
CREATE TABLE IF NOT EXISTS files (path TEXT PRIMARY KEY, size INTEGER NOT NULL, mtime_ns INTEGER NOT NULL,
    ctime_ns INTEGER NOT NULL, caption TEXT NOT NULL, id TEXT, reason TEXT) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS pending_removals (path TEXT, id TEXT, PRIMARY KEY (path, id)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS about (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
"""
_FROM_FORMAT_1 = """
ALTER TABLE leaving RENAME TO pending_removals;
UPDATE OR REPLACE about SET key = 'reconciled' WHERE key = 'settled';
UPDATE OR REPLACE about SET key = 'decoders' WHERE key = 'readers';
"""


@dataclass(frozen=True)
class FileRecord:
    """A path as it was read. `id` is the image it held; `reason` why it could not be indexed, or what of it."""

    path: str
    signature: FileSignature
    id: str | None = None
    reason: str | None = None

    def is_unchanged(self, signature: FileSignature) -> bool:
        """Whether the file still looks the same. One that failed is also looked at for its permissions."""
        same = (self.signature.size, self.signature.mtime_ns) == (signature.size, signature.mtime_ns)
        caption = signature.caption in ("", self.signature.caption)  # a source without captions takes none away
        return same and caption and (self.reason is None or self.signature.ctime_ns == signature.ctime_ns)


class Ledger:
    """A file of what was read. `with Ledger.open(path) as ledger:`

    Whatever goes wrong with the file (a full disk, damage) is a `StoreError` of one line.
    """

    def __init__(self, path: Path, connection: sqlite3.Connection) -> None:
        self.path = path
        self._connection = connection
        self._lock = threading.RLock()

    @classmethod
    def open(cls, path: str | Path) -> "Ledger":
        """Open it, or make it. One that is damaged is begun anew."""
        path = Path(path)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            try:
                return cls(path, _connect(path))
            except (sqlite3.Error, UnicodeDecodeError) as error:
                if not _is_damage(error, path):
                    raise
                discard(path)
                return cls(path, _connect(path))
        except (sqlite3.Error, OSError) as error:
            raise StoreError(f"{path}: cannot be opened: {error}") from None

    def __enter__(self) -> "Ledger":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        with self._lock, contextlib.suppress(sqlite3.Error):  # what was written is durable
            self._connection.close()

    # --- reading -------------------------------------------------------------------------------------------------

    def lookup(self, paths: Sequence[str]) -> dict[str, FileRecord]:
        """The records of these paths."""
        found: dict[str, FileRecord] = {}
        for start in range(0, len(paths), BATCH):
            some = list(paths[start : start + BATCH])
            marks = ",".join("?" * len(some))
            for row in self._query(f"SELECT * FROM files WHERE path IN ({marks})", some):
                found[row[0]] = _record(row)
        return found

    def under(self, prefix: str) -> Iterator[FileRecord]:
        """The paths that begin like this, in order, a few read at once."""
        after = prefix
        while rows := self._query(
            "SELECT * FROM files WHERE path > ? AND path < ? ORDER BY path LIMIT ?", (after, prefix + LAST, BATCH)
        ):
            yield from map(_record, rows)
            after = rows[-1][0]

    def counts_under(self, prefix: str) -> tuple[int, int]:
        """How many paths that begin like this hold an image, and how many have a reason."""
        query = "SELECT count(id), count(reason) FROM files WHERE path > ? AND path < ?"
        images, reasons = self._query(query, (prefix, prefix + LAST))[0]
        return int(images), int(reasons)

    def pending_removals(self) -> Iterator[list[tuple[str, str]]]:
        """Paths (path, id) to take from images, in batches; the reader has to pass each to `removals_done`."""
        while rows := self._query("SELECT path, id FROM pending_removals LIMIT ?", (BATCH,)):
            yield [(str(path), str(id)) for path, id in rows]

    def about(self, key: str) -> str | None:
        rows = self._query("SELECT value FROM about WHERE key = ?", (key,))
        return str(rows[0][0]) if rows else None

    # --- writing -------------------------------------------------------------------------------------------------

    def update(
        self,
        records: Iterable[FileRecord] = (),
        *,
        pending_removals: Iterable[tuple[str, str]] = (),
        gone: Iterable[str] = (),
    ) -> None:
        """Write down what was read, which images lose a path (path, id), and which paths to forget; all or none.

        A shard in which a path is forgotten will be read again.
        """
        gone = set(gone)
        gone |= {shard for path in gone if (shard := shard_of(path)) is not None}
        with self._writing() as connection:
            connection.executemany("DELETE FROM files WHERE path = ?", [(path,) for path in gone])
            connection.executemany("INSERT OR REPLACE INTO files VALUES (?,?,?,?,?,?,?)", map(_row, records))
            connection.executemany("INSERT OR IGNORE INTO pending_removals VALUES (?,?)", list(pending_removals))

    def removals_done(self, pairs: Iterable[tuple[str, str]]) -> None:
        """These paths were taken from their images."""
        with self._writing() as connection:
            connection.executemany("DELETE FROM pending_removals WHERE path = ? AND id = ?", list(pairs))

    def set_about(self, about: Mapping[str, str]) -> None:
        with self._writing() as connection:
            connection.executemany("INSERT OR REPLACE INTO about VALUES (?,?)", list(about.items()))

    def forget(self, paths: Mapping[str, str]) -> None:
        """Know nothing of these paths any more where they held these images (path -> id): they will be read again."""
        known = self.lookup(list(paths))
        self.update(gone=[path for path, record in known.items() if record.id == paths[path]])

    def forget_reasons(self) -> None:
        """Let everything that was skipped be tried again."""
        with self._writing() as connection:
            connection.execute("UPDATE files SET size = -1 WHERE reason IS NOT NULL")

    def forget_images(self) -> None:
        """Forget all images; what was skipped stays skipped."""
        with self._writing() as connection:
            connection.execute("DELETE FROM files WHERE id IS NOT NULL")
            connection.execute("DELETE FROM pending_removals")

    # --- the file ------------------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def _writing(self) -> Iterator[sqlite3.Connection]:
        """A transaction: all of it, or nothing and an error."""
        with self._lock, self._errors(), self._connection as connection:
            yield connection

    def _query(self, query: str, values: Sequence[object] = ()) -> list[tuple[Any, ...]]:
        with self._lock, self._errors():
            return self._connection.execute(query, values).fetchall()

    @contextlib.contextmanager
    def _errors(self) -> Iterator[None]:
        """SQLite's errors as `StoreError`, with what to do. Mistakes of the caller are not changed."""
        try:
            yield
        except (sqlite3.Error, UnicodeDecodeError) as error:
            if isinstance(error, sqlite3.ProgrammingError | sqlite3.InterfaceError):
                raise
            if _is_damage(error, self.path):
                raise LedgerDamagedError(
                    f"{self.path}: {error}; delete this file and run again: it is rebuilt from the collection"
                ) from error
            full = getattr(error, "sqlite_errorcode", 0) & 0xFF == sqlite3.SQLITE_FULL
            kind = StoreFullError if full else StoreError
            raise kind(f"{self.path}: {error}; nothing is lost: run again when that is fixed") from error


class LedgerDamagedError(StoreError):
    """A ledger that does not hold what was written to it."""


def with_ledger(path: Path, work: Callable[[Ledger], _T]) -> _T:
    """The result of `work` with the ledger of a path; done again with a new one where that one is damaged."""
    try:
        with Ledger.open(path) as ledger:
            return work(ledger)
    except LedgerDamagedError as error:
        reason = error.__cause__ or error
        warnings.warn(f"{path}: the list of files that were read is damaged ({reason}), and is rebuilt", stacklevel=3)
    discard(path)
    with Ledger.open(path) as ledger:
        return work(ledger)


def discard(path: Path) -> None:
    """Remove a ledger, if there is one."""
    for suffix in ("", "-wal", "-shm"):
        with contextlib.suppress(FileNotFoundError):
            Path(f"{path}{suffix}").unlink()


def problem_of(path: Path) -> str | None:
    """What is wrong with a ledger, read whole; None if nothing is, or there is none."""
    if not path.is_file():
        return None
    try:
        connection = sqlite3.connect(f"file:{quote(str(path))}?mode=ro", uri=True)
        with contextlib.closing(connection):
            found = str(connection.execute("PRAGMA integrity_check(1)").fetchone()[0])
            for row in connection.execute("SELECT * FROM files"):
                _record(row)
    except (sqlite3.Error, StoreError, UnicodeDecodeError) as error:
        return str(error)
    return None if found == "ok" else found


# What is wrong with the disk, or done by others, rather than with the file
_NOT_DAMAGE = (
    sqlite3.SQLITE_FULL,
    sqlite3.SQLITE_IOERR,
    sqlite3.SQLITE_BUSY,
    sqlite3.SQLITE_LOCKED,
    sqlite3.SQLITE_CANTOPEN,
    sqlite3.SQLITE_NOMEM,
    sqlite3.SQLITE_INTERRUPT,
    sqlite3.SQLITE_PERM,
    sqlite3.SQLITE_AUTH,
)


def _is_damage(error: sqlite3.Error | UnicodeDecodeError, path: Path) -> bool:
    """Whether a file is to blame. Of texts that are no UTF-8 any more, Python's module itself complains, without
    a code, or cannot read SQLite's message.
    """
    code = getattr(error, "sqlite_errorcode", None)
    if code is None:
        return not isinstance(error, sqlite3.ProgrammingError | sqlite3.InterfaceError)
    if code & 0xFF == sqlite3.SQLITE_READONLY:  # also said of a file whose first page claims so
        return os.access(path, os.W_OK) and os.access(path.parent, os.W_OK)
    return code & 0xFF not in _NOT_DAMAGE


def _connect(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(path, timeout=30, check_same_thread=False)
    try:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")  # else a power failure could undo what was reported as durable
        if connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'leaving'").fetchone():
            connection.executescript(
                f"BEGIN; {_FROM_FORMAT_1} UPDATE about SET value = '{FORMAT}' WHERE key = 'format'; COMMIT;"
            )
        connection.executescript(_TABLES)
        row = connection.execute("SELECT value FROM about WHERE key = 'format'").fetchone()
        if row is not None and row[0] != FORMAT:
            raise sqlite3.DatabaseError("written by another version")
        with connection:
            connection.execute("INSERT OR REPLACE INTO about VALUES ('format', ?)", (FORMAT,))
    except BaseException:
        connection.close()
        raise
    return connection


def _record(row: tuple[Any, ...]) -> FileRecord:
    path, size, mtime_ns, ctime_ns, caption, id, reason = row
    texts = all(isinstance(text, str) for text in (path, caption)) and isinstance(id, str | None)
    if not (texts and isinstance(reason, str | None) and all(isinstance(number, int) for number in row[1:4])):
        raise LedgerDamagedError(f"a row of another type: {row!r:.100}")
    return FileRecord(path, FileSignature(size, mtime_ns, ctime_ns, caption), id, reason)


def _row(record: FileRecord) -> tuple[object, ...]:
    signature = record.signature
    numbers = (signature.size, signature.mtime_ns, signature.ctime_ns)
    return record.path, *numbers, signature.caption, record.id, record.reason
