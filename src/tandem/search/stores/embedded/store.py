"""The local store: a folder, no server. One process writes, many read; a crash loses nothing that was acknowledged.

A batch becomes durable in two steps: its vectors are appended to the vector file and synced, then one SQLite commit
makes them visible. Each call of a reader takes a snapshot of the last commit. The index over the vectors is derived
(`vector_index`), and is made and refreshed in the writer's background (`index_maintainer`).

Knows vectors, ids and metadata; it does not know images.
"""

import logging
import sqlite3
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import replace
from operator import itemgetter
from pathlib import Path

import numpy as np

from tandem.arrays import Vectors
from tandem.errors import StoreError, TandemError
from tandem.search.stores.embedded import (
    checksum_table,
    checksums,
    compaction,
    generations,
    index_maintainer,
    nearest,
    records_database,
    records_table,
    vector_file,
)
from tandem.search.stores.embedded.damage import Damage
from tandem.search.stores.embedded.index_maintainer import IndexMaintainer
from tandem.search.stores.embedded.nearest import Neighbours, Rows
from tandem.search.stores.embedded.records_database import State
from tandem.search.stores.embedded.records_table import FoundRows, Selection
from tandem.search.stores.embedded.row_bits import RowBits
from tandem.search.stores.embedded.snapshots import Snapshot, Snapshots
from tandem.search.stores.embedded.sqlite_errors import database_errors
from tandem.search.stores.embedded.vector_file import Positions
from tandem.search.stores.protocol import Records, Schema, StoreHit, Value, check_queries, check_records

_log = logging.getLogger(__name__)

COMPACT_FROM = 1000  # deleted rows; below, there is nothing to win


class EmbeddedStore:
    """A `Store` in a folder."""

    def __init__(
        self, url: str, folder: Path, signature: tuple[int, int], release: Callable[[], None] | None = None
    ) -> None:
        """A generation in `folder`; `release` gives back the writer's lock.

        `signature` is what `generations` gave before the folder was found.
        """
        self._url = url
        self._signature = signature
        self._folder = folder
        self._release = release
        self.damage = Damage(url)
        self._row_bits = RowBits()
        self._closed = False
        self._selected: Selection | None = None  # of the last call
        self._writer: sqlite3.Connection | None = None  # None: opened for reading
        self._writing = threading.RLock()
        self._maintainer: IndexMaintainer | None = None
        if release is not None:
            self._writer = records_database.connect(folder, write=True)
        try:
            self.snapshots = Snapshots(url, folder)
            with self.snapshots.take():
                pass  # raises now if something is damaged
        except BaseException:
            if self._writer is not None:
                self._writer.close()
            raise
        if self._writer is not None:
            for draft in folder.glob(f"{index_maintainer.DRAFT}*"):
                draft.unlink()
            self._remove_leftovers()
            with self._transaction() as connection, self.snapshots.take() as snapshot:
                compaction.add_checksums(connection, snapshot)
            self._maintainer = IndexMaintainer(url, folder, self.snapshots, self._transaction)

    @property
    def url(self) -> str:
        return self._url

    @property
    def schema(self) -> Schema:
        return self.snapshots.schema

    @property
    def folder(self) -> Path:
        return self._folder

    def is_stale(self) -> bool:
        return generations.signature(self._url) != self._signature

    @property
    def notes(self) -> Mapping[str, str]:
        with self.snapshots.take() as snapshot:
            return snapshot.notes

    def annotate(self, notes: Mapping[str, str]) -> None:
        with self._transaction() as connection:
            records_database.write_notes(connection, records_database.read_state(connection), notes)

    # Writing

    def upsert(self, records: Records) -> None:
        self._upsert(check_records(records, self.snapshots.schema))

    def keep_without_vectors(self, records: Records) -> None:
        """Records whose vectors are lost: zeros stand for these, and answers leave them out until they are replaced."""
        zeros = np.zeros((len(records), self.snapshots.schema.dimensions), np.float32)
        self._upsert(replace(records, vectors=zeros))

    def _upsert(self, records: Records) -> None:
        assert records.vectors is not None
        if not all(isinstance(each, str) for each in records.ids):
            raise TandemError("ids: expected text")
        records = records.last_of_each()
        ids, columns = list(records.ids), records.columns
        if not ids:
            return
        vectors = np.ascontiguousarray(records.vectors, np.float32)
        with self._transaction() as connection:
            state = records_database.read_state(connection)
            existing = records_table.positions_of(connection, ids)
            unchanged = self._unchanged(ids, vectors, existing)
            replaced = np.array([row for each, row in existing.items() if each not in unchanged], np.int64)
            appended = [i for i, each in enumerate(ids) if each not in unchanged]
            if appended:
                fresh = vectors if len(appended) == len(ids) else vectors[appended]
                vector_file.append(self._folder / state.vectors, state.rows, fresh)
                checksum_table.write(connection, state.vectors, state.rows, checksums.of_vectors(fresh))
            rows = iter(range(state.rows, state.rows + len(appended)))
            positions = [unchanged[each] if each in unchanged else next(rows) for each in ids]
            state = self._tombstone(connection, state, replaced)
            if unchanged:
                records_table.delete_attachments(connection, list(unchanged.values()))
            state = records_table.write_records(connection, self.snapshots.schema, state, positions, ids, columns)
            state = replace(
                state,
                commits=state.commits + 1,
                rows=state.rows + len(appended),
                live=state.live + len(ids) - len(existing),
            )
            records_database.write_state(connection, state)
        self._after_commit(state)

    def delete(self, ids: Sequence[str]) -> int:
        with self._transaction() as connection:
            state = records_database.read_state(connection)
            existing = records_table.positions_of(connection, list(dict.fromkeys(ids)))
            if existing:
                state = self._tombstone(connection, state, np.array(list(existing.values()), np.int64))
                state = replace(state, commits=state.commits + 1, live=state.live - len(existing))
                records_database.write_state(connection, state)
        if existing:
            self._after_commit(state)
        return len(existing)

    def _unchanged(self, ids: Sequence[str], vectors: Vectors, existing: Mapping[str, int]) -> dict[str, int]:
        """Records that are stored with the very same vector: they keep their position."""
        if not existing:
            return {}
        known = [i for i, each in enumerate(ids) if each in existing]
        positions = np.array([existing[ids[i]] for i in known], np.int64)
        order = np.argsort(positions)
        with self.snapshots.take() as snapshot:
            same = (snapshot.vectors.gather(positions[order]) == vectors[known][order]).all(axis=1)
        return {ids[known[i]]: int(positions[i]) for i in order[same]}

    def _tombstone(self, connection: sqlite3.Connection, state: State, positions: Positions) -> State:
        """Mark rows as deleted: their vectors stay until the next compaction."""
        if not len(positions):
            return state
        records_table.delete_records(connection, positions.tolist())
        return replace(
            state,
            deleted_count=state.deleted_count + len(positions),
            deleted_checksum=checksums.of_positions(positions, state.deleted_checksum),
        )

    def _after_commit(self, state: State) -> None:
        """Reclaim space if much was deleted, and wake the maintainer."""
        if state.deleted_count >= COMPACT_FROM and state.deleted_count * 2 > state.rows:
            try:
                self._compact()
            except StoreError as error:
                _log.warning("%s: the space of deleted records cannot be reclaimed now (%s)", self._url, error)
                with suppress(StoreError):  # the commit itself is done
                    self._remove_leftovers()
        if self._maintainer is not None:
            self._maintainer.notice()

    def _compact(self) -> None:
        """Write the live rows to a new file and renumber the records. Old snapshots keep the old file."""
        with self._transaction() as connection, self.snapshots.take() as snapshot:
            compaction.compact(connection, snapshot, self._folder)
        self._remove_leftovers()

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        """A transaction, durable at its end. For this store and its index maintainer."""
        if self._closed:
            raise StoreError(f"{self._url}: the collection was closed; open it again")
        if self._writer is None:
            raise StoreError(f"{self._url}: the collection was opened for reading; open it with write=True")
        with self._writing, database_errors(self._folder):
            self._writer.execute("BEGIN IMMEDIATE")
            try:
                yield self._writer
                self._writer.execute("COMMIT")
            except BaseException:
                if self._writer.in_transaction:
                    self._writer.execute("ROLLBACK")
                raise

    def renew_derived(self) -> None:
        """Forget the index, which is made again when this store is closed, and add checksums of records."""
        with self._transaction() as connection:
            fresh = replace(
                records_database.read_state(connection), index="", index_rows=0, index_trained=0, index_checksum=0
            )
            records_database.write_state(connection, fresh)
            records_table.add_checksums(connection, self.snapshots.schema)
        self._remove_leftovers()

    def _remove_leftovers(self) -> None:
        with self._transaction() as connection:
            compaction.remove_leftovers(self._folder, records_database.read_state(connection))

    # Reading

    def reading(self) -> AbstractContextManager[None]:
        return self.snapshots.hold()

    def search(
        self, vectors: Vectors, k: int, *, where: str | None = None, columns: Sequence[str] | None = None
    ) -> list[list[StoreHit]]:
        queries = check_queries(vectors, k, self.snapshots.schema)
        with self.snapshots.take() as snapshot:
            selection = self.damage.shortened(self._selection(columns), snapshot.state)
            passing = None if where is None else self._passing(snapshot, where)
            found, values = self._nearest(snapshot, queries, k, passing, selection)
        answers = []
        for each in found:
            scored = [(-float(s), values[int(p)]) for p, s in zip(each.positions, each.scores, strict=True)]
            scored.sort(key=lambda pair: (pair[0], pair[1][1]))
            best = scored[:k]
            by_column = selection.values([row for _, row in best])
            answers.append([
                StoreHit(str(row[1]), -score, {name: column[i] for name, column in by_column.items()})
                for i, (score, row) in enumerate(best)
            ])  # fmt: skip
        return answers

    def _nearest(
        self, snapshot: Snapshot, queries: Vectors, k: int, passing: Positions | None, selection: Selection
    ) -> tuple[list[Neighbours], dict[int, tuple[Value, ...]]]:
        """The nearest rows that are sound, and their values by row; what is damaged is told."""
        state, live_mask = snapshot.state, snapshot.live_mask
        while True:
            live_mask, passing = self.damage.without_lost(state, live_mask, passing)
            most = min(k, state.live if passing is None else len(passing))
            if not most:
                return [nearest.NONE for _ in queries], {}
            index = self.snapshots.index(state)
            rows = Rows(snapshot.vectors, state.rows, live_mask, passing, index, self._row_bits)
            found = nearest.nearest(queries, most, rows)
            wanted = sorted({int(position) for each in found for position in each.positions})
            read = records_table.rows_at(snapshot.connection, selection, wanted)
            values = {int(row[0]): row for row in read.rows}  # type: ignore[arg-type]
            self.damage.tell(snapshot, read)
            if not (lost := [row for row in wanted if row not in values]):
                return found, values
            self.damage.lose(state, lost)  # search again without them

    def get(self, ids: Sequence[str], *, columns: Sequence[str] | None = None, vectors: bool = True) -> Records:
        selection = self._selection(columns)
        with self.snapshots.take() as snapshot:
            there = records_table.positions_of(snapshot.connection, list(dict.fromkeys(ids)))
            if len(there) < len(set(ids)):
                self.damage.look_through(snapshot)  # is the index over ids what it was?
            read = records_table.rows_at(snapshot.connection, selection, sorted(there.values()))
            rows = {str(row[1]): row for row in read.rows}
            return self._records(snapshot, selection, [rows[each] for each in ids if each in rows], read, vectors)

    def count(self, where: str | None = None) -> int:
        with self.snapshots.take() as snapshot:
            return snapshot.state.live if where is None else len(self._passing(snapshot, where))

    def scan(
        self,
        *,
        where: str | None = None,
        columns: Sequence[str] | None = None,
        vectors: bool = True,
        batch_size: int = 8192,
    ) -> Iterator[Records]:
        batches = self._scan(where, self._selection(columns), vectors, batch_size)
        next(batches)  # takes the snapshot now, not when the first batch is asked for
        return batches  # type: ignore[return-value]

    def _scan(
        self, where: str | None, selection: Selection, vectors: bool, batch_size: int
    ) -> Iterator[Records | None]:
        # The caller may go on reading after a held snapshot is released.
        with self.snapshots.take(own=True) as snapshot:
            positions = None if where is None else self._passing(snapshot, where)
            yield None
            selection = self.damage.shortened(selection, snapshot.state)
            if positions is None:
                last, is_sound = -1, True
                while True:
                    rest = "WHERE _position > ? ORDER BY _position LIMIT ?"
                    read = selection.read(snapshot.connection, rest, (last, batch_size))
                    if not read.count:
                        if is_sound:
                            self.damage.note_sound(snapshot.state)
                        return
                    last, is_sound = read.last, is_sound and not read.damaged
                    yield self._records(snapshot, selection, read.rows, read, vectors)
            for first in range(0, len(positions), batch_size):
                some = positions[first : first + batch_size].tolist()
                read = records_table.rows_at(snapshot.connection, selection, some)
                ordered = sorted(read.rows, key=itemgetter(0))
                yield self._records(snapshot, selection, ordered, read, vectors)

    def _passing(self, snapshot: Snapshot, where: str) -> Positions:
        """The rows that pass a filter; where records are damaged, that is told: a filter cannot be asked of them."""
        self.damage.look_through(snapshot)
        return self.snapshots.passing(snapshot, where)

    def sample(self, count: int) -> Vectors:
        with self.snapshots.take() as snapshot:
            rows = snapshot.state.rows
            live = np.arange(rows) if snapshot.live_mask is None else np.flatnonzero(snapshot.live_mask)
            if len(live) > count:
                live = np.sort(np.random.default_rng(0).choice(live, count, replace=False))
            live = snapshot.vectors.sound(live)
            self.damage.tell(snapshot)
            return np.array(snapshot.vectors.gather(live))

    def close(self) -> None:
        if self._closed:
            return
        try:
            if self._maintainer is not None:
                self._maintainer.finish()
        finally:
            self._closed = True
            self.snapshots.close()
            if self._writer is not None:
                self._writer.close()  # last, so that SQLite folds its log into the database
            if self._release is not None:
                self._release()

    def __enter__(self) -> "EmbeddedStore":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _selection(self, columns: Sequence[str] | None) -> Selection:
        """Mostly of the columns of the call before it: their statement is made once."""
        chosen = tuple(self.snapshots.schema.chosen(columns))
        if (last := self._selected) is None or last.columns != chosen:
            self._selected = last = Selection(self.snapshots.schema, chosen)
        return last

    def _records(
        self,
        snapshot: Snapshot,
        selection: Selection,
        rows: Sequence[tuple[Value, ...]],
        read: FoundRows,
        vectors: bool,
    ) -> Records:
        """Rows that were read, as records; with vectors, without those whose vectors are damaged."""
        gathered = None
        if vectors:
            positions = np.array([row[0] for row in rows], np.int64)
            gathered = snapshot.vectors.gather_unsorted(positions)
            if snapshot.vectors.has_damage:
                kept = np.flatnonzero(~snapshot.vectors.damaged(positions))
                rows, gathered = [rows[row] for row in kept.tolist()], gathered[kept]
        self.damage.tell(snapshot, read)
        return Records([str(row[1]) for row in rows], gathered, selection.values(rows))
