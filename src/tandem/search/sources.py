"""What a user names (folders, globs, files, tars, Parquet, lists of paths) -> entries: places that hold a picture.

Walks in sorted order, so that runs are repeatable, and keeps no list of what it found. Reads names, sizes and times
only; the insides of tars and Parquet are `shards.py`. Knows no store and no model.
"""

import contextlib
import errno
import os
import re
import shutil
import stat
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from fnmatch import translate
from functools import cached_property
from pathlib import Path
from typing import BinaryIO, TypeAlias

from tandem.errors import TandemError
from tandem.image import ENDINGS

TARS = (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz")
PARQUETS = (".parquet", ".pq")
CAPTION_FILES = (".txt", ".json")
_MAGIC = re.compile(r"[*?[]")


@dataclass(frozen=True)
class Stamp:
    """How a file looked from outside when it was read. `caption` is the same for the caption that came along."""

    size: int
    mtime_ns: int
    ctime_ns: int  # tells of a change of permissions; asked only where a file could not be read
    caption: str = ""


@dataclass(frozen=True)
class Entry:
    """A place that holds a picture, and how to read it. Small, and can be sent to another process."""

    path: str  # the name of the place: a file's absolute path, `shard.tar/member.jpg`, or `table.parquet#row`
    stamp: Stamp
    file: str  # what is opened
    at: int = 0  # where the picture begins in `file`, if `count` is given
    count: int | None = None  # bytes; None for the whole file
    content: bytes | None = None  # the bytes themselves, where they lie in no file as they are
    caption: str | None = None
    caption_file: str | None = None  # beside the picture, where there is one
    caption_reason: str | None = None  # why its caption could not be read
    broken: str | None = None  # why there is nothing to read


@dataclass(frozen=True)
class SetAside:
    """What cannot be indexed, and why. `retried` is False where that is remembered from an earlier run."""

    path: str
    reason: str
    retried: bool = True
    missing: bool = False  # it was named, and is not there


@dataclass(frozen=True)
class Shard:
    """A file of many pictures: a tar, or Parquet."""

    path: str
    stamp: Stamp


Item: TypeAlias = Entry | Shard | SetAside


class Sources:
    """What was named, known to exist. Can be walked more than once, also at the same time."""

    def __init__(self, parts: "Sequence[Folder | Pattern | File | Listed]") -> None:
        self._parts = parts

    def __enter__(self) -> "Sources":
        return self

    def __exit__(self, *_: object) -> None:
        for part in self._parts:
            if isinstance(part, Listed):
                part.close()

    def items(self) -> Iterator[Item]:
        """Everything there is to look at, in order."""
        for part in self._parts:
            yield from part.items()

    def covers(self, path: str) -> bool:
        """Whether the place lies under what was named."""
        return any(part.covers(path) for part in self._parts)

    def is_there(self, path: str) -> bool:
        """Whether the source that covers the place can be read now.

        A root that has vanished, or is empty, may be a disk that is not mounted: nothing says that its files are gone.
        """
        return any(part.covers(path) and _is_there(part.root) for part in self._parts)


def find(
    sources: Sequence[str | Path],
    *,
    is_collection: Callable[[str], bool] = lambda folder: False,
    caption: str | None = None,
    standard_input: BinaryIO | None = None,
) -> Sources:
    """Check that all sources exist and are of a kind that can be indexed.

    Args:
        sources: folders, globs, files, and `-` for a list of paths on standard input, one a line or with NUL between.
        is_collection: says of a folder that it is a collection's own, and is left alone.
        caption: the key of captions, if it is not one of the usual: a file whose captions were read under another key
            counts as changed.

    Raises: `TandemError` for a source that is not there, cannot be read, or holds no pictures.
    """
    look = _Look(is_collection, caption or "")
    parts = [_part(os.fspath(source), look, standard_input) for source in sources]
    if not parts:
        raise TandemError("nothing to index: name a folder, a glob, a file, or - for a list on standard input")
    return Sources(list(dict.fromkeys(parts)))


@dataclass(frozen=True)
class _Look:
    """How to look at what is found."""

    is_collection: Callable[[str], bool]
    key: str


def _part(source: str, look: _Look, standard_input: BinaryIO | None) -> "Folder | Pattern | File | Listed":
    if source == "-":
        return Listed(_spooled(standard_input or sys.stdin.buffer), look)
    if source.startswith(("http://", "https://", "s3://", "gs://")):
        raise TandemError(f"{source}: addresses are not indexed; fetch the file first")
    path = os.path.abspath(os.path.expanduser(source))
    part: Folder | Pattern | File
    if os.path.isdir(path):
        part = Folder(path, look)
        try:
            with os.scandir(path):
                pass
        except OSError as error:
            raise TandemError(f"{source}: {reason_of(error)}") from None
        nothing = f"no pictures in this folder (looked for {', '.join(sorted(ENDINGS))}; tars and Parquet by name)"
    elif os.path.lexists(path):
        return File(path, look)
    elif _MAGIC.search(source):
        part = Pattern(path, look)
        nothing = "no picture, tar or Parquet file matches"
    else:
        raise TandemError(f"{source}: no such file or folder")
    if next(part.items(), None) is None:
        raise TandemError(f"{source}: {nothing}")
    return part


# --- the kinds of sources ------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Folder:
    """A folder, searched through."""

    root: str
    look: _Look

    def items(self) -> Iterator[Item]:
        return _walk(self.root, self.look)

    def covers(self, path: str) -> bool:
        return path.startswith(self.root.rstrip(os.sep) + os.sep)


@dataclass(frozen=True)
class Pattern:
    """A glob. `**` stands for any folders; a folder that matches is searched through."""

    pattern: str
    look: _Look

    def items(self) -> Iterator[Item]:
        root, parts = self.root, self._parts
        matchers = [re.compile(translate(os.path.normcase(part))) for part in parts]
        first_star = parts.index("**") if "**" in parts else len(parts)
        whole, ending = self._whole, os.path.splitext(parts[-1])[1].lower()

        def enter(names: Sequence[str]) -> bool:
            depth = len(names) - 1
            return depth >= first_star or depth >= len(parts) or bool(matchers[depth].match(names[-1]))

        def take(names: Sequence[str]) -> bool:
            return whole.match("/".join(names)) is not None

        named = ending if ending and not _MAGIC.search(ending) else None
        return _walk(root, self.look, enter=enter, take=take, named=named, shards=True)

    def covers(self, path: str) -> bool:
        if not path.startswith(self.root.rstrip(os.sep) + os.sep):
            return False
        shard = shard_of(path) or path
        return self._whole.match("/".join(Path(shard).relative_to(self.root).parts)) is not None

    @cached_property
    def root(self) -> str:
        """The folder before the first part with magic."""
        return str(Path(*Path(self.pattern).parts[: -len(self._parts)]))

    @cached_property
    def _parts(self) -> list[str]:
        """From the first part with magic on."""
        parts = Path(self.pattern).parts
        return list(parts[next(i for i, part in enumerate(parts) if _MAGIC.search(part)) :])

    @cached_property
    def _whole(self) -> re.Pattern[str]:
        """Matches the path of a file below the root; without `**` also of what lies below a matching folder."""
        parts = self._parts
        made = "".join(
            ("(?:[^/]+/)*" if part == "**" else _one(part) + "/") if i < len(parts) - 1 else _last(part)
            for i, part in enumerate(parts)
        )
        return re.compile(made + ("" if "**" in parts else "(?:/.*)?") + r"\Z", re.DOTALL)


def _one(part: str) -> str:
    return translate(os.path.normcase(part)).removesuffix(r"\Z").removesuffix(r"\z").replace(".*", "[^/]*")


def _last(part: str) -> str:
    return ".*" if part == "**" else _one(part)


@dataclass(frozen=True)
class File:
    """A single file, with whatever ending."""

    path: str
    look: _Look

    def items(self) -> Iterator[Item]:
        yield _named(self.path, self.look)

    def covers(self, path: str) -> bool:
        return path.startswith((self.path + "/", self.path + "#")) and shard_of(path) == self.path

    @property
    def root(self) -> str:
        return self.path


@dataclass(frozen=True)
class Listed:
    """Paths from standard input, kept in a temporary file: a long list takes no memory."""

    spool: str
    look: _Look

    def items(self) -> Iterator[Item]:
        for line in self._lines():
            path = os.path.abspath(os.path.expanduser(os.fsdecode(line)))
            if os.path.isdir(path):
                yield from _walk(path, self.look)
            else:
                yield _named(path, self.look)

    def covers(self, path: str) -> bool:
        return False  # what was listed and is not there says so itself

    @property
    def root(self) -> str:
        return os.getcwd()

    def close(self) -> None:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self.spool)

    def _lines(self) -> Iterator[bytes]:
        with open(self.spool, "rb") as file:
            separated = b"\0" in file.read(65536)
            file.seek(0)
            if separated:
                rest = b""
                while chunk := file.read(65536):
                    *lines, rest = (rest + chunk).split(b"\0")
                    yield from filter(None, lines)
                if rest.strip():
                    yield rest
            else:
                yield from filter(None, (line.rstrip(b"\r\n") for line in file))


def _spooled(stream: BinaryIO) -> str:
    with tempfile.NamedTemporaryFile(prefix="tandem-list-", delete=False) as spool:
        shutil.copyfileobj(stream, spool)
    return spool.name


# --- looking -------------------------------------------------------------------------------------------------------

_Names: TypeAlias = Sequence[str]  # of the folders from the root down, and of what is looked at


def _walk(
    root: str,
    look: _Look,
    *,
    enter: Callable[[_Names], bool] = lambda names: True,
    take: Callable[[_Names], bool] = lambda names: True,
    named: str | None = None,
    shards: bool = False,
) -> Iterator[Item]:
    """The pictures under a folder, and shards if wanted. Hidden names, links to folders and links out are left out.

    `named` is an ending that is taken besides those of pictures.
    """
    inside = os.path.realpath(root).rstrip(os.sep) + os.sep
    stack: list[tuple[Iterator[os.DirEntry[str]], dict[str, os.DirEntry[str]], list[str]]] = []

    def push(folder: str, names: list[str]) -> Iterator[SetAside]:
        try:
            with os.scandir(folder) as found:
                entries = {entry.name: entry for entry in found}
        except OSError as error:
            yield SetAside(shown(folder), reason_of(error))
            return
        if "current" in entries and look.is_collection(folder):
            return
        stack.append((iter([entries[name] for name in sorted(entries)]), entries, names))

    yield from push(root, [])
    while stack:
        entries, beside, names = stack[-1]
        entry = next(entries, None)
        if entry is None:
            stack.pop()
            continue
        if entry.name.startswith("."):
            continue
        try:
            if entry.is_dir(follow_symlinks=False):
                if enter([*names, entry.name]):
                    yield from push(entry.path, [*names, entry.name])
                continue
            ending = os.path.splitext(entry.name)[1].lower()
            is_shard = shards and entry.name.lower().endswith((*TARS, *PARQUETS))
            if not (ending in ENDINGS or ending == named or is_shard) or not take([*names, entry.name]):
                continue
            if entry.is_symlink() and not (
                os.path.realpath(entry.path).startswith(inside) and os.path.isfile(entry.path)
            ):
                continue
            yield _item(entry.path, entry.stat(), _caption_beside(entry.name, beside), look)
        except OSError as error:
            yield SetAside(shown(entry.path), reason_of(error))


def _named(path: str, look: _Look) -> Item:
    """A file that was named: whatever its ending."""
    try:
        status = os.stat(path)
        if stat.S_ISDIR(status.st_mode):
            return SetAside(shown(path), "a folder, not a picture")
        caption = None
        for ending in CAPTION_FILES:
            beside = os.path.splitext(path)[0] + ending
            with contextlib.suppress(FileNotFoundError):
                caption = (beside, os.stat(beside))
                break
        return _item(path, status, caption if caption and caption[0] != path else None, look)
    except OSError as error:
        return SetAside(shown(path), reason_of(error), missing=error.errno in (errno.ENOENT, errno.ENOTDIR))
    except ValueError as error:  # a NUL in the name
        return SetAside(shown(path), f"not a path: {error}")


def named_entry(path: str) -> Entry | SetAside:
    """The picture at a path that was named, without the captions beside it."""
    found = _named(os.path.abspath(path), _Look(lambda folder: False, ""))
    return SetAside(shown(path), "a shard inside a shard is not read") if isinstance(found, Shard) else found


def _caption_beside(name: str, beside: dict[str, os.DirEntry[str]]) -> tuple[str, os.stat_result] | None:
    stem = os.path.splitext(name)[0]
    for ending in CAPTION_FILES:
        found = beside.get(stem + ending)
        if found is not None and found.is_file():
            return found.path, found.stat()
    return None


def _item(path: str, status: os.stat_result, caption: tuple[str, os.stat_result] | None, look: _Look) -> Item:
    try:
        path.encode()
    except UnicodeEncodeError:
        return SetAside(shown(path), "its name is not UTF-8: rename it")
    if path.lower().endswith((*TARS, *PARQUETS)):
        return Shard(path, _stamp(status, look.key))
    if caption is None:
        return Entry(path, _stamp(status, ""), path)
    beside, its = caption
    return Entry(path, _stamp(status, f"{look.key}:{its.st_size}:{its.st_mtime_ns}"), path, caption_file=beside)


def _stamp(status: os.stat_result, caption: str) -> Stamp:
    return Stamp(status.st_size, status.st_mtime_ns, status.st_ctime_ns, caption)


# --- names ---------------------------------------------------------------------------------------------------------


def shown(path: str) -> str:
    """A path as text that can be stored and printed: bytes that are no UTF-8 as `\\xff`."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")


def reason_of(error: OSError) -> str:
    known = {errno.ENOENT: "no such file", errno.ENOTDIR: "no such file", errno.EACCES: "permission denied"}
    return known.get(error.errno or 0, error.strerror or str(error))


def shard_of(path: str) -> str | None:
    """The tar or Parquet file that holds a place; None for a file of its own."""
    lower = path.lower()
    for ending in TARS:
        if (end := lower.find(ending + "/")) >= 0:
            return path[: end + len(ending)]
    for ending in PARQUETS:
        if (end := lower.rfind(ending + "#")) >= 0 and path[end + len(ending) + 1 :].isdigit():
            return path[: end + len(ending)]
    return None


def is_gone(path: str) -> bool:
    """Whether nothing is at this place any more, for certain: what cannot be looked at is not gone.

    Of a place in a tar or in Parquet this says only whether that file is gone.
    """
    shard = shard_of(path)
    try:
        os.lstat(shard if shard is not None and os.path.isfile(shard) else path)
    except OSError as error:
        return error.errno in (errno.ENOENT, errno.ENOTDIR)
    return False


def _is_there(path: str) -> bool:
    """A file that can be looked at, or a folder with something in it."""
    try:
        if not stat.S_ISDIR(os.stat(path).st_mode):
            return True
        with os.scandir(path) as found:
            return next(found, None) is not None
    except OSError:
        return False
