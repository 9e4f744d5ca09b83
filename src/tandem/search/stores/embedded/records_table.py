"""The records of a local store as rows of its database: written, read and verified, deleted, renumbered, indexed.

Knows no vectors, and of the database only these tables.
"""

import sqlite3
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from operator import itemgetter, lt
from typing import Any

from tandem.errors import TandemError
from tandem.search.stores.embedded import checksums, sql_filters
from tandem.search.stores.embedded.records_database import DamagedError, State, value_columns
from tandem.search.stores.embedded.sql_filters import quoted
from tandem.search.stores.embedded.sqlite_errors import walk
from tandem.search.stores.protocol import UNSTORABLE, Schema, Value

BATCH = 500  # parameters of one statement
FETCHED = 256  # rows at once, so that they are still in the processor's cache when they are verified


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
    are_known_sound: bool = False  # the values of all records are verified already: only those asked for are read

    @cached_property
    def verified_sql(self) -> str:
        """What nearly every store answers, whose records have checksums."""
        return self._sql(True)

    def _sql(self, has_checksums: bool) -> str:
        """All values, since one checksum is of all of them; bytes where they are asked for."""
        if self._is_short:
            return f"SELECT _position, _id{''.join(f', {quoted(name)}' for name in self.columns)} FROM records"
        names = "".join(f", {quoted(name)}" for name in value_columns(self.schema)) + ", records._attachment"
        names += ", records._checksum" if has_checksums else ", NULL"
        if not self._blobs:
            return f"SELECT _position, _id{names} FROM records"
        blobs = "".join(f", {quoted(name)}" for name in self._blobs)
        blobs += ", attachments._checksum" if has_checksums else ", NULL"
        blobs += ", records._attachment IS NOT NULL AND attachments._attachment IS NULL"
        return f"SELECT _position, _id{names}{blobs} FROM records LEFT JOIN attachments USING (_attachment)"

    def read(self, connection: sqlite3.Connection, rest: str, parameters: Sequence[object]) -> "FoundRows":
        """Rows of the selection, with the rest of a statement (its conditions and order), verified.

        `DamagedError` where rows in the order of their positions are not: pages that lead to each other would give
        them again and again.
        """
        try:
            return self._read(connection, f"{self.verified_sql} {rest}", parameters)
        except sqlite3.OperationalError as error:
            if "_checksum" not in str(error):
                raise
        return self._read(connection, f"{self._sql(False)} {rest}", parameters)  # formats 1 and 2 have none

    def _read(self, connection: sqlite3.Connection, statement: str, parameters: Sequence[object]) -> "FoundRows":
        try:
            return self._fetched(connection, statement, parameters)
        except sqlite3.OperationalError as error:
            if "decode" not in str(error):
                raise
        # Texts that are no UTF-8 any more get marks in them: their checksum is wrong
        connection.text_factory = lambda content: content.decode("utf-8", "backslashreplace")
        try:
            return self._fetched(connection, statement, parameters)
        finally:
            connection.text_factory = str

    def _fetched(self, connection: sqlite3.Connection, statement: str, parameters: Sequence[object]) -> "FoundRows":
        found, in_order = FoundRows([], [], []), "ORDER BY _position" in statement
        cursor = connection.execute(statement, parameters)
        while rows := cursor.fetchmany(FETCHED):
            if in_order:
                _check_order(found.last, list(map(itemgetter(0), rows)))
            self._add_verified(found, rows)
            if len(rows) < FETCHED:
                break
        return found

    def _add_verified(self, found: "FoundRows", rows: list[tuple[Value, ...]]) -> None:
        """Rows as SQLite gives them, without those that are not what was written; damaged bytes are None."""
        if not rows:
            return
        found.count += len(rows)
        found.last = int(rows[-1][0])  # type: ignore[arg-type]
        if self._is_short:
            found.rows.extend(rows)
            return
        end = 3 + len(value_columns(self.schema))  # where the checksum of a record stands
        stored = list(map(itemgetter(end), rows))
        sums = checksums.of_rows(map(itemgetter(slice(1, end)), rows), end - 1)
        if sums == stored and not self._blobs:  # nearly always; what follows takes each row by itself
            found.rows.extend(rows)
            return
        for row, checksum, sum in zip(rows, stored, sums, strict=True):
            if checksum is not None and sum != checksum:
                found.damaged.append((row[0], row[1]))  # type: ignore[arg-type]
            elif self._blobs and not _has_sound_blobs(row[end + 1 :]):
                found.without_blobs.append((row[0], row[1]))  # type: ignore[arg-type]
                found.rows.append((*row[: end + 1], *[None] * len(self._blobs)))
            else:
                found.rows.append(row)

    def values(self, rows: Sequence[tuple[Value, ...]]) -> dict[str, list[Value]]:
        """The chosen columns of rows that were found."""
        columns: dict[str, list[Value]] = {}
        for name, place in zip(self.columns, self._places, strict=True):
            columns[name] = list(map(itemgetter(place), rows))
            if self.schema.columns[name] == "boolean":
                columns[name] = [None if value is None else bool(value) for value in columns[name]]
        return columns

    @cached_property
    def known_sound(self) -> "Selection":
        """The same where the values of all records are verified already."""
        return replace(self, are_known_sound=True)

    @cached_property
    def _is_short(self) -> bool:
        return self.are_known_sound and not self._blobs

    @cached_property
    def _places(self) -> list[int]:
        """Where the chosen columns are in a row that was read."""
        if self._is_short:
            return list(range(2, 2 + len(self.columns)))
        order = [*value_columns(self.schema), "", "", *self._blobs]
        return [2 + order.index(name) for name in self.columns]

    @cached_property
    def _blobs(self) -> list[str]:
        """All columns of bytes, if one of them is asked for."""
        blobs = [name for name, kind in self.schema.columns.items() if kind == "bytes"]
        return blobs if any(name in blobs for name in self.columns) else []


@dataclass
class FoundRows:
    """Rows as they were read: position, id, and what `Selection.values` picks from; position and id of records that are
    damaged, and of those whose bytes are.
    """

    rows: list[tuple[Value, ...]]
    damaged: list[tuple[int, str]]
    without_blobs: list[tuple[int, str]]
    count: int = 0  # of rows that were read, the damaged ones too
    last: int = -1  # the position of the last of them

    def add(self, other: "FoundRows") -> None:
        """Rows that were read after these."""
        self.rows.extend(other.rows)
        self.damaged.extend(other.damaged)
        self.without_blobs.extend(other.without_blobs)
        self.count += other.count
        self.last = other.last


def _check_order(last: int, positions: list[Any]) -> None:
    if positions[0] <= last or not all(map(lt, positions, positions[1:])):
        raise DamagedError("its records are not in their order")


def _has_sound_blobs(row: Sequence[Value]) -> bool:
    """Of the bytes of a record, their checksum, and whether they are missing."""
    *blobs, checksum, is_missing = row
    return not is_missing and (checksum is None or checksums.of_blobs(blobs) == checksum)


def rows_at(connection: sqlite3.Connection, selection: Selection, positions: Sequence[int]) -> FoundRows:
    """The rows of a selection at these positions, in any order."""
    found = FoundRows([], [], [])
    for first in range(0, len(positions), BATCH):
        some = positions[first : first + BATCH]
        marks = ", ".join("?" * len(some))
        found.add(selection.read(connection, f"WHERE _position IN ({marks})", some))
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
        marks = ", ".join("?" * (2 + len(blobs)))
        bytes_of = list(zip(*(columns.get(name, [None] * count) for name in blobs), strict=True))
        sums = [checksums.of_blobs(each) for each in bytes_of]  # type: ignore[arg-type, unused-ignore]
        connection.executemany(
            f"INSERT INTO attachments VALUES ({marks})",
            [(number, *each, sum) for number, each, sum in zip(attachments, bytes_of, sums, strict=True)],
        )
    values = [columns.get(name, [None] * count) for name in names]
    marks = ", ".join("?" * (4 + len(names)))
    try:
        # SQLite gives booleans back as numbers, and so the checksum has them.
        for i, name in enumerate(names):
            if schema.columns[name] == "boolean":
                values[i] = [None if each is None else int(each) for each in values[i]]
        sums = checksums.of_rows(zip(ids, *values, attachments, strict=True), 2 + len(names))
        connection.executemany(
            f"INSERT OR REPLACE INTO records VALUES ({marks})",
            zip(positions, ids, attachments, *values, sums, strict=True),
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


def add_checksums(connection: sqlite3.Connection, schema: Schema) -> None:
    """Add the checksums of records and of their bytes that an earlier version wrote without any."""
    names = "".join(f", {quoted(name)}" for name in value_columns(schema))
    blobs = "".join(f", {quoted(name)}" for name, kind in schema.columns.items() if kind == "bytes")
    for table, key, sql, checksum in (
        ("records", "_position", f"_id{names}, _attachment", checksums.of_values),
        ("attachments", "_attachment", blobs.removeprefix(", ") or "NULL", checksums.of_blobs),
    ):
        query = f"SELECT {key}, {sql} FROM {table} WHERE _checksum IS NULL AND {key} > ? ORDER BY {key} LIMIT ?"
        last = -1
        while True:
            with walk(connection):
                rows = connection.execute(query, (last, BATCH)).fetchall()
            if not rows:
                break
            _check_order(last, [row[0] for row in rows])
            last = rows[-1][0]
            connection.executemany(
                f"UPDATE {table} SET _checksum = ? WHERE {key} = ?", [(checksum(row[1:]), row[0]) for row in rows]
            )


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


def renumber(connection: sqlite3.Connection, schema: Schema) -> None:
    """Move records to positions 0, 1, 2... in their present order, and forget deleted rows."""
    (definition,) = connection.execute("SELECT sql FROM sqlite_master WHERE name = 'records'").fetchone()
    indexed = [
        name for (name,) in connection.execute("SELECT sql FROM sqlite_master WHERE type = 'index' AND sql > ''")
    ]
    names = "".join(f", {quoted(name)}" for name in value_columns(schema))
    connection.execute("ALTER TABLE records RENAME TO old_records")
    connection.execute(definition)
    with walk(connection):
        connection.execute(
            "INSERT INTO records SELECT row_number() OVER (ORDER BY _position) - 1, "
            f"_id, _attachment{names}, _checksum FROM old_records ORDER BY _position"
        )
    connection.execute("DROP TABLE old_records")
    for statement in indexed:
        make_index(connection, statement)
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
    with walk(connection):
        connection.execute(statement)
