"""What albums and the links in them are called: names that every system takes, none of which clash. Knows no files."""

import os
import re
from collections.abc import Iterable, Mapping

_FORBIDDEN = re.compile('[<>:"/\\\\?*\x00-\x1f\x7f\ud800-\udfff]')
_RESERVED = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(\..*)?", re.IGNORECASE)
_LONGEST = 120  # characters of an album's name
_BYTES = 255  # of a name, in UTF-8, as most file systems allow
_SPARE = 55  # of them, for a number, a suffix, and what a file is called while it is written


def folder_name(label: str) -> str:
    """A label as the name of a folder on every system; `animal|cat` gives a folder inside another."""
    parts = []
    for part in label.split("|"):
        name = _FORBIDDEN.sub("_", part).strip()
        name = _cut(name[:_LONGEST], _BYTES - _SPARE).rstrip(". ")
        name = f"_{name}" if not name or name.startswith(".") or _RESERVED.fullmatch(name) else name
        parts.append(name)
    return "/".join(parts)


def links_of(albums: Mapping[str, Iterable[tuple[str, str]]]) -> dict[str, str]:
    """The path of each link in the folder, and the photo it leads to.

    Names that clash, also by their case alone, get the beginning of the photo's id: the same in every run.
    """
    found: dict[str, str] = {}
    for folder, label in folders_of(albums).items():
        photos = sorted(set(albums[label]), key=lambda photo: photo[1])
        counts: dict[str, int] = {}
        for _, path in photos:
            name = os.path.basename(path).lower()
            counts[name] = counts.get(name, 0) + 1
        taken: set[str] = set()
        for id, path in photos:
            name = os.path.basename(path)
            if counts[name.lower()] > 1:
                stem, suffix = os.path.splitext(name)
                name = _with_mark(stem, id[:8], suffix)
                number = 2
                while name.lower() in taken:
                    name, number = _with_mark(stem, f"{id[:8]}-{number}", suffix), number + 1
            taken.add(name.lower())
            found[f"{folder}/{name}"] = os.path.abspath(path)
    return found


def folders_of(albums: Iterable[str]) -> dict[str, str]:
    """The folder of each label: different ones, also where case is not told apart."""
    folders: dict[str, str] = {}
    taken: set[str] = set()
    for label in albums:
        name, number = folder_name(label), 2
        while name.lower() in taken:
            name, number = f"{folder_name(label)} ({number})", number + 1
        taken.add(name.lower())
        folders[name] = label
    return folders


def _with_mark(stem: str, mark: str, suffix: str) -> str:
    end = f" ({mark}){suffix}"
    return f"{_cut(stem, _BYTES - _size(end))}{end}"


def _cut(name: str, most: int) -> str:
    """As many whole characters as fit into so many bytes."""
    while _size(name) > max(most, 1):
        name = name[:-1]
    return name


def _size(name: str) -> int:
    return len(name.encode(errors="surrogateescape"))
