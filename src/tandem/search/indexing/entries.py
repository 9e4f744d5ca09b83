"""Results of a walk: files that hold images, their signatures, how they are read, and whether they are gone.

The path of an image is a file's absolute path, `shard.tar/member.jpg`, `table.parquet#row`, or `film.mp4#t=83.200`.
Knows no store.
"""

import errno
import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

from tandem.samples import PARQUET_SUFFIXES, TAR_SUFFIXES
from tandem.videos.naming import moment_of

if TYPE_CHECKING:
    from tandem.videos.moments import Moment


@dataclass(frozen=True)
class FileSignature:
    """Size and times of a file when it was read. `caption` is the signature of its caption."""

    size: int
    mtime_ns: int
    ctime_ns: int  # tells of a change of permissions; asked only where a file could not be read
    caption: str = ""


@dataclass(frozen=True)
class Entry:
    """A path that holds an image, and how to read it. Small, and can be sent to another process."""

    path: str  # see above
    signature: FileSignature
    file: str  # what is opened
    at: int = 0  # where the image begins in `file`, if `count` is given
    count: int | None = None  # bytes; None for the whole file
    content: bytes | None = None  # the bytes themselves, where they lie in no file as they are
    caption: str | None = None
    caption_file: str | None = None  # beside the image, where there is one
    caption_reason: str | None = None  # why its caption could not be read
    broken: str | None = None  # why there is nothing to read
    moment: "Moment | None" = None  # of a film: already decoded


@dataclass(frozen=True)
class SkippedFile:
    """A file that cannot be indexed, and why. `retried` is False for a failure recorded in an earlier run."""

    path: str
    reason: str
    retried: bool = True
    missing: bool = False  # it was named, and is not there
    added: bool = False  # the image is in the collection, and only its caption cannot be read


@dataclass(frozen=True)
class Shard:
    """A file of many images: a tar, Parquet, or a film. What differs between them is in `shards.py`."""

    path: str
    signature: FileSignature


@dataclass(frozen=True)
class FilmShard(Shard):
    """A film, whose images are moments."""

    times_s: tuple[float, ...] | None = None  # the moments that are wanted; None to choose them


@dataclass(frozen=True)
class Excluded:
    """A file, or a folder with all that is in it, that a rule leaves out."""

    path: str


@dataclass(frozen=True)
class UnreadFilm:
    """A film that was found, where films cannot be indexed."""

    path: str


Item: TypeAlias = Entry | Shard | SkippedFile | Excluded | UnreadFilm


def reason_of(error: OSError) -> str:
    known = {errno.ENOENT: "no such file", errno.ENOTDIR: "no such file", errno.EACCES: "permission denied"}
    return known.get(error.errno or 0, error.strerror or str(error))


def shard_of(path: str) -> str | None:
    """The tar, Parquet file or film that a path lies in; None for a file of its own."""
    if (moment := moment_of(path)) is not None:
        return moment[0]
    lower = path.lower()
    for suffix in TAR_SUFFIXES:
        if (end := lower.find(suffix + "/")) >= 0:
            return path[: end + len(suffix)]
    for suffix in PARQUET_SUFFIXES:
        if (end := lower.rfind(suffix + "#")) >= 0 and path[end + len(suffix) + 1 :].isdigit():
            return path[: end + len(suffix)]
    return None


def inside(shard: str) -> tuple[str, str]:
    """The prefixes of the paths of images in a shard."""
    return f"{shard}/", f"{shard}#"


def is_missing(paths: Sequence[str]) -> bool:
    """Whether an image has files, and none of them is there any more, as far as this machine can tell.

    A file whose folder is not there either may be on a disk that is not mounted, or on another machine.
    """
    return bool(paths) and all(
        is_gone(path) and os.path.isdir(os.path.dirname(shard_of(path) or path)) for path in paths
    )


def is_gone(path: str) -> bool:
    """Whether nothing is at this path any more, for certain: what cannot be looked at is not gone.

    Of a path in a tar or in Parquet this says only whether that file is gone.
    """
    if not _is_absent(path):
        return False
    shard = shard_of(path)
    return shard is None or not os.path.isfile(shard)


def _is_absent(path: str) -> bool:
    try:
        os.lstat(path)
    except OSError as error:
        return error.errno in (errno.ENOENT, errno.ENOTDIR)
    return False
