"""Which places were read, as they were (size, times), and what became of them: a picture's id, or a reason.

Only a memory: it spares reading. The store is the truth about what is in a collection; a ledger that is lost, damaged
or behind is made good from it. Written after the store's own commits. One thread at a time may use it, any thread.
"""

import contextlib
import sqlite3
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tandem.errors import StoreError
from tandem.search.indexing.places import Stamp, shard_of

FORMAT = "1"
AT_ONCE = 500  # places in one question: SQLite binds 999 values or more
LAST = "\U0010ffff"  # sorts after what any path goes on with

SHARD = ""  # what stands for the id of a file of many pictures that was read to its end
UNKNOWN = Stamp(-1, -1, -1)  # of a place that the store knows and the ledger does not: it will be read

_TABLES = """
CREATE TABLE IF NOT EXISTS files (path TEXT PRIMARY KEY, size INTEGER NOT NULL, mtime_ns INTEGER NOT NULL,
    ctime_ns INTEGER NOT NULL, caption TEXT NOT NULL, id TEXT, reason TEXT) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS leaving (path TEXT, id TEXT, PRIMARY KEY (path, id)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS about (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
"""


@dataclass(frozen=True)
class Seen:
    """A place as it was read. `id` is the picture it held; `reason` why it could not be indexed, or what of it."""

    path: str
    stamp: Stamp
    id: str | None = None
    reason: str | None = None

    def is_as(self, stamp: Stamp) -> bool:
        """Whether the place still looks the same. A file that failed is also looked at for its permissions."""
        same = (self.stamp.size, self.stamp.mtime_ns) == (stamp.size, stamp.mtime_ns)
        caption = stamp.caption in ("", self.stamp.caption)  # a source without captions takes none away
        return same and caption and (self.reason is None or self.stamp.ctime_ns == stamp.ctime_ns)


class Ledger:
    """A file that remembers. `with Ledger.open(path) as ledger:`"""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self._lock = threading.RLock()

    @classmethod
    def open(cls, path: str | Path) -> "Ledger":
        """Open it, or make it. One that is damaged is begun anew."""
        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            return cls(_connect(path))
        except sqlite3.OperationalError as error:
            raise StoreError(f"{path}: cannot be opened: {error}") from None
        except sqlite3.DatabaseError:
            for ending in ("", "-wal", "-shm"):
                with contextlib.suppress(FileNotFoundError):
                    Path(f"{path}{ending}").unlink()
            return cls(_connect(path))

    def __enter__(self) -> "Ledger":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        with self._lock:
            self._connection.close()

    # --- reading -------------------------------------------------------------------------------------------------

    def lookup(self, paths: Sequence[str]) -> dict[str, Seen]:
        """What is known of these places."""
        found: dict[str, Seen] = {}
        for start in range(0, len(paths), AT_ONCE):
            some = list(paths[start : start + AT_ONCE])
            marks = ",".join("?" * len(some))
            for row in self._ask(f"SELECT * FROM files WHERE path IN ({marks})", some):
                found[row[0]] = _seen(row)
        return found

    def under(self, prefix: str) -> Iterator[Seen]:
        """The places whose path begins like this, in order, a few read at once."""
        after = prefix
        while rows := self._ask(
            "SELECT * FROM files WHERE path > ? AND path < ? ORDER BY path LIMIT ?", (after, prefix + LAST, AT_ONCE)
        ):
            yield from map(_seen, rows)
            after = rows[-1][0]

    def counts_under(self, prefix: str) -> tuple[int, int]:
        """How many places whose path begins like this hold a picture, and how many have a reason."""
        question = "SELECT count(id), count(reason) FROM files WHERE path > ? AND path < ?"
        pictures, reasons = self._ask(question, (prefix, prefix + LAST))[0]
        return int(pictures), int(reasons)

    def leaving(self) -> Iterator[list[tuple[str, str]]]:
        """Places (path, id) that have to be taken from a picture, in batches; each has to be `let_go` by the reader."""
        while rows := self._ask("SELECT path, id FROM leaving LIMIT ?", (AT_ONCE,)):
            yield [(str(path), str(id)) for path, id in rows]

    def about(self, key: str) -> str | None:
        rows = self._ask("SELECT value FROM about WHERE key = ?", (key,))
        return str(rows[0][0]) if rows else None

    # --- writing -------------------------------------------------------------------------------------------------

    def note(
        self, seen: Iterable[Seen] = (), *, leaving: Iterable[tuple[str, str]] = (), gone: Iterable[str] = ()
    ) -> None:
        """Write down what was seen, which pictures lose a place (path, id), and which places to forget; all or none.

        A shard in which a place is forgotten will be looked into again.
        """
        gone = set(gone)
        gone |= {shard for path in gone if (shard := shard_of(path)) is not None}
        with self._lock, self._connection:
            self._connection.executemany("DELETE FROM files WHERE path = ?", [(path,) for path in gone])
            self._connection.executemany("INSERT OR REPLACE INTO files VALUES (?,?,?,?,?,?,?)", map(_row, seen))
            self._connection.executemany("INSERT OR IGNORE INTO leaving VALUES (?,?)", list(leaving))

    def let_go(self, pairs: Iterable[tuple[str, str]]) -> None:
        """These places were taken from their pictures."""
        with self._lock, self._connection:
            self._connection.executemany("DELETE FROM leaving WHERE path = ? AND id = ?", list(pairs))

    def write_down(self, about: Mapping[str, str]) -> None:
        with self._lock, self._connection:
            self._connection.executemany("INSERT OR REPLACE INTO about VALUES (?,?)", list(about.items()))

    def forget_reasons(self) -> None:
        """Let everything that was set aside be tried again."""
        with self._lock, self._connection:
            self._connection.execute("UPDATE files SET size = -1 WHERE reason IS NOT NULL")

    def forget_pictures(self) -> None:
        """Know of no picture any more; what was set aside stays so."""
        with self._lock, self._connection:
            self._connection.execute("DELETE FROM files WHERE id IS NOT NULL")
            self._connection.execute("DELETE FROM leaving")

    def _ask(self, question: str, values: Sequence[object] = ()) -> list[tuple[Any, ...]]:
        with self._lock:
            return self._connection.execute(question, values).fetchall()


def _connect(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(path, timeout=30, check_same_thread=False)
    try:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")  # a note that the power takes back may be a lie
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


def _seen(row: tuple[Any, ...]) -> Seen:
    path, size, mtime_ns, ctime_ns, caption, id, reason = row
    return Seen(path, Stamp(size, mtime_ns, ctime_ns, caption), id, reason)


def _row(seen: Seen) -> tuple[object, ...]:
    stamp = seen.stamp
    return seen.path, stamp.size, stamp.mtime_ns, stamp.ctime_ns, stamp.caption, seen.id, seen.reason
