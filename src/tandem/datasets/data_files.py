"""What the files of a data set say is not trusted: how much of them is read, which images they may name, what is shown.

Knows paths and texts; no layout.
"""

import os
import reprlib
import stat
from pathlib import Path
from typing import Any

from tandem.errors import DataError

_LONGEST = 80  # characters of a value that a message shows
_LONGEST_NAME = 400  # characters of a name
_LONGEST_PATH = 4096  # characters
_LARGEST = 1 << 32  # bytes of a text file: COCO's annotations have under 1 GB
_DIGITS = 18  # of a number that fits 64 bits

_repr = reprlib.Repr()
_repr.maxstring = _repr.maxother = _repr.maxlong = _LONGEST
_repr.maxlevel = _repr.maxlist = _repr.maxtuple = _repr.maxdict = 3


def shown(value: Any) -> str:
    """A value as a message shows it: on one line, and cut where it is long."""
    if isinstance(value, str) and len(value) > _LONGEST:
        return f"{value[: _LONGEST - 3]!r}..."
    text = _repr.repr(value)
    return text if len(text) <= 2 * _LONGEST else f"{text[: 2 * _LONGEST - 3]}..."


def in_line(name: str) -> str:
    """A name as a message shows it: itself, or where it is long or has line ends as `shown`."""
    return name if len(name) <= _LONGEST_NAME and name.isprintable() else shown(name)


def number_in(text: str) -> int | None:
    """The whole number that a text is; None for other texts, and for more digits than 64 bits have."""
    return int(text) if text.isdecimal() and len(text) <= _DIGITS else None


def path_text(value: Any, name: str) -> str:
    """A path or address that a caller gave, as text. Raises `DataError` for what can be none."""
    if not isinstance(value, str | os.PathLike) or not isinstance(path := os.fspath(value), str):
        raise DataError(f"{name}: expected a path as text, got {shown(value)}")
    if not path.strip():
        raise DataError(f'{name}: expected a path, got nothing; "." is the current folder')
    if "\0" in path or len(path) > _LONGEST_PATH:
        raise DataError(f"{name}: {shown(path)} is no path: it has a NUL in it, or over {_LONGEST_PATH:,} characters")
    return path


def read_text(path: Path, *, most: int = _LARGEST) -> str:
    """A text file in UTF-8. Raises `OSError`, `UnicodeDecodeError`, and `DataError` for what is no file, or large."""

    def at_once(name: str, flags: int) -> int:  # a pipe without a writer would wait
        return os.open(name, flags | getattr(os, "O_NONBLOCK", 0))

    with open(path, "rb", opener=at_once) as file:
        status = os.fstat(file.fileno())
        if not stat.S_ISREG(status.st_mode):
            raise DataError(f"{path}: expected a file, found a device or a pipe")
        if status.st_size > most:
            raise DataError(f"{path}: expected at most {most:,} bytes, found {status.st_size:,}")
        return file.read(most + 1).decode("utf-8-sig")


def existing(path: str, named_by: str) -> str:
    """The path of an image that a file names. Raises `DataError` where there is no such file."""
    if not os.path.isfile(path):
        raise DataError(f"{named_by}: there is no file {in_line(path)}")
    return path


def inside(name: Any, named_by: str) -> str:
    """A path of an image in a file, without `.` and `..`, that stays below the folder it is relative to.

    Raises `DataError` for others: a data set that somebody else made must not bring other images of this computer into
    its report. Links are not followed here: hubs keep files as links.
    """
    if not isinstance(name, str) or not name:
        raise DataError(f"{named_by}: expected the path of an image, found {shown(name)}")
    path = os.path.normpath(name)
    if os.path.isabs(path) or os.path.splitdrive(path)[0] or path.split(os.sep)[0] == os.pardir:
        raise DataError(
            f"{named_by}: the path {shown(name)} leads out of the data set's folder: put the image in that folder, or "
            "list absolute paths in a table of your own (.csv, .tsv, .jsonl)"
        )
    return path.replace(os.sep, "/")
