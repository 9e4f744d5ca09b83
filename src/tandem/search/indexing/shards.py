"""The images inside tars, Parquet files and films -> entries, streamed. Knows no store and no model."""

import os
from collections.abc import Generator, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from tandem import samples, tar_files
from tandem.defaults import MAX_IMAGE_BYTES
from tandem.errors import DataError
from tandem.files import display_name, user_path
from tandem.image import IMAGE_SUFFIXES
from tandem.samples import CAPTION_KEYS
from tandem.search.indexing import films
from tandem.search.indexing.entries import Entry, FileSignature, FilmShard, Shard, SkippedFile
from tandem.search.indexing.ledger import FileRecord, Ledger
from tandem.search.indexing.walking import CAPTION_FILES, named_entry
from tandem.tar_files import TarMember

BATCH = 64  # entries, which may carry images
MOMENT_BATCH = 4  # of a film, decoded
TINY_BYTES, MOST_TINY = 20, 1000  # no image is that small: a tar with more of these is not made of images


def entries(
    shard: Shard,
    key: str | None = None,
    *,
    every_s: float | None = None,
    since_s: float = 0.0,
    earlier: int = 0,
    any_path: bool = False,
) -> Generator[Entry | SkippedFile, None, None]:
    """The images of a shard, in order; `key` is where captions are, the first usual one if None.

    Of a film, `every_s` are the seconds between moments, `since_s` is where an earlier run came to, and `earlier`
    how many moments it has before the place where reading begins again. Of Parquet, `any_path` lets its rows name files
    outside of the folder that it is in.
    Raises `DataError` where the shard is damaged, after the entries before the damage.
    """
    if isinstance(shard, FilmShard):
        yield from films.entries(shard, every_s, since_s, earlier)
    elif samples.shard_kind(shard.path) == "parquet":
        yield from _rows(shard, key, any_path)
    else:
        yield from _members(shard, key)


def length(shard: Shard, every_s: float | None = None) -> int:
    """How many images it says it has; of a film, about how many moments. Raises `DataError`."""
    if isinstance(shard, FilmShard):
        return films.length(shard, every_s)
    if samples.shard_kind(shard.path) == "parquet":
        return samples.parquet_length(Path(shard.path))
    return sum(map(_is_image, _files(shard)))


def holds_paths(shard: Shard) -> bool:
    """Whether it is Parquet that names files, which may change while it does not. Raises `DataError`."""
    if isinstance(shard, FilmShard):
        return False
    return samples.shard_kind(shard.path) == "parquet" and samples.parquet_image_column(Path(shard.path))[1]


def is_empty(shard: Shard, key: str | None = None) -> bool:
    """Whether not a single image is in it; films are believed. Raises `DataError`."""
    return not isinstance(shard, FilmShard) and next(entries(shard, key), None) is None


def batch_of(shard: Shard) -> int:
    """How many of its entries are held at once."""
    return MOMENT_BATCH if isinstance(shard, FilmShard) else BATCH


def read_until(ledger: Ledger, shard: Shard, before: FileRecord | None) -> tuple[float, int]:
    """`since_s` and `earlier` for `entries`: how far an interrupted run came. Only films are entered in the middle."""
    return films.read_until(ledger, shard, before) if isinstance(shard, FilmShard) else (0.0, 0)


def outdated(ledger: Ledger, shard: Shard) -> list[tuple[str, str]]:
    """The path and the id of what it had before it changed, and has no more. Of tars and Parquet `prune` finds it."""
    return films.outdated(ledger, shard) if isinstance(shard, FilmShard) else []


# --- tars ----------------------------------------------------------------------------------------------------------


def _members(shard: Shard, key: str | None) -> Iterator[Entry]:
    for group in tar_files.tar_groups(_files(shard, CAPTION_FILES, tuple(IMAGE_SUFFIXES))):
        for member in filter(_is_image, group):
            path = f"{shard.path}/{member.name.removeprefix('./')}"
            entry = Entry(path, shard.signature, shard.path, member.at, member.size, member.content)
            if member.content is None and member.at < 0:
                entry = replace(entry, broken=f"more bytes than the limit of {MAX_IMAGE_BYTES:,}")
            try:
                path.encode()
            except UnicodeEncodeError:
                yield replace(entry, path=display_name(path), broken="its name is not UTF-8: rename it")
                continue
            try:
                yield replace(entry, caption="\n".join(_captions_beside(member, group, key)) or None)
            except ValueError as error:
                yield replace(entry, caption_reason=f"its caption cannot be read: {error}")


def _files(shard: Shard, wanted: Sequence[str] = (), if_compressed: Sequence[str] = ()) -> Iterator[TarMember]:
    """The files of a tar. `DataError` where too many of its images are none: each costs as much as one that is one."""
    tiny = 0
    for member in tar_files.tar_members(Path(shard.path), wanted, if_compressed=if_compressed):
        tiny += member.size < TINY_BYTES and _is_image(member)
        if tiny > MOST_TINY:
            raise DataError(
                f"{shard.path}: more than {MOST_TINY:,} of its images have fewer than {TINY_BYTES} bytes, too "
                "few for any image: the rest is not read"
            )
        yield member


def _is_image(member: TarMember) -> bool:
    name = member.name.rpartition("/")[2]
    return not name.startswith(".") and os.path.splitext(name)[1].lower() in IMAGE_SUFFIXES


def _captions_beside(image: TarMember, group: list[TarMember], key: str | None) -> tuple[str, ...]:
    stems = (os.path.splitext(image.name)[0], image.key)
    endings = (".txt", ".json") if key is None else (".txt",) if key == "txt" else (".json",)
    for wanted in (stem + ending for stem in stems for ending in endings):
        for member in group:
            if member.name == wanted and member.content is None:
                raise ValueError(f"more bytes than the limit of {tar_files.MAX_TEXT_BYTES:,}")
            if member.name == wanted and member.content is not None:
                return samples.captions_in(member.content, os.path.splitext(wanted)[1], key)
    return ()


# --- Parquet -------------------------------------------------------------------------------------------------------


def _rows(shard: Shard, key: str | None, any_path: bool) -> Iterator[Entry | SkippedFile]:
    path = Path(shard.path)
    column, is_paths = samples.parquet_image_column(path)
    columns = samples.parquet_columns(path)
    captions = next((name for name in (CAPTION_KEYS if key is None else (key,)) if name in columns), None)
    if key is not None and captions is None:
        raise DataError(f"{path}: no column {key}; there are {', '.join(columns)}")
    chosen = [column] if captions is None else [column, captions]
    for row, values in enumerate(samples.parquet_rows(path, chosen)):
        caption = "\n".join(samples.as_captions(values[captions])) if captions is not None else ""
        yield _row(shard, f"{path}#{row}", values[column], is_paths, caption or None, any_path)


def _row(
    shard: Shard, path: str, value: Any, is_path: bool, caption: str | None, any_path: bool
) -> Entry | SkippedFile:
    content = samples.image_bytes(value)
    named = value if is_path else None
    if isinstance(value, Mapping) and content is None:
        named = value.get("path")
    if isinstance(named, str) and named:
        folder = os.path.dirname(shard.path)
        target = os.path.join(folder, user_path(named, strict=False))
        if not any_path and not _is_inside(target, folder):
            reason = f"{display_name(named)!r:.200} is outside of its folder: --any-path reads it"
            return SkippedFile(path, reason)
        found = named_entry(target)
        if isinstance(found, SkippedFile) or caption is None:
            return found
        size, mtime_ns, ctime_ns = found.signature.size, found.signature.mtime_ns, found.signature.ctime_ns
        return Entry(found.path, FileSignature(size, mtime_ns, ctime_ns, caption), found.file, caption=caption)
    if content is None:
        return Entry(path, shard.signature, shard.path, broken="this row has no image")
    return Entry(path, shard.signature, shard.path, content=content, caption=caption)


def _is_inside(path: str, folder: str) -> bool:
    """Whether a path leads to something in a folder, links followed."""
    try:
        return os.path.realpath(path).startswith(os.path.realpath(folder).rstrip(os.sep) + os.sep)
    except (OSError, ValueError):  # a NUL in the name
        return True  # which is said of the file itself
