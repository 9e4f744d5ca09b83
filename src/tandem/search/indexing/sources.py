"""Sources that a user names (folders, globs, files, tars, Parquet, lists of paths) -> entries with images.

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
from collections.abc import Callable, Container, Iterator, Sequence
from dataclasses import dataclass, replace
from fnmatch import translate
from functools import cached_property
from itertools import groupby, pairwise
from pathlib import Path
from typing import BinaryIO

from tandem.errors import MissingExtraError, TandemError
from tandem.files import user_path
from tandem.image import IMAGE_SUFFIXES
from tandem.search.indexing.entries import Excluded, FilmShard, Item, UnreadFilm, inside, reason_of, shard_of
from tandem.search.indexing.ignoring import IgnoreRules
from tandem.search.indexing.walking import WalkOptions, named, walk
from tandem.videos import naming

_MAGIC = re.compile(r"[*?[]")


class Sources:
    """The named sources, which exist. Can be walked more than once, also at the same time."""

    def __init__(self, parts: "Sequence[Folder | Pattern | File | Listed]") -> None:
        self._parts = parts

    def __str__(self) -> str:
        names = ["the list on standard input" if isinstance(part, Listed) else part.root for part in self._parts]
        return ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")

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
        """Whether the path lies under a source."""
        return any(part.covers(path) for part in self._parts)

    @property
    def roots(self) -> list[str]:
        """The folders that were named, also by globs."""
        return [part.root for part in self._parts if isinstance(part, Folder | Pattern)]

    def prefixes(self) -> list[str]:
        """What the paths under them begin with, each once: none of these lies under another."""
        outermost: list[str] = []
        for prefix in sorted({prefix for part in self._parts for prefix in part.prefixes}):
            if not outermost or not prefix.startswith(outermost[-1]):
                outermost.append(prefix)
        return outermost

    @property
    def are_apart(self) -> bool:
        """Whether nothing is walked twice, as far as their names tell."""
        roots = sorted(part.root.rstrip(os.sep) + os.sep for part in self._parts)
        listed = any(isinstance(part, Listed) for part in self._parts)
        return not listed and all(not after.startswith(before) for before, after in pairwise(roots))

    def is_there(self, path: str) -> bool:
        """Whether the source that covers the path can be read now.

        A root that has vanished, or is empty, may be a disk that is not mounted: nothing says that its files are gone.
        """
        return any(part.covers(path) and _is_there(part.root) for part in self._parts)


class NoImagesError(TandemError):
    """A source is there, and holds nothing that can be indexed."""


class NothingPrunedError(NoImagesError):
    """A source to prune holds no images any more: those of the collection stay, since its disk may not be mounted.

    `reason` is the message without the advice for Python, for interfaces that have advice of their own.
    """

    def __init__(self, reason: str) -> None:
        self.reason = f"{reason}; nothing was removed"
        super().__init__(f"{self.reason}: to take out images, call Collection.delete with their ids")


class SourceNotFoundError(TandemError):
    """A source that is not there: no such file or folder."""


def find(
    sources: Sequence[str | Path],
    *,
    is_collection: Callable[[str, Container[str]], bool] = lambda folder, names: False,
    caption: str | None = None,
    exclude: Sequence[str] = (),
    every_s: float | None = None,
    standard_input: BinaryIO | None = None,
) -> Sources:
    """Check that all sources exist and are of a kind that can be indexed.

    Args:
        sources: folders, globs, files, and `-` for a list of paths on standard input, one a line or with NUL between.
        is_collection: says of a folder, and the names in it, that it is a collection's own, and is left alone.
        caption: the key of captions, if it is not one of the usual: a file whose captions were read under another key
            counts as changed.
        exclude: patterns as in a .gitignore of what to leave out of folders and globs, beside `.tandemignore` files.
            What is named itself is taken.
        every_s: seconds between moments of films; another number than before counts as a change of the films.

    Raises: `SourceNotFoundError` for a source that is not there, `NoImagesError` for one that holds no images, and
        `TandemError` for one that cannot be read.
    """
    options = WalkOptions(is_collection, caption or "", tuple(exclude), every_s, reads_films=naming.is_installed())
    IgnoreRules.of(options.exclude)  # a pattern that cannot be understood is refused here
    if not sources:
        raise TandemError("nothing to index: name a folder, a glob, a file, or - for a list on standard input")
    parts: dict[Folder | Pattern | File | Listed, None] = {}
    with contextlib.ExitStack() as resources:
        for source in dict.fromkeys(os.fspath(source) for source in sources):
            part = _part(source, options, standard_input)
            if isinstance(part, Listed):
                resources.callback(part.close)
            parts[part] = None
        resources.pop_all()
    return Sources(list(parts))


def _part(source: str, options: WalkOptions, standard_input: BinaryIO | None) -> "Folder | Pattern | File | Listed":
    if source == "-":
        return Listed(_spooled(standard_input or sys.stdin.buffer), options)
    if source.startswith(("http://", "https://", "s3://", "gs://")):
        raise TandemError(f"{source}: addresses are not indexed; fetch the file first")
    if not source:
        raise TandemError("expected a folder, a glob or a file, got an empty name (for this folder: .)")
    path = os.path.abspath(user_path(source, strict=False))
    part: Folder | Pattern | File
    if os.path.isdir(path):
        part = Folder(path, options)
        try:
            with os.scandir(path):
                pass
        except OSError as error:
            raise TandemError(f"{source}: {reason_of(error)}") from None
        looked_for = f"{', '.join(sorted(IMAGE_SUFFIXES))} and films; tars and Parquet by name"
        nothing = f"no images in this folder (looked for {looked_for})"
    elif os.path.lexists(path):
        if naming.is_film(path) and not options.reads_films:
            raise films_need_pyav()
        return File(path, options)
    elif _MAGIC.search(source):
        part = Pattern(path, options)
        nothing = "no image, tar or Parquet file matches"
    else:
        raise SourceNotFoundError(f"{source}: no such file or folder")
    excluded = films = 0
    for item in part.items():
        if isinstance(item, UnreadFilm):
            films += 1
        elif isinstance(item, Excluded):
            excluded += 1
        else:
            return part
    if films:
        raise NoImagesError(f"{source}: {films_need_pyav()}; nothing but films is here")
    raise NoImagesError(f"{source}: {nothing}" + (f"; {excluded:,} excluded by rule" if excluded else ""))


def films_need_pyav() -> TandemError:
    """What is said of films where they cannot be read."""
    return MissingExtraError("PyAV", "video", "reading films")


# --- the kinds of sources ------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Folder:
    """A folder, searched through."""

    root: str
    options: WalkOptions

    def items(self) -> Iterator[Item]:
        return walk(self.root, self.options)

    @property
    def prefixes(self) -> tuple[str, ...]:
        return (self.root.rstrip(os.sep) + os.sep,)

    def covers(self, path: str) -> bool:
        return path.startswith(self.prefixes)


@dataclass(frozen=True)
class Pattern:
    """A glob. `**` stands for any folders; a folder that matches is searched through."""

    pattern: str
    options: WalkOptions

    def items(self) -> Iterator[Item]:
        matchers = self._matchers
        first_star = matchers.index(None) if None in matchers else len(matchers)

        def enter(names: Sequence[str]) -> bool:
            depth = len(names) - 1
            if depth >= first_star or depth >= len(matchers):
                return True
            return self._fits(names[-1], matchers[depth])

        suffix = os.path.splitext(self._parts[-1])[1].lower()
        explicit = suffix if suffix and not _MAGIC.search(suffix) else None
        return walk(self.root, self.options, enter=enter, take=self._matches, besides=explicit, shards=True)

    @property
    def prefixes(self) -> tuple[str, ...]:
        return (self.root.rstrip(os.sep) + os.sep,)

    def covers(self, path: str) -> bool:
        if not path.startswith(self.prefixes):
            return False
        return self._matches(Path(shard_of(path) or path).relative_to(self.root).parts)

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
    def _matchers(self) -> list[re.Pattern[str] | None]:
        """One for each part, of a single name: no wildcard reaches across a `/`. None for `**`."""
        return [None if part == "**" else re.compile(translate(os.path.normcase(part))) for part in self._parts]

    def _matches(self, names: Sequence[str]) -> bool:
        """Whether a path below the root fits; without `**` also what lies below a folder that fits."""
        matchers = self._matchers

        def fits(name: int, part: int) -> bool:
            if part == len(matchers):
                return name == len(names) or None not in matchers
            if matchers[part] is None:
                if part == len(matchers) - 1:
                    return name < len(names)
                return any(fits(after, part + 1) for after in range(name, len(names)))
            return name < len(names) and self._fits(names[name], matchers[part]) and fits(name + 1, part + 1)

        return fits(0, 0)

    @staticmethod
    def _fits(name: str, matcher: re.Pattern[str] | None) -> bool:
        return matcher is None or matcher.match(os.path.normcase(name)) is not None


@dataclass(frozen=True)
class File:
    """A single file, with whatever suffix."""

    path: str
    options: WalkOptions

    def items(self) -> Iterator[Item]:
        yield named(self.path, self.options)

    @property
    def prefixes(self) -> tuple[str, ...]:
        return inside(self.path)

    def covers(self, path: str) -> bool:
        return path.startswith(self.prefixes) and shard_of(path) == self.path

    @property
    def root(self) -> str:
        return self.path


@dataclass(frozen=True)
class Listed:
    """Paths from standard input, kept in a temporary file: a long list takes no memory."""

    spool: str
    options: WalkOptions

    def items(self) -> Iterator[Item]:
        lines = (os.path.abspath(user_path(os.fsdecode(line), strict=False)) for line in self._lines())
        for film, paths in groupby(lines, lambda path: (naming.moment_of(path) or ("",))[0]):
            if film:
                yield self._moments(film, paths)
                continue
            for path in paths:
                if os.path.isdir(path):
                    yield from walk(path, self.options)
                else:
                    yield named(path, self.options)

    def _moments(self, film: str, paths: Iterator[str]) -> Item:
        """A film of which some moments are listed, one after the other."""
        item = named(film, self.options)
        if not isinstance(item, FilmShard):
            return item
        return replace(item, times_s=tuple(moment[1] for path in paths if (moment := naming.moment_of(path))))

    @property
    def prefixes(self) -> tuple[str, ...]:
        return ()

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
