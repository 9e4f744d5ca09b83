"""Tables of image files: CSV and TSV with a header, or a JSON object on each line.

Paths are relative to the table and stay below its folder, or absolute, which a note says.

Columns named in the plural (`labels`) hold several labels: a list, or text with `;` or `|` between them. Lines of one
image with one caption each are one image with several.
"""

import csv
import json
import math
import os
import re
import sys
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from tandem.datasets import split_names
from tandem.datasets.data_files import existing, in_line, inside, shown
from tandem.datasets.filtering import kinds_of_values, row_filter
from tandem.datasets.images import ImageFiles, full_path
from tandem.datasets.labels import as_labels, caption_columns, captions_of, chosen_label
from tandem.datasets.rows import Label, Request, Rows
from tandem.errors import DataError, in_words
from tandem.files import user_path
from tandem.samples import IMAGE_COLUMNS, PATH_COLUMNS

SEPARATORS = {".csv": ",", ".tsv": "\t"}
LINES = (".jsonl", ".ndjson")
_ESCAPED = re.compile("[\udc80-\udcff]")  # what Python makes of bytes that are no text
_METADATA = ("metadata.csv", "metadata.jsonl")  # in a folder of images, as Hugging Face's `datasets` reads it
_SEVERAL = (";", "|")


def recognises(source: str) -> bool:
    """Whether it is a table by its suffix, or a folder with a table `metadata.csv` or `metadata.jsonl`."""
    return _table(source) is not None


def splits(source: str) -> tuple[str, ...]:
    """The values of the column `split`; () without one."""
    path = _table(source)
    return tuple(_splits(list(read_lines(path)), path)) if path is not None else ()


def read(request: Request) -> Rows:
    """The images of a table. Raises `DataError` that names the line, and `FilterError`."""
    path = _table(request.source)
    if path is None:
        raise DataError(f"{request.source}: expected a table ({', '.join([*SEPARATORS, *LINES])})")
    lines = list(read_lines(path))
    if not lines:
        raise DataError(f"{path}: it has a header at most, and no rows")
    columns = list(dict.fromkeys(name for _, values in lines for name in values))
    if request.where is not None:
        _, passes = row_filter(request.where, kinds_of_values(columns, (values for _, values in lines)))
        blank = {"id": None, **dict.fromkeys(columns)}
        lines = [(line, values) for line, values in lines if passes({**blank, **values})]
        if not lines:
            raise DataError(f"{path}: no row passes where {shown(request.where)}")
    split, notes = None, []
    if by_split := _splits(lines, path):
        if without := len(lines) - sum(map(len, by_split.values())):
            notes.append(f"{without:,} of {len(lines):,} rows have no split, and were left out")
        split, lines = split_names.choose(by_split, request.split, request.source)
    else:
        split_names.refuse(request.split, request.source)
    image = _image_column(columns, path)
    label = chosen_label(request.label, columns, path)
    captions = caption_columns(request.caption, columns, path)
    several = label is not None and (
        (label.endswith("s") and label not in ("class", "cls")) or any(isinstance(v.get(label), list) for _, v in lines)
    )
    found: dict[str, _Image] = {}
    for line, values in lines:
        place = f"{path}, line {line}"
        name = values.get(image)
        if not isinstance(name, str) or not name:
            raise DataError(f"{place}: there is no path in the column {image}")
        labels = None if label is None else as_labels(_split(values.get(label), several), place)
        key = _key(name, place)
        full = os.path.abspath(path.parent / key)
        entry = found.get(full)
        if entry is None:
            found[full] = entry = _Image(key, existing(os.path.join(path.parent, key), place), labels, place)
        if entry.labels != labels:
            before = f"{shown(entry.labels)} at {entry.place}"
            raise DataError(f"{place}: {in_line(name)} was labelled {before}, and {shown(labels)} here")
        texts = captions_of({column: values.get(column) for column in captions}, captions)
        if entry.place != place and not texts:
            raise DataError(f"{place}: {in_line(name)} is there twice, and has no other caption here ({entry.place})")
        entry.captions += texts
    entries = list(found.values())
    if absolute := sum(os.path.isabs(entry.key) for entry in entries):
        notes.append(f"{absolute:,} of {len(found):,} images are named by absolute paths")
    return Rows(
        name=full_path(path.parent if path.name in _METADATA else path.with_suffix("")).name,
        keys=[entry.key for entry in entries],
        images=ImageFiles([entry.path for entry in entries]),
        labels=[entry.labels for entry in entries] if label is not None else None,
        captions=[entry.captions for entry in entries] if captions else None,
        split=split,
        multi_label=several,
        places=[entry.place.removeprefix(f"{path}, ") for entry in entries],
        notes=tuple(notes),
    )


class _Image:
    """An image of the table, and what its lines say."""

    def __init__(self, key: str, path: str, labels: tuple[Label, ...] | None, place: str) -> None:
        self.key, self.path, self.labels, self.place = key, path, labels, place
        self.captions: tuple[str, ...] = ()


def _key(name: str, place: str) -> str:
    """A path as it is the same for an image however it is written. Raises `DataError` where it leads out."""
    path = str(user_path(name))
    return os.path.normpath(path) if os.path.isabs(path) else inside(path, place)


def _table(source: str) -> Path | None:
    path = user_path(source, strict=False)
    if path.is_dir():
        return next((path / name for name in _METADATA if (path / name).is_file()), None)
    return path if path.suffix.lower() in (*SEPARATORS, *LINES) and path.is_file() else None


def read_lines(path: Path) -> Iterator[tuple[int, Mapping[str, Any]]]:
    """Each row with its line's number. Raises `DataError` that names the line."""
    line = 0
    try:
        with path.open(newline="", encoding="utf-8-sig", errors="surrogateescape") as file:
            texts = _in_utf8(file, path)
            if path.suffix.lower() in LINES:
                for line, text in enumerate(texts, start=1):
                    if text.strip():
                        values = json.loads(text)
                        if not isinstance(values, dict):
                            raise DataError(f"{path}, line {line}: expected an object, found {text.strip()!r:.40}")
                        yield line, values
                return
            csv.field_size_limit(min(sys.maxsize, 2**31 - 1))
            rows = csv.DictReader(texts, delimiter=SEPARATORS[path.suffix.lower()])
            for values in rows:
                line = rows.line_num
                if None in values or None in values.values():
                    raise DataError(
                        f"{path}, line {line}: expected {len(rows.fieldnames or ())} values, as in the header"
                    )
                yield line, values
    except (OSError, ValueError, csv.Error, RecursionError) as error:
        raise DataError(f"{path}, line {line}: cannot be read: {in_words(error)}") from None


def _in_utf8(lines: Iterable[str], path: Path) -> Iterator[str]:
    """Lines in which bytes that are no UTF-8 were escaped. Raises `DataError` that names the first with one."""
    for line, text in enumerate(lines, start=1):
        if not text.isascii() and (found := _ESCAPED.search(text)):
            raise DataError(
                f"{path}, line {line}: expected text in UTF-8, found the byte 0x{ord(found[0]) - 0xDC00:02X}; "
                "save the table as UTF-8"
            )
        yield text


def _splits(lines: list[tuple[int, Mapping[str, Any]]], path: Path) -> dict[str, list[tuple[int, Mapping[str, Any]]]]:
    """The lines of each split; those without one are in none."""
    found: dict[str, list[tuple[int, Mapping[str, Any]]]] = {}
    for line, values in lines:
        split = values.get("split")
        if split is None or (isinstance(split, float) and math.isnan(split)):
            continue
        if not isinstance(split, str):
            raise DataError(f"{path}, line {line}: expected the name of a split, found {shown(split)}")
        if split.strip():
            found.setdefault(split.strip(), []).append((line, values))
    return found


def _image_column(columns: list[str], path: Path) -> str:
    found = next((name for name in (*PATH_COLUMNS, *IMAGE_COLUMNS) if name in columns), None)
    if found is None:
        raise DataError(
            f"{path}: expected a column of paths ({', '.join((*PATH_COLUMNS[:3], 'file_name', 'image'))}), "
            f"found {', '.join(columns)}"
        )
    return found


def _split(value: Any, several: bool) -> Any:
    """Several labels as a list; none where the cell is empty, which says that the image has none of the labels."""
    if not several or not (isinstance(value, str) or value is None):
        return value
    text = value or ""
    for separator in _SEVERAL:
        if separator in text:
            return [part.strip() for part in text.split(separator) if part.strip()]
    return [text.strip()] if text.strip() else []
