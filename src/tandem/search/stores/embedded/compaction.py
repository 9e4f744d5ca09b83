"""What a writer does to its files beside writing: the live rows in a file without the deleted ones, checksums that an
earlier version left out, and files that are not used any more.
"""

import sqlite3
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import numpy as np

from tandem.files import sync
from tandem.search.stores.embedded import checksum_table, checksums, records_database, records_table, vector_file
from tandem.search.stores.embedded.records_database import State
from tandem.search.stores.embedded.snapshots import Snapshot


def compact(connection: sqlite3.Connection, snapshot: Snapshot, folder: Path) -> None:
    """Write the live rows to a new file and renumber the records, in the writer's transaction. Old snapshots keep the
    old file.
    """
    old, schema = snapshot.state, snapshot.schema
    assert snapshot.live_mask is not None
    number = old.file_number + 1
    new = replace(
        old, commits=old.commits + 1, vectors=f"vectors-{number}.f32", file_number=number, rows=old.live,
        deleted_count=0, deleted_checksum=0, index="", index_rows=0, index_trained=0, index_checksum=0,
    )  # fmt: skip
    row = 0
    vector_file.append(folder / new.vectors, 0, np.empty((0, schema.dimensions), np.float32))
    for first, vectors in snapshot.vectors.blocks(0, old.rows, raw=True):
        live = np.flatnonzero(snapshot.live_mask[first : first + len(vectors)])
        # With their checksums, so that what is damaged is still known to be.
        sums = snapshot.vectors.checksums(first + live, vectors[live])
        vector_file.append(folder / new.vectors, row, vectors[live])
        checksum_table.write(connection, new.vectors, row, sums)
        row += len(live)
    checksum_table.forget(connection, old.vectors)
    sync(folder)
    records_table.renumber(connection, schema)
    records_database.write_state(connection, new)


def add_checksums(connection: sqlite3.Connection, snapshot: Snapshot) -> None:
    """Add the checksums of vectors that an earlier version wrote without any, in the writer's transaction."""
    state = snapshot.state
    if (reach := checksum_table.reach(connection, state.vectors)) < state.rows:
        for first, vectors in snapshot.vectors.blocks(reach, state.rows, raw=True):
            checksum_table.write(connection, state.vectors, first, checksums.of_vectors(vectors))


def remove_leftovers(folder: Path, state: State) -> None:
    """Delete files that the state does not name. Windows keeps open ones: they are deleted the next time."""
    for path in [*folder.glob("vectors-*.f32"), *folder.glob("index-*.faiss")]:
        if path.name not in (state.vectors, state.index):
            with suppress(OSError):
                path.unlink()
