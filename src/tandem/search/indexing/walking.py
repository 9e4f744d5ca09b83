"""Folders and named files -> entries: names, sizes and times, in sorted order. Opens no image."""

import contextlib
import errno
import os
import stat
from collections.abc import Callable, Container, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from tandem.errors import TandemError
from tandem.files import display_name
from tandem.image import IMAGE_SUFFIXES
from tandem.samples import shard_kind
from tandem.search.indexing.entries import (
    Entry,
    Excluded,
    FileSignature,
    FilmShard,
    Item,
    Shard,
    SkippedFile,
    UnreadFilm,
    reason_of,
)
from tandem.search.indexing.ignoring import IGNORE_FILE, IgnoreRules
from tandem.videos.naming import FILM_SUFFIXES, is_film

CAPTION_FILES = (".txt", ".json")
LIVE_PHOTOS = (".heic", ".heif", ".jpg", ".jpeg")
LIVE_PHOTO_BYTES = 16 * 2**20  # of its film; a larger one is a film with a picture of it beside


@dataclass(frozen=True)
class WalkOptions:
    """How to look at what is found."""

    is_collection: Callable[[str, Container[str]], bool]  # of a folder and the names in it; such a one is left alone
    caption_key: str = ""  # part of the signature: captions that were read under another key count as changed
    exclude: tuple[str, ...] = ()  # patterns as in a .gitignore, from each walk's root on
    every_s: float | None = None  # seconds between moments of films, where that was asked for: part of their signature
    reads_films: bool = True  # else films are told as `UnreadFilm`


_Names: TypeAlias = Sequence[str]  # of the folders from the root down, and of what is looked at


@dataclass(frozen=True)
class _OpenFolder:
    """A folder on the way down: what is left of it, all of it by name, and the rules that hold in it."""

    left: Iterator[os.DirEntry[str]]
    all: dict[str, os.DirEntry[str]]
    names: list[str]
    rules: IgnoreRules


def walk(
    root: str,
    options: WalkOptions,
    *,
    enter: Callable[[_Names], bool] = lambda names: True,
    take: Callable[[_Names], bool] = lambda names: True,
    besides: str | None = None,
    shards: bool = False,
) -> Iterator[Item]:
    """The images and films under a folder, and shards if wanted.

    Hidden names, links to folders and links out are left out. What is left out by a rule (`ignoring`), and the film of
    a live photo, is an `Excluded`.
    `besides` is a suffix that is taken besides those of images.
    """
    inside = os.path.realpath(root).rstrip(os.sep) + os.sep
    stack: list[_OpenFolder] = []

    def push(folder: str, names: list[str], rules: IgnoreRules) -> Iterator[SkippedFile]:
        try:
            with os.scandir(folder) as found:
                entries = {entry.name: entry for entry in found}
            if options.is_collection(folder, entries):
                return
            if IGNORE_FILE in entries and entries[IGNORE_FILE].is_file():
                rules = rules.inside(len(names), entries[IGNORE_FILE].path)
        except OSError as error:
            yield SkippedFile(display_name(folder), reason_of(error))
            return
        except TandemError as error:  # what its rules leave out is not known: none of it is taken
            reason = str(error).removeprefix(f"{os.path.join(folder, IGNORE_FILE)}: ")
            yield SkippedFile(display_name(folder), f"its {IGNORE_FILE} cannot be used ({reason})")
            return
        stack.append(_OpenFolder(iter([entries[name] for name in sorted(entries)]), entries, names, rules))

    yield from push(root, [], IgnoreRules.of(options.exclude))
    while stack:
        folder = stack[-1]
        entry = next(folder.left, None)
        if entry is None:
            stack.pop()
            continue
        if entry.name.startswith("."):
            continue
        names = [*folder.names, entry.name]
        try:
            if entry.is_dir(follow_symlinks=False):
                if not enter(names):
                    continue
                if folder.rules.excludes(names, is_folder=True):
                    yield Excluded(entry.path)
                else:
                    yield from push(entry.path, names, folder.rules)
                continue
            suffix = os.path.splitext(entry.name)[1].lower()
            is_shard = shards and shard_kind(entry.name) is not None
            wanted = suffix in IMAGE_SUFFIXES or suffix in FILM_SUFFIXES or suffix == besides or is_shard
            if not wanted or not take(names):
                continue
            if folder.rules.excludes(names, is_folder=False):
                yield Excluded(entry.path)
                continue
            if entry.is_symlink():
                if not os.path.exists(entry.path):
                    yield SkippedFile(display_name(entry.path), "a link to a file that is not there")
                    continue
                if not (os.path.realpath(entry.path).startswith(inside) and os.path.isfile(entry.path)):
                    continue
            if suffix == ".mov" and _is_of_live_photo(entry, folder.all):
                yield Excluded(entry.path)
                continue
            yield _item(entry.path, entry.stat(), _caption_beside(entry.name, folder.all, inside), options)
        except OSError as error:
            yield SkippedFile(display_name(entry.path), reason_of(error))


def named(path: str, options: WalkOptions) -> Item:
    """A file that was named: whatever its suffix."""
    try:
        status = os.stat(path)
        if stat.S_ISDIR(status.st_mode):
            return SkippedFile(display_name(path), "a folder, not an image")
        caption = None
        folder = os.path.realpath(os.path.dirname(path)).rstrip(os.sep) + os.sep
        for suffix in CAPTION_FILES:
            beside = os.path.splitext(path)[0] + suffix
            with contextlib.suppress(FileNotFoundError):
                its = os.stat(beside)
                if stat.S_ISREG(its.st_mode) and os.path.realpath(beside).startswith(folder):
                    caption = (beside, its)
                    break
        return _item(path, status, caption if caption and caption[0] != path else None, options)
    except OSError as error:
        return SkippedFile(display_name(path), reason_of(error), missing=error.errno in (errno.ENOENT, errno.ENOTDIR))
    except ValueError as error:  # a NUL in the name
        return SkippedFile(display_name(path), f"not a path: {error}")


def named_entry(path: str) -> Entry | SkippedFile:
    """The image at a path that was named, without the captions beside it."""
    found = named(os.path.abspath(path), WalkOptions(lambda folder, names: False))
    if isinstance(found, Entry | SkippedFile):
        return found
    return SkippedFile(display_name(path), "a shard inside a shard is not read")


def _is_of_live_photo(film: os.DirEntry[str], beside: dict[str, os.DirEntry[str]]) -> bool:
    """Whether a film is the three seconds around the photo beside it, as phones keep them: they show what it shows."""
    stem = os.path.splitext(film.name)[0]
    names = (stem + each for suffix in LIVE_PHOTOS for each in (suffix, suffix.upper()))
    return any(name in beside for name in names) and film.stat().st_size <= LIVE_PHOTO_BYTES


def _caption_beside(name: str, beside: dict[str, os.DirEntry[str]], inside: str) -> tuple[str, os.stat_result] | None:
    """The caption of an image: a regular file, or a link to one that is under the root, too."""
    stem = os.path.splitext(name)[0]
    for suffix in CAPTION_FILES:
        found = beside.get(stem + suffix)
        if found is None or not found.is_file():
            continue
        if not found.is_symlink() or os.path.realpath(found.path).startswith(inside):
            return found.path, found.stat()
    return None


def _item(path: str, status: os.stat_result, caption: tuple[str, os.stat_result] | None, options: WalkOptions) -> Item:
    try:
        path.encode()
    except UnicodeEncodeError:
        return SkippedFile(display_name(path), "its name is not UTF-8: rename it")
    if not stat.S_ISREG(status.st_mode):
        return Entry(path, _signature(status, ""), path, broken="not a regular file")  # opening a pipe may never end
    key = options.caption_key
    if is_film(path):
        if not options.reads_films:
            return UnreadFilm(path)
        return FilmShard(path, _signature(status, "" if options.every_s is None else f"every {options.every_s:g} s"))
    if shard_kind(path) is not None:
        return Shard(path, _signature(status, key))
    if caption is None:
        return Entry(path, _signature(status, ""), path)
    beside, its = caption
    return Entry(path, _signature(status, f"{key}:{its.st_size}:{its.st_mtime_ns}"), path, caption_file=beside)


def _signature(status: os.stat_result, caption: str) -> FileSignature:
    return FileSignature(status.st_size, status.st_mtime_ns, status.st_ctime_ns, caption)
