"""Snapshots for readers of a local store, each of one commit, and the cache they share.

A snapshot is a read transaction of SQLite: whatever a writer does meanwhile, here or in another process, it sees the
state, the records and the deleted rows of one commit; and the rows of the vector file that this state
counts never change.
"""

import itertools
import os
import sqlite3
import threading
import time
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path

import numpy as np

from tandem.errors import FilterError, StoreError
from tandem.search.stores.embedded import checksum_table, checksums, records_database, vector_index
from tandem.search.stores.embedded.checksums import Checksums
from tandem.search.stores.embedded.records_database import State
from tandem.search.stores.embedded.sql_filters import to_sql
from tandem.search.stores.embedded.sqlite_errors import database_errors, few_steps
from tandem.search.stores.embedded.vector_file import Mask, Positions, VectorFile
from tandem.search.stores.embedded.vector_index import VectorIndex
from tandem.search.stores.filter_parser import parse
from tandem.search.stores.protocol import Schema

CACHED_FILTERS, CACHED_FILTER_BYTES = 8, 256 << 20  # at most; the latest in any case
READ_ASIDE_FROM = 2_000_000  # rows of an index: reading it takes 0.2 s
FILTER_S = 20.0  # measured: LIKE over 1 M paths takes 0.3 s


@dataclass(frozen=True)
class Snapshot:
    """The store as of one commit, and the connection that reads it."""

    connection: sqlite3.Connection
    state: State
    vectors: VectorFile
    live_mask: Mask | None  # [rows]; None: all
    schema: Schema

    @cached_property
    def notes(self) -> Mapping[str, str]:
        """The notes of the store's owner."""
        with few_steps(self.connection):
            return records_database.read_notes(self.connection, self.state)


@contextmanager
def _in_time(connection: sqlite3.Connection) -> Iterator[None]:
    """`FilterError` for a statement that takes longer than a filter may."""
    until = time.monotonic() + FILTER_S
    connection.set_progress_handler(lambda: time.monotonic() > until, 1000)
    try:
        yield
    except sqlite3.OperationalError as error:
        if getattr(error, "sqlite_errorcode", None) != sqlite3.SQLITE_INTERRUPT:
            raise
        raise FilterError(f"the filter takes longer than {FILTER_S:g} s; ask for less, or in another way") from None
    finally:
        connection.set_progress_handler(None, 0)


class _Held(threading.local):
    """The snapshot that a thread keeps for several reads."""

    snapshot: Snapshot | None = None


class Snapshots:
    """Takes snapshots of one generation, for many threads. Connections are pooled."""

    def __init__(self, url: str, folder: Path) -> None:
        self._url = url
        self._folder = folder
        self._lock = threading.Lock()  # of all below
        self._idle: list[tuple[sqlite3.Connection, object]] = []
        self._process = os.getpid()
        self._vectors: VectorFile | None = None
        self._deleted: tuple[str, Positions, int] = ("", np.empty(0, np.int64), 0)  # and their checksum
        self._mask: tuple[tuple[str, int, int], Mask] = (("", 0, 0), np.empty(0, np.bool_))
        self._index: tuple[str, str, VectorIndex | None] = ("", "", None)  # its file, that of its vectors, and itself
        self._reading: threading.Thread | None = None  # another index
        self._filters: OrderedDict[tuple[int, str], Positions] = OrderedDict()
        self._closed = False
        self._held = _Held()
        with database_errors(folder), self.connection() as connection, few_steps(connection):
            self.schema: Schema = records_database.read_schema(connection)
            records_database.check_schema(connection, records_database.read_state(connection))

    @contextmanager
    def hold(self) -> Iterator[None]:
        """In this block `take` gives this thread one and the same snapshot.

        Each snapshot costs a few SQLite calls, and each of these releases Python's lock: while other threads run,
        getting it back takes longer than the call.
        """
        if self._held.snapshot is not None:
            yield
            return
        with self.take() as snapshot:
            self._held.snapshot = snapshot
            try:
                yield
            finally:
                self._held.snapshot = None

    @contextmanager
    def take(self, *, own: bool = False) -> Iterator[Snapshot]:
        """The store as of now, until the end of the block. `own` takes a new snapshot even where one is held.

        `StoreError` if the store is damaged.
        """
        if self._held.snapshot is not None and not own:
            with database_errors(self._folder):
                yield self._held.snapshot
            return
        with database_errors(self._folder), self.connection() as connection:
            for attempt in range(5):
                connection.execute("BEGIN")
                try:
                    state = records_database.read_state(connection)
                    try:
                        vectors = self._vectors_of(state)
                    except FileNotFoundError:
                        if attempt < 4:
                            continue  # a writer moved on to a new file between our two steps
                        raise StoreError(
                            f"{self._folder / state.vectors}: the vectors are missing",
                            remedy="repair",
                            collection=self._url,
                        ) from None
                    yield Snapshot(connection, state, vectors, self._live_mask(connection, state), self.schema)
                    return
                finally:
                    if connection.in_transaction:
                        connection.execute("ROLLBACK")

    @contextmanager
    def connection(self) -> Iterator[sqlite3.Connection]:
        """A connection for one call at a time. It is replaced when a read-only folder has been written to."""
        if self._closed:
            raise StoreError(f"{self._url}: the collection was closed; open it again")
        with self._lock:
            if self._process != os.getpid():  # SQLite's connections do not survive a fork
                self._idle, self._process = [], os.getpid()
            connection, seen = self._idle.pop() if self._idle else (None, None)
        now = self._read_only_stamp()
        if connection is not None and seen != now:
            connection.close()
            connection = None
        if connection is None:
            if not self._folder.is_dir():
                raise StoreError(f"{self._url}: the collection was replaced; open it again")
            connection = records_database.connect(self._folder)
        try:
            yield connection
        finally:
            with self._lock:
                if self._closed:
                    connection.close()
                else:
                    self._idle.append((connection, now))

    def passing(self, snapshot: Snapshot, where: str) -> Positions:
        """Sorted positions of the records that pass. Cached as long as no record changes."""
        key = (snapshot.state.commits, where)
        with self._lock:
            if key in self._filters:
                self._filters.move_to_end(key)
                return self._filters[key]
        condition, parameters = to_sql(parse(where, self.schema))
        with _in_time(snapshot.connection):
            cursor = snapshot.connection.execute(f"SELECT _position FROM records WHERE {condition}", parameters)
            positions = np.fromiter(itertools.chain.from_iterable(cursor), np.int64)
        positions.sort()
        with self._lock:
            self._filters[key] = positions
            while len(self._filters) > 1 and (
                len(self._filters) > CACHED_FILTERS
                or sum(each.nbytes for each in self._filters.values()) > CACHED_FILTER_BYTES
            ):
                self._filters.popitem(last=False)
        return positions

    def index(self, state: State) -> VectorIndex | None:
        """The index that a state names; None if it names none, or that one is damaged.

        Of the same vectors a later one serves, too; and an earlier one while a large one is read, which takes seconds:
        what came after it is compared exactly.
        """
        if not state.index:
            return None
        with self._lock:
            name, vectors, index = self._index
            if name == state.index:
                return index
            rows = index.rows if index is not None and vectors == state.vectors else 0
            if rows >= state.index_rows:
                return index
            if 2 * rows < state.index_rows or state.index_rows < READ_ASIDE_FROM:
                self._index = (state.index, state.vectors, self.load_index(state))
                return self._index[2]
            if self._reading is None or not self._reading.is_alive():
                self._reading = threading.Thread(target=self._read_aside, args=(state,), daemon=True)
                self._reading.start()
            return index

    def _read_aside(self, state: State) -> None:
        index = self.load_index(state)
        with self._lock:
            if not self._closed and self._index[1] == state.vectors:
                self._index = (state.index, state.vectors, index)

    def load_index(self, state: State) -> VectorIndex | None:
        """The same, read anew for the caller alone."""
        path = self._folder / state.index
        return vector_index.load(path, state.index_rows, state.index_trained, state.index_checksum)

    def close(self) -> None:
        with self._lock:
            self._closed = True
            for connection, _ in self._idle:
                connection.close()
            self._idle.clear()
            self._vectors, self._index = None, ("", "", None)
            self._filters.clear()

    def _read_only_stamp(self) -> object:
        """Changes with the files of a read-only folder; None for other folders, which SQLite itself watches."""
        if not records_database.is_read_only(self._folder):
            return None
        try:
            status = os.stat(self._folder / records_database.FILE)
        except OSError:
            return None
        return (status.st_ino, status.st_size, status.st_mtime_ns)

    def _vectors_of(self, state: State) -> VectorFile:
        with self._lock:
            if self._vectors is None or self._vectors.path.name != state.vectors:
                self._vectors = VectorFile(
                    self._folder / state.vectors,
                    self.schema.dimensions,
                    partial(self._checksums_of_vectors, state.vectors),
                )
            self._vectors.check(state.rows)
            return self._vectors

    def _checksums_of_vectors(self, file: str, blocks: Sequence[int]) -> dict[int, Checksums]:
        with database_errors(self._folder), self.connection() as connection:
            return checksum_table.read(connection, file, blocks)

    def _live_mask(self, connection: sqlite3.Connection, state: State) -> Mask | None:
        """Which rows are not deleted; None: all. Positions are cached, so only new deletions are read."""
        if not state.deleted_count:
            return None
        key = (state.vectors, state.rows, state.deleted_count)
        with self._lock:
            name, deleted, checksum = self._deleted
            known_key, known = self._mask
        if known_key == key:
            return known
        if name != state.vectors or len(deleted) > state.deleted_count:
            deleted, checksum = np.empty(0, np.int64), 0
        if len(deleted) < state.deleted_count:
            most = state.deleted_count - len(deleted) + 1  # one too many is enough to know
            later = np.array(records_database.deleted_positions(connection, after=len(deleted), most=most), np.int64)
            deleted, checksum = np.concatenate([deleted, later]), checksums.of_positions(later, checksum)
            with self._lock:
                if self._deleted[0] != state.vectors or len(self._deleted[1]) < len(deleted):
                    self._deleted = (state.vectors, deleted, checksum)
        if state.has_checksums and checksum != state.deleted_checksum:
            # What the list says is known from the records, too: a row without one is deleted.
            mask = np.zeros(state.rows, np.bool_)
            found = connection.execute("SELECT _position FROM records LIMIT ?", (state.rows,))
            there = np.array([row[0] for row in found], np.int64)
            mask[there[(there >= 0) & (there < state.rows)]] = True
        else:
            mask = np.ones(state.rows, np.bool_)
            mask[deleted] = False
        with self._lock:
            self._mask = (key, mask)
        return mask
