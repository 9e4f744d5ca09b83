"""The index of one file of a training set: where each image is, and its texts. Built once, kept, memory-mapped.

An index is a safetensors file. It is rebuilt when the size or time of the file has changed, by one process while others
wait. Images that are not stored as plain bytes are copied beside it, one after the other, so that each is one read.
Knows no random order and decodes no image.
"""

import array
import hashlib
import json
import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from tandem import files
from tandem.errors import DataError
from tandem.train.data import rows
from tandem.train.data.paths import DataFile, file_kind
from tandem.train.data.remote import RemoteFile
from tandem.train.data.shard_reader import RemoteShard, ShardReader
from tandem.train.recipe import Source

_FORMAT = 2
_MAX_NAMED = 1000  # samples of a file that are skipped by name; all are counted
_READERS: dict[str, Callable[[Path, Source], Iterator[rows.SampleRow | rows.SkippedRow]]] = {
    "tar": rows.tar_rows,
    "parquet": rows.parquet_rows_of,
    "table": rows.table_rows,
    "folder": rows.folder_rows,
}
_TYPES = {"I64": np.int64, "U8": np.uint8}


@dataclass(frozen=True)
class IndexedFile:
    """A file of a training set, the path of its index, and the facts known without opening either."""

    path: DataFile
    index: Path
    state: str  # of the file when it was read
    count: int
    skipped: int
    named: tuple[tuple[str, str], ...]  # (key, reason) of what is skipped

    @property
    def copy(self) -> Path:
        """The images that are not stored as plain bytes in `path`, one after the other."""
        return self.index.with_suffix(".images")


@dataclass(frozen=True)
class Strings:
    """Strings in a memory-mapped file, by number."""

    ends: np.ndarray  # int64 [n + 1]
    content: np.ndarray  # uint8

    def __getitem__(self, number: int) -> str:
        return self.content[self.ends[number] : self.ends[number + 1]].tobytes().decode(errors="surrogatepass")

    def __len__(self) -> int:
        return len(self.ends) - 1


@dataclass(frozen=True)
class Index:
    """Memory-mapped: an open index costs hardly any memory."""

    keys: Strings
    texts: Strings  # JSON lists
    text_of: np.ndarray  # int64 [n]: number in `texts`
    at: np.ndarray  # int64 [n]: where in `images`
    size: np.ndarray  # int64 [n]
    images: DataFile | None  # None: each in a file of its own, named by its key, below `folder`
    folder: Path


def indexed_file(
    path: DataFile, source: Source, cache: Path, reader: ShardReader | None = None, *, wait: bool = True
) -> IndexedFile | None:
    """A file with its index, built if missing or out of date; None while another process builds it and not `wait`.

    reader: what a remote file is read with. Raises `DataError` if the file is not what its name says, and
    `RemoteFileError` if a remote one cannot be read.
    """
    from filelock import FileLock, Timeout

    index = cache / f"{path.name}-{_digest(path, source)}.safetensors"
    state = _state(path)
    if found := _read_header(path, index, state):
        return found
    try:
        cache.mkdir(parents=True, exist_ok=True)
        with FileLock(index.with_suffix(".lock"), timeout=-1 if wait else 0):
            if found := _read_header(path, index, state):
                return found
            _build(path, source, index, state, reader or ShardReader())
    except Timeout:
        return None
    except OSError as error:
        raise DataError(f"{cache}: cannot keep the index of {path.name} ({error.strerror}); set cache_folder") from None
    found = _read_header(path, index, state)
    if found is None:
        raise DataError(f"{path}: it changed while it was read; start again when it is complete")
    return found


def open_index(file: IndexedFile) -> Index:
    """Map an index. Raises `DataError` if it is missing or damaged."""
    try:
        mapped = np.memmap(file.index, np.uint8, "r")
        length = int(mapped[:8].view("<u8")[0])
        header = json.loads(mapped[8 : 8 + length].tobytes())
    except (OSError, ValueError) as error:
        raise DataError(f"{file.index}: the index is missing or damaged ({error}); delete it and start again") from None
    plain = np.asarray(mapped)
    arrays = {}
    for name, entry in header.items():
        if name != "__metadata__":
            first, last = (8 + length + offset for offset in entry["data_offsets"])
            arrays[name] = plain[first:last].view(_TYPES[entry["dtype"]])
    images = {"copy": file.copy, "file": file.path, "files": None}[header["__metadata__"]["images"]]
    return Index(
        Strings(arrays["key_ends"], arrays["keys"]),
        Strings(arrays["text_ends"], arrays["texts"]),
        arrays["text_of"],
        arrays["at"],
        arrays["size"],
        images,
        _folder_of(file.path),
    )


def _folder_of(path: DataFile) -> Path:
    """Where images are that lie in files of their own: below a folder, or beside a table."""
    if isinstance(path, RemoteFile):
        return Path()
    return path if path.is_dir() else path.parent


def _digest(path: DataFile, source: Source) -> str:
    where = path.url if isinstance(path, RemoteFile) else str(path.absolute())
    identity = [_FORMAT, where, source.text, source.image, source.kind]
    identity += [sorted(source.where.items())] if source.where else []
    return hashlib.sha256(json.dumps(identity).encode(errors="surrogateescape")).hexdigest()[:16]


def _state(path: DataFile) -> str:
    """A string that changes when the file or folder does."""
    if isinstance(path, RemoteFile):
        return path.state
    try:
        if not path.is_dir():
            status = path.stat()
            return f"{status.st_size} {status.st_mtime_ns}"
        times = sorted((folder, os.stat(folder).st_mtime_ns) for folder, _, _ in os.walk(path))
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}") from None
    return hashlib.sha256(repr(times).encode(errors="surrogateescape")).hexdigest()


def _read_header(path: DataFile, index: Path, state: str) -> IndexedFile | None:
    try:
        with index.open("rb") as file:
            metadata = json.loads(file.read(int.from_bytes(file.read(8), "little")))["__metadata__"]
        if metadata["state"] != state or (metadata["images"] == "copy" and not index.with_suffix(".images").exists()):
            return None
        named = tuple((key, reason) for key, reason in json.loads(metadata["named"]))
        return IndexedFile(path, index, state, int(metadata["count"]), int(metadata["skipped"]), named)
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


def _rows(path: DataFile, source: Source, reader: ShardReader) -> Iterator[rows.SampleRow | rows.SkippedRow]:
    if isinstance(path, RemoteFile):
        return rows.remote_tar_rows(RemoteShard(reader, path), source)
    return _READERS[file_kind(path)](path, source)


def _build(path: DataFile, source: Source, index: Path, state: str, reader: ShardReader) -> None:
    from safetensors.numpy import save_file

    keys, texts = _Strings(), _Strings()
    known: dict[str, int] = {}  # names repeat: each is kept once
    at, size, text_of = array.array("q"), array.array("q"), array.array("q")  # a list takes five times the memory
    named: list[tuple[str, str]] = []
    skipped, copied = 0, 0
    kind = file_kind(path)
    prefix = f"{path.name}/" if kind == "tar" else path.name if kind == "parquet" else ""
    with files.atomic_write(index.with_suffix(".images")) as images:
        with images.open("wb") as file:
            for row in _checked(_rows(path, source, reader), source):
                if isinstance(row, rows.SkippedRow):
                    skipped += 1
                    if len(named) < _MAX_NAMED:
                        named.append((prefix + row.key if row.key else str(path), row.reason))
                    continue
                written = json.dumps(row.texts, ensure_ascii=False)
                if source.kind == "names":
                    if written not in known:
                        known[written] = texts.add(written)
                    text_of.append(known[written])
                else:
                    text_of.append(texts.add(written))
                keys.add(prefix + row.key)
                at.append(copied if row.content is not None else row.at)
                size.append(len(row.content) if row.content is not None else row.size)
                if row.content is not None:
                    copied += file.write(row.content)
        if not copied:
            images.unlink()  # nothing to keep
    tensors: dict[str, np.ndarray] = {
        "key_ends": np.frombuffer(keys.ends, np.int64),
        "text_ends": np.frombuffer(texts.ends, np.int64),
        "text_of": np.frombuffer(text_of, np.int64),
        "at": np.frombuffer(at, np.int64),
        "size": np.frombuffer(size, np.int64),
        "keys": np.frombuffer(keys.content, np.uint8),
        "texts": np.frombuffer(texts.content, np.uint8),
    }
    metadata = {
        "state": state,
        "count": str(len(at)),
        "skipped": str(skipped),
        "named": json.dumps(named),
        "images": "copy" if copied else "file" if kind in ("tar", "parquet") else "files",
    }
    with files.atomic_write(index) as temporary:
        save_file(tensors, temporary, metadata)


def _checked(
    found: Iterable[rows.SampleRow | rows.SkippedRow], source: Source
) -> Iterator[rows.SampleRow | rows.SkippedRow]:
    """Rows with names split at their commas; one without any text is skipped."""
    for row in found:
        if isinstance(row, rows.SkippedRow):
            yield row
            continue
        texts: Iterable[str] = row.texts
        if source.kind == "names":
            texts = (name for text in row.texts for name in text.split(","))
        whole = (text.encode(errors="replace").decode() for text in texts)  # half a surrogate pair is no text
        kept = tuple(stripped for text in whole if (stripped := text.strip()))
        if kept:
            yield rows.SampleRow(row.key, kept, row.at, row.size, row.content)
        else:
            yield rows.SkippedRow(row.key, f"no text in {source.text or 'its name'}")
