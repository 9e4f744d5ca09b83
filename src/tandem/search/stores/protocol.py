"""Where vectors live: the protocol of a store, what goes in and what comes out. Knows vectors, ids and metadata.

A store holds records: an id, a vector, and values in named columns. It has never heard of pictures, of sentences, or
of the models that made the vectors. One contract test suite runs against every implementation.

Legend: n records, q queries, d dimensions.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Literal, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from tandem.errors import TandemError

Vectors: TypeAlias = NDArray[np.float32]
Kind: TypeAlias = Literal["text", "integer", "real", "boolean", "bytes"]
Value: TypeAlias = str | int | float | bool | bytes | None


@dataclass(frozen=True)
class Schema:
    """What every record of a store has: a vector of `dimensions`, and a value (or None) in each column.

    Points in time are text, ISO 8601, so that they sort; columns of bytes are kept apart, are read only when they are
    named, and cannot be filtered by. `id` is no column, but filters may name it.
    """

    dimensions: int
    columns: Mapping[str, Kind]


@dataclass(frozen=True)
class Records:
    """Some records, by columns. `vectors` is float32 [n d], or None where they were not asked for."""

    ids: Sequence[str]
    vectors: Vectors | None = None
    columns: Mapping[str, Sequence[Value]] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.ids)

    def row(self, index: int) -> dict[str, Value]:
        """The values of one record."""
        return {name: values[index] for name, values in self.columns.items()}


@dataclass(frozen=True)
class Hit:
    """A record found: its cosine to the query, and its values."""

    id: str
    score: float
    metadata: Mapping[str, Value]


class Store(Protocol):
    """Records that can be put in, found by nearness and by filter, and taken out.

    Vectors are float32 of unit length, so that a product is a cosine. `where` is a filter expression (`filters.py`),
    applied before the nearest are chosen: k hits come back wherever k records pass it. `columns=None` stands for all
    columns but those of bytes. Thread-safe for readers; one thread writes.
    """

    @property
    def url(self) -> str:
        """What `open_store` was given."""

    @property
    def schema(self) -> Schema: ...

    @property
    def notes(self) -> Mapping[str, str]:
        """What the store's owner wrote down about it, as of now."""

    def annotate(self, notes: Mapping[str, str]) -> None:
        """Write these down beside the notes that are there; an empty text takes one away."""

    def upsert(self, records: Records) -> None:
        """Put in records, all or none, durable on return. A record whose id is there already is replaced."""

    def search(
        self, vectors: Vectors, k: int, *, where: str | None = None, columns: Sequence[str] | None = None
    ) -> list[list[Hit]]:
        """For each query of [q d], its k nearest records, the nearest first (equal scores by id)."""

    def get(self, ids: Sequence[str], *, columns: Sequence[str] | None = None, vectors: bool = True) -> Records:
        """Those of the ids that are there, in the order asked."""

    def delete(self, ids: Sequence[str]) -> int:
        """Take records out, durable on return. Gives how many there were."""

    def count(self, where: str | None = None) -> int:
        """How many records there are, or pass the filter."""

    def scan(
        self,
        *,
        where: str | None = None,
        columns: Sequence[str] | None = None,
        vectors: bool = True,
        batch_size: int = 8192,
    ) -> Iterator[Records]:
        """Every record once, in batches, as the store was when the scan began."""

    def sample(self, count: int) -> Vectors:
        """Vectors [n d] of about `count` records (all if there are fewer) that stand for the whole."""

    def reading(self) -> AbstractContextManager[None]:
        """What this thread reads inside (but `scan`) is of one moment, as far as the store can see to it; and quicker
        where several things are read.
        """

    def close(self) -> None:
        """Finish what is under way and let go. Closing twice is fine."""


def check_records(records: Records, schema: Schema) -> None:
    """Refuse what no store could keep: before anything is written."""
    vectors = records.vectors
    if vectors is None or vectors.shape != (len(records), schema.dimensions):
        came = "none" if vectors is None else f"an array {list(vectors.shape)}"
        raise TandemError(f"expected vectors [{len(records)} {schema.dimensions}], got {came}")
    if not np.isfinite(vectors).all():
        raise TandemError("vectors: expected finite numbers, got NaN or infinity")
    if surplus := set(records.columns) - set(schema.columns):
        raise TandemError(f"no column {sorted(surplus)[0]!r}; there are {', '.join(schema.columns)}")
    for name, values in records.columns.items():
        if len(values) != len(records):
            raise TandemError(f"column {name}: expected {len(records)} values, got {len(values)}")
