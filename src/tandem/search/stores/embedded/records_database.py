"""The database of a local store: ids, values, notes, and which rows of which files are in use. Knows no vectors.

SQLite in WAL mode: a commit is durable and atomic, readers keep their snapshot while one process writes. A record is at
the position of its vector in the vector file. Bytes are in a table of their own under a number that never changes, so
that searching and moving records do not touch them.
"""

import json
import os
import sqlite3
from collections.abc import Mapping, Sequence
from dataclasses import astuple, dataclass, fields, replace
from pathlib import Path
from urllib.parse import quote

from tandem.errors import StoreError, TandemError
from tandem.search.stores.embedded import sql_filters
from tandem.search.stores.embedded.sql_filters import quoted
from tandem.search.stores.embedded.sqlite_errors import database_errors
from tandem.search.stores.protocol import UNSTORABLE, Kind, Schema, Value

FILE = "records.sqlite"
FORMAT = 2  # 1 had other names for what is deleted: see `_upgrade`
APPLICATION = 0x54414E44  # "TAND"
TYPES: Mapping[Kind, str] = {
    "text": "TEXT",
    "integer": "INTEGER",
    "real": "REAL",
    "boolean": "INTEGER",
    "bytes": "BLOB",
}
BATCH = 500  # parameters of one statement


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


STATE_COLUMNS = tuple(f'"{each.name}"' for each in fields(State))


def create(folder: Path, schema: Schema, notes: Mapping[str, str]) -> None:
    """Make the database of an empty store."""
    names = [name.lower() for name in schema.columns]
    if len(set(names)) < len(names) or {"id", sql_filters.ID, "_position", "_attachment"} & set(names):
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
            f"{values}){strict}"
        )
        connection.execute(f"CREATE TABLE attachments (_attachment INTEGER PRIMARY KEY{blobs}){strict}")
        connection.execute(f"CREATE TABLE deleted (sequence INTEGER PRIMARY KEY, position INTEGER NOT NULL){strict}")
        connection.execute(f"CREATE TABLE notes (key TEXT PRIMARY KEY, value TEXT NOT NULL){strict}")
        connection.execute(f"CREATE TABLE schema (dimensions INTEGER, columns TEXT){strict}")
        connection.execute(f"CREATE TABLE state ({state_types}){strict}")
        connection.execute("INSERT INTO schema VALUES (?, ?)", (schema.dimensions, json.dumps(dict(schema.columns))))
        connection.execute(
            f"INSERT INTO state VALUES ({', '.join('?' * len(STATE_COLUMNS))})",
            astuple(State()),
        )
        write_notes(connection, notes)
        connection.execute("COMMIT")
    finally:
        connection.close()


def connect(folder: Path, *, write: bool = False) -> sqlite3.Connection:
    """Open the database of a generation. `StoreError` if it is missing, foreign, or written by a newer Tandem."""
    path = folder / FILE
    if not path.is_file():
        raise StoreError(
            f"{folder}: expected the database {FILE}, and it is missing; restore the collection from a copy"
        )
    with database_errors(folder):
        connection = sqlite3.connect(
            address(path, write=write), uri=True, timeout=30, isolation_level=None, check_same_thread=False
        )
        try:
            connection.execute("PRAGMA busy_timeout = 30000")
            application = connection.execute("PRAGMA application_id").fetchone()[0]
            version = connection.execute("PRAGMA user_version").fetchone()[0]
            if application != APPLICATION:
                raise StoreError(f"{path}: expected a collection's database, and this is another program's")
            if version > FORMAT:
                raise StoreError(
                    f"{folder}: the collection has format {version}, this Tandem knows {FORMAT}; install a newer Tandem"
                )
            if write:
                if version == 1:
                    _upgrade(connection)
                connection.execute("PRAGMA synchronous = FULL")
                connection.execute("PRAGMA wal_autocheckpoint = 8000")  # pages: fewer rounds while millions come in
                connection.execute("PRAGMA cache_size = -131072")  # KiB: ids are random, their index should stay here
            else:
                connection.execute("PRAGMA cache_size = -32768")
                connection.execute("PRAGMA mmap_size = 1073741824")
            sql_filters.install(connection)
        except BaseException:
            connection.close()
            raise
    return connection


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
    dimensions, columns = connection.execute("SELECT dimensions, columns FROM schema").fetchone()
    return Schema(dimensions, json.loads(columns))


def read_state(connection: sqlite3.Connection) -> State:
    cursor = connection.execute("SELECT * FROM state")
    names = [column[0] for column in cursor.description]
    values = dict(zip(names, cursor.fetchone(), strict=True))
    if "deaths" in values:  # of format 1
        values["deleted_count"] = values.pop("deaths")
    return State(**values)


def _upgrade(connection: sqlite3.Connection) -> None:
    """Format 1 -> 2, by a writer. Readers read both formats: one may be open now, or may not write."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        connection.execute("ALTER TABLE dead RENAME TO deleted")
        connection.execute("ALTER TABLE state RENAME COLUMN deaths TO deleted_count")
        connection.execute(f"PRAGMA user_version = {FORMAT}")
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


def write_state(connection: sqlite3.Connection, state: State) -> None:
    connection.execute(
        f"UPDATE state SET {', '.join(f'{name} = ?' for name in STATE_COLUMNS)}",
        astuple(state),
    )


def read_notes(connection: sqlite3.Connection) -> dict[str, str]:
    return dict(connection.execute("SELECT key, value FROM notes ORDER BY key"))


def write_notes(connection: sqlite3.Connection, notes: Mapping[str, str]) -> None:
    for key, value in notes.items():
        if value:
            connection.execute("INSERT OR REPLACE INTO notes VALUES (?, ?)", (key, value))
        else:
            connection.execute("DELETE FROM notes WHERE key = ?", (key,))


def value_columns(schema: Schema) -> dict[str, Kind]:
    """The columns but those of bytes."""
    return {name: kind for name, kind in schema.columns.items() if kind != "bytes"}


def positions_of(connection: sqlite3.Connection, ids: Sequence[str]) -> dict[str, int]:
    """The positions of those of these ids that exist. What is not Unicode is nowhere stored."""
    found: dict[str, int] = {}
    ids = [each for each in ids if not UNSTORABLE.search(each)]
    for first in range(0, len(ids), BATCH):
        some = ids[first : first + BATCH]
        marks = ", ".join("?" * len(some))
        found.update(connection.execute(f"SELECT _id, _position FROM records WHERE _id IN ({marks})", some))
    return found


@dataclass(frozen=True)
class Selection:
    """Columns to read, after position and id: as SQL, and as values of their kinds."""

    schema: Schema
    columns: tuple[str, ...]

    @property
    def sql(self) -> str:
        blobs = any(self.schema.columns[name] == "bytes" for name in self.columns)
        names = "".join(f", {quoted(name)}" for name in self.columns)
        joined = " LEFT JOIN attachments USING (_attachment)" if blobs else ""
        return f"SELECT _position, _id{names} FROM records{joined}"

    def values(self, rows: Sequence[tuple[Value, ...]]) -> dict[str, list[Value]]:
        """Rows as SQLite gives them -> columns."""
        columns: list[list[Value]] = [list(column) for column in zip(*rows, strict=True)][2:]
        if not rows:
            columns = [[] for _ in self.columns]
        for i, name in enumerate(self.columns):
            if self.schema.columns[name] == "boolean":
                columns[i] = [None if value is None else bool(value) for value in columns[i]]
        return dict(zip(self.columns, columns, strict=True))


def rows_at(
    connection: sqlite3.Connection, selection: Selection, positions: Sequence[int]
) -> dict[int, tuple[Value, ...]]:
    """The rows of a selection at these positions."""
    found: dict[int, tuple[Value, ...]] = {}
    for first in range(0, len(positions), BATCH):
        some = positions[first : first + BATCH]
        marks = ", ".join("?" * len(some))
        for row in connection.execute(f"{selection.sql} WHERE _position IN ({marks})", some):
            found[row[0]] = row
    return found


def write_records(
    connection: sqlite3.Connection,
    schema: Schema,
    state: State,
    positions: Sequence[int],
    ids: Sequence[str],
    columns: Mapping[str, Sequence[Value]],
) -> State:
    """Insert records, or replace those at the same positions. Returns the state with their attachments."""
    count = len(ids)
    names = list(value_columns(schema))
    blobs = [name for name in schema.columns if schema.columns[name] == "bytes"]
    attachments: Sequence[int | None] = [None] * count
    if any(value is not None for name in blobs for value in columns.get(name, ())):
        attachments = range(state.next_attachment, state.next_attachment + count)
        state = replace(state, next_attachment=state.next_attachment + count)
        marks = ", ".join("?" * (1 + len(blobs)))
        values = [columns.get(name, [None] * count) for name in blobs]
        connection.executemany(f"INSERT INTO attachments VALUES ({marks})", zip(attachments, *values, strict=True))
    values = [columns.get(name, [None] * count) for name in names]
    marks = ", ".join("?" * (3 + len(names)))
    try:
        connection.executemany(
            f"INSERT OR REPLACE INTO records VALUES ({marks})", zip(positions, ids, attachments, *values, strict=True)
        )
    except (
        sqlite3.IntegrityError,
        sqlite3.InterfaceError,
        sqlite3.ProgrammingError,
        ValueError,
        OverflowError,
    ) as error:
        raise TandemError(f"a value does not fit its column ({error}); columns: {dict(schema.columns)}") from error
    return state


def delete_attachments(connection: sqlite3.Connection, positions: Sequence[int]) -> None:
    """Delete the bytes of the records at these positions."""
    connection.executemany(
        "DELETE FROM attachments WHERE _attachment = (SELECT _attachment FROM records WHERE _position = ?)",
        [(position,) for position in positions],
    )


def delete_records(connection: sqlite3.Connection, positions: Sequence[int]) -> None:
    """Delete the records at these positions with their bytes, and note that the rows of their vectors are deleted."""
    delete_attachments(connection, positions)
    rows = [(position,) for position in positions]
    connection.executemany("DELETE FROM records WHERE _position = ?", rows)
    connection.executemany("INSERT INTO deleted (position) VALUES (?)", rows)


def deleted_positions(connection: sqlite3.Connection, *, after: int) -> list[int]:
    """The deleted rows in the order of deletion, without the first `after` of them."""
    tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    table = "deleted" if "deleted" in tables else "dead"  # of format 1
    cursor = connection.execute(f"SELECT position FROM {table} WHERE sequence > ? ORDER BY sequence", (after,))
    return [position for (position,) in cursor]


def renumber(connection: sqlite3.Connection, schema: Schema) -> None:
    """Move records to positions 0, 1, 2... in their present order, and forget deleted rows."""
    (definition,) = connection.execute("SELECT sql FROM sqlite_master WHERE name = 'records'").fetchone()
    indexed = [
        name for (name,) in connection.execute("SELECT sql FROM sqlite_master WHERE type = 'index' AND sql > ''")
    ]
    names = "".join(f", {quoted(name)}" for name in value_columns(schema))
    connection.execute("ALTER TABLE records RENAME TO old_records")
    connection.execute(definition)
    connection.execute(
        f"INSERT INTO records SELECT row_number() OVER (ORDER BY _position) - 1, _id, _attachment{names} "
        "FROM old_records ORDER BY _position"
    )
    connection.execute("DROP TABLE old_records")
    for statement in indexed:
        connection.execute(statement)
    connection.execute("DELETE FROM deleted")


def missing_indexes(connection: sqlite3.Connection, schema: Schema) -> list[str]:
    """Statements for the indexes that make filters fast, where they are missing.

    An index over a column also holds positions, so most filters never read the table.
    """
    wanted = {f"by {name}": quoted(name) for name in value_columns(schema)}
    for name in value_columns(schema):
        if listed := schema.listed(name):
            wanted[f"several {listed}"] = f"{quoted(listed)}) WHERE ({sql_filters.has_several(listed)}"
    there = {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'index'")}
    return [
        f"CREATE INDEX IF NOT EXISTS {quoted(name)} ON records ({columns})"
        for name, columns in wanted.items()
        if name not in there
    ]


def make_index(connection: sqlite3.Connection, statement: str) -> None:
    """Run one of the `missing_indexes`."""
    connection.execute(statement)
