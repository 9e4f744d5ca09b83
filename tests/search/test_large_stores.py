"""Steps of the local store that cost little while it is small, and must not grow with the square of its size."""

import os
import sqlite3
import threading
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from support.embedded_toys import SCHEMA, exact, filled, index_for_toys, records, unit

from tandem.search.stores.embedded import (
    checksum_table,
    checksums,
    index_maintainer,
    nearest,
    records_database,
    snapshots,
    vector_file,
    vector_index,
)
from tandem.search.stores.embedded.backend import EmbeddedBackend
from tandem.search.stores.embedded.index_maintainer import INDEX_FROM, max_behind
from tandem.search.stores.embedded.row_bits import KEPT, RowBits
from tandem.search.stores.protocol import Records


def test_a_pass_over_a_file_does_not_copy_what_is_known_for_each_block(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    vector_file.append(tmp_path / "v.f32", 0, unit(4096))
    file = vector_file.VectorFile(tmp_path / "v.f32", unit(1).shape[1])
    monkeypatch.setattr(vector_file, "BLOCK_BYTES", 16 * file.row_bytes)
    copied = []
    grown = vector_file._grown
    monkeypatch.setattr(vector_file, "_grown", lambda array, n: copied.append(len(array)) or grown(array, n))
    assert sum(len(rows) for _, rows in file.blocks(0, 4096)) == 4096
    assert sum(copied) <= 4 * 4096  # of four arrays; 256 blocks would copy 128 times as much
    assert len(file.sound(np.arange(4096))) == 4096


def test_rows_far_from_each_other_read_their_own_checksums(tmp_path: Path) -> None:
    rows = unit(3 * checksums.ROWS)
    connection = sqlite3.connect(":memory:")
    connection.execute(records_database._VECTOR_CHECKSUMS)
    checksum_table.write(connection, "v.f32", 0, checksums.of_vectors(rows))
    for block in range(3, 200):
        checksum_table.write(connection, "v.f32", block * checksums.ROWS, np.zeros(checksums.ROWS, np.uint64))
    for blocks in ([0], [0, 1, 2], [0, 199], [3, 50, 51, 198], [199, 250]):
        found = checksum_table.read(connection, "v.f32", blocks)
        assert sorted(found) == [block for block in blocks if block < 200]
        assert all(
            (found[block] == checksums.of_vectors(rows)[block * 512 :][:512]).all() for block in found if block < 3
        )
    vector_file.append(tmp_path / "v.f32", 0, np.tile(rows, (60, 1)))
    asked: list[list[int]] = []
    file = vector_file.VectorFile(tmp_path / "v.f32", rows.shape[1], lambda blocks: asked.append(list(blocks)) or {})
    file.gather(np.array([5, 512 * 70, 512 * 70 + 3, 512 * 150]))
    assert asked == [[0, 70, 150]]


@pytest.mark.skipif(not hasattr(os, "posix_fadvise"), reason="the system takes no such advice")
def test_rows_are_asked_for_at_once_before_they_are_touched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = unit(1000)
    vector_file.append(tmp_path / "v.f32", 0, rows)
    advised: list[int] = []
    monkeypatch.setattr(os, "posix_fadvise", lambda file, at, length, advice: advised.append(at // length))
    file = vector_file.VectorFile(tmp_path / "v.f32", rows.shape[1])
    np.testing.assert_array_equal(file.gather(np.array([3, 500])), rows[[3, 500]])
    file.gather(np.array([3, 500, 999]))
    assert advised == [3, 500, 999]  # those that were read before are in memory
    monkeypatch.setattr(vector_file, "_memory_bytes", lambda: rows.nbytes)
    file = vector_file.VectorFile(tmp_path / "v.f32", rows.shape[1])
    advised.clear()
    file.gather(np.array([3, 500]))
    file.gather(np.array([3, 500]))
    assert advised == [3, 500, 3, 500]  # of a file that does not fit they may be gone


def test_an_index_names_only_rows_whose_bits_are_set(tmp_path: Path) -> None:
    rows = unit(3000)
    vector_file.append(tmp_path / "v.f32", 0, rows)
    file = vector_file.VectorFile(tmp_path / "v.f32", rows.shape[1])
    index = vector_index.train(file, 3000, rows.shape[1]).extended(file, 3000, lambda: False)
    assert index is not None
    positions = np.arange(5, 3000, 7)
    for chosen in (positions, np.isin(np.arange(3000), positions)):
        bits = RowBits().of(chosen, 3000)
        named = index.search(unit(4, seed=9), 100, 10**6, bits)
        assert (named >= 0).all()
        assert (named % 7 == 5).all()
        assert set(index.search(unit(1, seed=9), 3000, 10**6, bits)[0].tolist()) == {-1, *positions.tolist()}


def test_bits_are_made_once_for_a_filter() -> None:
    bits = RowBits()
    some = np.array([1, 9])
    first = bits.of(some, 10)
    assert first.tolist() == [2, 2]
    assert bits.of(some, 10) is first
    assert bits.of(some, 17).tolist() == [2, 2, 0]  # there are more rows now
    assert bits.of(np.array([1, 9]), 10) is not first
    for _ in range(KEPT):
        assert bits.of(np.array([0]), 8).tolist() == [1]  # of arrays that are gone: none gets the bits of another
    assert len(bits._kept) == KEPT


def test_an_index_grows_in_place_and_not_the_one_that_is_searched(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    index_for_toys(monkeypatch)
    url = str(tmp_path / "photos.tandem")
    filled(url, 1500).close()
    monkeypatch.setattr(vector_index, "_copied", lambda index: pytest.fail("an index was copied"))
    with EmbeddedBackend(url).open(write=True) as store:
        query = unit(1, 8)
        store.search(query, 5)
        with store.snapshots.take() as snapshot:
            searched = store.snapshots.index(snapshot.state)
        assert searched is not None
        store.upsert(records(1500, 2500))
        store._maintainer._refresh(at_rest=True)  # type: ignore[union-attr]
        assert searched.faiss_index.ntotal == searched.rows == 1500
        with store.snapshots.take() as snapshot:
            assert snapshot.state.index_rows == 2500
        assert [hit.id for hit in store.search(query, 5)[0]] == exact(store, query[0], 5)


def test_while_a_large_index_is_read_the_one_before_serves(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    index_for_toys(monkeypatch)
    monkeypatch.setattr(snapshots, "READ_ASIDE_FROM", 1000)
    url = str(tmp_path / "photos.tandem")
    filled(url, 1500).close()
    begin, load = threading.Event(), vector_index.load
    with EmbeddedBackend(url).open() as reader:
        query = unit(1, 8)
        reader.search(query, 5)
        with EmbeddedBackend(url).open(write=True) as writer:
            writer.upsert(records(1500, 2500))
        monkeypatch.setattr(vector_index, "load", lambda *given: begin.wait(20) and load(*given))

        def indexed() -> int:
            with reader.snapshots.take() as snapshot:
                index = reader.snapshots.index(snapshot.state)
                assert index is not None
                assert snapshot.state.index_rows == 2500
                return index.rows

        found = [hit.id for hit in reader.search(query, 5)[0]]  # does not wait
        assert found == exact(reader, query[0], 5)
        assert indexed() == 1500
        begin.set()
        assert reader.snapshots._reading is not None
        reader.snapshots._reading.join(20)
        assert indexed() == 2500
        assert [hit.id for hit in reader.search(query, 5)[0]] == found


def test_one_who_reads_an_earlier_commit_uses_the_index_of_a_later_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, recwarn: pytest.WarningsRecorder
) -> None:
    """Its own is gone. What came after its commit is not found."""
    index_for_toys(monkeypatch)
    url = str(tmp_path / "photos.tandem")
    filled(url, 1500).close()
    late = unit(1000, 1500)[:1]
    with EmbeddedBackend(url).open() as reader, reader.reading():
        before = {where: exact(reader, late[0], 5, where) for where in (None, "number >= 500")}
        with EmbeddedBackend(url).open(write=True) as writer:
            writer.upsert(records(1500, 2500))
        with reader.snapshots.take(own=True) as snapshot:
            later = reader.snapshots.index(snapshot.state)
        assert later is not None
        assert later.rows == 2500
        for where, right in before.items():
            assert [hit.id for hit in reader.search(late, 5, where=where)[0]] == right
        with reader.snapshots.take() as snapshot:
            assert reader.snapshots.index(snapshot.state) is later
    assert not [each for each in recwarn if "index" in str(each.message)]


def test_larger_stores_look_at_more(monkeypatch: pytest.MonkeyPatch) -> None:
    assert [nearest.candidates_among(10**n) for n in (3, 6, 7, 8)] == [500, 500, 1581, 5000]
    index = object.__new__(vector_index.VectorIndex)
    for rows, lists, probes in ((10**5, 632, 316), (10**6, 2000, 100), (10**7, 6324, 316), (10**8, 20_000, 1000)):
        index.rows, index._lists = rows, SimpleNamespace(nlist=lists)
        assert index.probes == probes


def test_how_far_an_index_may_be_behind() -> None:
    """A few thousand records do not write all of a large index again; and what is searched exactly stays bounded."""
    rows = [0, 10**5, 10**6, 10**7, 10**8]
    assert [max_behind(each, at_rest=True) for each in rows] == [2000, 2000, 2000, 20_000, 20_000]
    assert [max_behind(each, at_rest=False) for each in rows] == [INDEX_FROM, 30_000, 300_000, 300_000, 2_000_000]


def test_a_large_store_is_at_rest_later(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with filled(str(tmp_path / "photos.tandem"), 1000) as store:
        assert store._maintainer is not None
        assert store._maintainer._quiet_s() == 2
        monkeypatch.setattr(index_maintainer, "QUIET_ROWS_PER_S", 100)
        assert store._maintainer._quiet_s() == 10


def test_filters_kept_take_bounded_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with filled(str(tmp_path / "photos.tandem"), 100) as store:
        monkeypatch.setattr(snapshots, "CACHED_FILTER_BYTES", 8 * 90)
        for number in (20, 30, 40, 100):  # 720 bytes are 90 positions
            assert store.count(f"number < {number}") == number
            kept = [len(each) for each in store.snapshots._filters.values()]
            assert kept == {20: [20], 30: [20, 30], 40: [20, 30, 40], 100: [100]}[number]


@pytest.mark.skipif(not Path("/proc/self/io").exists(), reason="needs Linux' count of bytes written")
def test_a_batch_of_unordered_ids_writes_each_page_once(tmp_path: Path) -> None:
    """Even where the pages that it changes are more than the database keeps in memory otherwise."""
    url = str(tmp_path / "photos.tandem")
    dice = np.random.default_rng(0)

    def some(n: int, seed: int) -> Records:
        return Records([dice.bytes(16).hex() for _ in range(n)], unit(n, seed=seed), {"number": [0] * n})

    def written() -> int:
        lines = Path("/proc/self/io").read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("wchar"))

    with EmbeddedBackend(url).create(SCHEMA, {}) as store:
        store.upsert(some(6000, 1))
        assert store._writer is not None
        store._writer.execute("PRAGMA cache_size = 10")
        batch, before = some(3000, 2), written()
        store.upsert(batch)
        (pages,) = store._writer.execute("PRAGMA page_count").fetchone()
        assert batch.vectors is not None
        assert written() - before <= 2 * pages * 8192 + batch.vectors.nbytes  # not one page for each record
