"""What the pages of a Parquet file unfold to, from their headers: before anything is decompressed. Knows no images.

Page headers are structs of Thrift's compact protocol (apache/parquet-format, `PageHeader`); their sizes are read.
"""

import os
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any, BinaryIO

from tandem.errors import DataError

SMALL_BYTES = 64 * 2**20  # what a page, and four times what a column chunk, may unfold to whatever it is stored in
PAGE_RATIO = 4  # larger pages hold encoded images, which no codec makes smaller
CHUNK_RATIO = 20
BATCH_BYTES = 256 * 2**20  # of rows that are decoded together
ROWS, BYTES_A_ROW = 100_000, 1  # more rows than so many need a byte each: an image has hundreds
_HEADER_BYTES = (4096, 2**20)  # read at first, and where statistics make a header longer


def batch_rows(path: Path, file: Any, columns: Collection[str], most: int) -> int:
    """How many rows of these columns to decode at once, at most `most`. Raises `DataError` for a file that unfolds to
    much more than it holds.

    Args:
        file: pyarrow's `ParquetFile`.
    """
    size = os.path.getsize(path)
    if file.metadata.num_rows > ROWS + size // BYTES_A_ROW:
        raise DataError(f"{path}: says that it has {file.metadata.num_rows:,} rows, in {size:,} bytes")
    largest = 1
    with path.open("rb") as stream:
        for group in range(file.metadata.num_row_groups):
            row_group = file.metadata.row_group(group)
            for index in range(row_group.num_columns):
                chunk = row_group.column(index)
                if chunk.path_in_schema.partition(".")[0] in columns:
                    largest = max(largest, _largest_page(path, stream, chunk))
    return max(1, min(most, BATCH_BYTES // largest))


def _largest_page(path: Path, stream: BinaryIO, chunk: Any) -> int:
    """The size of the largest page of a column chunk, unfolded. Raises `DataError` where that is too much."""
    largest = total = 0
    for unfolded, stored in _pages(path, stream, chunk):
        if unfolded > max(SMALL_BYTES, PAGE_RATIO * stored):
            raise _too_much(path, chunk, unfolded, stored)
        largest, total = max(largest, unfolded), total + unfolded
    if total > max(4 * SMALL_BYTES, CHUNK_RATIO * chunk.total_compressed_size):
        raise _too_much(path, chunk, total, chunk.total_compressed_size)
    return largest


def _too_much(path: Path, chunk: Any, unfolded: int, stored: int) -> DataError:
    return DataError(f"{path}: {stored:,} bytes of its column {chunk.path_in_schema[:80]} unfold to {unfolded:,}")


def _pages(path: Path, stream: BinaryIO, chunk: Any) -> Iterator[tuple[int, int]]:
    """The sizes of the pages of a column chunk: (unfolded, stored)."""
    offsets = [chunk.data_page_offset]
    if chunk.has_dictionary_page and chunk.dictionary_page_offset:
        offsets.append(chunk.dictionary_page_offset)
    at, values = min(offsets), chunk.num_values
    end = at + chunk.total_compressed_size
    while at < end and values:
        for count in _HEADER_BYTES:
            stream.seek(at)
            try:
                unfolded, stored, length = _sizes(stream.read(count))
                break
            except IndexError:
                continue
        else:
            raise DataError(f"{path}: a page of its column {chunk.path_in_schema[:80]} has no header")
        if unfolded < 0 or stored < 0:
            raise DataError(f"{path}: a page of its column {chunk.path_in_schema[:80]} has a negative size")
        yield unfolded, stored
        at += length + stored


# --- Thrift's compact protocol ---------------------------------------------------------------------------------------

_STOP, _TRUE, _FALSE, _BYTE, _I16, _I32, _I64, _DOUBLE, _BINARY, _LIST, _SET, _MAP, _STRUCT = range(13)
_DEEPEST = 16  # structs inside structs


def _sizes(content: bytes) -> tuple[int, int, int]:
    """Fields 2 and 3 of a struct, and how many bytes it takes. Raises `IndexError` where it ends too early."""
    found = {2: -1, 3: -1}
    at, number = 0, 0
    while True:
        head = content[at]
        at += 1
        kind = head & 15
        if kind == _STOP:
            return found[2], found[3], at
        if head >> 4:
            number += head >> 4
        else:
            number, at = _integer(content, at)
        if number in found and kind in (_I16, _I32, _I64):
            found[number], at = _integer(content, at)
        else:
            at = _skipped(content, at, kind, 0)


def _integer(content: bytes, at: int) -> tuple[int, int]:
    value, at = _unsigned(content, at)
    return (value >> 1) ^ -(value & 1), at


def _unsigned(content: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = content[at]
        at += 1
        value |= (byte & 127) << shift
        shift += 7
        if byte < 128:
            return value, at
        if shift > 70:
            raise IndexError("no number is so long")


def _skipped(content: bytes, at: int, kind: int, depth: int) -> int:
    """Where a value of this kind ends."""
    if depth > _DEEPEST:
        raise IndexError("nested too deeply")
    if kind in (_TRUE, _FALSE):  # the value is in its kind
        return at
    if kind == _BYTE:
        return at + 1
    if kind in (_I16, _I32, _I64):
        return _unsigned(content, at)[1]
    if kind == _DOUBLE:
        return at + 8
    if kind == _BINARY:
        length, at = _unsigned(content, at)
        return at + length
    if kind in (_LIST, _SET):
        return _skipped_list(content, at, depth)
    if kind != _STRUCT:
        raise IndexError("a kind that page headers do not have")
    while True:
        head, at = content[at], at + 1
        if head & 15 == _STOP:
            return at
        if not head >> 4:
            at = _unsigned(content, at)[1]
        at = _skipped(content, at, head & 15, depth + 1)


def _skipped_list(content: bytes, at: int, depth: int) -> int:
    head, at = content[at], at + 1
    count, at = (head >> 4, at) if head >> 4 < 15 else _unsigned(content, at)
    kind = _BYTE if head & 15 in (_TRUE, _FALSE) else head & 15  # in lists a value of these has a byte
    if count > len(content) - at:  # each takes a byte at least
        raise IndexError("a list ends too early")
    for _ in range(count):
        at = _skipped(content, at, kind, depth + 1)
    return at
