"""The samples of one source by number, from 0, over all its files, which are opened when they are needed.

Knows indexes and bytes; no batch, no random order, no pixels.
"""

import hashlib
import json
import os
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from tandem.errors import DataError
from tandem.train.data.index import Index, IndexedFile, indexed_file, open_index
from tandem.train.data.paths import DataFile, label_of, source_files
from tandem.train.data.remote import AT_ONCE, RemoteFile
from tandem.train.data.shard_reader import ShardReader
from tandem.train.recipe import Source

_MAX_OPEN = 200  # files, and as many indexes
_ATTEMPTS = 4  # at a read that the file system refuses


class BrokenSample(Exception):
    """A sample whose image cannot be read, and why. Not fatal: another sample replaces it."""


class Samples:
    """One source. Raises `DataError` if its files are missing or hold nothing that can be drawn."""

    def __init__(
        self,
        source: Source,
        root: Path | str,
        cache: Path,
        reader: ShardReader | None = None,
        *,
        rank: int = 0,
        processes: int = 1,
        held_out: bool = False,
    ) -> None:
        """root: a folder, or a URL. reader: of files at URLs. held_out: the samples that the source holds out, instead
        of the others."""
        self.source, self.held_out = source, held_out
        self.label_of_source = label_of(source, root)  # for messages
        self.reader = reader or ShardReader()
        self.files = _index_all(source, source_files(source, root, self.reader), cache, self.reader, rank, processes)
        self._indexes: OrderedDict[int, Index] = OrderedDict()
        self._open: OrderedDict[Path, int] = OrderedDict()
        # By file: the rows of its index that count; None for all.
        self._rows = [self._drawn(file) if source.hold_out else None for file in range(len(self.files))]
        self.counts = [
            file.count if rows is None else len(rows) for file, rows in zip(self.files, self._rows, strict=True)
        ]
        self.ends = np.cumsum(self.counts)
        if len(self) == 0:
            raise DataError(f"{self.label_of_source}: {self._why_empty()}")
        self.names: list[tuple[str, ...]] = []  # of a source of names: the distinct ones, by label
        self._labels: list[np.ndarray] = []  # by file: number of the entry there -> label
        if source.kind == "names":
            self._number_names()

    def __len__(self) -> int:
        return int(self.ends[-1])

    def __getstate__(self) -> dict[str, Any]:
        """Without open files: each process opens its own."""
        return {**self.__dict__, "_indexes": OrderedDict(), "_open": OrderedDict()}

    def key(self, number: int) -> str:
        """Where a sample comes from, for messages."""
        index, row = self._find(number)
        return index.keys[row]

    def texts(self, number: int) -> tuple[str, ...]:
        """The captions of a sample, or its names."""
        index, row = self._find(number)
        return tuple(json.loads(index.texts[int(index.text_of[row])]))

    def label(self, number: int) -> int:
        """The position of a sample's names in `names`."""
        file, row = self._locate(number)
        return int(self._labels[file][self._index(file).text_of[row]])

    def _drawn(self, file: int) -> np.ndarray:
        """The rows of a file that are held out, or the others: by a hash of their keys, so whatever else is there."""
        keys = self._index(file).keys
        numbers = (hashlib.blake2b(keys[row].encode(errors="surrogatepass"), digest_size=8) for row in range(len(keys)))
        held = np.array([int.from_bytes(each.digest(), "big") < self.source.hold_out * 2**64 for each in numbers], bool)
        return np.flatnonzero(held == self.held_out)

    def image(self, number: int) -> bytes:
        """The encoded image of a sample. Raises `BrokenSample`; `DataError` if the file system keeps refusing."""
        index, row = self._find(number)
        if index.images is None:
            return self._read_whole(index.folder / index.keys[row])
        if isinstance(index.images, RemoteFile):
            start, stop = self._extent(index, row)
            if stop > index.images.size:
                raise BrokenSample(f"{index.images.name} ends in the middle of it")
            return self.reader.read(index.images, start, stop)
        content = self._read(index.images, int(index.size[row]), int(index.at[row]))
        if len(content) < index.size[row]:
            raise BrokenSample(f"{index.images.name} ends in the middle of it")
        return content

    def remote_range(self, number: int) -> tuple[RemoteFile, int, int] | None:
        """The bytes of a sample's image in a remote file: from, to. None for one that is on this machine."""
        file, row = self._locate(number)
        if not isinstance(self.files[file].path, RemoteFile):
            return None
        index = self._index(file)
        start, stop = self._extent(index, row)
        return (
            (index.images, start, stop) if isinstance(index.images, RemoteFile) and stop <= index.images.size else None
        )

    @staticmethod
    def _extent(index: Index, row: int) -> tuple[int, int]:
        start = int(index.at[row])
        return start, start + int(index.size[row])

    def all_texts(self) -> Iterator[tuple[str, ...]]:
        """As `texts` for each sample, once for each distinct entry of a file."""
        for file in range(len(self.files)):
            index, rows = self._index(file), self._rows[file]
            numbers = range(len(index.texts)) if rows is None else np.unique(index.text_of[rows]).tolist()
            for number in numbers:
                yield tuple(json.loads(index.texts[number]))

    def skipped(self) -> Iterator[tuple[str, str]]:
        """(key, reason) of what the files hold that can never be drawn; what is not named is counted."""
        for file in self.files:
            yield from file.named
            if file.skipped > len(file.named):
                yield str(file.path), f"{file.skipped - len(file.named):,} more without an image or a text"

    def _why_empty(self) -> str:
        """Why there is no sample."""
        if all(isinstance(file.path, Path) and file.path.is_dir() for file in self.files):
            loose = sum(file.skipped for file in self.files)
            found = f"; {loose:,} lie loose" if loose else ""
            return f"no photos in folders that name their class{found}; expected the layout FOLDER/class/1.jpg"
        if held := sum(file.count for file in self.files):
            return f"hold_out: {self.source.hold_out:g} of {held:,} samples leaves none here; choose another share"
        empty = "no row has what where asks for" if self.source.where else "its files are empty"
        key, reason = next(iter(self.skipped()), ("", empty))
        return f"no sample with an image and texts; {key} {reason}".replace(";  ", "; ")

    def _number_names(self) -> None:
        numbers: dict[tuple[str, ...], int] = {}
        for file in range(len(self.files)):
            entries = self._index(file).texts
            found = (tuple(json.loads(entries[i])) for i in range(len(entries)))
            self._labels.append(np.array([numbers.setdefault(names, len(numbers)) for names in found], np.int64))
        self.names = list(numbers)

    def _locate(self, number: int) -> tuple[int, int]:
        file = int(np.searchsorted(self.ends, number, side="right"))
        row, rows = number - (int(self.ends[file - 1]) if file else 0), self._rows[file]
        return file, row if rows is None else int(rows[row])

    def _find(self, number: int) -> tuple[Index, int]:
        file, row = self._locate(number)
        return self._index(file), row

    def _index(self, file: int) -> Index:
        found = self._indexes.get(file)
        if found is None:
            found = self._indexes[file] = open_index(self.files[file])
            if len(self._indexes) > _MAX_OPEN:
                self._indexes.popitem(last=False)
        else:
            self._indexes.move_to_end(file)
        return found

    def _read(self, path: Path, size: int, at: int) -> bytes:
        def read() -> bytes:
            try:
                return os.pread(self._descriptor(path), size, at)
            except OSError:
                if (opened := self._open.pop(path, None)) is not None:
                    os.close(opened)
                raise

        return _with_retries(read, path)

    def _descriptor(self, path: Path) -> int:
        opened = self._open.get(path)
        if opened is None:
            opened = self._open[path] = os.open(path, os.O_RDONLY)
            if len(self._open) > _MAX_OPEN:
                os.close(self._open.popitem(last=False)[1])
        else:
            self._open.move_to_end(path)
        return opened

    def _read_whole(self, path: Path) -> bytes:
        try:
            return _with_retries(
                path.read_bytes, path, permanent=(FileNotFoundError, PermissionError, IsADirectoryError)
            )
        except OSError as error:
            raise BrokenSample(
                "no such file" if isinstance(error, FileNotFoundError) else str(error.strerror)
            ) from None


def _with_retries(read: Callable[[], bytes], path: Path, permanent: tuple[type[OSError], ...] = ()) -> bytes:
    """Retry reads that a network file system refuses: a batch must be the same in every run.

    Raises `DataError` after the last attempt; errors in `permanent` at once and unchanged.
    """
    for attempt in range(_ATTEMPTS):
        try:
            return read()
        except permanent:
            raise
        except OSError as error:
            reason = error.strerror
        time.sleep(0.2 * 3**attempt)
    raise DataError(f"{path}: cannot be read any more: {reason}; start again when it is back")


def _index_all(
    source: Source, files: list[DataFile], cache: Path, reader: ShardReader, rank: int, processes: int
) -> list[IndexedFile]:
    """The indexes of the files. Processes start at different files, so that they share the work of building them."""
    begin = len(files) * rank // processes
    ordered = files[begin:] + files[:begin]

    def index(path: DataFile) -> IndexedFile | None:
        return indexed_file(path, source, cache, reader, wait=False)

    some = _at_once(index, ordered, reader) if isinstance(files[0], RemoteFile) else list(map(index, ordered))
    found = {path: file for path, file in zip(ordered, some, strict=True) if file is not None}
    for path in files:
        if path not in found and (file := indexed_file(path, source, cache, reader)) is not None:
            found[path] = file
    return [found[path] for path in files]


def _at_once(
    index: Callable[[DataFile], IndexedFile | None], paths: list[DataFile], reader: ShardReader
) -> list[IndexedFile | None]:
    """Several at once: those at URLs wait for their servers. The first error, or Ctrl-C, ends all."""
    pool = ThreadPoolExecutor(AT_ONCE)
    try:
        return list(pool.map(index, paths))
    except BaseException:
        reader.stop()
        raise
    finally:
        pool.shutdown(cancel_futures=True)
