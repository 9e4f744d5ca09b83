"""Background work of a writer: growing the index over the vectors, and indexing columns.

The index is written aside, synced, renamed, and then recorded in the state: a crash leaves the old one in use, and a
file that the next writer deletes. Indexes over columns are created when no records come in: a writer that adds a
million records should not pay for them row by row.
"""

import logging
import os
import sqlite3
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path

from tandem.errors import StoreError
from tandem.files import sync
from tandem.search.stores.embedded import records_database, records_table, vector_index
from tandem.search.stores.embedded.records_database import State
from tandem.search.stores.embedded.snapshots import Snapshots
from tandem.search.stores.embedded.vector_index import VectorIndex

DRAFT = "index-draft-"
INDEX_FROM = 20_000  # rows; below this an exact search takes less than 5 ms
# No records for so long: at rest. Longer where indexes are large, so that a writer whose records come now and then
# does not write 0.6 GB again for each few thousand of ten million, nor seven indexes over columns row by row.
QUIET_S, QUIET_ROWS_PER_S = 2.0, 100_000
# Rows beyond the index, which are searched exactly: while records come in fast, and at rest. To extend an index is to
# write all of it again, 0.6 GB for ten million rows.
MAX_BEHIND, SLOW_TO_SEARCH, MAX_BEHIND_OF_MANY = 0.3, 300_000, 0.02  # of the indexed rows; rows; of very many
MAX_BEHIND_AT_REST, MAX_BEHIND_AT_REST_OF_MANY = 2000, 0.002  # rows; of the indexed rows, up to `INDEX_FROM`

_log = logging.getLogger(__name__)


def max_behind(indexed: int, *, at_rest: bool) -> int:
    """How many rows there may be beyond an index of so many, before it is extended."""
    if at_rest:
        return min(INDEX_FROM, max(MAX_BEHIND_AT_REST, int(MAX_BEHIND_AT_REST_OF_MANY * indexed)))
    few = min(int(MAX_BEHIND * indexed), SLOW_TO_SEARCH)
    return max(INDEX_FROM, few, int(MAX_BEHIND_OF_MANY * indexed))


class IndexMaintainer:
    """The background thread of one store that is open for writing."""

    def __init__(
        self,
        url: str,
        folder: Path,
        snapshots: Snapshots,
        transaction: Callable[[], AbstractContextManager[sqlite3.Connection]],
    ) -> None:
        """`transaction` gives the writer's connection for one change, all or nothing."""
        self._url = url
        self._folder = folder
        self._snapshots = snapshots
        self._transaction = transaction
        self._wake = threading.Event()
        self._finishing = False
        self._abandoned = False
        self._failure: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="tandem-index", daemon=True)
        self._thread.start()

    def notice(self) -> None:
        """Records have changed."""
        self._wake.set()

    def finish(self) -> None:
        """Bring the indexes up to date, so that the next search is fast, and end."""
        self._finishing = True
        self._wake.set()
        try:
            self._thread.join()
        except BaseException:  # the user is in a hurry: the index can be made another time
            self._abandoned = True
            self._thread.join(timeout=5)
            raise
        if self._failure is not None:
            _log.warning("%s: its index is not up to date (%s); searches go on without it", self._url, self._failure)

    def _run(self) -> None:
        try:
            quiet = not self._wake.wait(self._quiet_s())  # what an earlier writer left undone can wait, too
            while not self._finishing:
                if quiet:
                    self._refresh(at_rest=True)
                    self._index_columns()
                    self._wake.wait()
                self._wake.clear()
                quiet = not self._finishing and not self._wake.wait(self._quiet_s())
                if not quiet and not self._finishing:
                    self._refresh(at_rest=False)
            self._refresh(at_rest=True)
            self._index_columns()
        except BaseException as error:
            self._failure = error
            if not isinstance(error, OSError | StoreError):
                _log.exception("the index of %s cannot be kept up", self._url)

    def _quiet_s(self) -> float:
        with self._snapshots.take() as snapshot:
            return max(QUIET_S, snapshot.state.rows / QUIET_ROWS_PER_S)

    def _refresh(self, *, at_rest: bool) -> None:
        """Make or extend the index over the vectors, if it is worth it."""
        with self._snapshots.take() as snapshot:
            state, vectors = snapshot.state, snapshot.vectors
        if state.live < INDEX_FROM:
            return
        # The state knows how many rows are indexed. The file is read only to be extended: it is large.
        has_index = bool(state.index) and (self._folder / state.index).is_file()
        behind = state.rows - (state.index_rows if has_index else 0)
        if has_index and behind <= max_behind(state.index_rows, at_rest=at_rest):
            return
        # Not the one that is searched: this one is changed.
        index = self._snapshots.load_index(state) if has_index else None
        if index is None or not index.fits(state.rows):
            _log.info("%s: building the index over %s vectors", self._url, f"{state.rows:,}")
            index = vector_index.train(vectors, state.rows, self._snapshots.schema.dimensions)
        else:
            _log.info("%s: adding %s vectors to the index", self._url, f"{behind:,}")
        grown = index.extended(vectors, state.rows, lambda: self._abandoned)
        if grown is not None:
            self._record(grown, state)

    def _record(self, index: VectorIndex, state: State) -> None:
        """Put an index in use, unless the vectors have moved to another file meanwhile."""
        draft = self._folder / f"{DRAFT}{os.getpid()}"
        try:
            checksum = index.write(draft)
        except BaseException:
            draft.unlink(missing_ok=True)
            raise
        with self._transaction() as connection:
            now = records_database.read_state(connection)
            if now.vectors != state.vectors:
                draft.unlink()  # the vectors have moved: this index is of no use
                return
            name = f"index-{now.file_number + 1}.faiss"
            os.replace(draft, self._folder / name)
            sync(self._folder)
            new = replace(
                now, file_number=now.file_number + 1, index=name, index_rows=index.rows,
                index_trained=index.trained_rows, index_checksum=checksum,
            )  # fmt: skip
            records_database.write_state(connection, new)
        if now.index:
            try:
                (self._folder / now.index).unlink(missing_ok=True)
            except OSError:
                _log.debug("%s is in use; the next writer removes it", now.index)

    def _index_columns(self) -> None:
        """One index at a time: a writer waits no longer than for one of them."""
        with self._snapshots.take() as snapshot:
            if snapshot.state.live < INDEX_FROM:
                return
            missing = records_table.missing_indexes(snapshot.connection, self._snapshots.schema)
        for statement in missing:
            if self._abandoned or (self._wake.is_set() and not self._finishing):
                return
            with self._transaction() as connection:
                records_table.make_index(connection, statement)
