"""The vectors of images that a collection holds, for routes that judge images by their ids. Reads no file."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from tandem.arrays import Vectors
from tandem.search.stores.protocol import Store
from tandem.serve.http.problems import not_found


@dataclass(frozen=True)
class StoredVectors:
    """Images of a collection, in the order that was asked for."""

    ids: tuple[str, ...]
    paths: tuple[str, ...]
    vectors: Vectors  # [n d]


def stored_vectors(store: Store, ids: Sequence[str]) -> StoredVectors:
    """The images of these ids, one of which may come twice. Raises `ProblemError` 404 for one that is not there."""
    columns = [name for name in ("path",) if name in store.schema.columns]
    found = store.get(list(dict.fromkeys(ids)), columns=columns)
    places = {identifier: place for place, identifier in enumerate(found.ids)}
    missing = next((identifier for identifier in ids if identifier not in places), None)
    if missing is not None or found.vectors is None:
        raise not_found(f"no image {missing!r}")
    order = [places[identifier] for identifier in ids]
    paths = found.columns.get("path") or [None] * len(places)
    return StoredVectors(
        tuple(ids),
        tuple(str(paths[place] or identifier) for place, identifier in zip(order, ids, strict=True)),
        np.asarray(found.vectors[order], dtype=np.float32),
    )
