"""What was found in files, remembered with their size, times and inode, so that an unchanged file is read once.

Something is remembered only where a later change of the file is sure to show: its status was the same before and after
it was read, and the last change lay further back than the clock of any file system ticks. The change time (ctime)
cannot be set by programs as the modification time can. Windows has none: nothing is remembered there. It is a cache:
where it cannot be read or written, files are read; content ends with a checksum, and with a wrong one it is not known.
"""

import contextlib
import os
import sqlite3
import time
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TypeAlias

from tandem.errors import DataError
from tandem.home import cache_folder

FILE = "files-1.sqlite"
SETTLED_NS = 2_500_000_000  # FAT counts in two seconds
_BATCH = 500  # paths in one query: SQLite binds 999 values or more
_TABLE = """
CREATE TABLE IF NOT EXISTS files (path BLOB, part TEXT, size INTEGER, mtime_ns INTEGER, ctime_ns INTEGER,
    inode INTEGER, content BLOB NOT NULL, PRIMARY KEY (path, part)) WITHOUT ROWID
"""

Status: TypeAlias = tuple[int, int, int, int]  # size, mtime_ns, ctime_ns, inode


def remembered(path: Path, part: str, make: Callable[[], bytes]) -> bytes:
    """What `make` finds in a file, or found when the file was as it is now; `part` says what that is."""
    full = os.path.abspath(path)
    begun, before = time.time_ns(), status_of(full)
    with FileMemory.open() as memory:
        entry = memory.lookup([full], part).get(full)
        if entry is not None and entry[0] == before:
            return entry[1]
        content = make()
        if is_settled(before, begun) and status_of(full) == before:
            memory.remember(part, [(full, before, content)])
    return content


def status_of(path: str) -> Status:
    try:
        return status_from(os.stat(path))
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror or error}") from None


def status_from(status: os.stat_result) -> Status:
    inode = status.st_ino & (2**63 - 1)  # what SQLite can keep
    return status.st_size, status.st_mtime_ns, status.st_ctime_ns, inode


def is_settled(status: Status, now_ns: int) -> bool:
    """Whether any change after this status was taken gives another one."""
    _, mtime_ns, ctime_ns, _ = status
    return os.name != "nt" and now_ns - max(mtime_ns, ctime_ns) > SETTLED_NS


class FileMemory:
    """The file of what is remembered; without one (`connection` None) nothing is."""

    def __init__(self, connection: sqlite3.Connection | None) -> None:
        self.connection = connection

    @classmethod
    @contextlib.contextmanager
    def open(cls) -> Iterator["FileMemory"]:
        memory = cls(_connect(cache_folder() / FILE) if os.name != "nt" else None)
        try:
            yield memory
        finally:
            if memory.connection is not None:
                memory.connection.close()

    def lookup(self, paths: Sequence[str], part: str = "") -> Mapping[str, tuple[Status, bytes]]:
        """What is known of these paths: the status they had, and what was found."""
        found: dict[str, tuple[Status, bytes]] = {}
        for start in range(0, len(paths), _BATCH):
            some = [os.fsencode(path) for path in paths[start : start + _BATCH]]
            query = f"SELECT * FROM files WHERE part = ? AND path IN ({','.join('?' * len(some))})"
            for path, _, size, mtime_ns, ctime_ns, inode, content in self._run(query, [part, *some]):
                status = (size, mtime_ns, ctime_ns, inode)
                if isinstance(content, bytes) and content[-4:] == _checksum(path, part, status, content[:-4]):
                    found[os.fsdecode(path)] = status, content[:-4]
        return found

    def remember(self, part: str, files: Iterable[tuple[str, Status, bytes]]) -> None:
        """Write content down; all or none."""
        named = [(os.fsencode(path), status, content) for path, status, content in files]
        rows = [
            (path, part, *status, content + _checksum(path, part, status, content)) for path, status, content in named
        ]
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


def _checksum(path: bytes, part: str, status: Status, content: bytes) -> bytes:
    return zlib.crc32(content, zlib.crc32(repr((path, part, status)).encode())).to_bytes(4, "little")


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
