"""What a user names (folders, globs, files, tars, Parquet, lists of paths) -> entries: places that hold a picture.

Walks in sorted order, so that runs are repeatable, and keeps no list of what it found. Reads names, sizes and times
only; the insides of tars and Parquet are `shards.py`. Knows no store and no model.
"""

import contextlib
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
from typing import BinaryIO

from tandem.errors import TandemError
from tandem.image import IMAGE_SUFFIXES
from tandem.search.indexing.places import Item, reason_of, shard_of
from tandem.search.indexing.walking import Look, named, walk

_MAGIC = re.compile(r"[*?[]")


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
    look = Look(is_collection, caption or "")
    if not sources:
        raise TandemError("nothing to index: name a folder, a glob, a file, or - for a list on standard input")
    parts: dict[Folder | Pattern | File | Listed, None] = {}
    with contextlib.ExitStack() as resources:
        for source in dict.fromkeys(os.fspath(source) for source in sources):
            part = _part(source, look, standard_input)
            if isinstance(part, Listed):
                resources.callback(part.close)
            parts[part] = None
        resources.pop_all()
    return Sources(list(parts))


def _part(source: str, look: Look, standard_input: BinaryIO | None) -> "Folder | Pattern | File | Listed":
    if source == "-":
        return Listed(_spooled(standard_input or sys.stdin.buffer), look)
    if source.startswith(("http://", "https://", "s3://", "gs://")):
        raise TandemError(f"{source}: addresses are not indexed; fetch the file first")
    if not source:
        raise TandemError("expected a folder, a glob or a file, got an empty name (for this folder: .)")
    path = os.path.abspath(os.path.expanduser(source))
    part: Folder | Pattern | File
    if os.path.isdir(path):
        part = Folder(path, look)
        try:
            with os.scandir(path):
                pass
        except OSError as error:
            raise TandemError(f"{source}: {reason_of(error)}") from None
        nothing = (
            f"no pictures in this folder (looked for {', '.join(sorted(IMAGE_SUFFIXES))}; tars and Parquet by name)"
        )
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
    look: Look

    def items(self) -> Iterator[Item]:
        return walk(self.root, self.look)

    def covers(self, path: str) -> bool:
        return path.startswith(self.root.rstrip(os.sep) + os.sep)


@dataclass(frozen=True)
class Pattern:
    """A glob. `**` stands for any folders; a folder that matches is searched through."""

    pattern: str
    look: Look

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

        explicit = ending if ending and not _MAGIC.search(ending) else None
        return walk(root, self.look, enter=enter, take=take, besides=explicit, shards=True)

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
    look: Look

    def items(self) -> Iterator[Item]:
        yield named(self.path, self.look)

    def covers(self, path: str) -> bool:
        return path.startswith((self.path + "/", self.path + "#")) and shard_of(path) == self.path

    @property
    def root(self) -> str:
        return self.path


@dataclass(frozen=True)
class Listed:
    """Paths from standard input, kept in a temporary file: a long list takes no memory."""

    spool: str
    look: Look

    def items(self) -> Iterator[Item]:
        for line in self._lines():
            path = os.path.abspath(os.path.expanduser(os.fsdecode(line)))
            if os.path.isdir(path):
                yield from walk(path, self.look)
            else:
                yield named(path, self.look)

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


def _is_there(path: str) -> bool:
    """A file that can be looked at, or a folder with something in it."""
    try:
        if not stat.S_ISDIR(os.stat(path).st_mode):
            return True
        with os.scandir(path) as found:
            return next(found, None) is not None
    except OSError:
        return False
