"""A whole local store verified, and repaired: what is sound is copied into a new generation, which takes its place.

Knows the files of a store; it reads no image and knows no model.
"""

import re
import shutil
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, suppress
from pathlib import Path
from typing import TYPE_CHECKING, cast

import numpy as np

from tandem.errors import StoreError, StoreNotFoundError
from tandem.search.stores.embedded import (
    checksum_table,
    checksums,
    generations,
    records_database,
    vector_index,
)
from tandem.search.stores.embedded.records_database import DamagedStateError, State
from tandem.search.stores.embedded.records_table import FoundRows, Selection
from tandem.search.stores.embedded.sqlite_errors import database_errors, walk
from tandem.search.stores.embedded.vector_file import VectorFile
from tandem.search.stores.protocol import Backend, Finding, Records, Salvage, Schema, Store, Value

if TYPE_CHECKING:
    from tandem.search.stores.embedded.store import EmbeddedStore

PROBLEMS = 20  # of SQLite's that are listed
BATCH = 500
REPAIRING = "repairing"  # a note of a staging generation: that a repair began it


def check(url: str) -> list[Finding]:
    """All that is not as it was written."""
    try:
        folder = generations.folder(url)
        if not folder.is_dir():
            raise StoreError(f"{folder} is not there", remedy="restore")
        with closing(records_database.connect(folder)) as connection, database_errors(folder):
            return list(_findings(connection, folder))
    except StoreNotFoundError:
        if generations.lost_name(url) is None:
            raise
        return [Finding("database", f"the file {generations.CURRENT!r}, which names the generation in use, is missing")]
    except StoreError as error:
        return [Finding("database", error.reason, can_repair=error.remedy == "repair")]


def _findings(connection: sqlite3.Connection, folder: Path) -> Iterator[Finding]:
    for (problem,) in connection.execute(f"PRAGMA integrity_check({PROBLEMS})"):
        if problem != "ok":
            yield Finding("database", f"SQLite: {' '.join(str(problem).split()):.300}")
    state, schema = records_database.read_state(connection), records_database.read_schema(connection)
    records_database.check_schema(connection, state)
    records_database.read_notes(connection, state)
    with walk(connection):
        deleted = records_database.deleted_positions(connection, after=0, most=state.deleted_count + 1)
    if state.has_checksums and checksums.of_positions(deleted) != state.deleted_checksum:
        yield Finding("database", "the list of deleted rows is damaged")
    damaged: list[str] = []
    without_blobs: list[str] = []
    sound = 0
    vectors = _VectorCheck(connection, folder, state, schema)
    for read in _pages(connection, Selection(schema, tuple(schema.columns))):
        damaged += [str(id) for _, id in read.damaged]
        without_blobs += [str(id) for _, id in read.without_blobs]
        sound += len(read.rows)
        vectors.look_at(read.rows)
    if damaged:
        yield Finding("records", "their records are damaged", tuple(damaged))
    if (missing := state.live - sound - len(damaged)) > 0:
        yield Finding("records", f"{missing:,} records are missing")
    if without_blobs:
        yield Finding("thumbnails", "their thumbnails are damaged", tuple(without_blobs))
    yield from vectors.findings()
    with walk(connection):
        yield from list(_checksum_findings(connection, state))
    if state.index:
        index = folder / state.index
        if not index.is_file() or vector_index.checksum_of(index) != state.index_checksum:
            yield Finding("index", f"the index {index.name} is damaged or missing; it can be made again")


class _VectorCheck:
    """Which records have vectors that are not what was written. Keeps the ids of these only: ten million take 1 GB."""

    def __init__(self, connection: sqlite3.Connection, folder: Path, state: State, schema: Schema) -> None:
        self._path, self._state = folder / state.vectors, state
        self._damaged: list[str] = []
        self._empty: list[str] = []
        try:
            self._file: VectorFile | None = _vectors_of(connection, self._path, schema.dimensions)
            self._rows = self._path.stat().st_size // self._file.row_bytes
        except FileNotFoundError:
            self._file, self._rows = None, 0

    def look_at(self, records: Sequence[tuple[Value, ...]]) -> None:
        """Records of one page: position, id, values."""
        positions = np.array([int(str(row[0])) for row in records], np.int64)
        inside = (positions >= 0) & (positions < self._rows)
        sound = np.zeros(len(positions), np.bool_)
        if self._file is not None:
            sound[inside] = np.isin(positions[inside], self._file.sound(positions[inside]))
        for number in np.flatnonzero(~sound).tolist():
            row = int(positions[number])
            is_empty = self._file is not None and inside[number] and not self._file.read_raw(row, row + 1).any()
            (self._empty if is_empty else self._damaged).append(str(records[number][1]))

    def findings(self) -> Iterator[Finding]:
        if self._file is None:
            yield Finding("vectors", f"the file {self._path.name} is missing", tuple(self._damaged))
            return
        if self._rows < self._state.rows:
            cut = f"{self._rows:,} of {self._state.rows:,} rows are left"
            yield Finding("vectors", f"the file {self._path.name} was cut short: {cut}")
        if self._damaged:
            yield Finding("vectors", "their vectors are damaged", tuple(self._damaged))
        if self._empty:
            yield Finding("vectors", "they have no vectors", tuple(self._empty))


def _checksum_findings(connection: sqlite3.Connection, state: State) -> Iterator[Finding]:
    if not state.has_checksums:
        yield Finding("checksums", "it was made by an earlier version; a repair adds checksums")
    elif checksum_table.reach(connection, state.vectors) < state.rows or not _has_all(connection, state):
        yield Finding("vectors", "checksums are missing; a repair adds them")
    elif connection.execute("SELECT 1 FROM records WHERE _checksum IS NULL LIMIT 1").fetchone():
        yield Finding("checksums", "some records were written by an earlier version; a repair adds their checksums")


def _has_all(connection: sqlite3.Connection, state: State) -> bool:
    count = connection.execute("SELECT count(*) FROM vector_checksums WHERE file = ?", (state.vectors,)).fetchone()[0]
    return int(count) == -(-state.rows // checksums.ROWS)


def _vectors_of(connection: sqlite3.Connection, path: Path, dimensions: int) -> VectorFile:
    return VectorFile(path, dimensions, lambda blocks: checksum_table.read(connection, path.name, blocks))


def _pages(connection: sqlite3.Connection, selection: Selection) -> Iterator[FoundRows]:
    """All records, as far as the pages of the database can be read."""
    last, largest, stretch = -1, _largest_position(connection), BATCH
    while last < largest:
        try:
            rest = "WHERE _position > ? ORDER BY _position LIMIT ?"
            read = selection.read(connection, rest, (last, BATCH))
            if not read.count:
                return
            yield read
            last, stretch = read.last, BATCH
        except sqlite3.DatabaseError:
            end = min(largest, last + stretch)
            some = _read(connection, selection, last + 1, end, max(1, stretch // BATCH))
            yield from some
            # A position may be any number: a stretch of which nothing can be read is followed by a longer one.
            last, stretch = end, BATCH if some else 2 * stretch


def _largest_position(connection: sqlite3.Connection) -> int:
    with suppress(sqlite3.Error):
        found = connection.execute("SELECT max(_position) FROM records").fetchone()[0]
        return -1 if found is None else int(found)
    with suppress(sqlite3.Error):
        return records_database.read_state(connection).rows - 1
    return -1


def _read(
    connection: sqlite3.Connection, selection: Selection, first: int, last: int, smallest: int
) -> list[FoundRows]:
    """The records at these positions; where a page cannot be read, those around it, in stretches of `smallest`."""
    try:
        rest = "WHERE _position BETWEEN ? AND ? ORDER BY _position"
        read = selection.read(connection, rest, (first, last))
        return [read] if read.count else []
    except sqlite3.DatabaseError:
        if last - first < smallest:
            return []
    middle = (first + last) // 2
    return [
        *_read(connection, selection, first, middle, smallest),
        *_read(connection, selection, middle + 1, last, smallest),
    ]


# --- repair --------------------------------------------------------------------------------------------------------


def repair(backend: Backend, known: Mapping[str, Mapping[str, Value]]) -> tuple[Salvage, bool]:
    """Keep what is sound, and what is `known` of records that are not. Also whether indexes and checksums have to be
    made again.

    `StoreError` where a store has lost what nothing else knows: its columns or its model.
    """
    generations.restore_name(backend.url)
    parts = {finding.part for finding in check(backend.url)}
    salvage = _rebuilt(backend, known) if parts & {"database", "records", "vectors", "thumbnails"} else Salvage()
    return salvage, bool(parts & {"index", "checksums"})


def _rebuilt(backend: Backend, known: Mapping[str, Mapping[str, Value]]) -> Salvage:
    """A new generation of all that is sound takes the place of the damaged one."""
    folder = generations.folder(backend.url)
    lock = generations.lock_for_writing(backend.url, folder)
    try:
        with suppress(StoreError):
            with closing(backend.open(write=True, staging=True)) as begun:
                if REPAIRING not in begun.notes:
                    raise _UnfinishedMigration
            generations.remove_staging(backend.url)
        try:
            with closing(records_database.connect(folder)) as connection, database_errors(folder):
                salvage = _copied(backend, connection, folder, known)
        except StoreError as error:
            raise _beyond_repair(folder, error) from error
        _keep_others(folder, generations.folder(backend.url, staging=True))
    except _UnfinishedMigration:
        raise StoreError(
            f"{backend.url}: a migration to another model is unfinished: finish it with tandem migrate, or remove "
            f"{generations.folder(backend.url, staging=True)}, and repair then"
        ) from None
    finally:
        lock.release()
    backend.promote()
    return salvage


def _keep_others(folder: Path, new: Path) -> None:
    """Copy the files that are not the store's: they belong to its owner."""
    ours = re.compile(rf"{re.escape(records_database.FILE)}.*|vectors-.*|index-.*|writer\..*")
    for path in folder.iterdir():
        if not ours.fullmatch(path.name) and path.is_file():
            shutil.copyfile(path, new / path.name)


def _beyond_repair(folder: Path, error: StoreError) -> StoreError:
    return StoreError(
        f"{folder.parent}: cannot be repaired: {error.reason.removeprefix(f'{folder}: ')}", remedy="restore"
    )


class _UnfinishedMigration(Exception):
    """A staging generation that no repair began."""


def _copied(
    backend: Backend, connection: sqlite3.Connection, folder: Path, known: Mapping[str, Mapping[str, Value]]
) -> Salvage:
    """Copy what is sound into a staging generation."""
    state, schema, notes = _certain(connection, folder)
    path = folder / state.vectors
    file = _vectors_of(connection, path, schema.dimensions) if path.is_file() else None
    rows = 0 if file is None else path.stat().st_size // file.row_bytes
    salvage, seen, damaged = Salvage(), set[str](), 0
    with closing(cast("EmbeddedStore", backend.create(schema, {**notes, REPAIRING: "yes"}, staging=True))) as new:
        selection = Selection(schema, tuple(schema.columns))
        for read in _pages(connection, selection):
            good = [row for row in read.rows if row[1] not in seen]
            seen.update(str(row[1]) for row in good)
            damaged += len(read.damaged)
            salvage.without_blobs += [str(id) for _, id in read.without_blobs]
            positions = np.array([row[0] for row in good], np.int64)
            inside = positions[positions < rows]
            sound = set(file.sound(inside).tolist()) if file is not None and len(inside) else set[int]()
            _copy(new, selection, [row for row in good if row[0] in sound], file)
            rest = [row for row in good if row[0] not in sound]
            kept = Records([str(row[1]) for row in rest], None, selection.values(rest))
            new.keep_without_vectors(kept)
            salvage.without_vectors.update((id, kept.row(row)) for row, id in enumerate(kept.ids))
        for id, values in known.items():
            if id not in seen:
                new.keep_without_vectors(Records([id], None, {name: [value] for name, value in values.items()}))
                salvage.without_vectors[id] = values
        # Of a damaged record even the id may be wrong: what only `known` names may be what it was.
        regained = len(known.keys() - seen)
        salvage.unreadable = max(0, state.live - len(seen) - regained, damaged - regained)
        new.annotate({REPAIRING: ""})
    return salvage


def _copy(new: Store, selection: Selection, rows: list[tuple[Value, ...]], file: VectorFile | None) -> None:
    if rows and file is not None:
        vectors = file.gather(np.array([row[0] for row in rows], np.int64))
        new.upsert(Records([str(row[1]) for row in rows], vectors, selection.values(rows)))


def _certain(connection: sqlite3.Connection, folder: Path) -> tuple[State, Schema, dict[str, str]]:
    """What nothing else knows: the columns and the notes. The state can be found out without itself."""
    try:
        schema = records_database.read_schema(connection)
        try:
            state = records_database.read_state(connection)
            records_database.check_schema(connection, state)
            notes = records_database.read_notes(connection, state)
        except DamagedStateError:
            (vectors,) = sorted(folder.glob("vectors-*.f32"), key=lambda path: int(re.sub(r"\D", "", path.stem)))[-1:]
            state, notes = State(vectors=vectors.name), records_database.read_notes(connection)
    except (sqlite3.Error, TypeError, ValueError) as error:
        raise StoreError(f"its columns and the name of its model can no longer be read ({error})") from error
    return state, schema, notes
