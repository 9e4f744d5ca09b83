"""Snapshots for readers of a LanceDB table, each of one version, and the cache of the newest.

Each call asks once for the newest versions of the catalog and of the table, two requests without data where nothing has
changed; threads that ask at the same time share the answer. A version never changes, so all else can be kept.
"""

import threading
import time
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from tandem.arrays import Vectors
from tandem.errors import StoreError
from tandem.search.stores.filter_parser import parse
from tandem.search.stores.filters import columns_of, matches, without_lists
from tandem.search.stores.lance.arrow import ArrowMapping, read_mapping, read_notes
from tandem.search.stores.lance.database import CURRENT, STAGING, Catalog, Database, NotFound
from tandem.search.stores.lance.filters import Condition, translated
from tandem.search.stores.protocol import Value

RowIds: TypeAlias = NDArray[np.uint64]

IN_MEMORY = 20_000  # records of a small table; 40 MB of vectors of 512 dimensions
CACHED_FILTERS = 8


@dataclass(frozen=True)
class Contents:
    """Every record of a small table: row ids (rising), ids and vectors [n d]."""

    row_ids: RowIds
    ids: Sequence[str]
    vectors: Vectors


class Snapshot:
    """One version of one table. Threads may share it."""

    def __init__(self, database: Database, name: str, table: Any, before: "Snapshot | None" = None) -> None:
        """`table` is checked out at a version; `before` is an earlier version of it."""
        self.database = database
        self.name = name
        self.table = table
        with database.errors():
            self.version = int(table.version)
            schema = table.schema
        self.mapping: ArrowMapping = read_mapping(schema)
        self.notes: Mapping[str, str] = read_notes(schema)
        self._lock = threading.Lock()
        self._filters: OrderedDict[str, RowIds] = OrderedDict()
        self._contents: Contents | None = None
        self._before: Contents | None = None
        if before is not None and before.is_small:
            self._before = before._contents or before._before

    @cached_property
    def count(self) -> int:
        with self.database.errors():
            return int(self.table.count_rows())

    @property
    def is_small(self) -> bool:
        """Whether a search keeps all vectors in memory."""
        return self.count <= IN_MEMORY

    def contents(self) -> Contents:
        """All data that a search in a small table needs, read once; after an earlier version only the changes."""
        with self._lock:
            if self._contents is None:
                self._contents = self._read_all() if self._before is None else self._read_changes(self._before)
                self._before = None
            return self._contents

    def _read_all(self) -> Contents:
        return self._sorted(self.read(["id", "vector"]))

    def _read_changes(self, before: Contents) -> Contents:
        """A row that is replaced gets another row id, and so does one that is moved to another file."""
        row_ids = np.sort(self.read([]).column("_rowid").to_numpy())
        missing = row_ids[~np.isin(row_ids, before.row_ids, assume_unique=True)]
        if 2 * len(missing) > len(row_ids):
            return self._read_all()
        stays = np.flatnonzero(np.isin(before.row_ids, row_ids, assume_unique=True))
        new = self._sorted(self.rows(missing.tolist(), ["id", "vector"]))
        joined = np.concatenate([before.row_ids[stays], new.row_ids])
        order = np.argsort(joined)
        ids = [*(before.ids[row] for row in stays.tolist()), *new.ids]
        vectors = np.concatenate([before.vectors[stays], new.vectors])
        return Contents(joined[order], [ids[row] for row in order], vectors[order])

    def _sorted(self, found: Any) -> Contents:
        row_ids = found.column("_rowid").to_numpy()
        order = np.argsort(row_ids)
        ids = found.column("id").to_pylist()
        return Contents(row_ids[order], [ids[row] for row in order], self.mapping.vectors(found)[order])

    def condition(self, where: str) -> Condition:
        """The complete filter in SQL: conditions that SQL cannot express are checked here, row by row."""
        expression = without_lists(parse(where, self.mapping.schema), self._with_several)
        condition = translated(expression, self.mapping.schema, self.mapping.fields)
        if condition.exact:
            return condition
        names = sorted(columns_of(expression))
        fields = [self.mapping.fields[name] for name in names]
        passing: list[int] = []
        for batch in self.batches(fields, condition.sql, 8192):
            columns = [batch.column(field).to_pylist() for field in fields]
            for row_id, values in zip(batch.column("_rowid").to_pylist(), zip(*columns, strict=True), strict=True):
                if matches(expression, dict(zip(names, values, strict=True))):
                    passing.append(row_id)
        return Condition(f"_rowid IN ({', '.join(map(str, passing))})" if passing else "false")

    def _with_several(self, column: str, listed: str) -> Iterator[Mapping[str, Value]]:
        """The records that may have several values of a column: their ids and these values."""
        fields = ["id", self.mapping.fields[column], self.mapping.fields[listed]]
        for batch in self.batches(fields, f"`{self.mapping.fields[listed]}` LIKE '%,%'", 8192):
            values = (batch.column(field).to_pylist() for field in fields)
            yield from (dict(zip(("id", column, listed), row, strict=True)) for row in zip(*values, strict=True))

    def passing(self, where: str) -> RowIds:
        """The rows that pass a filter, rising."""
        with self._lock:
            if where in self._filters:
                self._filters.move_to_end(where)
                return self._filters[where]
        condition = self.condition(where)
        found = np.sort(self.read([], condition.sql).column("_rowid").to_numpy())
        with self._lock:
            self._filters[where] = found
            while len(self._filters) > CACHED_FILTERS:
                self._filters.popitem(last=False)
        return found

    def read(self, fields: Sequence[str], condition: str | None = None) -> Any:
        """All rows for which a condition holds, with `_rowid`, as an Arrow table."""
        with self.database.errors():
            return self._query(fields, condition).to_arrow()

    def batches(self, fields: Sequence[str], condition: str | None, size: int) -> Iterator[Any]:
        """The same, in batches of at most so many rows."""
        with self.database.errors():
            reader = iter(self._query(fields, condition).to_batches(size))
        while True:
            with self.database.errors():
                batch = next(reader, None)
            if batch is None:
                return
            for first in range(0, len(batch), size):
                yield batch.slice(first, size)

    def rows(self, row_ids: Sequence[int], fields: Sequence[str]) -> Any:
        """Rows by their row ids, with `_rowid`, as an Arrow table."""
        with self.database.errors():
            return self.table.take_row_ids(list(row_ids)).select(list(fields)).with_row_id().to_arrow()

    def _query(self, fields: Sequence[str], condition: str | None) -> Any:
        query = self.table.search().select(list(fields) or ["_rowid"]).with_row_id(True)  # no field would mean all
        return query if condition is None else query.where(condition)


class _Held(threading.local):
    """The snapshot that a thread goes on reading from."""

    snapshot: Snapshot | None = None


class Snapshots:
    """Takes snapshots of the generation in use, or of the staging one, for many threads at once."""

    def __init__(self, database: Database, staging: bool) -> None:
        """`NotFound` if there is no such generation."""
        self._database = database
        self._staging = staging
        self._catalog = Catalog(database)
        self._lock = threading.Lock()  # of all below
        self._checked_at = 0.0
        self._table: Any = None  # as of its newest version when it was last asked for
        self._snapshot: Snapshot | None = None
        self._closed = False
        self._held = _Held()
        self.opened = self.newest().name

    @contextmanager
    def hold(self) -> Iterator[None]:
        """Inside, `take` gives this thread one and the same snapshot."""
        if self._held.snapshot is not None:
            yield
            return
        self._held.snapshot = self.newest()
        try:
            yield
        finally:
            self._held.snapshot = None

    def take(self) -> Snapshot:
        """The table as of now, or as this thread holds it."""
        return self._held.snapshot or self.newest()

    def newest(self) -> Snapshot:
        """The table as of now. `NotFound` if it was removed."""
        came = time.monotonic()
        with self._lock:
            if self._closed:
                raise StoreError(f"{self._database.address.url}: the collection was closed; open it again")
            if self._snapshot is None or self._checked_at < came:  # else another thread has asked since we came
                self._checked_at = time.monotonic()
                self._snapshot = self._look()
            return self._snapshot

    def name(self) -> str:
        """The table of the generation that the address stands for, as of now."""
        name = self._catalog.read().get(STAGING if self._staging else CURRENT, "")
        if not name:
            raise NotFound(f"{self._database.address.url}: there is no staging collection")
        return name

    def writable(self) -> tuple[Snapshot, Any]:
        """The table as of now, to be read, and itself, to be written to."""
        snapshot = self.newest()
        return snapshot, self._table

    def close(self) -> None:
        with self._lock:
            self._closed = True
            self._table = self._snapshot = None

    def _look(self) -> Snapshot:
        name = self.name()
        before = self._snapshot
        if self._table is None or before is None or before.name != name:
            before, self._table = None, self._database.table(name)
        try:
            with self._database.errors():
                self._table.checkout_latest()
                version = int(self._table.version)
        except NotFound:
            self._snapshot = None
            raise
        if before is not None and before.version == version:
            return before
        pinned = self._database.table(name)
        with self._database.errors():
            pinned.checkout(version)
        return Snapshot(self._database, name, pinned, before)
