"""Folders and named files -> what is to be looked at: names, sizes and times, in sorted order. Opens no file."""

import contextlib
import errno
import os
import stat
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from tandem.image import IMAGE_SUFFIXES
from tandem.search.indexing.places import PARQUETS, TARS, Entry, Item, SetAside, Shard, Stamp, reason_of, shown

CAPTION_FILES = (".txt", ".json")


@dataclass(frozen=True)
class Look:
    """How to look at what is found."""

    is_collection: Callable[[str], bool]
    key: str


_Names: TypeAlias = Sequence[str]  # of the folders from the root down, and of what is looked at


def walk(
    root: str,
    look: Look,
    *,
    enter: Callable[[_Names], bool] = lambda names: True,
    take: Callable[[_Names], bool] = lambda names: True,
    besides: str | None = None,
    shards: bool = False,
) -> Iterator[Item]:
    """The pictures under a folder, and shards if wanted. Hidden names, links to folders and links out are left out.

    `besides` is an ending that is taken besides those of pictures.
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
            if not (ending in IMAGE_SUFFIXES or ending == besides or is_shard) or not take([*names, entry.name]):
                continue
            if entry.is_symlink() and not (
                os.path.realpath(entry.path).startswith(inside) and os.path.isfile(entry.path)
            ):
                continue
            yield _item(entry.path, entry.stat(), _caption_beside(entry.name, beside), look)
        except OSError as error:
            yield SetAside(shown(entry.path), reason_of(error))


def named(path: str, look: Look) -> Item:
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
    found = named(os.path.abspath(path), Look(lambda folder: False, ""))
    return SetAside(shown(path), "a shard inside a shard is not read") if isinstance(found, Shard) else found


def _caption_beside(name: str, beside: dict[str, os.DirEntry[str]]) -> tuple[str, os.stat_result] | None:
    stem = os.path.splitext(name)[0]
    for ending in CAPTION_FILES:
        found = beside.get(stem + ending)
        if found is not None and found.is_file():
            return found.path, found.stat()
    return None


def _item(path: str, status: os.stat_result, caption: tuple[str, os.stat_result] | None, look: Look) -> Item:
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
