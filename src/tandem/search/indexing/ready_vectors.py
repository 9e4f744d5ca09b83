"""Vectors that the collection's model made elsewhere -> records of a collection, checked. Knows no model."""

import os
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import numpy as np

from tandem.arrays import Vectors
from tandem.errors import TandemError
from tandem.search.indexing.image_record import COLUMNS
from tandem.search.indexing.ledger import BATCH
from tandem.search.indexing.recording import ImageRecord, to_records
from tandem.search.stores.protocol import UNIT_TOLERANCE, Records, Store, Value

_OF_FILES = ("path", "decoding")  # only what was indexed from a file has both


def checked_ids(ids: Any, *, what: str = "a list of texts") -> list[str]:
    """The ids as a list. `TandemError` for what is no list of texts, for an empty one, and for one that comes twice."""
    if isinstance(ids, str | bytes | Mapping) or not isinstance(ids, Iterable) or np.ndim(_sized(ids)) != 1:
        raise TandemError(f"ids: expected {what}, got {_shown(ids)}")
    listed: list[str] = list(ids)
    check_ids(listed)
    return listed


def check_ids(ids: Iterable[object], known: set[str] | None = None) -> None:
    """Refuse ids that are no text, empty, or come twice; `known` are those that came before, and is added to."""
    known = set() if known is None else known
    for id in ids:
        if not isinstance(id, str) or not id.strip():
            raise TandemError(f"ids: expected texts, got {id!r:.60}")
        if id in known:
            raise TandemError(f"ids: {id!r} comes twice")
        known.add(id)


def checked_vectors(vectors: Any, ids: Sequence[str]) -> Vectors:
    """The vectors as float32 [n d]. `TandemError` for what is no array of one unit vector for each id."""
    try:
        array = np.asarray(vectors)
    except ValueError:
        raise TandemError("vectors: expected an array [n d], got lists of different lengths") from None
    if array.dtype.kind not in "fiu":
        raise TandemError(f"vectors: expected an array of real numbers, got {_shown(vectors)} of {array.dtype}")
    if array.ndim != 2 or len(array) != len(ids):
        raise TandemError(f"vectors: expected an array [{len(ids)} d], got {list(array.shape)}")
    lengths = np.linalg.norm(array := array.astype(np.float32), axis=1)
    wrong = np.flatnonzero(~(np.abs(lengths - 1) < UNIT_TOLERANCE))  # also NaN
    if len(wrong):
        raise TandemError(f"vectors: expected unit length, got {lengths[wrong[0]]:g} for {ids[wrong[0]]!r}")
    return array


def checked_metadata(metadata: Any, count: int) -> dict[str, list[Value]]:
    """Lists of values by column. `TandemError` for anything else."""
    if metadata is None:
        return {}
    if not isinstance(metadata, Mapping):
        raise TandemError(f"metadata: expected a mapping from columns to lists of values, got {_shown(metadata)}")
    if unknown := [name for name in metadata if name not in COLUMNS or name == "paths"]:
        raise TandemError(f"metadata: no column {unknown[0]!r}; there are {', '.join(COLUMNS)}")
    checked: dict[str, list[Value]] = {}
    for name, values in metadata.items():
        single = isinstance(values, str | bytes | Mapping) or not isinstance(values, Iterable)
        if single or np.ndim(_sized(values)) != 1:
            raise TandemError(f"metadata: {name}: expected a list of {count} values, got {_shown(values)}")
        checked[name] = list(values)
        if len(checked[name]) != count:
            raise TandemError(f"metadata: {name}: expected {count} values, got {len(checked[name])}")
    if "path" in checked:
        checked["path"] = [_path(value) for value in checked["path"]]
    return checked


def vector_records(
    store: Store, ids: Sequence[str], vectors: Vectors, metadata: Mapping[str, Sequence[Value]]
) -> Records:
    """Records of what was checked. `TandemError` for vectors of other dimensions, and for ids of indexed files."""
    dimensions = store.schema.dimensions
    if vectors.shape[1] != dimensions:
        raise TandemError(f"vectors: expected an array [{len(ids)} {dimensions}], got {list(vectors.shape)}")
    for start in range(0, len(ids), BATCH):
        held = store.get(ids[start : start + BATCH], columns=_OF_FILES, vectors=False)
        for row, id in enumerate(held.ids):
            if is_of_a_file(held.row(row)):
                raise TandemError(f"ids: {belongs_to_a_file(id)}")
    now = datetime.now(UTC).isoformat(timespec="seconds")
    records = []
    for row, id in enumerate(ids):
        own: dict[str, Value] = {"indexed": now}
        own |= {name: column[row] for name, column in metadata.items()}
        path = own.get("path")
        records.append(ImageRecord(id, vectors[row], own, True, {str(path)} if path else set()))
    return to_records(records, store.schema)


def is_of_a_file(values: Mapping[str, Value]) -> bool:
    """Whether a record was indexed from a file: its id is that of the file's content, and no other image's."""
    return all(values.get(name) for name in _OF_FILES)


def belongs_to_a_file(id: str) -> str:
    """Why nothing else may have this id."""
    return f"{id!r} belongs to an indexed file: choose another id"


def _path(value: object) -> Value:
    if value is not None and not isinstance(value, str | os.PathLike):
        raise TandemError(f"metadata: path: expected texts, got {value!r:.60}")
    path = None if value is None else os.fspath(value)
    return path if isinstance(path, str) else None


def _sized(values: Iterable[object]) -> Any:
    """What has dimensions: an array itself, anything else as a list of one dimension."""
    return values if isinstance(values, np.ndarray) else (None,)


def _shown(value: object) -> str:
    if isinstance(value, np.ndarray):
        return f"an array {list(value.shape)}"
    return repr(value) if isinstance(value, str | bytes | int | float) else type(value).__name__
