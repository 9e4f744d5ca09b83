"""Parquet files with a column of images (bytes, `{bytes, path}`, or paths) and columns of labels and captions.

Several files are one data set; where all of their names begin with a split (`train-00000-of-00004.parquet`), that
chooses among them.
"""

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tandem import samples
from tandem.datasets.class_names import first_synonyms
from tandem.datasets.data_files import existing, inside, shown
from tandem.datasets.filtering import kinds_of_parquet, row_filter
from tandem.datasets.images import ImageFiles, ShardImages, full_path
from tandem.datasets.labels import as_labels, caption_columns, captions_of, chosen_label
from tandem.datasets.rows import ClassNames, Label, Request, Rows
from tandem.datasets.shards import choose_files, name_of, shard_splits
from tandem.errors import DataError

# Names beside a column of labels that are ids or numbers
NAME_COLUMNS = ("names", "class_name", "label_name", "label_text", "label_names")


def recognises(source: str) -> bool:
    """Whether it is one or several Parquet files, or a folder of them."""
    return shard_splits(source, "parquet") is not None


def splits(source: str) -> tuple[str, ...]:
    """The splits that the names of its files begin with."""
    return tuple((shard_splits(source, "parquet") or ({}, []))[0])


def read(request: Request) -> Rows:
    """The rows of the files; images are not read. Raises `DataError` that names the file, and `FilterError`."""
    split, files = choose_files(request, "parquet")
    columns = samples.parquet_columns(files[0])
    image, is_paths = samples.parquet_image_column(files[0])
    label = chosen_label(request.label, columns, files[0])
    captions = caption_columns(request.caption, columns, files[0])
    names = next((name for name in NAME_COLUMNS if name in columns), None) if label in ("wnid", "label") else None
    class_names = None if label is None else _declared(samples.parquet_metadata(files[0]), label)
    names = None if class_names is not None or names == label else names
    needed, passes = (
        row_filter(request.where, kinds_of_parquet(columns)) if request.where is not None else (set(), None)
    )
    read_columns = list(dict.fromkeys([*filter(None, (label, names)), *captions, *sorted(needed)]))
    if is_paths:
        read_columns.append(image)
    keys: list[str] = []
    labels: list[tuple[Label, ...] | None] = []
    texts: list[tuple[str, ...]] = []
    shards: list[int] = []
    rows: list[int] = []
    paths: list[str] = []
    named: dict[Label, str] = {}
    for shard, (file, called) in enumerate(zip(files, _shown(files), strict=True)):
        _check_columns(file, [*read_columns, image])
        for row, values in enumerate(_values(file, read_columns)):
            key = f"{called}#{row}"
            if passes is not None and not passes({"id": key, **values}):
                continue
            if label is not None:
                labels.append(as_labels(values[label], f"{file}, row {row}"))
                if names is not None:
                    _note_name(named, labels[-1], values[names], f"{file}, row {row}")
            texts.append(captions_of(values, captions))
            if is_paths:
                place = f"{file}, row {row}"
                paths.append(existing(os.path.join(file.parent, inside(values[image], place)), place))
            keys.append(key)
            shards.append(shard)
            rows.append(row)
    if not keys and passes is not None:
        raise DataError(f"{request.source}: no row passes where {shown(request.where)}")
    if named and class_names is None:
        ordered = sorted(named, key=lambda each: (isinstance(each, str), each))
        class_names = dict(zip(map(str, ordered), first_synonyms([named[each] for each in ordered]), strict=True))
    return Rows(
        name=name_of(request.source, files, split),
        keys=keys,
        images=ImageFiles(paths)
        if is_paths
        else ShardImages(files, np.array(shards, np.int64), np.array(rows, np.int64), Cells(image)),
        labels=labels if label is not None else None,
        captions=texts if captions else None,
        split=split,
        class_names=class_names,
        multi_label=label is not None and columns[label].startswith(("list", "large_list", "fixed_size_list")),
    )


class Cells:
    """Reads the images in a column of bytes."""

    def __init__(self, column: str) -> None:
        self.column = column

    def part(self, path: Path, /) -> str:
        return f"column {self.column}"

    def __call__(self, path: Path, rows: Sequence[int], /) -> Iterator[bytes]:
        for row, value in zip(rows, samples.parquet_cells(path, self.column, rows), strict=True):
            content = samples.image_bytes(value)
            if content is None and isinstance(value, Mapping) and isinstance(value.get("path"), str):
                place = f"{path}, row {row}"
                content = Path(existing(os.path.join(path.parent, inside(value["path"], place)), place)).read_bytes()
            if content is None:
                raise DataError(f"{path}, row {row}: there is no image in the column {self.column}")
            yield content


def _values(file: Path, columns: Sequence[str]) -> Iterator[Mapping[str, Any]]:
    if columns:
        return samples.parquet_rows(file, columns)
    return iter([{}] * samples.parquet_length(file))


def _shown(files: Sequence[Path]) -> list[str]:
    """The files' names, which keys begin with; with their folders where names repeat."""
    names = [file.name for file in files]
    if len(set(names)) == len(names):
        return names
    common = os.path.commonpath([full_path(file).parent for file in files])
    return [os.path.relpath(full_path(file), common).replace(os.sep, "/") for file in files]


def _check_columns(file: Path, needed: Sequence[str]) -> None:
    columns = samples.parquet_columns(file)
    if missing := [name for name in needed if name not in columns]:
        raise DataError(
            f"{file}: expected the column {missing[0]}, as in the first file; there are {', '.join(columns)}"
        )


def _note_name(named: dict[Label, str], labels: tuple[Label, ...] | None, value: Any, place: str) -> None:
    if labels is None or len(labels) != 1:
        return
    name = ", ".join(map(str, value)) if isinstance(value, list) else str(value or "")
    if named.setdefault(labels[0], name) != name:
        raise DataError(f"{place}: the label {labels[0]} has two names, {shown(named[labels[0]])} and {shown(name)}")


def _declared(metadata: Mapping[bytes, bytes], column: str) -> ClassNames | None:
    """The names of a column that Hugging Face's `datasets` wrote as a `ClassLabel`; of a list of them, too."""
    try:
        features = json.loads(metadata[b"huggingface"])["info"]["features"]
        feature = features[column]
        while not (isinstance(feature, dict) and feature.get("_type") == "ClassLabel"):
            feature = feature[0] if isinstance(feature, list) else feature["feature"]
        names = feature["names"]
    except (KeyError, ValueError, TypeError, IndexError, RecursionError):
        return None
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        return None
    return [name.replace("_", " ") for name in names]
