"""A collection that someone made to be opened: each ends in one line, soon, and opens nothing outside of it."""

import json
import os
import shutil
import sqlite3
import struct
import warnings
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from support import flips, toy
from support.collection_toys import toy_model
from support.flips import checked

from tandem.errors import StoreError, TandemError
from tandem.search.collection import Collection
from tandem.search.stores.embedded import checksums, records_database, sqlite_errors
from tandem.search.stores.embedded.records_database import FILE
from tandem.search.stores.embedded.sqlite_errors import few_steps


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> str:
    return flips.make(tmp_path_factory.mktemp("crafted"), 6).url


def in_state(column: str, value: object) -> Callable[[sqlite3.Connection, Path], None]:
    def craft(connection: sqlite3.Connection, folder: Path) -> None:
        connection.execute(f'UPDATE state SET "{column}" = ?', (value,))

    return craft


def in_schema(column: str, value: object) -> Callable[[sqlite3.Connection, Path], None]:
    def craft(connection: sqlite3.Connection, folder: Path) -> None:
        connection.execute(f"UPDATE schema SET {column} = ?", (value,))
        row = connection.execute("SELECT dimensions, columns FROM schema").fetchone()
        connection.execute("UPDATE state SET schema_checksum = ?", (checksums.of_values(row),))

    return craft


def view_without_end(connection: sqlite3.Connection, folder: Path) -> None:
    connection.execute("ALTER TABLE records RENAME TO others")
    connection.execute(
        "CREATE VIEW records AS WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) "
        "SELECT others.* FROM others, n"
    )


def pipe(name: str) -> Callable[[sqlite3.Connection, Path], None]:
    def craft(connection: sqlite3.Connection, folder: Path) -> None:
        (folder / name).unlink()
        os.mkfifo(folder / name)

    return craft


def sparse(connection: sqlite3.Connection, folder: Path) -> None:
    size = 1 << 40
    os.truncate(folder / "vectors-1.f32", size)
    connection.execute("UPDATE state SET rows = ?", (size // (4 * toy.DIMENSIONS),))


def computed(connection: sqlite3.Connection, folder: Path) -> None:
    connection.execute("ALTER TABLE notes ADD COLUMN more TEXT AS (hex(zeroblob(400000000)))")


def notes_without_end(connection: sqlite3.Connection, folder: Path) -> None:
    """As many as take the steps that opening may take: real ones would be pages that lead to each other."""
    rows = ((f"note {number}", "x") for number in range(3000))
    connection.executemany("INSERT INTO notes VALUES (?, ?)", rows)


CRAFTED: dict[str, Callable[[sqlite3.Connection, Path], None]] = {
    "a file outside": in_state("vectors", "../../../../../etc/passwd"),
    "an absolute file": in_state("vectors", "/dev/zero"),
    "an index outside": in_state("index", "../x.faiss"),
    "rows without end": in_state("rows", 1 << 60),
    "no dimensions": in_schema("dimensions", 0),
    "dimensions without end": in_schema("dimensions", 10**9),
    "brackets": in_schema("columns", "[" * 100_000 + "]" * 100_000),
    "deep brackets": in_schema("columns", "[" * 40_000 + "]" * 40_000),
    "an unknown kind": in_schema("columns", json.dumps({"path": ["text"]})),
    "a view": view_without_end,
    "a file of nothing": sparse,
    "a computed column": computed,
    "a pipe as current": pipe("../current"),
    "a pipe as vectors": pipe("vectors-1.f32"),
}


def craft(whole: str, folder: Path, crafted: Callable[[sqlite3.Connection, Path], None]) -> str:
    shutil.copytree(whole, folder)
    connection = sqlite3.connect(folder / "g1" / FILE)
    crafted(connection, folder / "g1")
    *values, _ = connection.execute("SELECT * FROM state").fetchone()
    connection.execute("UPDATE state SET _checksum = ?", (checksums.of_values(values),))
    connection.commit()
    connection.close()
    return str(folder)


@pytest.mark.parametrize("case", CRAFTED)
def test_a_crafted_collection_is_refused_in_one_line(whole: str, tmp_path: Path, case: str) -> None:
    url = craft(whole, tmp_path / "c.tandem", CRAFTED[case])
    with pytest.raises(TandemError) as refused, Collection(url, toy_model()) as photos:
        photos.search("a cat")
    assert "\n" not in str(refused.value)
    assert checked(url).damage


def test_opening_takes_a_bounded_number_of_steps(whole: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    url = craft(whole, tmp_path / "c.tandem", notes_without_end)
    with pytest.raises(TandemError, match="its notes are damaged"), Collection(url, toy_model()) as photos:
        assert photos.notes
    monkeypatch.setattr(sqlite_errors, "OPENING_STEPS", 5000)
    with (
        pytest.raises(TandemError, match="what it says of itself does not end"),
        Collection(url, toy_model()) as photos,
    ):
        assert photos.notes
    with Collection(whole, toy_model()) as photos:
        assert photos.notes


def test_no_value_is_longer_than_any_that_is_written(whole: str) -> None:
    with closing(records_database.connect(Path(whole) / "g1")) as connection:
        with pytest.raises(sqlite3.DataError, match="too big"):
            connection.execute("SELECT hex(zeroblob(?))", (records_database.LARGEST_VALUE,))
        with pytest.raises(sqlite3.DatabaseError, match="does not end"), few_steps(connection):
            connection.execute("WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT max(i) FROM n")


def leading_to_each_other(database: Path, table: str) -> None:
    """Put 1,000 ** 3 ways above the one page of a table, all of which lead to it."""
    with closing(sqlite3.connect(database)) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        connection.execute("PRAGMA journal_mode = DELETE")
        size = connection.execute("PRAGMA page_size").fetchone()[0]
        root = connection.execute("SELECT rootpage FROM sqlite_master WHERE name = ?", (table,)).fetchone()[0]
    content = bytearray(database.read_bytes())
    ours = slice((root - 1) * size, root * size)
    assert content[ours][0] == 0x0D, "a table of one page"
    content += content[ours]
    for level in range(3):
        below, cells = len(content) // size, size - 1000 * 5
        page = bytearray(size)
        page[:12] = struct.pack(">BHHHBI", 0x05, 0, 1000, cells, 0, below)
        page[12 : 12 + 2000] = struct.pack(">1000H", *range(cells, size, 5))
        page[cells:] = (struct.pack(">I", below) + b"\x0a") * 1000  # each for rows up to 10
        if level < 2:
            content += page
    content[ours] = page
    content[28:32] = struct.pack(">I", len(content) // size)
    content[92:96] = content[24:28]
    database.write_bytes(content)


@pytest.mark.filterwarnings("ignore::tandem.errors.DamageWarning")
@pytest.mark.parametrize("table", ["records", "deleted", "attachments"])
def test_pages_that_lead_to_each_other_are_damage(
    whole: str, tmp_path: Path, table: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite_errors, "OPENING_STEPS", 200_000)  # so that it is soon over
    url = shutil.copytree(whole, tmp_path / "c.tandem")
    leading_to_each_other(url / "g1" / FILE, table)
    asked: list[Callable[[Collection], object]] = [
        lambda photos: list(photos.store.scan(vectors=False)),
        lambda photos: photos.store.count("width > 10"),
    ]
    for ask in asked if table == "records" else []:
        with pytest.raises(StoreError, match="not in their order"), Collection(url, toy_model()) as photos:
            ask(photos)
    assert checked(str(url)).damage


def test_a_position_beyond_all_rows_is_one_damaged_record(whole: str, tmp_path: Path) -> None:
    def far(connection: sqlite3.Connection, folder: Path) -> None:
        connection.execute("UPDATE records SET _position = ? WHERE _position = 3", (1 << 60,))

    url = craft(whole, tmp_path / "c.tandem", far)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found: Any = checked(url)
        assert sum(len(finding.ids) for finding in found.damage) == 1
        after = checked(url, repair=True)
    assert (after.renewed, after.missing, after.lost) == (1, [], [])
