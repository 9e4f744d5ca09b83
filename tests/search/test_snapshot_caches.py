"""What readers keep between searches, filters and deleted rows, is never that of another commit.

Races of threads, played in order: a reader that has seen one commit, and one that still reads the one before it.
"""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from support.embedded_toys import exact, filled, index_for_toys, records, unit

from tandem.search.stores.embedded import records_database, store
from tandem.search.stores.embedded.backend import EmbeddedBackend
from tandem.search.stores.embedded.snapshots import CACHED_FILTERS
from tandem.search.stores.embedded.store import EmbeddedStore
from tandem.search.stores.embedded.vector_index import VectorIndex
from tandem.search.stores.protocol import Records

QUERIES = unit(2, seed=50)


@pytest.fixture
def both(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[EmbeddedStore, EmbeddedStore]]:
    """A writer of ten records, which makes room early, and a reader with caches of its own."""
    monkeypatch.setattr(store, "COMPACT_FROM", 6)
    url = str(tmp_path / "photos.tandem")
    with filled(url, 10) as writer, EmbeddedBackend(url).open() as reader:
        yield writer, reader


def names(*numbers: int) -> list[str]:
    return [f"{number:06d}" for number in numbers]


def agrees(reader: EmbeddedStore, where: str | None = None) -> None:
    """The reader, which has read before, finds what one finds that has read nothing."""
    with EmbeddedBackend(reader.url).open() as fresh:
        for query in QUERIES:
            found = [hit.id for hit in reader.search(query[None], 100, where=where)[0]]
            assert found == [hit.id for hit in fresh.search(query[None], 100, where=where)[0]]
            assert found == exact(fresh, query, 100, where)
        assert reader.count(where) == fresh.count(where) == len(found)
        assert reader.get(found).ids == found


def test_a_filter_is_asked_again_after_each_commit(both: tuple[EmbeddedStore, EmbeddedStore]) -> None:
    """Also one that changes neither how many rows there are nor how many are deleted."""
    writer, reader = both
    where = "number < 5"
    agrees(reader, where)
    vector = writer.get(names(7)).vectors
    writer.upsert(Records(names(7), vector, {"path": ["x"], "number": [1]}))  # in its place: the vector is the same
    assert reader.count(where) == 6
    agrees(reader, where)
    writer.delete(names(1))
    agrees(reader, where)
    writer.upsert(records(1, 2, seed=9))
    agrees(reader, where)


def test_positions_of_a_filter_are_not_those_before_a_compaction(both: tuple[EmbeddedStore, EmbeddedStore]) -> None:
    writer, reader = both
    agrees(reader, "number >= 5")
    writer.delete(names(0, 1, 2, 3, 6, 7))  # four are left, and moved to the front
    agrees(reader, "number >= 5")
    assert reader.count("number >= 5") == 3


def test_one_who_reads_between_a_deletion_and_its_compaction(
    both: tuple[EmbeddedStore, EmbeddedStore], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Renumbering is a commit of its own: what a filter gave just before it is not what it gives after it."""
    writer, reader = both
    compact = writer._compact
    monkeypatch.setattr(writer, "_compact", lambda: (agrees(reader, "number >= 5"), compact())[1])
    writer.delete(names(0, 1, 2, 3, 6, 7))
    assert records_database.read_state(writer._writer).deleted_count == 0  # type: ignore[arg-type]
    agrees(reader, "number >= 5")


def test_filters_that_were_used_last_are_kept(both: tuple[EmbeddedStore, EmbeddedStore]) -> None:
    _, reader = both
    for number in range(2 * CACHED_FILTERS):
        reader.count("number < 1")
        reader.count(f"number < {number + 2}")
    kept = [where for _, where in reader.snapshots._filters]
    assert len(kept) == CACHED_FILTERS
    assert kept[-2:] == ["number < 1", f"number < {2 * CACHED_FILTERS + 1}"]


def test_rows_that_come_after_a_deletion_are_found(both: tuple[EmbeddedStore, EmbeddedStore]) -> None:
    writer, reader = both
    writer.delete(names(3))
    agrees(reader)
    writer.upsert(records(10, 14))  # as many are deleted as before, in more rows
    agrees(reader)
    writer.delete(names(11))
    agrees(reader)


def test_deleted_rows_of_a_file_are_not_those_of_the_next(both: tuple[EmbeddedStore, EmbeddedStore]) -> None:
    """Ten rows of which three are deleted: the same numbers before and after a compaction, for other rows."""
    writer, reader = both
    writer.delete(names(0, 1, 2))
    agrees(reader)
    writer.delete(names(3, 4, 5))  # four are left, in a new file
    writer.upsert(records(20, 26))
    writer.delete(names(24, 25, 9))
    state = records_database.read_state(writer._writer)  # type: ignore[arg-type]
    assert (state.rows, state.deleted_count, state.vectors) == (10, 3, "vectors-2.f32")
    agrees(reader)


def test_one_who_reads_an_earlier_commit_has_its_deleted_rows(both: tuple[EmbeddedStore, EmbeddedStore]) -> None:
    """A thread has begun to read; then others delete and read: what they keep must not be what it gets."""
    writer, reader = both
    snapshots = reader.snapshots
    writer.delete(names(2))
    with snapshots.connection() as earlier:
        earlier.execute("BEGIN")
        before = records_database.read_state(earlier)
        writer.delete(names(5, 6))
        agrees(reader)  # caches three
        mask = snapshots._live_mask(earlier, before)
        assert mask is not None
        assert np.flatnonzero(~mask).tolist() == [2]
        earlier.execute("ROLLBACK")
    agrees(reader)  # and what it kept is not what those get that read now


def test_one_who_reads_an_earlier_file_leaves_what_is_known_of_the_next(
    both: tuple[EmbeddedStore, EmbeddedStore],
) -> None:
    writer, reader = both
    snapshots = reader.snapshots
    writer.delete(names(1, 2, 3))
    with snapshots.connection() as earlier:
        earlier.execute("BEGIN")
        before = records_database.read_state(earlier)
        writer.delete(names(4, 5, 6))
        writer.upsert(records(20, 26))
        writer.delete(names(7))
        agrees(reader)
        mask = snapshots._live_mask(earlier, before)
        assert mask is not None
        assert np.flatnonzero(~mask).tolist() == [1, 2, 3]
        earlier.execute("ROLLBACK")
    agrees(reader)


def test_a_filter_of_an_earlier_commit_is_not_taken_for_a_later_one(
    both: tuple[EmbeddedStore, EmbeddedStore],
) -> None:
    writer, reader = both
    with reader.snapshots.take() as earlier:
        writer.delete(names(0, 1))
        assert reader.snapshots.passing(earlier, "number < 4").tolist() == [0, 1, 2, 3]
        agrees_in_thread = EmbeddedBackend(reader.url).open()
        assert agrees_in_thread.count("number < 4") == 2
        agrees_in_thread.close()
    agrees(reader, "number < 4")


def index_of(reader: EmbeddedStore) -> VectorIndex | None:
    with reader.snapshots.take() as snapshot:
        return reader.snapshots.index(snapshot.state)


def test_an_index_that_was_made_anew_is_read_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    index_for_toys(monkeypatch)
    url = str(tmp_path / "photos.tandem")
    filled(url, 1200).close()
    with EmbeddedBackend(url).open() as reader:
        assert reader.search(QUERIES, 3)
        first = index_of(reader)
        with EmbeddedBackend(url).open(write=True) as writer:
            writer.upsert(records(1200, 1500))
        assert first is not None
        second = index_of(reader)
        assert second is not None
        assert (first.rows, second.rows) == (1200, 1500)
