"""The files in a tar, in order: names, offsets, the bytes of those that are wanted. Knows no samples but their keys.

A tar is streamed: memory does not grow with its length, nor with files in it that nobody wants.
"""

import bz2
import contextlib
import gzip
import lzma
import os
import tarfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, BinaryIO, Literal, Protocol, cast

from tandem.defaults import MAX_IMAGE_BYTES
from tandem.errors import DataError, TandemError

MAX_TEXT_BYTES = 2**20  # of captions
TEXT_SUFFIXES = (".txt", ".json", ".cls")
UNFOLDED_BYTES, UNFOLDED_RATIO = 256 * 2**20, 20  # what a compressed tar may unfold to: images do not get smaller
MAX_GROUP, MAX_GROUP_BYTES = 1000, 256 * 2**20  # files of a sample, and their bytes
_TAR_BLOCK = 512  # bytes
_PIECE = 4 * 2**20
_DICTIONARY_BYTES = 256 * 2**20


class TarFile(Protocol):
    """Where a tar is: a `Path`, or what opens like one. Its `str` names it in messages."""

    @property
    def name(self) -> str: ...

    def open(self, mode: Literal["rb"], /) -> Any: ...


@dataclass(frozen=True)
class TarMember:
    """A file inside a tar: its offset and size, and its bytes if they were requested."""

    name: str
    at: int
    size: int
    content: bytes | None

    @property
    def key(self) -> str:
        """The WebDataset key: folder, and name up to the first dot."""
        folder, slash, name = self.name.rpartition("/")
        return folder + slash + name.partition(".")[0]

    @property
    def end(self) -> int:
        """The offset of what follows it in the tar; -1 in a compressed tar."""
        return -1 if self.at < 0 else self.at + -(-self.size // _TAR_BLOCK) * _TAR_BLOCK

    @property
    def suffix(self) -> str:
        """The rest of the name after the key: `.jpg`, `.json`, `.seg.png`."""
        return self.name[len(self.key) :].lower()


def tar_members(
    path: TarFile,
    wanted: Sequence[str] = (),
    if_compressed: Sequence[str] = (),
    *,
    max_bytes: int = MAX_IMAGE_BYTES,
) -> Iterator[TarMember]:
    """The regular files of a tar, in order, with the bytes of those whose names have a `wanted` suffix.

    In a compressed tar, where none can be read later by its offset, `if_compressed` suffixes are wanted, too. `at` is
    the offset of a file's bytes in the tar; -1 in a compressed tar. A file of more than `max_bytes`, or a text of more
    than `MAX_TEXT_BYTES`, has no content. Yields the files before any damage, then raises `DataError`, also for a
    compressed tar that unfolds to much more than it holds.
    """
    try:
        compressed = tar_is_compressed(path)
        with (
            _opened(path, compressed) as stream,
            tarfile.open(fileobj=cast(BinaryIO, stream), mode="r:", errors="surrogateescape") as tar,
        ):
            suffixes = (*wanted, *if_compressed) if compressed else tuple(wanted)
            while (found := tar.next()) is not None:
                tar.members = []  # type: ignore[attr-defined]  # else they are all kept until the end
                if not found.isreg() or found.issparse():
                    continue
                member = TarMember(found.name, -1 if compressed else found.offset_data, found.size, None)
                most = MAX_TEXT_BYTES if member.suffix.endswith(TEXT_SUFFIXES) else max_bytes
                if found.name.lower().endswith(suffixes) and found.size <= most:
                    content = _content(tar, found)
                    member = TarMember(found.name, member.at, found.size, content)
                yield member
    except TandemError:
        raise
    except Exception as error:  # those of decompressors, and of tarfile: also RecursionError, for names of names
        raise DataError(f"{path}: cannot read it as a WebDataset tar: {str(error) or type(error).__name__}") from None


def _content(tar: tarfile.TarFile, found: tarfile.TarInfo) -> bytes:
    stream = tar.extractfile(found)
    if stream is None:
        return b""
    pieces = iter(lambda: stream.read(_PIECE), b"")
    return b"".join(pieces)


@contextlib.contextmanager
def _opened(path: TarFile, compressed: bool) -> Iterator["_Bounded"]:
    with contextlib.ExitStack() as files:
        file = files.enter_context(path.open("rb"))
        size = file.seek(0, os.SEEK_END)
        file.seek(0)
        if not compressed:
            yield _Bounded(path, file, 2**63)
            return
        head = file.read(6)
        file.seek(0)
        stream: Any
        if head.startswith(b"BZh"):
            stream = files.enter_context(bz2.BZ2File(file))
        elif head.startswith(b"\xfd7zXZ\x00"):
            stream = _Xz(file)
        else:
            stream = files.enter_context(gzip.GzipFile(fileobj=file))
        yield _Bounded(path, stream, UNFOLDED_BYTES + UNFOLDED_RATIO * size)


class _Bounded:
    """A file of which little is read at once, and not more than a budget in all. A header names its own length."""

    def __init__(self, path: TarFile, stream: Any, budget: int) -> None:
        self._path, self._stream, self._budget = path, stream, budget

    def read(self, size: int = -1) -> bytes:
        if not 0 <= size <= _PIECE:
            raise DataError(f"{self._path}: a header in it says that it has {size:,} bytes")
        self._check(self._stream.tell() + size)
        content: bytes = self._stream.read(size)
        return content

    def seek(self, at: int, whence: int = os.SEEK_SET) -> int:
        self._check(at)
        return int(self._stream.seek(at, whence))

    def tell(self) -> int:
        return int(self._stream.tell())

    def _check(self, at: int) -> None:
        if at > self._budget:
            raise DataError(f"{self._path}: it unfolds to more than {self._budget:,} bytes")


class _Xz:
    """A file of xz as `lzma.LZMAFile` reads it, forward only, with bounded memory for its dictionaries."""

    def __init__(self, file: BinaryIO) -> None:
        self._file, self._at = file, 0
        self._decompressor = self._new()

    @staticmethod
    def _new() -> lzma.LZMADecompressor:
        return lzma.LZMADecompressor(memlimit=_DICTIONARY_BYTES)

    def read(self, size: int) -> bytes:
        pieces: list[bytes] = []
        while size > 0:
            if self._decompressor.eof:  # another stream may follow
                rest = self._decompressor.unused_data.lstrip(b"\0") or self._file.read(65536).lstrip(b"\0")
                if not rest:
                    break
                self._decompressor = self._new()
                piece = self._decompressor.decompress(rest, size)
            else:
                content = self._file.read(65536) if self._decompressor.needs_input else b""
                if not content and self._decompressor.needs_input:
                    raise EOFError("it ends before its end-of-stream marker")
                piece = self._decompressor.decompress(content, size)
            pieces.append(piece)
            size -= len(piece)
            self._at += len(piece)
        return b"".join(pieces)

    def seek(self, at: int, whence: int = os.SEEK_SET) -> int:
        while self._at < at and self.read(min(_PIECE, at - self._at)):
            pass
        return self._at

    def tell(self) -> int:
        return self._at


def tar_is_compressed(path: TarFile) -> bool:
    """Whether the file begins as compressed ones do."""
    with path.open("rb") as file:
        head: bytes = file.read(6)
    return head.startswith((b"\x1f\x8b", b"BZh", b"\xfd7zXZ\x00", b"\x28\xb5\x2f\xfd"))


def tar_size(path: TarFile) -> int:
    """The bytes of the file."""
    with path.open("rb") as file:
        return int(file.seek(0, os.SEEK_END))


def tar_has_end(path: TarFile, at: int) -> bool:
    """Whether an empty block follows the last member, at its `end`: tarfile takes a truncated tar for a whole one."""
    with path.open("rb") as file:
        file.seek(at)
        return bool(file.read(_TAR_BLOCK) == bytes(_TAR_BLOCK))


def tar_groups(members: Iterable[TarMember]) -> Iterator[list[TarMember]]:
    """Consecutive files with the same key, as WebDataset stores a sample; a sample without end in several parts."""
    group: list[TarMember] = []
    held = 0
    for member in members:
        if group and (member.key != group[0].key or len(group) == MAX_GROUP or held > MAX_GROUP_BYTES):
            yield group
            group, held = [], 0
        group.append(member)
        held += len(member.content or b"")
    if group:
        yield group
