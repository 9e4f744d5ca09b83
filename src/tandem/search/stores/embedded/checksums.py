"""Checksums of what a local store keeps: of vectors by row, of records, of tables of one row. Knows arrays and values.

A checksum says that bytes are what was written; it is no protection from someone who can write both.
"""

import zlib
from collections.abc import Iterable, Sequence
from functools import cache
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from tandem.arrays import Vectors

Checksums: TypeAlias = NDArray[np.uint64]
ROWS = 512  # whose checksums stand in one row of the database: 4 KB


def of_vectors(vectors: Vectors) -> Checksums:
    """A checksum for each row of float32 [n d], contiguous.

    A sum of the row's words times odd constants, modulo 2^64 (multilinear hashing; Lemire and Kaser 2014,
    https://arxiv.org/abs/1202.4961): a change of any one word changes it for certain. Measured on 20,000 rows of 512:
    1.7 ms, as long as one pass over them takes; a CRC-32 of each takes 23 ms.
    """
    words = vectors.view(np.uint64) if vectors.shape[1] % 2 == 0 else vectors.view(np.uint32).astype(np.uint64)
    sums: Checksums = np.einsum("nd,d->n", words, _weights(words.shape[1]))
    return sums


@cache
def _weights(count: int) -> Checksums:
    """Odd constants, the same everywhere: the sequence of splitmix64 (Steele, Lea and Flood 2014)."""
    state = np.arange(1, count + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    state = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    state = (state ^ (state >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return (state ^ (state >> np.uint64(31))) | np.uint64(1)


def of_values(values: Iterable[object]) -> int:
    """The checksum of values as SQLite gives them back: texts without NUL, numbers, None."""
    return zlib.crc32("\0".join(map(str, values)).encode("utf-8", "surrogatepass"))


def of_rows(rows: Iterable[tuple[object, ...]], count: int) -> list[int]:
    """For each row of so many values what `of_values` gives, without a step of Python for each: half of its time."""
    texts = map("\0".join(["%s"] * count).__mod__, rows)
    return list(map(zlib.crc32, map(str.encode, texts)))


def of_blobs(blobs: Sequence[object]) -> int:
    """The checksum of the bytes of one record."""
    checksum = 0
    for blob in blobs:
        if not isinstance(blob, bytes | None):  # what a damaged page holds may be of another type
            return -1
        checksum = zlib.crc32(b"-" if blob is None else b"+%d:" % len(blob), checksum)
        checksum = zlib.crc32(blob or b"", checksum)
    return checksum


def of_positions(positions: Sequence[int] | NDArray[np.int64], before: int = 0) -> int:
    """The checksum of a list of rows that is only added to; `before` is that of the list up to here."""
    return zlib.crc32(np.asarray(positions, "<i8").tobytes(), before)
