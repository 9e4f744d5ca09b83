"""What one open store has found damaged: left out of answers, and told once. Knows positions, ids and paths."""

import sqlite3
import threading
import warnings
from collections.abc import Iterable, Sequence

import numpy as np

from tandem.errors import DamageWarning
from tandem.search.stores.embedded import records_table
from tandem.search.stores.embedded.records_database import State
from tandem.search.stores.embedded.records_table import FoundRows, Selection
from tandem.search.stores.embedded.snapshots import Snapshot
from tandem.search.stores.embedded.vector_file import Mask, Positions

NAMED = 3  # of what is damaged, in a warning
LOOKED_THROUGH = 20_000  # records: in larger collections filters use indexes, which only `tandem check` compares
BATCH = 4096


class Damage:
    """The damage of one store. Thread-safe."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._lock = threading.Lock()
        self._file = ""  # of the vectors: positions mean its rows
        self._lost: set[int] = set()  # rows whose records are damaged or missing
        self._told: set[tuple[str, int | str]] = set()
        self._looked = False
        self._sound_at = -1  # the number of commits when the values of all records were last found sound

    def lose(self, state: State, positions: Iterable[int]) -> None:
        """Records at these rows cannot be read: leave them out from now on."""
        with self._lock:
            if self._file != state.vectors:
                self._file, self._lost = state.vectors, set()
            self._lost.update(positions)

    def without_lost(
        self, state: State, live_mask: Mask | None, passing: Positions | None
    ) -> tuple[Mask | None, Positions | None]:
        """The rows to search, without those whose records cannot be read."""
        with self._lock:
            if not self._lost or self._file != state.vectors:
                return live_mask, passing
            lost = np.array(sorted(self._lost), np.int64)
        mask = np.ones(state.rows, np.bool_) if live_mask is None else live_mask.copy()
        mask[lost[lost < state.rows]] = False
        return mask, None if passing is None else passing[~np.isin(passing, lost)]

    def tell(self, snapshot: Snapshot, read: FoundRows | None = None) -> None:
        """Warn of what was found damaged, once: the images by their paths, as far as these can be read."""
        if snapshot.vectors.has_damage:
            rows = snapshot.vectors.all_damaged()
            rows = rows if snapshot.live_mask is None else rows[snapshot.live_mask[rows]]
            fresh = self._fresh("vectors", rows.tolist())
            self._warn(names_at(snapshot, fresh), "are left out of answers, since their vectors are damaged")
        if read is None or not (read.damaged or read.without_blobs):
            return
        fresh = self._fresh("records", [position for position, _ in read.damaged])
        named = [str(id) for position, id in read.damaged if position in fresh]
        self._warn(named, "are left out of answers, since their records are damaged")
        fresh = self._fresh("thumbnails", [position for position, _ in read.without_blobs])
        self._warn([str(id) for position, id in read.without_blobs if position in fresh], "have damaged thumbnails")

    def note_sound(self, state: State) -> None:
        """The values of all records of this state were read and are sound."""
        self._sound_at = state.commits

    def shortened(self, selection: Selection, state: State) -> Selection:
        """Without what is read only to be verified, where all was found sound before and no record has changed."""
        return selection.known_sound if self._sound_at == state.commits else selection

    def look_through(self, snapshot: Snapshot) -> None:
        """Verify all records and their index, once for each open store, before a filter or unknown ids are believed."""
        if self._looked or snapshot.state.live >= LOOKED_THROUGH or not snapshot.state.has_checksums:
            return
        self._looked = True
        for problem in index_problems(snapshot.connection):
            if self._fresh("index", [problem]):
                self._say(
                    f"an index over its records is damaged ({' '.join(problem.split()):.100}): some may not be found"
                )
        selection, last = Selection(snapshot.schema, ()), -1
        while (
            read := selection.read(snapshot.connection, "WHERE _position > ? ORDER BY _position LIMIT ?", (last, BATCH))
        ).count:
            last = read.last
            self.lose(snapshot.state, [position for position, _ in read.damaged])
            self.tell(snapshot, read)

    def _fresh(self, kind: str, found: Sequence[int] | Sequence[str]) -> list[int]:
        with self._lock:
            fresh = [each for each in found if (kind, each) not in self._told]
            self._told.update((kind, each) for each in fresh)
        return fresh  # type: ignore[return-value]

    def _warn(self, names: Sequence[str], what: str) -> None:
        if names:
            more = ", ..." if len(names) > NAMED else ""
            self._say(f"{len(names):,} of its images {what} ({', '.join(names[:NAMED])}{more})")

    def _say(self, what: str) -> None:
        warnings.warn(DamageWarning(f"{self._url}: {what}", self._url), stacklevel=5)


def index_problems(connection: sqlite3.Connection) -> list[str]:
    """What SQLite finds wrong with the records and the indexes over them, in its words."""
    return [str(row[0]) for row in connection.execute("PRAGMA integrity_check('records')") if row[0] != "ok"]


def names_at(snapshot: Snapshot, positions: Sequence[int]) -> list[str]:
    """The paths of the records at these rows, or their ids; nothing for rows without a record."""
    columns = ("path",) if "path" in snapshot.schema.columns else ()
    selection = Selection(snapshot.schema, columns)
    read = records_table.rows_at(snapshot.connection, selection, positions)
    paths = selection.values(read.rows).get("path", [None] * len(read.rows))
    named = [str(path or row[1]) for path, row in zip(paths, read.rows, strict=True)]
    return named + [str(id) for _, id in read.damaged]
