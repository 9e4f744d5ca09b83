"""The checksums of vectors as rows of a local store's database: `checksums.ROWS` in each. Knows no vectors."""

import sqlite3

import numpy as np

from tandem.search.stores.embedded import checksums
from tandem.search.stores.embedded.checksums import Checksums


def read(connection: sqlite3.Connection, file: str, first: int, last: int) -> dict[int, Checksums]:
    """The checksums of rows of a vector file, by block; those that there are."""
    try:
        rows = connection.execute(
            "SELECT block, checksums FROM vector_checksums WHERE file = ? AND block BETWEEN ? AND ?",
            (file, first, last),
        ).fetchall()
    except sqlite3.OperationalError as error:
        if "no such table" in str(error):  # formats 1 and 2
            return {}
        raise
    return {block: np.frombuffer(blob[: len(blob) // 8 * 8], "<u8") for block, blob in rows}


def write(connection: sqlite3.Connection, file: str, row: int, sums: Checksums) -> None:
    """Write the checksums of rows from this one on; those before it are there."""
    first = row // checksums.ROWS
    known = read(connection, file, first, first).get(first, np.empty(0, np.uint64))
    sums = np.concatenate([known[: row % checksums.ROWS], sums])
    connection.executemany(
        "INSERT OR REPLACE INTO vector_checksums VALUES (?, ?, ?)",
        [
            (file, first + start // checksums.ROWS, sums[start : start + checksums.ROWS].astype("<u8").tobytes())
            for start in range(0, len(sums), checksums.ROWS)
        ],
    )


def reach(connection: sqlite3.Connection, file: str) -> int:
    """Up to which row of a vector file there are checksums."""
    last = connection.execute("SELECT max(block) FROM vector_checksums WHERE file = ?", (file,)).fetchone()[0]
    if last is None:
        return 0
    return int(last) * checksums.ROWS + len(read(connection, file, last, last)[last])


def forget(connection: sqlite3.Connection, file: str) -> None:
    """Remove the checksums of a vector file that is not used any more."""
    connection.execute("DELETE FROM vector_checksums WHERE file = ?", (file,))
