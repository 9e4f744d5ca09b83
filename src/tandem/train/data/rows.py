"""The rows of a file of a training set: where the bytes of each image are, and its texts.

One generator for each kind of file. Images that are not stored as plain bytes (in Parquet, in a compressed tar) are
yielded as bytes; the others stay where they are. Decodes nothing; an unreadable row is yielded with its reason.
"""

import csv
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tandem.errors import DataError, in_words
from tandem.image import IMAGE_SUFFIXES
from tandem.samples import (
    TAR_IMAGE_SUFFIXES,
    as_captions,
    captions_in,
    image_bytes,
    parquet_columns,
    parquet_rows,
)
from tandem.tar_files import TarFile, tar_has_end, tar_is_compressed, tar_members, tar_size
from tandem.train.data.paths import separator_of
from tandem.train.recipe import Source


@dataclass(frozen=True)
class SampleRow:
    """One sample: its texts, and its image as bytes, a range of the file, or (`at` -1) a file named `key`."""

    key: str
    texts: tuple[str, ...]
    at: int = -1
    size: int = 0
    content: bytes | None = None


@dataclass(frozen=True)
class SkippedRow:
    """A sample that can never be drawn, and why."""

    key: str
    reason: str


def remote_tar_rows(shard: TarFile, source: Source) -> Iterator[SampleRow | SkippedRow]:
    """As `tar_rows`, of a tar elsewhere. A compressed one is refused: all of its images would have to be copied."""
    if tar_is_compressed(shard):
        raise DataError(f"{shard}: it is compressed; tars at URLs must not be: unpack it, or name the path of a copy")
    return tar_rows(shard, source)


def tar_rows(path: TarFile, source: Source) -> Iterator[SampleRow | SkippedRow]:
    """A tar of `KEY.jpg` with `KEY.json` or `KEY.txt`. What follows damage cannot be read: it is reported."""
    if source.text:
        suffixes: tuple[str, ...] = (".txt",) if source.text == "txt" else (".json",)
    else:
        suffixes = (".json", ".txt")
    images: dict[str, SampleRow] = {}
    texts: dict[str, tuple[str, ...]] = {}
    failed: dict[str, str] = {}
    damage, end = "", 0
    try:
        for member in tar_members(path, suffixes, if_compressed=TAR_IMAGE_SUFFIXES):
            end = member.end
            if member.suffix in TAR_IMAGE_SUFFIXES:
                content = member.content if member.at < 0 else None
                images.setdefault(member.key, SampleRow(member.key, (), member.at, member.size, content))
            elif member.suffix in suffixes:
                try:
                    key = source.text if member.suffix == ".json" and source.text else None
                    texts[member.key] = captions_in(member.content or b"", member.suffix, key)
                except (ValueError, RecursionError) as error:
                    failed[member.key] = f"cannot read {member.name}: {in_words(error)}"
            row = images.get(member.key)
            if row is not None and row.content is not None and member.key in texts:  # bytes do not wait for the end
                yield SampleRow(row.key, texts.pop(row.key), content=row.content)
                del images[row.key]
    except DataError as error:
        damage = str(error)
    if not damage and end > 0 and not tar_has_end(path, end):
        damage = f"{path}: it ends at byte {tar_size(path):,}, before the end mark of a tar; what follows is missing"
    for key, row in images.items():
        if key in texts:
            yield SampleRow(key, texts[key], row.at, row.size, row.content)
        else:
            yield SkippedRow(key, failed.get(key, f"no {source.text or 'text'} beside the image"))
    if damage:
        yield SkippedRow("", damage)


def parquet_rows_of(path: Path, source: Source) -> Iterator[SampleRow | SkippedRow]:
    """A Parquet file with encoded images in one column and texts in another."""
    try:
        columns = parquet_columns(path)
    except DataError as error:
        yield SkippedRow("", str(error))
        return
    if missing := [name for name in (source.image, source.text) if name not in columns]:
        raise DataError(f"{path}: expected the columns {source.image} and {source.text}, found no {missing[0]!r}")
    if missing := [name for name in source.where if name not in columns]:
        raise DataError(
            f"{path}: where: expected one of the columns {', '.join(list(columns)[:10])}, got {missing[0]!r}"
        )
    number = -1
    try:
        for number, values in enumerate(parquet_rows(path, list({source.image, source.text, *source.where}))):
            if any(wanted not in str(values[name]) for name, wanted in source.where.items()):
                continue
            content = image_bytes(values[source.image])
            if content is not None:
                yield SampleRow(f"#{number}", as_captions(values[source.text]), content=content)
            else:
                yield SkippedRow(f"#{number}", f"no image bytes in the column {source.image}")
    except DataError as error:
        yield SkippedRow(f"#{number + 1}", str(error))


def table_rows(path: Path, source: Source) -> Iterator[SampleRow | SkippedRow]:
    """A CSV or TSV of paths, relative to it, and captions. Lines of one path are one image's captions."""
    found: dict[str, list[str]] = {}
    csv.field_size_limit(min(sys.maxsize, 2**31 - 1))
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            rows = csv.DictReader(file, delimiter=separator_of(path))
            columns = rows.fieldnames or []
            if missing := [name for name in (source.image, source.text) if name not in columns]:
                raise DataError(
                    f"{path}: expected the columns {source.image} and {source.text}, found no {missing[0]!r} "
                    f"among {', '.join(columns[:10])}; name them with image= and text="
                )
            for values in rows:
                name, text = values[source.image], values[source.text]
                if name and text:
                    found.setdefault(name, []).append(text)
                else:
                    empty = source.image if not name else source.text
                    yield SkippedRow(name or f"line {rows.line_num}", f"line {rows.line_num}: nothing in {empty}")
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path}: cannot read it as a table: {error}") from None
    for name, texts in found.items():
        yield SampleRow(name, tuple(texts))


def folder_rows(path: Path, _: Source) -> Iterator[SampleRow | SkippedRow]:
    """A folder of folders with images, at any depth: an image's text is the name of its folder below `path`."""
    entries = sorted(path.iterdir())
    for file in entries:
        if file.suffix.lower() in IMAGE_SUFFIXES and file.is_file():
            yield SkippedRow(file.name, "not in a folder that names its class")
    for folder in (entry for entry in entries if entry.is_dir()):
        name = folder.name.replace("_", " ")
        for file in sorted(folder.rglob("*")):
            if file.suffix.lower() in IMAGE_SUFFIXES and file.is_file():
                yield SampleRow(file.relative_to(path).as_posix(), (name,))
