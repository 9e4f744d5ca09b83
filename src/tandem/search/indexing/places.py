"""Places that hold pictures: their names, how they look from outside, how they are read, and whether they are gone.

A place is named by a file's absolute path, by `shard.tar/member.jpg`, or by `table.parquet#row`. Knows no store.
"""

import errno
import os
from dataclasses import dataclass
from typing import TypeAlias

TARS = (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz")
PARQUETS = (".parquet", ".pq")


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
