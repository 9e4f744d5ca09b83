"""The checksums of vectors as rows of a local store's database: `checksums.ROWS` in each. Knows no vectors."""

import sqlite3
from collections.abc import Iterator, Sequence

import numpy as np

from tandem.search.stores.embedded import checksums
from tandem.search.stores.embedded.checksums import Checksums

BATCH = 500  # parameters of one statement


def read(connection: sqlite3.Connection, file: str, blocks: Sequence[int]) -> dict[int, Checksums]:
    """The checksums of these sorted blocks of rows of a vector file; those that there are."""
    try:
        rows = list(_rows(connection, file, blocks))
    except sqlite3.OperationalError as error:
        if "no such table" in str(error):  # formats 1 and 2
            return {}
        raise
    return {block: np.frombuffer(blob[: len(blob) // 8 * 8], "<u8") for block, blob in rows}


def _rows(connection: sqlite3.Connection, file: str, blocks: Sequence[int]) -> Iterator[tuple[int, bytes]]:
    """A stretch at once; of blocks that are far from each other nothing in between: a search of ten million rows
    wants 500 blocks of 20,000, each of 4 KB.
    """
    select = "SELECT block, checksums FROM vector_checksums WHERE file = ? AND block"
    if blocks and blocks[-1] - blocks[0] < 2 * len(blocks):
        yield from connection.execute(f"{select} BETWEEN ? AND ?", (file, blocks[0], blocks[-1]))
        return
    for first in range(0, len(blocks), BATCH):
        some = blocks[first : first + BATCH]
        yield from connection.execute(f"{select} IN ({', '.join('?' * len(some))})", (file, *some))


def write(connection: sqlite3.Connection, file: str, row: int, sums: Checksums) -> None:
    """Write the checksums of rows from this one on; those before it are there."""
    first = row // checksums.ROWS
    known = read(connection, file, [first]).get(first, np.empty(0, np.uint64))
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
    return int(last) * checksums.ROWS + len(read(connection, file, [last])[last])


def forget(connection: sqlite3.Connection, file: str) -> None:
    """Remove the checksums of a vector file that is not used any more."""
    connection.execute("DELETE FROM vector_checksums WHERE file = ?", (file,))
