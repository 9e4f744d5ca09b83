"""A collection: its vectors, with a column of its metadata, or the name of an image's folder, as the label.

No image is read: vectors come from the store. What stands for an image's digest is that of its id, which for indexed
files is the hash of their content.
"""

import os
from collections.abc import Iterable, Sequence
from contextlib import closing
from dataclasses import dataclass

import numpy as np

from tandem.datasets import split_names
from tandem.datasets.data_files import in_line, shown
from tandem.datasets.dataset import StoredVectors
from tandem.datasets.labels import as_labels
from tandem.datasets.rows import Label, Request, Rows
from tandem.errors import DataError, did_you_mean
from tandem.files import user_path
from tandem.image import ImageSource
from tandem.search.indexing.image_record import digest_of_id
from tandem.search.stores import backends
from tandem.search.stores.protocol import Records, Value

FOLDER = "folder"  # in place of a column: the name of the folder that an image's file is in


def recognises(source: str) -> bool:
    """Whether it is the address of a collection, or the folder of one."""
    folder = user_path(source, strict=False)
    if backends.local_path(source) != str(folder):  # it begins as no path of a folder does
        return True
    return folder.is_dir() and backends.is_store_folder(str(folder), os.listdir(folder))


def splits(source: str) -> tuple[str, ...]:
    """Collections have none; a filter (`where`) chooses among their images."""
    return ()


def read(request: Request) -> Rows:
    """The records in the order of their ids, with their vectors. Raises `DataError`, `StoreError` and `FilterError`."""
    split_names.refuse(request.split, request.source)
    with closing(backends.open_store(request.source)) as store:
        columns = [name for name, kind in store.schema.columns.items() if kind != "bytes"]
        label, caption = _column(request.label, columns, request.source), request.caption or "caption"
        read_columns = {"path", "decoding", caption, *({label} - {FOLDER, None})} & set(columns)
        if request.caption is not None and caption not in columns:
            raise DataError(f"{request.source}: no column {in_line(caption)}; there are {', '.join(columns)}")
        found = list(store.scan(where=request.where, columns=sorted(name for name in read_columns if name)))
        fingerprint, orientation = store.notes.get("model_fingerprint", ""), store.notes.get("orientation", "upright")
        url = store.url
    ids = [each for records in found for each in records.ids]
    if not ids:
        raise DataError(
            f"{request.source}: no image passes where {shown(request.where)}" if request.where else f"{url} is empty"
        )
    order = sorted(range(len(ids)), key=ids.__getitem__)
    vectors = np.concatenate([records.vectors for records in found if records.vectors is not None])[order]
    paths = _values(found, "path", order)
    ids = [ids[place] for place in order]
    labels: list[tuple[Label, ...] | None] | None = None
    if label == FOLDER:
        labels = [
            as_labels(os.path.basename(os.path.dirname(str(path or ""))), f"{url}, {id}")
            for path, id in zip(paths, ids, strict=True)
        ]
    elif label is not None:
        values = _values(found, label, order)
        labels = [as_labels(value, f"{url}, {id}") for value, id in zip(values, ids, strict=True)]
    captions = [() if label == caption else _lines(value) for value in _values(found, caption, order)]
    if labels is None and not any(captions):
        raise DataError(
            f"{request.source}: its images have no captions; for labels name a column with label, or {FOLDER} for the "
            "names of the folders that they are in"
        )
    named = len({path for path in paths if path}) == len(paths)
    fast = _values(found, "decoding", order).count("fast")
    return Rows(
        name=os.path.basename(url.rstrip("/")).partition(".")[0],
        keys=[str(path) for path in paths] if named else ids,
        images=StoredImages(request.source, ids, [str(path) if path else None for path in paths]),
        labels=labels,
        captions=captions if any(captions) else None,
        stored=StoredVectors(fingerprint, vectors, orientation == "upright"),
        notes=(f"{fast:,} of {len(ids):,} vectors come from images that were shrunk while they were decoded",)
        if fast
        else (),
    )


@dataclass(frozen=True)
class StoredImages:
    """The images of a collection: their files, or where these are gone the stored thumbnails."""

    url: str
    ids: Sequence[str]
    paths: Sequence[str | None]

    def open(self, places: Sequence[int]) -> Iterable[ImageSource]:
        for place in places:
            path = self.paths[place]
            if path is not None and os.path.isfile(path):
                yield path
                continue
            with closing(backends.open_store(self.url)) as store:
                found = store.get([self.ids[place]], columns=("thumbnail",), vectors=False)
            content = found.columns["thumbnail"][0] if len(found) else None
            if not isinstance(content, bytes):
                raise DataError(f"{self.url}: {path or self.ids[place]} is gone, and there is no thumbnail of it")
            yield content

    def digests(self, places: Sequence[int]) -> list[bytes]:
        return [digest_of_id(self.ids[place]) for place in places]


def _column(asked: str | None, columns: Sequence[str], source: str) -> str | None:
    if asked is not None and asked != FOLDER and asked not in columns:
        raise DataError(
            f"{source}: expected {FOLDER} or a column for label ({', '.join(columns)}), got {in_line(asked)}"
            f"{did_you_mean(asked[:100], [FOLDER, *columns])}"
        )
    return asked


def _values(found: Sequence[Records], column: str, order: Sequence[int]) -> list[Value]:
    values = [value for records in found for value in records.columns.get(column) or [None] * len(records)]
    return [values[place] for place in order]


def _lines(value: Value) -> tuple[str, ...]:
    """The captions of an image, which stand one a line."""
    return tuple(line.strip() for line in str(value or "").splitlines() if line.strip())
