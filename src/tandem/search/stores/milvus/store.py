"""The store on Milvus, Zilliz or milvus-lite: the verbs of `tandem.search.stores.protocol`, with the same answers.

What a writer was told is done, everyone sees: Milvus' own way to ask for that costs each reader its interval of
synchronisation (200 ms). So writers note the server's time after each write among the collection's properties, each
under a name of its own, and readers ask for the state as of the last write, which mostly has been there for long.

Search is exact up to `EXACT_UP_TO` records, then by an index that the server's version has (`index_choice`); scores are
computed anew.
What differs from the local store: a large batch is written in parts (each whole), a scan may see records that were put
in while it runs, and k is at most 16,384. milvus-lite is always exact, and serves one process at a time.
"""

import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, TypeVar

import numpy as np

from tandem.arrays import Vectors
from tandem.errors import StoreError
from tandem.search.stores.milvus.client import FINAL, INDEX, INDEX_KIND, CollectionNotFoundError, Connection
from tandem.search.stores.milvus.fields import batches_by_size, read_mapping
from tandem.search.stores.milvus.index_choice import EXACT_UP_TO
from tandem.search.stores.milvus.search import ID_BATCH, MAX_MESSAGE_BYTES, MilvusRow, Reader, Search, View
from tandem.search.stores.protocol import Records, Schema, Store, StoreHit, check_records

MAX_WRITERS = 64

NOTE, WRITTEN = "tandem.note.", "tandem.written."
_T = TypeVar("_T")


def view_of(connection: Connection, url: str, staging: bool) -> View | None:
    """The collection that a URL stands for now. `StoreError` for a collection that is not Tandem's."""
    alias = connection.address.alias(staging)
    try:
        description = connection.call("describe_collection", alias)
    except CollectionNotFoundError:
        return None
    mapping = read_mapping(description)
    if mapping is None:
        raise StoreError(f"{url}: a Milvus collection that Tandem did not make; choose another name")
    if staging:
        # A promotion that was cut off leaves both names on one collection: then nothing is staged.
        current = view_of(connection, url, False)
        if current is not None and current.collection == description["collection_name"]:
            return None
    properties = dict(description.get("properties") or {})
    notes = {key.removeprefix(NOTE): value for key, value in properties.items() if key.startswith(NOTE) and value}
    writes = {key: int(value) for key, value in properties.items() if key.startswith(WRITTEN) and value}
    consistency: dict[str, Any] = {}
    if not connection.is_lite:
        consistency = {"consistency_level": "Strong"}
        if writes:
            consistency = {"consistency_level": "Customized", "guarantee_timestamp": max(writes.values())}
    only = connection.is_lite or connection.address.is_zilliz
    index = FINAL if only else properties.get(INDEX, "")
    name = properties.get(INDEX_KIND, "")
    return View(description["collection_name"], mapping, notes, writes, consistency, index, name)


class MilvusStore(Store):
    """A collection on a server. Threads may share it."""

    def __init__(self, url: str, connection: Connection, staging: bool, view: View) -> None:
        """`view` is what the address stood for when this was opened."""
        self._url = url
        self._connection = connection
        self._staging = staging
        self._opened = view.collection
        self._own_property = WRITTEN + uuid.uuid4().hex[:12]
        self._unchecked = EXACT_UP_TO  # records put in since the index was looked at

    @property
    def url(self) -> str:
        return self._url

    @property
    def folder(self) -> None:
        return None

    def is_stale(self) -> bool:
        return self._view().collection != self._opened

    @property
    def schema(self) -> Schema:
        return self._view().mapping.schema

    @property
    def notes(self) -> Mapping[str, str]:
        return self._view().notes

    def reading(self) -> AbstractContextManager[None]:
        return nullcontext()  # Milvus has no reads of one moment over several requests

    def annotate(self, notes: Mapping[str, str]) -> None:
        # A property of its own for each: clients do not overwrite each other's. 2.3 can empty one, not remove it.
        properties = {NOTE + key: value for key, value in notes.items()}
        self._with_view(lambda view: self._connection.set_properties(view.collection, properties))

    def upsert(self, records: Records) -> None:
        self._with_view(lambda view: self._upsert(view, records))

    def search(
        self, vectors: Vectors, k: int, *, where: str | None = None, columns: Sequence[str] | None = None
    ) -> list[list[StoreHit]]:
        return self._with_view(lambda view: Search(self._connection, view, where, columns).hits(vectors, k))

    def get(self, ids: Sequence[str], *, columns: Sequence[str] | None = None, vectors: bool = True) -> Records:
        def got(view: View) -> Records:
            chosen = view.mapping.schema.chosen(columns)
            rows = Reader(self._connection, view).by_id(ids, chosen, vectors)
            return view.mapping.records([rows[each] for each in ids if each in rows], chosen, vectors)

        return self._with_view(got)

    def delete(self, ids: Sequence[str]) -> int:
        def deleted(view: View) -> int:
            there = list(Reader(self._connection, view).by_id(ids, [], False))
            for start in range(0, len(there), ID_BATCH):
                self._call("delete", view.collection, ids=there[start : start + ID_BATCH])
            if there:
                self._note_write(view)
            return len(there)

        return self._with_view(deleted)

    def count(self, where: str | None = None) -> int:
        return self._with_view(lambda view: Reader(self._connection, view, where).count())

    def scan(
        self,
        *,
        where: str | None = None,
        columns: Sequence[str] | None = None,
        vectors: bool = True,
        batch_size: int = 8192,
    ) -> Iterator[Records]:
        view = self._view()
        chosen = view.mapping.schema.chosen(columns)
        reader = Reader(self._connection, view, where)
        waiting: list[MilvusRow] = []
        for rows in reader.pages(chosen, vectors, batch_size):
            waiting += rows
            while len(waiting) >= batch_size:
                yield view.mapping.records(waiting[:batch_size], chosen, vectors)
                del waiting[:batch_size]
        if waiting:
            yield view.mapping.records(waiting, chosen, vectors)

    def sample(self, count: int) -> Vectors:
        dice = np.random.default_rng(0)
        kept: list[str] = []
        seen = 0
        for batch in self.scan(columns=[], vectors=False):
            # Algorithm R of Vitter (1985): each record is kept with the same probability, in one pass.
            for record_id in batch.ids:
                seen += 1
                if len(kept) < count:
                    kept.append(record_id)
                elif (place := int(dice.integers(seen))) < count:
                    kept[place] = record_id
        found = self.get(kept, columns=[]).vectors
        assert found is not None
        return found

    def close(self) -> None:
        self._connection.close()

    def _call(self, verb: str, *arguments: Any, **named: Any) -> Any:
        return self._connection.call(verb, *arguments, **named)

    def _view(self) -> View:
        view = view_of(self._connection, self._url, self._staging)
        if view is None:
            raise StoreError(f"{self._url}: the collection was removed")
        return view

    def _with_view(self, act: Callable[[View], _T]) -> _T:
        """Act on the collection that the name stands for; again if another client moved the name meanwhile."""
        try:
            return act(self._view())
        except CollectionNotFoundError:
            return act(self._view())

    def _upsert(self, view: View, records: Records) -> None:
        records = check_records(records, view.mapping.schema)
        rows = view.mapping.rows(records)
        if not rows:
            return
        for part in batches_by_size(rows, MAX_MESSAGE_BYTES):
            self._call("upsert", view.collection, part)
        self._note_write(view)
        self._unchecked += len(rows)
        if self._unchecked >= EXACT_UP_TO // 10:
            self._unchecked = 0
            self._index_if_large()

    def _note_write(self, view: View) -> None:
        """Note the time of a write, before it is acknowledged."""
        if self._connection.is_lite:
            return
        if self._own_property not in view.writes and len(view.writes) >= MAX_WRITERS:
            # 2.3 cannot remove a property: writers of long ago leave theirs to us.
            self._own_property = min(view.writes, key=view.writes.__getitem__)
        moment = str(self._connection.timestamp())
        self._connection.set_properties(view.collection, {self._own_property: moment})

    def _index_if_large(self) -> None:
        if self._connection.is_lite or self._connection.address.is_zilliz:
            return
        view = self._view()  # as of the last write, so that it counts
        if Reader(self._connection, view).count() > EXACT_UP_TO:
            self._connection.build_large_index(view.collection)
