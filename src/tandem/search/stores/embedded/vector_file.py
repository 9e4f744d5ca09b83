"""An append-only file of float32 rows: mapped where few rows are wanted, read where many are. Knows no ids.

Rows up to the number that the records' database has committed never change while the file has its name; what lies past
them is what a crash left, and the next writer overwrites it. Each row is compared with its checksum when this process
first reads it, and has to be finite and of unit length; one that is not reads as zeros, and is `damaged` from then on.
Shapes: n rows, d dimensions.
"""

import os
import threading
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TypeAlias, TypeVar

import numpy as np
from numpy.typing import NDArray

from tandem.arrays import Vectors
from tandem.errors import StoreError
from tandem.files import open_regular
from tandem.search.stores.embedded import checksums
from tandem.search.stores.embedded.checksums import Checksums
from tandem.search.stores.protocol import are_unit

BLOCK_BYTES = 16 << 20
VERIFIED_ROWS = 8192  # at once
SPARSE_FROM, SPARSE_RATIO = 1 << 30, 16  # bytes; file systems that compress make vectors a little smaller
Positions: TypeAlias = NDArray[np.int64]
Mask: TypeAlias = NDArray[np.bool_]
# Sorted blocks of `checksums.ROWS` rows -> their checksums, as far as there are any
ChecksumReader: TypeAlias = Callable[[Sequence[int]], Mapping[int, Checksums]]

_T = TypeVar("_T", bound=np.generic)
_UNREAD, _SOUND, _DAMAGED = 0, 1, 2


class VectorFile:
    """One file, open for reading. It stays readable after a writer has deleted its name."""

    def __init__(self, path: Path, dimensions: int, read_checksums: ChecksumReader = lambda blocks: {}) -> None:
        """`FileNotFoundError` if it does not exist: whether that is an error, the database says."""
        self.path = path
        self.dimensions = dimensions
        self.row_bytes = 4 * dimensions
        self.has_damage = False
        self._file = open_regular(path)
        weakref.finalize(self, self._file.close)  # snapshots share it: the last one closes it
        self._exceeds_memory = os.fstat(self._file.fileno()).st_size > _memory_bytes() // 4
        self._lock = threading.Lock()
        self._map: Vectors | None = None
        self._read_checksums = read_checksums
        self._checksums: Checksums = np.zeros(0, np.uint64)
        self._has_checksum: Mask = np.zeros(0, np.bool_)
        self._asked = np.zeros(0, np.int64)  # of each block of checksums, the row up to which it was read
        self._states = np.zeros(0, np.uint8)  # of each row: unread, sound or damaged
        self._sound_to = 0  # all rows before this one are sound

    def check(self, rows: int) -> None:
        """`StoreError` if it is shorter than the rows that were committed, or holds next to nothing: a file of a few
        bytes may say that it has terabytes, and reading them would not end.
        """
        size = os.fstat(self._file.fileno()).st_size
        if size < rows * self.row_bytes:
            raise StoreError(
                f"{self.path}: expected {rows * self.row_bytes} bytes, got {size}: the file was cut short",
                remedy="repair",
                collection=str(self.path.parent.parent),
            )
        written = _written_bytes(self._file.fileno(), size)
        if size > SPARSE_FROM and written * SPARSE_RATIO < rows * self.row_bytes:
            raise StoreError(
                f"{self.path}: expected {rows * self.row_bytes:,} bytes of vectors, and {written:,} were ever written",
                remedy="restore",
            )

    def map(self, rows: int) -> Vectors:
        """The first rows [n d], read-only, without reading or verifying them yet."""
        if not rows:
            return np.empty((0, self.dimensions), np.float32)
        with self._lock:
            if self._map is None or len(self._map) < rows:
                self.check(rows)
                self._map = np.memmap(self._file, np.float32, "r", shape=(rows, self.dimensions))
            return np.asarray(self._map)[:rows]

    def read(self, start: int, stop: int) -> Vectors:
        """Rows [stop-start d], copied: mapped pages would count as this process's memory until it ends."""
        return self._verified(start, self.read_raw(start, stop))

    def read_raw(self, start: int, stop: int) -> Vectors:
        """Rows [stop-start d] as they are on the disk."""
        rows = np.empty((stop - start, self.dimensions), np.float32)
        view = rows.reshape(-1).view(np.uint8).data
        done = 0
        with self._lock:
            self._file.seek(start * self.row_bytes)
            while done < len(view):
                came = self._file.readinto(view[done:])
                if not came:
                    raise StoreError(
                        f"{self.path}: the file ends before row {stop}",
                        remedy="repair",
                        collection=str(self.path.parent.parent),
                    )
                done += came
        return rows

    def blocks(self, start: int, stop: int, *, raw: bool = False) -> Iterator[tuple[int, Vectors]]:
        """All rows from start to stop, in order, in blocks of bounded memory: (first row, [n d])."""
        size = max(1, BLOCK_BYTES // self.row_bytes)
        for first in range(start, stop, size):
            end = min(stop, first + size)
            yield first, self.read_raw(first, end) if raw else self.read(first, end)

    def mapped_blocks(self, start: int, stop: int, size: int) -> Iterator[tuple[int, Vectors]]:
        """The same from the map, `size` rows at once."""
        mapped = self.map(stop)
        for first in range(start, stop, size):
            yield first, self._verified(first, mapped[first : min(stop, first + size)])

    def gather(self, positions: Positions) -> Vectors:
        """Rows [n d] at sorted positions."""
        n = len(positions)
        if not n:
            return np.empty((0, self.dimensions), np.float32)
        first, last = int(positions[0]), int(positions[-1])
        if n > 64 and last - first < 2 * n:  # nearly all of a stretch: one read
            stretch = self.read(first, last + 1)
            return stretch if len(stretch) == n else stretch[positions - first]
        self._prefetch(positions)
        rows = self.map(last + 1)[positions]
        if last < self._sound_to:
            return rows
        self._verify(positions, rows)
        if self.has_damage:
            rows[self.damaged(positions)] = 0
        return rows

    def _prefetch(self, positions: Positions) -> None:
        """Let the system read these rows at once. Touched one after the other in the map, 500 rows that are not in its
        memory took 550 to 1,200 ms, each with 128 KB around it; with this 15 to 30, and 0.3 if they are there.
        """
        if not hasattr(os, "posix_fadvise"):
            return
        if not self._exceeds_memory:
            self._grow(int(positions[-1]) + 1)
            positions = positions[self._states[positions] == _UNREAD]  # what was read is still there
        for row in positions.tolist():
            os.posix_fadvise(self._file.fileno(), row * self.row_bytes, self.row_bytes, os.POSIX_FADV_WILLNEED)

    def gather_unsorted(self, positions: Positions) -> Vectors:
        """Rows [n d] at positions in any order."""
        if (positions[1:] >= positions[:-1]).all():  # of a scan: not copied once more
            return self.gather(positions)
        order = np.argsort(positions, kind="stable")
        rows = np.empty((len(positions), self.dimensions), np.float32)
        rows[order] = self.gather(positions[order])
        return rows

    def gather_sound(self, positions: Positions) -> tuple[Positions, Vectors]:
        """Those of sorted positions whose rows are what was written, and these rows [n d]."""
        rows = self.gather(positions)
        if not self.has_damage:
            return positions, rows
        sound = ~self.damaged(positions)
        return positions[sound], rows[sound]

    # --- what is damaged -----------------------------------------------------------------------------------------

    def sound(self, positions: Positions) -> Positions:
        """Those of sorted positions whose rows are what was written. Reads the rows that were not read yet."""
        if not len(positions) or positions[-1] < self._sound_to:
            return positions
        self._grow(int(positions[-1]) + 1)
        unread = positions[self._states[positions] == _UNREAD]
        for first in range(0, len(unread), VERIFIED_ROWS):
            self.gather(unread[first : first + VERIFIED_ROWS])
        return positions[~self.damaged(positions)] if self.has_damage else positions

    def damaged(self, positions: Positions) -> Mask:
        """Which of these rows, all read before, are damaged: [n]."""
        damaged: Mask = self._states[positions] == _DAMAGED
        return damaged

    def damaged_between(self, start: int, stop: int) -> Mask | None:
        """Which rows of a stretch that was read are damaged: [stop-start]; None: none of them."""
        if not self.has_damage:
            return None
        damaged: Mask = self._states[start:stop] == _DAMAGED
        return damaged if damaged.any() else None

    def all_damaged(self) -> Positions:
        """The rows that were found damaged until now."""
        return np.flatnonzero(self._states == _DAMAGED)

    def checksums(self, positions: Positions, rows: Vectors) -> Checksums:
        """The checksums of sorted rows as they were written; those of the rows themselves where there are none."""
        if not len(positions):
            return np.empty(0, np.uint64)
        self._grow(int(positions[-1]) + 1)
        expected, is_known = self._expected(positions)
        return np.where(is_known, expected, checksums.of_vectors(rows))

    def _verified(self, first: int, rows: Vectors) -> Vectors:
        """A stretch of rows, with zeros where it is damaged."""
        stop = first + len(rows)
        if stop <= self._sound_to:
            return rows
        self._grow(stop)
        if not self._states[first:stop].all():
            self._verify(np.arange(first, stop), rows)
        damaged = self.damaged_between(first, stop)
        if damaged is not None:
            rows = np.array(rows)
            rows[damaged] = 0
        elif first <= self._sound_to:
            self._sound_to = max(stop, self._sound_to)
        return rows

    def _verify(self, positions: Positions, rows: Vectors) -> None:
        """Find out which of these rows are sound; rows that this process has read before are not looked at again."""
        self._grow(int(positions[-1]) + 1)
        unread = self._states[positions] == _UNREAD
        if not unread.any():
            return
        if not unread.all():
            positions, rows = positions[unread], rows[unread]
        rows = np.ascontiguousarray(rows)
        sound = are_unit(rows)
        expected, is_known = self._expected(positions)
        sound &= (checksums.of_vectors(rows) == expected) | ~is_known
        with self._lock:  # another thread may be making room
            self._states[positions] = np.where(sound, _SOUND, _DAMAGED)
        if not sound.all():
            self.has_damage = True

    def _expected(self, positions: Positions) -> tuple[Checksums, Mask]:
        """The checksums of these sorted rows, and for which of them there is one."""
        blocks, starts = np.unique(positions // checksums.ROWS, return_index=True)
        lasts = positions[np.append(starts[1:], len(positions)) - 1]  # of each block
        missing = blocks[self._asked[blocks] <= lasts]
        # Not read yet, or a writer has added rows to the last block since
        read = self._read_checksums(missing.tolist()) if len(missing) else {}
        with self._lock:  # another thread may be making room: what is written to the old arrays would be lost
            self._asked[missing] = (missing + 1) * checksums.ROWS  # where there are none, once is enough
            for block, sums in read.items():
                start = block * checksums.ROWS
                found = sums[: max(0, min(checksums.ROWS, len(self._checksums) - start))]
                self._checksums[start : start + len(found)] = found
                self._has_checksum[start : start + len(found)] = True
                self._asked[block] = start + len(found)
            return self._checksums[positions], self._has_checksum[positions]

    def _grow(self, rows: int) -> None:
        """Room for what is known of so many rows, and as many again: a pass in blocks must not copy it for each."""
        if len(self._states) >= rows:
            return
        with self._lock:
            if len(self._states) >= rows:
                return
            room = max(rows, 2 * len(self._states))
            self._checksums = _grown(self._checksums, room)
            self._has_checksum = _grown(self._has_checksum, room)
            self._asked = _grown(self._asked, room // checksums.ROWS + 1)
            self._states = _grown(self._states, room)


def _written_bytes(file: int, size: int) -> int:
    """What a file takes on its disk; its size where the system does not tell."""
    return 512 * getattr(os.fstat(file), "st_blocks", -(-size // 512))


def _memory_bytes() -> int:
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):  # Windows has no such call
        return 0


def _grown(array: NDArray[_T], length: int) -> NDArray[_T]:
    """A longer copy, zeros behind. The system gives memory to zeros only when they are written to."""
    longer = np.zeros(length, array.dtype)
    longer[: len(array)] = array
    return longer


def append(path: Path, row: int, vectors: Vectors) -> None:
    """Write vectors [n d] from this row on, durable on return. What was there was never committed."""
    with path.open("r+b" if path.exists() else "xb") as file:
        file.seek(row * vectors.shape[1] * 4)
        file.write(np.ascontiguousarray(vectors, np.float32).reshape(-1).view(np.uint8).data)
        file.flush()
        os.fsync(file.fileno())
