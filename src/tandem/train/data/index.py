"""The index of one file of a training set: where each picture lies and its words. Built once, kept, mapped from disk.

An index is a safetensors file. It is built again when the file's size or time has changed, by one process while others
wait. Pictures that lie nowhere plainly are copied beside it, one after the other, so that any of them is one read.
Knows no random order and decodes no picture.
"""

import array
import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from tandem.errors import DataError
from tandem.train.data import rows
from tandem.train.data.files import kind_of
from tandem.train.recipe import Source

_FORMAT = 1
_MOST_NAMED = 1000  # of what is left out of a file: all are counted, so many named
_READERS: dict[str, Callable[[Path, Source], Iterator[rows.Row | rows.LeftOut]]] = {
    "tar": rows.tar_rows,
    "parquet": rows.parquet_rows_of,
    "table": rows.table_rows,
    "folder": rows.folder_rows,
}
_TYPES = {"I64": np.int64, "U8": np.uint8}


@dataclass(frozen=True)
class Place:
    """A file of a training set, where its index is, and what is known without opening either."""

    path: Path
    index: Path
    state: str  # of the file when it was read
    count: int
    left_out: int
    named: tuple[tuple[str, str], ...]  # (key, reason) of what was left out

    @property
    def copy(self) -> Path:
        """Pictures that lie nowhere plainly in `path`, one after the other."""
        return self.index.with_suffix(".pictures")


@dataclass(frozen=True)
class Strings:
    """Strings in a mapped file, by number."""

    ends: np.ndarray  # int64 [n + 1]
    content: np.ndarray  # uint8

    def __getitem__(self, number: int) -> str:
        return self.content[self.ends[number] : self.ends[number + 1]].tobytes().decode(errors="surrogatepass")

    def __len__(self) -> int:
        return len(self.ends) - 1


@dataclass(frozen=True)
class Index:
    """Mapped from disk: opening one costs no memory to speak of."""

    keys: Strings
    words: Strings  # JSON lists
    word_of: np.ndarray  # int64 [n]: number in `words`
    at: np.ndarray  # int64 [n]: where in `pictures`
    size: np.ndarray  # int64 [n]
    pictures: Path | None  # None: each in a file of its own, called as its key, below `folder`
    folder: Path


def place_of(path: Path, source: Source, cache: Path, *, wait: bool = True) -> Place | None:
    """The index of a file, built if there is none or an old one; None where another process builds it and not `wait`.

    Raises `DataError` where the file is not what it claims to be.
    """
    from filelock import FileLock, Timeout

    index = cache / f"{path.name}-{_digest(path, source)}.safetensors"
    state = _state(path)
    if place := _read_place(path, index, state):
        return place
    try:
        cache.mkdir(parents=True, exist_ok=True)
        with FileLock(index.with_suffix(".lock"), timeout=-1 if wait else 0):
            if place := _read_place(path, index, state):
                return place
            _build(path, source, index, state)
    except Timeout:
        return None
    except OSError as error:
        raise DataError(f"{cache}: cannot keep the index of {path.name} ({error.strerror}); set cache_folder") from None
    place = _read_place(path, index, state)
    if place is None:
        raise DataError(f"{path}: it changed while it was read; start again when it is complete")
    return place


def open_index(place: Place) -> Index:
    """Map an index. Raises `DataError` where it has gone."""
    try:
        mapped = np.memmap(place.index, np.uint8, "r")
        length = int(mapped[:8].view("<u8")[0])
        header = json.loads(mapped[8 : 8 + length].tobytes())
    except (OSError, ValueError) as error:
        raise DataError(
            f"{place.index}: the index has gone or is damaged ({error}); delete it and start again"
        ) from None
    plain = np.asarray(mapped)
    arrays = {}
    for name, about in header.items():
        if name != "__metadata__":
            first, last = (8 + length + offset for offset in about["data_offsets"])
            arrays[name] = plain[first:last].view(_TYPES[about["dtype"]])
    pictures = {"copy": place.copy, "file": place.path, "files": None}[header["__metadata__"]["pictures"]]
    return Index(
        Strings(arrays["key_ends"], arrays["keys"]),
        Strings(arrays["words_ends"], arrays["words"]),
        arrays["word_of"],
        arrays["at"],
        arrays["size"],
        pictures,
        place.path if place.path.is_dir() else place.path.parent,
    )


def _digest(path: Path, source: Source) -> str:
    meant = [_FORMAT, str(path.absolute()), source.text, source.image, source.kind]
    return hashlib.sha256(json.dumps(meant).encode(errors="surrogateescape")).hexdigest()[:16]


def _state(path: Path) -> str:
    """What changes when a file or folder does."""
    try:
        if not path.is_dir():
            status = path.stat()
            return f"{status.st_size} {status.st_mtime_ns}"
        times = sorted((folder, os.stat(folder).st_mtime_ns) for folder, _, _ in os.walk(path))
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}") from None
    return hashlib.sha256(repr(times).encode(errors="surrogateescape")).hexdigest()


def _read_place(path: Path, index: Path, state: str) -> Place | None:
    try:
        with index.open("rb") as file:
            about = json.loads(file.read(int.from_bytes(file.read(8), "little")))["__metadata__"]
        if about["state"] != state or (about["pictures"] == "copy" and not index.with_suffix(".pictures").exists()):
            return None
        named = tuple((key, reason) for key, reason in json.loads(about["named"]))
        return Place(path, index, state, int(about["count"]), int(about["left_out"]), named)
    except (OSError, ValueError, KeyError):
        return None


@dataclass
class _Strings:
    """Strings being collected."""

    ends: "array.array[int]" = field(default_factory=lambda: array.array("q", [0]))
    content: bytearray = field(default_factory=bytearray)

    def add(self, text: str) -> int:
        self.content += text.encode(errors="surrogatepass")
        self.ends.append(len(self.content))
        return len(self.ends) - 2


def _build(path: Path, source: Source, index: Path, state: str) -> None:
    from safetensors.numpy import save_file

    keys, words = _Strings(), _Strings()
    known: dict[str, int] = {}  # names repeat: each is kept once
    at, size, word_of = array.array("q"), array.array("q"), array.array("q")  # a list takes five times the memory
    left_out: list[tuple[str, str]] = []
    lost, copied = 0, 0
    kind = kind_of(path)
    prefix = f"{path.name}/" if kind == "tar" else path.name if kind == "parquet" else ""
    copy = index.with_suffix(".pictures")
    part = copy.with_suffix(f".part{os.getpid()}")
    try:
        with part.open("wb") as file:
            for row in _texts_checked(_READERS[kind](path, source), source):
                if isinstance(row, rows.LeftOut):
                    lost += 1
                    if len(left_out) < _MOST_NAMED:
                        left_out.append((prefix + row.key if row.key else str(path), row.reason))
                    continue
                written = json.dumps(row.words, ensure_ascii=False)
                if source.kind == "names":
                    if written not in known:
                        known[written] = words.add(written)
                    word_of.append(known[written])
                else:
                    word_of.append(words.add(written))
                keys.add(prefix + row.key)
                at.append(copied if row.content is not None else row.at)
                size.append(len(row.content) if row.content is not None else row.size)
                if row.content is not None:
                    copied += file.write(row.content)
        if copied:
            part.replace(copy)
    finally:
        part.unlink(missing_ok=True)
    tensors: dict[str, np.ndarray] = {
        "key_ends": np.frombuffer(keys.ends, np.int64),
        "words_ends": np.frombuffer(words.ends, np.int64),
        "word_of": np.frombuffer(word_of, np.int64),
        "at": np.frombuffer(at, np.int64),
        "size": np.frombuffer(size, np.int64),
        "keys": np.frombuffer(keys.content, np.uint8),
        "words": np.frombuffer(words.content, np.uint8),
    }
    about = {
        "state": state,
        "count": str(len(at)),
        "left_out": str(lost),
        "named": json.dumps(left_out),
        "pictures": "copy" if copied else "file" if kind in ("tar", "parquet") else "files",
    }
    unfinished = index.with_suffix(f".part{os.getpid()}")
    save_file(tensors, unfinished, about)
    shutil.copymode(index.with_suffix(".lock"), unfinished)  # else only its owner could read it
    unfinished.replace(index)


def _texts_checked(found: Iterable[rows.Row | rows.LeftOut], source: Source) -> Iterator[rows.Row | rows.LeftOut]:
    """Names split at their commas; a row without any word left out."""
    for row in found:
        if isinstance(row, rows.LeftOut):
            yield row
            continue
        texts: Iterable[str] = row.words
        if source.kind == "names":
            texts = (name for text in row.words for name in text.split(","))
        whole = (text.encode(errors="replace").decode() for text in texts)  # half a surrogate pair is no text
        words = tuple(word for text in whole if (word := text.strip()))
        if words:
            yield rows.Row(row.key, words, row.at, row.size, row.content)
        else:
            yield rows.LeftOut(row.key, f"no words in {source.text or 'its name'}")
