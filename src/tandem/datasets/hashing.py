"""SHA-256 of images, remembered with the size, times and inode of the file they are in, so that an unchanged file is
read once.

A file's digest is remembered only where a later change is sure to show: its status was the same before and after it
was read, and the last change lay further back than the clock of any file system ticks. The change time (ctime) cannot
be set by programs as the modification time can. Windows has none: nothing is remembered there. What is remembered is a
cache: where it cannot be read or written, files are read.
"""

import contextlib
import hashlib
import os
import sqlite3
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TypeAlias

import numpy as np

from tandem.errors import DataError
from tandem.home import cache_folder
from tandem.prefetch import in_order

FILE = "digests-1.sqlite"
SETTLED_NS = 2_500_000_000  # FAT counts in two seconds
SIZE = 32  # bytes of a digest
_UNKNOWN = bytes(SIZE)
_BATCH = 500  # paths in one query: SQLite binds 999 values or more
_WRITE = 4096  # files after which what was read is written down
_TABLE = """
CREATE TABLE IF NOT EXISTS files (path BLOB, part TEXT, size INTEGER, mtime_ns INTEGER, ctime_ns INTEGER,
    inode INTEGER, digests BLOB NOT NULL, PRIMARY KEY (path, part)) WITHOUT ROWID
"""

ReadImages: TypeAlias = Callable[[Sequence[int]], Iterator[bytes]]  # of a shard, at these rows, which ascend
_Status: TypeAlias = tuple[int, int, int, int]  # size, mtime_ns, ctime_ns, inode


def digest(content: bytes) -> bytes:
    """SHA-256 of an image's bytes."""
    return hashlib.sha256(content).digest()


def file_digests(paths: Sequence[str]) -> list[bytes]:
    """SHA-256 of whole files, in their order. Raises `DataError` that names a file that cannot be read."""
    full = [os.path.abspath(path) for path in paths]
    with _Memory.open() as memory:
        known = memory.lookup(full)
        found: list[bytes | None] = []
        for path in full:
            entry = known.get(path)
            found.append(entry[1] if entry is not None and entry[0] == _status(path) else None)
        del known
        missing = [row for row, content in enumerate(found) if content is None]
        fresh: list[tuple[str, _Status, bytes]] = []
        with contextlib.closing(in_order(_read_file, (full[row] for row in missing))) as read:
            for row, (content, status) in zip(missing, read, strict=True):
                found[row] = content
                if status is not None:
                    fresh.append((full[row], status, content))
                if len(fresh) >= _WRITE:
                    memory.remember("", fresh)
                    fresh.clear()
        memory.remember("", fresh)
    return [content for content in found if content is not None]


def shard_digests(path: Path, part: str, rows: Sequence[int], read: ReadImages) -> list[bytes]:
    """SHA-256 of the images at `rows`, which ascend, of a file that holds many; `part` says which, such as a column."""
    full = os.path.abspath(path)
    before, begun = _status(full), time.time_ns()
    with _Memory.open() as memory:
        entry = memory.lookup([full], part).get(full)
        known = entry[1] if entry is not None and entry[0] == before else b""
        missing = [row for row in rows if known[row * SIZE : (row + 1) * SIZE] in (b"", _UNKNOWN)]
        if missing:
            table = np.zeros((max(len(known) // SIZE, missing[-1] + 1), SIZE), np.uint8)
            table[: len(known) // SIZE] = np.frombuffer(known, np.uint8).reshape(-1, SIZE)
            for row, content in zip(missing, in_order(digest, read(missing), ahead=32), strict=True):
                table[row] = np.frombuffer(content, np.uint8)
            known = table.tobytes()
            if _is_settled(before, begun) and _status(full) == before:
                memory.remember(part, [(full, before, known)])
    return [known[row * SIZE : (row + 1) * SIZE] for row in rows]


def _read_file(path: str) -> tuple[bytes, _Status | None]:
    """The digest of a file, and its status where that may be remembered."""
    begun = time.time_ns()
    try:
        with open(path, "rb") as file:
            before = os.fstat(file.fileno())
            found = hashlib.file_digest(file, "sha256").digest()
            same = _of(os.fstat(file.fileno())) == _of(before)
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror or error}") from None
    status = _of(before)
    return found, status if same and _is_settled(status, begun) else None


def _status(path: str) -> _Status:
    try:
        return _of(os.stat(path))
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror or error}") from None


def _of(status: os.stat_result) -> _Status:
    inode = status.st_ino & (2**63 - 1)  # what SQLite can keep
    return status.st_size, status.st_mtime_ns, status.st_ctime_ns, inode


def _is_settled(status: _Status, now_ns: int) -> bool:
    """Whether any change after this status was taken gives another one."""
    _, mtime_ns, ctime_ns, _ = status
    return os.name != "nt" and now_ns - max(mtime_ns, ctime_ns) > SETTLED_NS


class _Memory:
    """The file of what is remembered; without one (`connection` None) nothing is."""

    def __init__(self, connection: sqlite3.Connection | None) -> None:
        self.connection = connection

    @classmethod
    @contextlib.contextmanager
    def open(cls) -> Iterator["_Memory"]:
        memory = cls(_connect(cache_folder() / FILE) if os.name != "nt" else None)
        try:
            yield memory
        finally:
            if memory.connection is not None:
                memory.connection.close()

    def lookup(self, paths: Sequence[str], part: str = "") -> Mapping[str, tuple[_Status, bytes]]:
        """What is known of these paths: the status they had, and the digests."""
        found: dict[str, tuple[_Status, bytes]] = {}
        for start in range(0, len(paths), _BATCH):
            some = [os.fsencode(path) for path in paths[start : start + _BATCH]]
            query = f"SELECT * FROM files WHERE part = ? AND path IN ({','.join('?' * len(some))})"
            for path, _, size, mtime_ns, ctime_ns, inode, digests in self._run(query, [part, *some]):
                found[os.fsdecode(path)] = (size, mtime_ns, ctime_ns, inode), digests
        return found

    def remember(self, part: str, files: Iterable[tuple[str, _Status, bytes]]) -> None:
        """Write digests down; all or none."""
        rows = [(os.fsencode(path), part, *status, digests) for path, status, digests in files]
        if self.connection is not None and rows:
            with contextlib.suppress(sqlite3.Error), self.connection as connection:  # it is read again next time
                connection.executemany("INSERT OR REPLACE INTO files VALUES (?,?,?,?,?,?,?)", rows)

    def _run(self, query: str, values: Sequence[object]) -> list[tuple[bytes, str, int, int, int, int, bytes]]:
        if self.connection is None:
            return []
        try:
            return self.connection.execute(query, values).fetchall()
        except sqlite3.Error:
            return []


def _connect(path: Path) -> sqlite3.Connection | None:
    """The file, made if it is missing, and anew if it is damaged; None where that cannot be done."""
    for attempt in range(2):
        connection = None
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            connection = sqlite3.connect(path, timeout=5)
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("PRAGMA synchronous = NORMAL")
            connection.execute(_TABLE)
            return connection
        except (sqlite3.Error, OSError) as error:
            if connection is not None:
                connection.close()
            if attempt or isinstance(error, sqlite3.OperationalError | OSError):
                return None
            for suffix in ("", "-wal", "-shm"):
                Path(f"{path}{suffix}").unlink(missing_ok=True)
    return None
