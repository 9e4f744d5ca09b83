"""Where the images of a data set are, and how they are read: files of their own, ranges of tars, rows of Parquet files.

Images are read when they are asked for, and stay encoded.
"""

import itertools
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from tandem.datasets.hashing import file_digests, shard_digests
from tandem.image import ImageSource

_CHUNK = 128  # images that are kept at once where they are asked for in an order that does not ascend


class Images(Protocol):
    """The images of a layout's rows, by their places."""

    def open(self, places: Sequence[int]) -> Iterable[ImageSource]:
        """The images at these places, in that order."""

    def digests(self, places: Sequence[int]) -> list[bytes]:
        """SHA-256 of their bytes, in that order; `places` ascend. Raises `DataError` for what is not there."""


@dataclass(frozen=True)
class ImageFiles:
    """Images in files of their own."""

    paths: Sequence[str]

    def open(self, places: Sequence[int]) -> Iterable[ImageSource]:
        return (self.paths[place] for place in places)

    def digests(self, places: Sequence[int]) -> list[bytes]:
        return file_digests([self.paths[place] for place in places])


class ReadShard(Protocol):
    """Reads images of a file that holds many: those at the rows, which ascend."""

    def __call__(self, path: Path, rows: Sequence[int], /) -> Iterator[bytes]: ...

    def part(self, path: Path, /) -> str:
        """Which images of the file these are, and how they are numbered: digests are remembered under it."""


@dataclass(frozen=True, eq=False)
class ShardImages:
    """Images in files that hold many. Row `rows[i]` of file `files[shards[i]]` is image i; both ascend."""

    files: Sequence[Path]
    shards: NDArray[np.int64]  # [n]
    rows: NDArray[np.int64]  # [n]
    read: ReadShard

    def open(self, places: Sequence[int]) -> Iterable[ImageSource]:
        return in_any_order(places, self._ascending)

    def digests(self, places: Sequence[int]) -> list[bytes]:
        found: list[bytes] = []
        for shard, rows in self._by_shard(places):
            path = self.files[shard]
            found += shard_digests(path, self.read.part(path), rows, lambda some, path=path: self.read(path, some))  # type: ignore[misc]
        return found

    def _ascending(self, places: Sequence[int]) -> Iterator[bytes]:
        for shard, rows in self._by_shard(places):
            yield from self.read(self.files[shard], rows)

    def _by_shard(self, places: Sequence[int]) -> Iterator[tuple[int, list[int]]]:
        chosen = np.fromiter(places, np.int64, len(places))
        shards, rows = self.shards[chosen], self.rows[chosen]
        for shard in np.unique(shards):
            yield int(shard), rows[shards == shard].tolist()


def in_any_order(places: Sequence[int], read: Callable[[Sequence[int]], Iterator[bytes]]) -> Iterator[bytes]:
    """What `read` yields for places that ascend, for places in any order; few images are kept at once."""
    if all(a < b for a, b in itertools.pairwise(places)):
        yield from read(places)
        return
    for start in range(0, len(places), _CHUNK):
        some = places[start : start + _CHUNK]
        ascending = sorted(set(some))
        found = dict(zip(ascending, read(ascending), strict=True))
        yield from (found[place] for place in some)


def full_path(path: Path) -> Path:
    """A path from the root on, without `.` and `..`: its last part is a name."""
    return Path(os.path.abspath(path))
