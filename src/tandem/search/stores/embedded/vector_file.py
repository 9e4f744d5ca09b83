"""An append-only file of float32 rows: mapped where few rows are wanted, read where many are. Knows no ids.

Rows up to the number that the records' database has committed never change while the file has its name; what lies past
them is what a crash left, and the next writer overwrites it. Shapes: n rows, d dimensions.
"""

import os
import threading
import weakref
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tandem.arrays import Vectors
from tandem.errors import StoreError

BLOCK_BYTES = 16 << 20


class VectorFile:
    """One file, open for reading. It stays readable after a writer has deleted its name."""

    def __init__(self, path: Path, dimensions: int) -> None:
        """`FileNotFoundError` if it does not exist: whether that is an error, the database says."""
        self.path = path
        self.dimensions = dimensions
        self.row_bytes = 4 * dimensions
        self._file = path.open("rb", buffering=0)
        weakref.finalize(self, self._file.close)  # snapshots share it: the last one closes it
        self._lock = threading.Lock()
        self._map: Vectors | None = None

    def check(self, rows: int) -> None:
        """`StoreError` if it is shorter than the rows that were committed."""
        size = os.fstat(self._file.fileno()).st_size
        if size < rows * self.row_bytes:
            raise StoreError(
                f"{self.path}: expected {rows * self.row_bytes} bytes, got {size}: the file was cut short; "
                "restore the collection from a copy, or index again"
            )

    def map(self, rows: int) -> Vectors:
        """The first rows [n d], read-only, without reading them yet."""
        if not rows:
            return np.empty((0, self.dimensions), np.float32)
        with self._lock:
            if self._map is None or len(self._map) < rows:
                self.check(rows)
                self._map = np.memmap(self._file, np.float32, "r", shape=(rows, self.dimensions))
            return np.asarray(self._map)[:rows]

    def read(self, start: int, stop: int) -> Vectors:
        """Rows [stop-start d], copied: mapped pages would count as this process's memory until it ends."""
        rows = np.empty((stop - start, self.dimensions), np.float32)
        view = rows.reshape(-1).view(np.uint8).data
        done = 0
        with self._lock:
            self._file.seek(start * self.row_bytes)
            while done < len(view):
                came = self._file.readinto(view[done:])
                if not came:
                    raise StoreError(
                        f"{self.path}: the file ends before row {stop}; restore the collection from a copy"
                    )
                done += came
        return rows

    def blocks(self, start: int, stop: int) -> Iterator[tuple[int, Vectors]]:
        """All rows from start to stop, in order, in blocks of bounded memory: (first row, [n d])."""
        size = max(1, BLOCK_BYTES // self.row_bytes)
        for first in range(start, stop, size):
            yield first, self.read(first, min(stop, first + size))

    def gather(self, positions: NDArray[np.int64]) -> Vectors:
        """Rows [n d] at sorted positions."""
        n = len(positions)
        if not n:
            return np.empty((0, self.dimensions), np.float32)
        first, last = int(positions[0]), int(positions[-1])
        if n > 64 and last - first < 2 * n:  # nearly all of a stretch: one read
            return self.read(first, last + 1)[positions - first]
        return self.map(last + 1)[positions]


def append(path: Path, row: int, vectors: Vectors) -> None:
    """Write vectors [n d] from this row on, durable on return. What was there was never committed."""
    with path.open("r+b" if path.exists() else "xb") as file:
        file.seek(row * vectors.shape[1] * 4)
        file.write(np.ascontiguousarray(vectors, np.float32).reshape(-1).view(np.uint8).data)
        file.flush()
        os.fsync(file.fileno())
