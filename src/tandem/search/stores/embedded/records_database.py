"""The database of a local store: ids, values, notes, and which rows of which files are in use. Knows no vectors.

SQLite in WAL mode: a commit is durable and atomic, readers keep their snapshot while one process writes. A record is at
the position of its vector in the vector file. Bytes are in a table of their own under a number that never changes, so
that searching and moving records do not touch them. What is read is compared with checksums (`checksums`), which stand
beside it; collections of formats 1 and 2 have none until the next writer adds those that cost little.
"""

import json
import os
import re
import sqlite3
from collections.abc import Mapping
from dataclasses import astuple, dataclass, fields, replace
from pathlib import Path
from typing import cast
from urllib.parse import quote

from tandem.errors import StoreError, TandemError
from tandem.search.stores.embedded import checksums, sql_filters
from tandem.search.stores.embedded.sql_filters import quoted
from tandem.search.stores.embedded.sqlite_errors import database_errors, few_steps
from tandem.search.stores.protocol import Kind, Schema

FILE = "records.sqlite"
MISSING = f"expected the database {FILE}, and it is missing"
FORMAT = 3  # 2 had no checksums, 1 other names for what is deleted: see `_upgrade`
LARGEST_VALUE = 1 << 26  # bytes of a value, and of a record: a function of a crafted database may return any
MOST_DIMENSIONS, LONGEST_SCHEMA = 65_536, 100_000  # the longest in characters
_VECTORS, _INDEX = re.compile(r"vectors-\d{1,18}\.f32"), re.compile(r"index-\d{1,18}\.faiss")
APPLICATION = 0x54414E44  # "TAND"
TYPES: Mapping[Kind, str] = {
    "text": "TEXT",
    "integer": "INTEGER",
    "real": "REAL",
    "boolean": "INTEGER",
    "bytes": "BLOB",
}
_VECTOR_CHECKSUMS = (
    "CREATE TABLE vector_checksums (file TEXT NOT NULL, block INTEGER NOT NULL, checksums BLOB NOT NULL, "
    "PRIMARY KEY (file, block)) WITHOUT ROWID"
)


class DamagedError(sqlite3.DatabaseError):
    """What the database says is not what was written to it."""


class DamagedStateError(DamagedError):
    """What the database says of which files and rows are in use; these can be found out in another way."""


@dataclass(frozen=True)
class State:
    """Which files and rows are in use: everything that a reader needs besides the records themselves."""

    commits: int = 0  # counts changes of records: what was derived from the same number is still true
    vectors: str = "vectors-1.f32"
    file_number: int = 1  # the largest that any file's name has had: names are never used twice
    rows: int = 0  # of the vector file, deleted ones included
    live: int = 0
    deleted_count: int = 0  # entries of the table `deleted`
    next_attachment: int = 1
    index: str = ""
    index_rows: int = 0
    index_trained: int = 0
    index_checksum: int = 0
    # Of the tables of these names; NO_CHECKSUM in collections of formats 1 and 2
    schema_checksum: int = -1
    notes_checksum: int = -1
    deleted_checksum: int = -1

    @property
    def has_checksums(self) -> bool:
        return self.schema_checksum != NO_CHECKSUM


NO_CHECKSUM = -1
STATE_COLUMNS = tuple(f'"{each.name}"' for each in fields(State))


def create(folder: Path, schema: Schema, notes: Mapping[str, str]) -> None:
    """Make the database of an empty store."""
    names = [name.lower() for name in schema.columns]
    if len(set(names)) < len(names) or {"id", sql_filters.ID, "_position", "_attachment", "_checksum"} & set(names):
        raise TandemError("columns: expected names that differ in more than case, none of them 'id' or starting with _")
    if schema.dimensions < 1:
        raise TandemError(f"dimensions: expected at least 1, got {schema.dimensions}")
    strict = " STRICT" if sqlite3.sqlite_version_info >= (3, 37) else ""
    values = "".join(f", {quoted(name)} {TYPES[kind]}" for name, kind in value_columns(schema).items())
    blobs = "".join(f", {quoted(name)} BLOB" for name in schema.columns if schema.columns[name] == "bytes")
    state_types = ", ".join(
        f"{quoted(each.name)} {'TEXT' if each.type is str else 'INTEGER'}" for each in fields(State)
    )
    connection = sqlite3.connect(folder / FILE, isolation_level=None)
    try:
        connection.execute("PRAGMA page_size = 8192")
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("BEGIN")
        connection.execute(f"PRAGMA application_id = {APPLICATION}")
        connection.execute(f"PRAGMA user_version = {FORMAT}")
        connection.execute(
            f"CREATE TABLE records (_position INTEGER PRIMARY KEY, _id TEXT NOT NULL UNIQUE, _attachment INTEGER"
            f"{values}, _checksum INTEGER){strict}"
        )
        connection.execute(
            f"CREATE TABLE attachments (_attachment INTEGER PRIMARY KEY{blobs}, _checksum INTEGER){strict}"
        )
        connection.execute(_VECTOR_CHECKSUMS)
        connection.execute(f"CREATE TABLE deleted (sequence INTEGER PRIMARY KEY, position INTEGER NOT NULL){strict}")
        connection.execute(f"CREATE TABLE notes (key TEXT PRIMARY KEY, value TEXT NOT NULL){strict}")
        connection.execute(f"CREATE TABLE schema (dimensions INTEGER, columns TEXT){strict}")
        connection.execute(f"CREATE TABLE state ({state_types}, _checksum INTEGER){strict}")
        connection.execute("INSERT INTO schema VALUES (?, ?)", (schema.dimensions, json.dumps(dict(schema.columns))))
        connection.execute("INSERT INTO state (commits) VALUES (0)")
        state = replace(State(), schema_checksum=_checksum_of_schema(connection), deleted_checksum=0)
        write_notes(connection, state, notes)
        connection.execute("COMMIT")
    finally:
        connection.close()


def connect(folder: Path, *, write: bool = False) -> sqlite3.Connection:
    """Open the database of a generation. `StoreError` if it is missing, foreign, or written by a newer Tandem."""
    path = folder / FILE
    if not path.is_file():
        raise StoreError(f"{folder}: {MISSING}", remedy="restore")
    with database_errors(folder):
        connection = sqlite3.connect(
            address(path, write=write), uri=True, timeout=30, isolation_level=None, check_same_thread=False
        )
        try:
            connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, LARGEST_VALUE)
            connection.execute("PRAGMA busy_timeout = 30000")
            with few_steps(connection):
                application = connection.execute("PRAGMA application_id").fetchone()[0]
                version = connection.execute("PRAGMA user_version").fetchone()[0]
                if application != APPLICATION:
                    raise StoreError(
                        f"{path}: expected a collection's database, and this is another program's", remedy="restore"
                    )
                _check_tables_only(connection)
            if version > FORMAT:
                raise StoreError(
                    f"{folder}: the collection has format {version}, this Tandem knows {FORMAT}; install a newer Tandem"
                )
            if write:
                connection.execute("PRAGMA synchronous = FULL")
                if version < FORMAT:
                    _upgrade(connection, version)
                connection.execute("PRAGMA wal_autocheckpoint = 8000")  # pages: fewer rounds while millions come in
                connection.execute("PRAGMA cache_size = -131072")  # KiB: ids are random, their index should stay here
                # Pages, 512 MB. Where it does not, from two million records on, each insert of a batch would push
                # another changed page into the log: 125,000 pages for 50,000 records instead of 14,000.
                connection.execute("PRAGMA cache_spill = 65536")
            else:
                connection.execute("PRAGMA cache_size = -32768")
                connection.execute("PRAGMA mmap_size = 1073741824")
            sql_filters.install(connection)
        except BaseException:
            connection.close()
            raise
    return connection


def _check_tables_only(connection: sqlite3.Connection) -> None:
    """Views, triggers and virtual tables could do anything, also without end, where a table is read or written."""
    foreign = connection.execute(
        "SELECT name FROM sqlite_master WHERE type NOT IN ('table', 'index') OR sql LIKE 'CREATE VIRTUAL%' LIMIT 1"
    ).fetchone()
    if foreign is not None:
        raise DamagedError(f"expected tables only, and {str(foreign[0])[:40]!r} is not one")
    tables = [name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table' LIMIT 100")]
    for table in tables:  # what is computed when it is read may take any time and memory
        if any(column[6] > 1 for column in connection.execute(f"PRAGMA table_xinfo({quoted(table)})")):
            raise DamagedError(f"expected stored columns only, and {table[:40]!r} has computed ones")


def address(path: Path, *, write: bool) -> str:
    """The database as a URI. In a read-only folder without a log, SQLite must not look for one (`immutable`)."""
    text = path.resolve().as_posix()
    uri = "file:" + quote(os.fsencode(text if text.startswith("/") else f"/{text}"))
    if write:
        return f"{uri}?mode=rw"
    return uri + ("?mode=ro&immutable=1" if is_read_only(path.parent) else "?mode=ro")


def is_read_only(folder: Path) -> bool:
    """Whether no process can be writing here: we may not, and there is no log of one that may."""
    if os.access(folder, os.W_OK):
        return False
    try:
        return (folder / f"{FILE}-wal").stat().st_size == 0
    except OSError:
        return True


def read_schema(connection: sqlite3.Connection) -> Schema:
    """`DamagedError` if it is none that `create` writes."""
    try:
        dimensions, text = connection.execute("SELECT dimensions, columns FROM schema").fetchone()
        columns = json.loads(text) if len(text) <= LONGEST_SCHEMA else None
    except (TypeError, ValueError, RecursionError):
        dimensions, columns = 0, None
    kinds = columns.values() if isinstance(columns, dict) else [None]
    if not all(isinstance(kind, str) and kind in TYPES for kind in kinds):
        raise DamagedError("the table of its columns is damaged")
    if not (isinstance(dimensions, int) and 1 <= dimensions <= MOST_DIMENSIONS):
        raise DamagedError("the table of its columns is damaged")
    return Schema(dimensions, cast(Mapping[str, Kind], columns))


def check_schema(connection: sqlite3.Connection, state: State) -> None:
    """`DamagedError` if the schema is not what was written."""
    if state.has_checksums and _checksum_of_schema(connection) != state.schema_checksum:
        raise DamagedError("the table of its columns is damaged")


def _checksum_of_schema(connection: sqlite3.Connection) -> int:
    return checksums.of_values(connection.execute("SELECT dimensions, columns FROM schema").fetchone())


def read_state(connection: sqlite3.Connection) -> State:
    """`DamagedError` if it is not what was written."""
    cursor = connection.execute("SELECT * FROM state")
    names = [column[0] for column in cursor.description]
    row = cursor.fetchone()
    if row is None:
        raise DamagedStateError("its state is missing")
    values = dict(zip(names, row, strict=True))
    checksum = values.pop("_checksum", None)
    if checksum is not None and checksums.of_values(values.values()) != checksum:
        raise DamagedStateError("its state is damaged")
    if "deaths" in values:  # of format 1
        values["deleted_count"] = values.pop("deaths")
    state = State(**values)
    if not _VECTORS.fullmatch(str(state.vectors)) or not (state.index == "" or _INDEX.fullmatch(str(state.index))):
        raise DamagedStateError("its state is damaged: it names files that no collection has")
    return state


def _upgrade(connection: sqlite3.Connection, version: int) -> None:
    """To format 3, by a writer. Readers read all formats: one may be open now, or may not write.

    Checksums of records and thumbnails come with their next change; those of vectors `add_checksums` adds.
    """
    connection.execute("BEGIN IMMEDIATE")
    try:
        if version == 1:
            connection.execute("ALTER TABLE dead RENAME TO deleted")
            connection.execute("ALTER TABLE state RENAME COLUMN deaths TO deleted_count")
        for table in ("records", "attachments"):
            connection.execute(f"ALTER TABLE {table} ADD COLUMN _checksum INTEGER")
        for name in ("schema_checksum", "notes_checksum", "deleted_checksum"):
            connection.execute(f"ALTER TABLE state ADD COLUMN {name} INTEGER DEFAULT {NO_CHECKSUM}")
        connection.execute("ALTER TABLE state ADD COLUMN _checksum INTEGER")
        connection.execute(_VECTOR_CHECKSUMS)
        state = read_state(connection)
        state = replace(
            state,
            schema_checksum=_checksum_of_schema(connection),
            notes_checksum=_checksum_of_notes(read_notes(connection)),
            deleted_checksum=checksums.of_positions(deleted_positions(connection, after=0)),
        )
        write_state(connection, state)
        connection.execute(f"PRAGMA user_version = {FORMAT}")
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


def write_state(connection: sqlite3.Connection, state: State) -> None:
    connection.execute(f"UPDATE state SET {', '.join(f'{name} = ?' for name in STATE_COLUMNS)}", astuple(state))
    # Columns stand in another order where the collection was made by an earlier version.
    *values, _ = connection.execute("SELECT * FROM state").fetchone()
    connection.execute("UPDATE state SET _checksum = ?", (checksums.of_values(values),))


def read_notes(connection: sqlite3.Connection, state: State | None = None) -> dict[str, str]:
    """`DamagedError` if they are not what was written, as far as a state says."""
    notes = dict(connection.execute("SELECT key, value FROM notes ORDER BY key"))
    if state is not None and state.has_checksums and _checksum_of_notes(notes) != state.notes_checksum:
        raise DamagedError("its notes are damaged, which name its model")
    return notes


def _checksum_of_notes(notes: Mapping[str, str]) -> int:
    return checksums.of_values(text for item in sorted(notes.items()) for text in item)


def write_notes(connection: sqlite3.Connection, state: State, notes: Mapping[str, str]) -> None:
    for key, value in notes.items():
        if value:
            connection.execute("INSERT OR REPLACE INTO notes VALUES (?, ?)", (key, value))
        else:
            connection.execute("DELETE FROM notes WHERE key = ?", (key,))
    write_state(connection, replace(state, notes_checksum=_checksum_of_notes(read_notes(connection))))


def deleted_positions(connection: sqlite3.Connection, *, after: int, most: int = -1) -> list[int]:
    """The deleted rows in the order of deletion, without the first `after` of them; at most so many unless -1."""
    tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    table = "deleted" if "deleted" in tables else "dead"  # of format 1
    statement = f"SELECT position FROM {table} WHERE sequence > ? ORDER BY sequence LIMIT ?"
    cursor = connection.execute(statement, (after, most))
    return [position for (position,) in cursor]


def value_columns(schema: Schema) -> dict[str, Kind]:
    """The columns but those of bytes."""
    return {name: kind for name, kind in schema.columns.items() if kind != "bytes"}
