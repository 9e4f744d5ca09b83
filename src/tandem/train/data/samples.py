"""The samples of one source by number, from 0, over all its files. Opens what it needs when it needs it.

Knows indexes and bytes; no batch, no random order, no pixels.
"""

import json
import os
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from tandem.errors import DataError
from tandem.train.data.files import files_of
from tandem.train.data.index import Index, Place, open_index, place_of
from tandem.train.recipe import Source

_OPEN_AT_MOST = 200  # files, and as many indexes
_TRIES = 4  # of a read that the file system refuses


class Broken(Exception):
    """This sample has no picture that can be shown; says why. Not fatal: another one takes its place."""


class Samples:
    """One source. Raises `DataError` where its files are not there or hold nothing that can be drawn."""

    def __init__(self, source: Source, root: Path, cache: Path, *, rank: int = 0, processes: int = 1) -> None:
        self.source = source
        self.places = _places(source, files_of(source, root), cache, rank, processes)
        self.ends = np.cumsum([place.count for place in self.places])
        self._indexes: OrderedDict[int, Index] = OrderedDict()
        self._files: OrderedDict[Path, int] = OrderedDict()
        if len(self) == 0:
            key, reason = next(iter(self.left_out()), ("", "its files are empty"))
            raise DataError(f"{source.path}: no sample with a picture and words; {key} {reason}".replace(";  ", "; "))
        self.names: list[tuple[str, ...]] = []  # of a source of names: the distinct ones, by label
        self._labels: list[np.ndarray] = []  # by file: number of the words there -> label
        if source.kind == "names":
            self._number_names()

    def __len__(self) -> int:
        return int(self.ends[-1])

    def __getstate__(self) -> dict[str, Any]:
        """Without what is open: each process opens its own."""
        return {**self.__dict__, "_indexes": OrderedDict(), "_files": OrderedDict()}

    def key(self, number: int) -> str:
        """Where a sample comes from, for messages."""
        index, row = self._find(number)
        return index.keys[row]

    def words(self, number: int) -> tuple[str, ...]:
        """Its captions, or the names it goes by."""
        index, row = self._find(number)
        return tuple(json.loads(index.words[int(index.word_of[row])]))

    def label(self, number: int) -> int:
        """Which of `names` a sample has."""
        file, row = self._locate(number)
        return int(self._labels[file][self._index(file).word_of[row]])

    def picture(self, number: int) -> bytes:
        """Its picture, still encoded. Raises `Broken`; `DataError` where the file system refuses again and again."""
        index, row = self._find(number)
        if index.pictures is None:
            return self._whole(index.folder / index.keys[row])
        content = self._read(index.pictures, int(index.size[row]), int(index.at[row]))
        if len(content) < index.size[row]:
            raise Broken(f"{index.pictures.name} ends in the middle of it")
        return content

    def all_words(self) -> Iterator[tuple[str, ...]]:
        """What `words` gives for each sample, once for each distinct entry of a file."""
        for file in range(len(self.places)):
            words = self._index(file).words
            for number in range(len(words)):
                yield tuple(json.loads(words[number]))

    def left_out(self) -> Iterator[tuple[str, str]]:
        """(key, reason) of what the files hold that can never be drawn; what is not named is counted."""
        for place in self.places:
            yield from place.named
            if place.left_out > len(place.named):
                yield str(place.path), f"{place.left_out - len(place.named):,} more that have no picture or no words"

    def _number_names(self) -> None:
        numbers: dict[tuple[str, ...], int] = {}
        for file in range(len(self.places)):
            words = self._index(file).words
            found = (tuple(json.loads(words[i])) for i in range(len(words)))
            self._labels.append(np.array([numbers.setdefault(names, len(numbers)) for names in found], np.int64))
        self.names = list(numbers)

    def _locate(self, number: int) -> tuple[int, int]:
        file = int(np.searchsorted(self.ends, number, side="right"))
        return file, number - (int(self.ends[file - 1]) if file else 0)

    def _find(self, number: int) -> tuple[Index, int]:
        file, row = self._locate(number)
        return self._index(file), row

    def _index(self, file: int) -> Index:
        found = self._indexes.get(file)
        if found is None:
            found = self._indexes[file] = open_index(self.places[file])
            if len(self._indexes) > _OPEN_AT_MOST:
                self._indexes.popitem(last=False)
        else:
            self._indexes.move_to_end(file)
        return found

    def _read(self, path: Path, size: int, at: int) -> bytes:
        """A part of a file."""

        def read() -> bytes:
            try:
                return os.pread(self._file(path), size, at)
            except OSError:
                if (opened := self._files.pop(path, None)) is not None:
                    os.close(opened)
                raise

        return _asked_again(read, path)

    def _file(self, path: Path) -> int:
        opened = self._files.get(path)
        if opened is None:
            opened = self._files[path] = os.open(path, os.O_RDONLY)
            if len(self._files) > _OPEN_AT_MOST:
                os.close(self._files.popitem(last=False)[1])
        else:
            self._files.move_to_end(path)
        return opened

    def _whole(self, path: Path) -> bytes:
        try:
            return _asked_again(path.read_bytes, path, but=(FileNotFoundError, PermissionError, IsADirectoryError))
        except OSError as error:
            raise Broken("no such file" if isinstance(error, FileNotFoundError) else str(error.strerror)) from None


def _asked_again(read: Callable[[], bytes], path: Path, but: tuple[type[OSError], ...] = ()) -> bytes:
    """What a network file system refuses once is asked for again: a batch must be the same in every run.

    Raises `DataError` after some times; what is in `but` at once, as it is.
    """
    for attempt in range(_TRIES):
        try:
            return read()
        except but:
            raise
        except OSError as error:
            reason = error.strerror
        time.sleep(0.2 * 3**attempt)
    raise DataError(f"{path}: cannot be read any more: {reason}; start again when it can")


def _places(source: Source, files: list[Path], cache: Path, rank: int, processes: int) -> list[Place]:
    """The indexes of the files. Processes begin at different files, so that they share the work of building."""
    begin = len(files) * rank // processes
    found: dict[Path, Place] = {}
    for path in files[begin:] + files[:begin]:
        if (place := place_of(path, source, cache, wait=False)) is not None:
            found[path] = place
    for path in files:
        if path not in found and (place := place_of(path, source, cache)) is not None:
            found[path] = place
    return [found[path] for path in files]
