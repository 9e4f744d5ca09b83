"""The protocol of a vector store, with its arguments and results. Knows vectors, ids and metadata.

A store holds records: an id, a vector, and values in named columns. It does not know images, texts, or the
models that made the vectors. One contract test suite runs against every implementation.

Shapes: n records, q queries, d dimensions.
"""

import math
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from tandem.arrays import Vectors
from tandem.errors import StoreError, TandemError
from tandem.files import user_path

Kind: TypeAlias = Literal["text", "integer", "real", "boolean", "bytes"]
Value: TypeAlias = str | int | float | bool | bytes | None


@dataclass(frozen=True)
class Schema:
    """The fields of every record of a store: a vector of `dimensions`, and a value (or None) in each column.

    Points in time are text, ISO 8601, so that they sort; columns of bytes are kept apart, are read only when they are
    named, and cannot be filtered by. `id` is no column, but filters may name it.
    """

    dimensions: int
    columns: Mapping[str, Kind]

    def listed(self, column: str) -> str | None:
        """The column that holds all values of a text column of which a record may have several; None without one.

        By its name: `paths` beside `path`. It is text too, a JSON array whose first value stands in `path` itself.
        Filters on `path` mean any of them.
        """
        name = f"{column}s"
        return name if self.columns.get(column) == "text" and self.columns.get(name) == "text" else None

    def chosen(self, columns: Sequence[str] | None) -> list[str]:
        """The columns that are asked for: by default all but those of bytes. `TandemError` for an unknown one."""
        if columns is None:
            return [name for name, kind in self.columns.items() if kind != "bytes"]
        for name in columns:
            if name not in self.columns:
                raise TandemError(f"no column {name!r}; there are {', '.join(self.columns)}")
        return list(dict.fromkeys(columns))


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

    def last_of_each(self) -> "Records":
        """Without those whose ids come again: of these the last one counts."""
        last = {id: row for row, id in enumerate(self.ids)}
        if len(last) == len(self):
            return self
        rows = list(last.values())
        vectors = None if self.vectors is None else self.vectors[rows]
        return Records(list(last), vectors, {name: [each[i] for i in rows] for name, each in self.columns.items()})


@dataclass(frozen=True)
class StoreHit:
    """A record found: its cosine to the query, and its values."""

    id: str
    score: float
    metadata: Mapping[str, Value]


class Store(Protocol):
    """Records that can be inserted, found by similarity and by filter, and deleted.

    Vectors are float32 of unit length, so that a product is a cosine. `where` is a filter expression (`filters.py`),
    applied before the nearest are chosen: k hits come back wherever k records pass it. `columns=None` stands for all
    columns but those of bytes. Thread-safe for readers; one thread writes.
    """

    @property
    def url(self) -> str:
        """The address that it was opened at."""

    @property
    def folder(self) -> Path | None:
        """A local folder of this store alone, deleted when the store is replaced: its owner may keep files there that
        belong to it. None for a store that is not on this machine.
        """

    def is_stale(self) -> bool:
        """Whether another store has taken this one's place at its address since it was opened: open it again then.

        Cheap (it may look at a file) unless the backend `is_shared`. `StoreError` where the store was removed.
        """

    @property
    def schema(self) -> Schema: ...

    @property
    def notes(self) -> Mapping[str, str]:
        """The current notes of the store's owner."""

    def annotate(self, notes: Mapping[str, str]) -> None:
        """Add these notes to the existing ones; an empty text deletes one."""

    def upsert(self, records: Records) -> None:
        """Insert records, all or none, durable on return. A record whose id exists already is replaced."""

    def search(
        self, vectors: Vectors, k: int, *, where: str | None = None, columns: Sequence[str] | None = None
    ) -> list[list[StoreHit]]:
        """For each query of [q d], its k nearest records, the nearest first (equal scores by id)."""

    def get(self, ids: Sequence[str], *, columns: Sequence[str] | None = None, vectors: bool = True) -> Records:
        """The records of these ids that exist, in the order asked."""

    def delete(self, ids: Sequence[str]) -> int:
        """Delete records, durable on return. Returns how many there were."""

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
        """A block in which all that this thread reads (but `scan`) is of one moment, as far as the store can do that.
        It is also quicker where several things are read.
        """

    def close(self) -> None:
        """Finish background work and release everything. Closing twice is fine."""


Part: TypeAlias = Literal["database", "records", "vectors", "thumbnails", "index", "ledger", "checksums"]


@dataclass(frozen=True)
class Finding:
    """Something that is not as it was written. Of `checksums`, that there are none yet: nothing is wrong.

    `can_repair` is False where what is lost can only come from a copy.
    """

    part: Part
    what: str
    ids: tuple[str, ...] = ()
    can_repair: bool = True

    @property
    def is_damage(self) -> bool:
        return self.part != "checksums"


@dataclass
class Salvage:
    """What a repair of a store could not keep whole."""

    # Ids with what is known of their values: these records are kept without vectors, and are left out of answers
    without_vectors: dict[str, Mapping[str, Value]] = field(default_factory=dict)
    unreadable: int = 0  # records of which nothing is known, and nothing is kept
    without_blobs: list[str] = field(default_factory=list)  # kept, but their bytes are lost


class Backend(Protocol):
    """One address, and the kind of store that is there: how to make, open and replace it. Making one touches nothing.

    A staging store stands beside the store at the address, and is filled while that one is read. `promote` lets it
    replace it in one step, for all who open the address from then on.
    """

    @property
    def url(self) -> str:
        """The address as stores give it: a leading `~` is expanded."""

    @property
    def name(self) -> str:
        """A short name of the store: the stem of a folder, the last part of an address."""

    @property
    def is_shared(self) -> bool:
        """Whether any number of processes write at once, and a store that was opened for reading can be written to;
        then each call may cost a round trip over a network. Otherwise one process writes, and small questions are free.
        """

    @property
    def uploads(self) -> Path | None:
        """A local folder for originals that are uploaded, which stays when the store is replaced. None if there is no
        such place.
        """

    def open(self, *, write: bool = False, staging: bool = False) -> Store:
        """Open the store that is there, by one connection.

        Raises: `StoreNotFoundError` says what is there instead, and what to do; `StoreBusyError` if it is to be
        written to and another process writes already; `StoreError` if it is damaged or cannot be reached.
        """

    def create(self, schema: Schema, notes: Mapping[str, str], *, staging: bool = False) -> Store:
        """Make an empty store, open for writing. `StoreExistsError` if there is one already."""

    def exists(self, *, staging: bool = False) -> bool:
        """Whether there is a store. To open it, open it: between a look and an opening it may go."""

    def promote(self) -> None:
        """Let the staging store take the place of the store, and remove the old one. `StoreError` if there is none."""

    def remove(self) -> None:
        """Remove the store, and a staging one beside it; `uploads` stay. `StoreNotFoundError` if there is none,
        `StoreBusyError` if another process writes.
        """

    def check(self) -> list[Finding]:
        """Read all of the store, and say what is not as it was written. `StoreError` where it cannot be read at all."""

    def repair(self, known: Mapping[str, Mapping[str, Value]] | None = None) -> Salvage:
        """Keep all that is sound, make again what is derived, and say what is lost. A record whose vector is lost is
        kept without it.

        Args:
            known: what is known from elsewhere of records that may be damaged or lost: values by id.

        Raises: `StoreBusyError` if another process writes, `StoreError` where nothing can be kept.
        """


def folder_of(path: str | Path) -> Path:
    """The folder that an address means: a leading `~` is expanded. `StoreError` for what no folder can be called."""
    try:
        folder = user_path(path)
        os.fsencode(folder)
    except TandemError as error:
        raise StoreError(str(error)) from None
    except UnicodeError as error:
        raise StoreError(f"{path!r}: expected the path of a folder ({error})") from None
    if "\0" in str(folder):
        raise StoreError(f"{path!r}: expected the path of a folder, without NUL in it")
    return folder


def check_queries(vectors: Vectors, k: int, schema: Schema) -> Vectors:
    """The queries as float32 [q d], contiguous. Rejects queries that no store could answer, before anything is read."""
    queries = np.ascontiguousarray(vectors, np.float32)
    if queries.ndim != 2 or queries.shape[1] != schema.dimensions:
        raise TandemError(f"queries: expected vectors [q {schema.dimensions}], got an array {list(queries.shape)}")
    if not np.isfinite(queries).all():
        raise TandemError("queries: expected finite numbers, got NaN or infinity")
    if k < 0:
        raise TandemError(f"k: expected 0 or more, got {k}")
    return queries


UNIT_TOLERANCE = 1e-3  # of the length of a vector


def are_unit(vectors: Vectors) -> NDArray[np.bool_]:
    """Which vectors of [n d] are finite and of unit length: [n]."""
    with np.errstate(over="ignore", invalid="ignore"):
        squares = np.einsum("nd,nd->n", vectors, vectors)
        unit: NDArray[np.bool_] = np.abs(np.sqrt(squares) - 1) < UNIT_TOLERANCE  # False for NaN
    return unit


UNSTORABLE = re.compile("[\0\ud800-\udfff]")  # NUL ends texts in some databases; lone surrogates are no text


def _check_texts(records: Records, schema: Schema) -> None:
    texts = {name: values for name, values in records.columns.items() if schema.columns.get(name) == "text"}
    for each in records.ids:
        if not isinstance(each, str):
            raise TandemError(f"ids: expected text, got {each!r:.60}")
    for name, values in {"ids": records.ids, **{f"column {name}": values for name, values in texts.items()}}.items():
        strings = [value for value in values if isinstance(value, str)]
        joined = "".join(strings)  # nearly always nothing is wrong, and looking once is enough
        if "\0" in joined or not (joined.isascii() or UNSTORABLE.search(joined) is None):
            wrong = next(value for value in strings if UNSTORABLE.search(value))
            raise TandemError(f"{name}: expected Unicode text without NUL, got {wrong!a:.60}")


def check_records(records: Records, schema: Schema) -> Records:
    """Reject records that no store could keep, before anything is written. Gives them with plain Python values."""
    vectors = records.vectors
    if vectors is None or vectors.shape != (len(records), schema.dimensions):
        came = "none" if vectors is None else f"an array {list(vectors.shape)}"
        raise TandemError(f"expected vectors [{len(records)} {schema.dimensions}], got {came}")
    if len(wrong := np.flatnonzero(~are_unit(np.asarray(vectors, np.float32)))):
        if not np.isfinite(vectors).all():
            raise TandemError("vectors: expected finite numbers, got NaN or infinity")
        length = float(np.linalg.norm(vectors[wrong[0]]))
        raise TandemError(f"vectors: expected unit length, got {length:g} for {records.ids[wrong[0]]!r:.60}")
    _check_texts(records, schema)
    if surplus := set(records.columns) - set(schema.columns):
        raise TandemError(f"no column {sorted(surplus)[0]!r}; there are {', '.join(schema.columns)}")
    columns: dict[str, Sequence[Value]] = {}
    for name, values in records.columns.items():
        if len(values) != len(records):
            raise TandemError(f"column {name}: expected {len(records)} values, got {len(values)}")
        kind = schema.columns[name]
        if set(map(type, values)) <= _PLAIN.get(kind, set()):
            columns[name] = list(values)
        else:
            columns[name] = [_plain(name, kind, value) for value in values]
    return replace(records, columns=columns)


_TYPES: Mapping[Kind, tuple[type, ...]] = {
    "text": (str,),
    "integer": (int, np.integer),
    "real": (int, float, np.integer, np.floating),
    "boolean": (bool, np.bool_),
    "bytes": (bytes,),
}
_PLAIN: Mapping[Kind, set[type]] = {"text": {str, type(None)}, "bytes": {bytes, type(None)}}  # kept as they are


def _plain(column: str, kind: Kind, value: object) -> Value:
    """A value as its column keeps it: numbers of numpy as Python's, NaN as None, -0.0 as 0.0."""
    if value is None:
        return None
    if not isinstance(value, _TYPES[kind]) or (isinstance(value, bool) and kind != "boolean"):
        raise TandemError(f"column {column} is {kind}, got {value!r:.60}")
    if isinstance(value, str | bytes):
        return value
    if kind == "boolean":
        return bool(value)
    assert isinstance(value, int | float | np.integer | np.floating)
    if kind == "integer":
        if not -(2**63) <= int(value) < 2**63:
            raise TandemError(f"column {column}: {int(value)} is larger than any integer that is stored")
        return int(value)
    try:
        number = float(value)
    except OverflowError:
        number = math.inf
    if math.isinf(number):
        raise TandemError(f"column {column}: expected a finite number, got {value!r:.60}")
    return None if math.isnan(number) else number + 0.0  # -0.0 as 0.0: some databases tell them apart, SQL does not
