"""The store on LanceDB: the verbs of `tandem.search.stores.protocol` on a table in object storage, or in a folder.

Each call sees the newest version of the table, whoever wrote it. Writers need no lock: a commit that meets another one
is made again on top of it, and the table's primary key keeps an id from coming twice.

What differs from the local store: a search costs a few requests to the bucket; who holds one version (a scan, a block
of `reading`) can read it for an hour after it was replaced; and a promotion ends the scans that run in other processes.
"""

import random
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, suppress
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from tandem.arrays import Vectors
from tandem.errors import StoreBusyError, StoreError
from tandem.files import sync
from tandem.search.stores.lance import maintenance
from tandem.search.stores.lance.arrow import NOTE
from tandem.search.stores.lance.database import ATTEMPTS, Database, NotFound
from tandem.search.stores.lance.filters import one_of
from tandem.search.stores.lance.search import Search
from tandem.search.stores.lance.snapshots import Snapshot, Snapshots
from tandem.search.stores.protocol import Records, Schema, Store, StoreHit, check_records

IDS_BATCH = 4_096
ROWS_BATCH = 8_192

_T = TypeVar("_T")


class LanceStore(Store):
    """A collection in LanceDB. Threads may share it."""

    def __init__(self, database: Database, staging: bool) -> None:
        """`NotFound` if there is no such generation."""
        self._database = database
        self._snapshots = Snapshots(database, staging)
        self._wrote = False

    @property
    def url(self) -> str:
        return self._database.address.url

    @property
    def folder(self) -> None:
        return None  # many machines may read it

    def is_stale(self) -> bool:
        return self._snapshots.name() != self._snapshots.opened

    @property
    def schema(self) -> Schema:
        return self._snapshots.take().mapping.schema

    @property
    def notes(self) -> Mapping[str, str]:
        return self._snapshots.take().notes

    def reading(self) -> AbstractContextManager[None]:
        return self._snapshots.hold()

    # Writing

    def annotate(self, notes: Mapping[str, str]) -> None:
        changes = {NOTE + key: value or None for key, value in notes.items()}
        self._commit(lambda table, _: table.update_field_metadata({"path": "id", "metadata": changes}))

    def upsert(self, records: Records) -> None:
        def merge(table: Any, snapshot: Snapshot) -> None:
            checked = check_records(records, snapshot.mapping.schema)
            if len(checked):
                data = snapshot.mapping.table(checked)
                table.merge_insert("id").when_matched_update_all().when_not_matched_insert_all().execute(data)

        self._commit(merge)

    def delete(self, ids: Sequence[str]) -> int:
        wanted = list(dict.fromkeys(ids))
        if not wanted:
            return 0
        return self._commit(lambda table, _: int(table.delete(one_of(wanted)).num_deleted_rows))

    def _commit(self, act: Callable[[Any, Snapshot], _T]) -> _T:
        """Change the table, durably; again if others came first, or replaced it meanwhile: then nothing was written."""
        for attempt in range(ATTEMPTS):
            try:
                return self._commit_once(act)
            except StoreBusyError:
                time.sleep(random.uniform(0, 0.05 * 2**attempt))
            except NotFound:
                if attempt:
                    raise
        return self._commit_once(act)

    def _commit_once(self, act: Callable[[Any, Snapshot], _T]) -> _T:
        snapshot, table = self._snapshots.writable()
        with self._database.errors():
            root = self._database.address.folder
            before = _files(root, snapshot.name)
            done = act(table, snapshot)
            after = int(table.version)
            _sync_new(root, snapshot.name, before)
        self._wrote = True
        maintenance.after_commit(self._database, table, snapshot.version, after)
        return done

    # Reading

    def search(
        self, vectors: Vectors, k: int, *, where: str | None = None, columns: Sequence[str] | None = None
    ) -> list[list[StoreHit]]:
        return self._read(lambda snapshot: Search(snapshot, where, columns).hits(vectors, k))

    def get(self, ids: Sequence[str], *, columns: Sequence[str] | None = None, vectors: bool = True) -> Records:
        def got(snapshot: Snapshot) -> Records:
            import pyarrow as pa

            mapping = snapshot.mapping
            chosen = mapping.schema.chosen(columns)
            fields = ["id", *(mapping.fields[name] for name in chosen), *(["vector"] if vectors else [])]
            wanted = list(dict.fromkeys(ids))
            parts = [wanted[first : first + IDS_BATCH] for first in range(0, max(1, len(wanted)), IDS_BATCH)]
            found = pa.concat_tables([snapshot.read(fields, one_of(part)) for part in parts])
            rows = {each: row for row, each in enumerate(found.column("id").to_pylist())}
            order = pa.array([rows[each] for each in ids if each in rows], pa.int64())
            return mapping.records(found.take(order), chosen, vectors)

        return self._read(got)

    def count(self, where: str | None = None) -> int:
        return self._read(lambda snapshot: snapshot.count if where is None else len(snapshot.passing(where)))

    def scan(
        self,
        *,
        where: str | None = None,
        columns: Sequence[str] | None = None,
        vectors: bool = True,
        batch_size: int = 8192,
    ) -> Iterator[Records]:
        snapshot = self._snapshots.newest()
        mapping = snapshot.mapping
        chosen = mapping.schema.chosen(columns)
        condition = None if where is None else snapshot.condition(where).sql
        fields = ["id", *(mapping.fields[name] for name in chosen), *(["vector"] if vectors else [])]
        return self._scan(snapshot, fields, condition, batch_size, chosen, vectors)

    def _scan(
        self,
        snapshot: Snapshot,
        fields: Sequence[str],
        condition: str | None,
        batch_size: int,
        columns: Sequence[str],
        vectors: bool,
    ) -> Iterator[Records]:
        try:
            for batch in snapshot.batches(fields, condition, batch_size):
                if len(batch):
                    yield snapshot.mapping.records(batch, columns, vectors)
        except NotFound as error:
            raise StoreError(f"{self.url}: what was being read has been replaced meanwhile; read it again") from error

    def sample(self, count: int) -> Vectors:
        def sampled(snapshot: Snapshot) -> Vectors:
            row_ids = np.sort(snapshot.read([]).column("_rowid").to_numpy())
            if len(row_ids) > count:
                row_ids = np.sort(np.random.default_rng(0).choice(row_ids, count, replace=False))
            parts = [
                snapshot.mapping.vectors(snapshot.rows(row_ids[first : first + ROWS_BATCH].tolist(), ["vector"]))
                for first in range(0, len(row_ids), ROWS_BATCH)
            ]
            return np.concatenate([np.empty((0, snapshot.mapping.schema.dimensions), np.float32), *parts])

        return self._read(sampled)

    def close(self) -> None:
        try:
            if self._wrote:
                self._wrote = False
                maintenance.at_rest(self._database, self._snapshots.writable()[1])
        finally:
            self._snapshots.close()
            self._database.close()

    def _read(self, act: Callable[[Snapshot], _T]) -> _T:
        """Read from the newest version; once more if another process replaced it meanwhile."""
        try:
            return act(self._snapshots.take())
        except NotFound:
            return act(self._snapshots.take())


def _files(root: Path | None, name: str) -> set[Path]:
    """The files of a table in a folder; none where object storage makes each one durable before it says so."""
    return set() if root is None else set((root / f"{name}.lance").rglob("*"))


def _sync_new(root: Path | None, name: str, before: set[Path]) -> None:
    """Sync the files of a commit: LanceDB does not."""
    new = _files(root, name) - before
    for path in [*new, *{path.parent for path in new}]:
        with suppress(FileNotFoundError):  # written for a moment
            sync(path)
