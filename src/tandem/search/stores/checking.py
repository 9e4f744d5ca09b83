"""A store verified and repaired as far as that can be done from outside, for stores whose files are not ours."""

from collections.abc import Iterator, Mapping
from contextlib import closing

import numpy as np

from tandem.search.stores.protocol import Backend, Finding, Salvage, Store, Value, are_unit


def check_vectors(backend: Backend) -> list[Finding]:
    """The records of a store whose vectors are not finite and of unit length: all that can be seen from outside."""
    with closing(backend.open()) as store:
        wrong = tuple(id for id, _ in _wrong(store))
    return [Finding("vectors", "no vectors that are finite and of unit length", wrong)] if wrong else []


def without_vectors(backend: Backend) -> Salvage:
    """The records whose vectors are not finite and of unit length. They stay as they are, to be read again."""
    with closing(backend.open()) as store:
        return Salvage(without_vectors=dict(_wrong(store)))


def _wrong(store: Store) -> Iterator[tuple[str, Mapping[str, Value]]]:
    for some in store.scan():
        if some.vectors is not None:
            for row in np.flatnonzero(~are_unit(some.vectors)).tolist():
                yield some.ids[row], some.row(row)
