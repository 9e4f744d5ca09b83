"""Vectors of images on disk, found by the SHA-256 of the images' bytes: no other image can be hit.

A folder for each way of computing vectors holds two files that only grow: `vectors.f32`, float32 rows, and
`index.bin`, a record for each row: the image's SHA-256 and a CRC-32 of both. A record is written after its row, so what
is interrupted is not there, and a row whose checksum is wrong is computed again. Subsets, other orders and larger
draws of a data set find what was computed before. One process writes at a time; readers never wait.

Shapes: n images, d the shared dimension.
"""

import hashlib
import json
import os
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tandem import files
from tandem.arrays import Vectors

FORMAT = 1
INDEX, VECTORS = "index.bin", "vectors.f32"
_RECORD = np.dtype([("digest", np.uint8, (32,)), ("crc", "<u4")])


class FeatureCache:
    """The vectors of one model, computed in one way."""

    def __init__(self, root: Path, key: Mapping[str, object], dimensions: int) -> None:
        """`key` is all that vectors depend on but the image; its values are plain."""
        self.key = {**key, "dimensions": dimensions, "format": FORMAT}
        self.dimensions = dimensions
        written = json.dumps(self.key, sort_keys=True).encode()
        self.folder = root / hashlib.sha256(written).hexdigest()[:32]

    def lookup(self, digests: Sequence[bytes]) -> tuple[Vectors, NDArray[np.bool_]]:
        """The vectors [n d] of images, memory-mapped where they lie in order, and which were found, bool [n].

        Rows that were not found hold anything.
        """
        records, vectors = self._read()
        rows = _find(records["digest"], np.frombuffer(b"".join(digests), np.uint8).reshape(-1, 32))
        present = rows >= 0
        checksums = records["crc"]
        for place in np.flatnonzero(present).tolist():
            present[place] = checksums[rows[place]] == _checksum(digests[place], vectors[rows[place]])
        if not len(vectors) or not len(digests):
            return np.zeros((len(digests), self.dimensions), np.float32), present
        if present.all() and np.array_equal(rows, np.arange(rows[0], rows[0] + len(rows))):
            return vectors[rows[0] : rows[0] + len(rows)], present
        return vectors[np.maximum(rows, 0)], present

    def append(self, digests: Sequence[bytes], vectors: Vectors) -> None:
        """Add the vectors [n d] of images. They are there from then on, however this process ends. Raises `OSError`."""
        from filelock import FileLock

        if not len(digests):
            return
        rows = np.ascontiguousarray(vectors, np.float32)
        records = np.zeros(len(digests), _RECORD)
        for place, (each, row) in enumerate(zip(digests, rows, strict=True)):
            records[place] = np.frombuffer(each, np.uint8), _checksum(each, row)
        self.folder.mkdir(parents=True, exist_ok=True)
        with FileLock(self.folder / "lock"):
            if not (self.folder / "about.json").is_file():
                files.write_json(self.folder / "about.json", self.key)
            with open(self.folder / INDEX, "ab") as index, open(self.folder / VECTORS, "ab") as file:
                # Whatever an interrupted writer left behind the last whole row is cut off.
                whole = min(index.tell() // _RECORD.itemsize, file.tell() // rows[0].nbytes)
                file.truncate(whole * rows[0].nbytes)
                index.truncate(whole * _RECORD.itemsize)
                file.write(rows.tobytes())
                file.flush()
                index.write(records.tobytes())

    def _read(self) -> tuple[NDArray[np.void], Vectors]:
        """The records and the vectors [m d] of all whole rows; the vectors are memory-mapped, and read-only."""
        try:
            records = np.fromfile(self.folder / INDEX, _RECORD)
            size = os.path.getsize(self.folder / VECTORS)
        except OSError:
            records, size = np.zeros(0, _RECORD), 0
        count = min(len(records), size // (4 * self.dimensions))
        if not count:
            return records[:0], np.zeros((0, self.dimensions), np.float32)
        mapped = np.memmap(self.folder / VECTORS, np.float32, "r", shape=(count, self.dimensions))
        return records[:count], np.asarray(mapped)


def _find(known: NDArray[np.uint8], wanted: NDArray[np.uint8]) -> NDArray[np.int64]:
    """The last row of `known` [m 32] that equals each of `wanted` [n 32], int64 [n]; -1 where there is none."""
    if not len(known):
        return np.full(len(wanted), -1)
    # Sorted by their first 8 bytes; all 32 are compared afterwards.
    short = np.ascontiguousarray(known[:, :8]).view("<u8")[:, 0]
    order = np.argsort(short, kind="stable")
    places = np.searchsorted(short, np.ascontiguousarray(wanted[:, :8]).view("<u8")[:, 0], "right", sorter=order) - 1
    rows = order[np.maximum(places, 0)]
    return np.where((known[rows] == wanted).all(1), rows, -1)


def _checksum(digest: bytes, row: Vectors) -> int:
    return zlib.crc32(row.data, zlib.crc32(digest))
