"""A collection and a table of labels for some of its images -> a `Dataset`: its vectors are stored, no image is read.

The table is a CSV or TSV file with a row for each image: its id or path, and its label. Knows tables and stores.
"""

import csv
import os
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

import numpy as np

from tandem.arrays import Vectors
from tandem.datasets.building import build
from tandem.datasets.class_names import class_names_of
from tandem.datasets.collection import StoredImages
from tandem.datasets.data_files import path_text, read_text, shown
from tandem.datasets.dataset import Dataset, StoredVectors
from tandem.datasets.rows import ClassNames, Request, Rows
from tandem.errors import DataError
from tandem.files import user_path
from tandem.search.indexing.image_record import paths_of
from tandem.search.stores import backends
from tandem.search.stores.protocol import Store

# How the first row begins where it names the columns.
HEADINGS = ("id", "path", "image", "file", "filename", "photo")
_BATCH = 8192
_LARGEST = 1 << 28  # bytes of a table of labels


def open_labelled_collection(
    source: str, table: str | Path, *, classes: ClassNames | str | Path | None = None
) -> Dataset:
    """The images of a collection that a table of labels names, by id, path, or file name where that is unique.

    `classes` as for `open_dataset`. Raises `DataError` for a file that is no such table, rows that no image has or two
    images have, and images with two labels; `StoreError`.
    """
    file = user_path(path_text(table, "table"))
    rows = read_labels(file)
    with closing(backends.open_store(source)) as store:
        ids, paths, vectors = _images(store)
        fingerprint, orientation = store.notes.get("model_fingerprint", ""), store.notes.get("orientation", "upright")
    places = _places(ids, paths)
    found: dict[int, str] = {}
    for line, name, label in rows:
        place = _place(places, name, f"{file}, line {line}", source)
        if found.setdefault(place, label) != label:
            raise DataError(
                f"{file}, line {line}: {shown(name)} has two labels, {shown(found[place])} and {shown(label)}"
            )
    kept = sorted(found, key=ids.__getitem__)
    without = len(ids) - len(kept)
    chosen = Rows(
        name=os.path.basename(source.rstrip("/")).partition(".")[0],
        keys=[ids[place] for place in kept],
        images=StoredImages(
            source, [ids[place] for place in kept], [paths[place][0] if paths[place] else None for place in kept]
        ),
        labels=[(found[place],) for place in kept],
        stored=StoredVectors(fingerprint, vectors[kept], orientation == "upright"),
        notes=(f"images of {source} without a label were left out: {without:,}",) if without else (),
    )
    return build(chosen, Request(source), "collection", classes=class_names_of(classes))


def read_labels(file: Path) -> list[tuple[int, str, str]]:
    """The rows of a table of labels: the number of the line, the image and its label. A row of headings is left out."""
    try:
        text = read_text(file, most=_LARGEST)
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is no text in UTF-8"
        raise DataError(f"{file}: the labels cannot be read: {reason}") from None
    separator = "\t" if "\t" in text.partition("\n")[0] else ","
    found: list[tuple[int, str, str]] = []
    reader = csv.reader(text.splitlines(), delimiter=separator)
    try:
        for row in reader:
            values = [value.strip() for value in row]
            if not any(values) or (not found and values[0].lower() in HEADINGS):
                continue
            if len(values) != 2 or not all(values):
                came = shown(separator.join(row))
                raise DataError(f"{file}, line {reader.line_num}: expected two values, image and label, got {came}")
            found.append((reader.line_num, values[0], values[1]))
    except csv.Error as error:
        raise DataError(f"{file}, line {reader.line_num}: {error}") from None
    if not found:
        raise DataError(f"{file}: expected rows of an image's id or path and its label, found none")
    return found


def _images(store: Store) -> tuple[list[str], list[list[str]], Vectors]:
    """The ids of all images, their paths, and their vectors [n d]."""
    ids: list[str] = []
    paths: list[list[str]] = []
    blocks: list[Vectors] = [np.empty((0, store.schema.dimensions), np.float32)]
    columns = [name for name in ("path", "paths") if name in store.schema.columns]
    for records in store.scan(columns=columns, batch_size=_BATCH):
        ids += records.ids
        for row in range(len(records)):
            values = records.row(row)
            paths.append(paths_of(values) or [str(path) for path in [values.get("path")] if path])
        if records.vectors is not None:
            blocks.append(np.asarray(records.vectors, dtype=np.float32))
    return ids, paths, np.concatenate(blocks)


def _places(ids: Sequence[str], paths: Sequence[Sequence[str]]) -> dict[str, set[int]]:
    """What an image may be called: its id, a path, the name of a file."""
    places: dict[str, set[int]] = {}
    for place, (id, own) in enumerate(zip(ids, paths, strict=True)):
        for name in {id, *own, *(os.path.basename(path) for path in own)}:
            places.setdefault(name, set()).add(place)
    return places


def _place(places: dict[str, set[int]], name: str, where: str, source: str) -> int:
    found = places.get(name) or places.get(os.path.abspath(user_path(name, strict=False))) or set()
    if not found:
        raise DataError(f"{where}: no image {shown(name)} in {source}; expected an id, a path or a file name")
    if len(found) > 1:
        raise DataError(f"{where}: {len(found)} images of {source} are called {shown(name)}; write the path in full")
    return next(iter(found))
