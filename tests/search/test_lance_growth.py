"""LanceDB that grows: the index, compaction, what is read."""

import re
import sys
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support import skip_without
from support.lance_toys import SCHEMA, ids_of, records, table_of, unit

from tandem.arrays import Vectors
from tandem.errors import StoreError
from tandem.search.stores.backends import create_store, open_store
from tandem.search.stores.lance import arrow, maintenance, search, snapshots
from tandem.search.stores.lance.snapshots import IN_MEMORY
from tandem.search.stores.protocol import Records, Schema, Store

skip_without("lancedb")

pytest_plugins = ["support.lance_toys"]


def clustered(n: int, d: int, seed: int) -> Vectors:
    dice = np.random.default_rng(seed)
    centres = np.random.default_rng(0).standard_normal((200, d))
    vectors = centres[dice.integers(0, len(centres), n)] + 0.7 * dice.standard_normal((n, d))
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


@pytest.mark.slow
def test_a_large_collection_is_searched_by_its_index(url: str) -> None:
    """Recall on clustered vectors, filters that keep few or many, equal scores, and what came after the index."""
    n, d = IN_MEMORY + 4_000, 64
    vectors = clustered(n, d, 1)
    store = create_store(url, Schema(d, {"width": "integer"}), {})
    ids = [f"{i:05d}" for i in range(n)]
    for first in range(0, n, 6_000):
        part = slice(first, first + 6_000)
        store.upsert(Records(ids[part], vectors[part], {"width": list(range(n))[part]}))
    assert table_of(store).list_indices() == []  # few commits so far
    store.close()
    store = open_store(store.url)
    kinds = {index.columns[0]: index for index in table_of(store).list_indices()}
    assert {name: index.index_type for name, index in kinds.items()} == {"id": "BTree", "vector": "IvfRq"}
    assert kinds["vector"].num_unindexed_rows == 0

    queries = clustered(60, d, 2)
    assert _recall(store, queries, vectors, np.arange(n), None) >= 0.97
    few, half = np.arange(0, n, 500), np.arange(n // 2)
    listed = ", ".join(str(each) for each in few)
    assert _recall(store, queries[:20], vectors, few, f"width in ({listed})") == 1
    assert _recall(store, queries[:20], vectors, half, f"width < {n // 2}") >= 0.97
    for where, count in (("width < 7", 7), ("width < 10", 10), ("width < 0", 0)):
        assert [len(hits) for hits in store.search(queries[:5], 10, where=where)] == [count] * 5
    (hits,) = store.search(queries[:1], n + 5, columns=[])
    assert len(hits) == n
    assert [(-hit.score, hit.id) for hit in hits] == sorted((-hit.score, hit.id) for hit in hits)

    late = np.repeat(queries[:1], 60, axis=0)
    store.upsert(Records([f"late{(i * 7) % 60:02d}" for i in range(60)], late, {"width": [-1] * 60}))
    (hits,) = store.search(queries[:1], 25)
    assert [hit.id for hit in hits] == [f"late{i:02d}" for i in range(25)]
    assert len({hit.score for hit in hits}) == 1
    store.delete([f"late{i:02d}" for i in range(60)])
    assert _recall(store, queries[:20], vectors, np.arange(n), None) >= 0.97
    assert len(store.get(ids[::1000])) == len(ids[::1000])
    assert ids_of(store, "id like '0000_' or id > '23998'") == ids[:10] + ids[23_999:]
    store.close()


def _recall(store: Store, queries: Vectors, vectors: Vectors, among: np.ndarray, where: str | None) -> float:
    right = 0
    for query, hits in zip(queries, store.search(queries, 10, where=where, columns=[]), strict=True):
        nearest = among[np.argsort(-(vectors[among] @ query))[:10]]
        right += len({hit.id for hit in hits} & {f"{i:05d}" for i in nearest})
        scores = {f"{i:05d}": float(vectors[i].astype(np.float64) @ query) for i in (int(hit.id) for hit in hits)}
        assert all(abs(hit.score - scores[hit.id]) < 1e-6 for hit in hits)
    return right / (10 * len(queries))


@pytest.mark.slow
def test_hits_that_the_index_misses_are_found(local: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """An index that loses its way gives too few; here it is made to, by an answer cut short."""
    monkeypatch.setattr(snapshots, "IN_MEMORY", 0)
    whole = search.Search._candidates
    monkeypatch.setattr(
        search.Search,
        "_candidates",
        lambda self, query, limit, condition, exact: whole(self, query, limit, condition, exact).slice(
            0, None if exact else limit // 3
        ),
    )
    local.upsert(records(300))
    query = unit(1, seed=2)
    (hits,) = local.search(query, 20, where="width < 25")
    assert [hit.id for hit in hits] == [f"{i:05d}" for i in np.argsort(-(unit(300)[:25] @ query[0]))[:20]]


def nearly_equal(n: int, d: int) -> Vectors:
    """Vectors whose products with the first one differ by less than float32 rounds such products."""
    one = unit(1, d, seed=3)
    vectors = one + 1e-7 * np.random.default_rng(4).standard_normal((n, d)).astype(np.float32)
    vectors[0] = one
    return np.asarray(vectors, np.float32)


@pytest.mark.parametrize("in_memory", [True, False])
@pytest.mark.slow_if(True)
def test_the_order_is_that_of_exact_scores(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, in_memory: bool) -> None:
    """A first selection by float32 products must leave room for their error."""
    if not in_memory:
        monkeypatch.setattr(snapshots, "IN_MEMORY", 0)
    n, d = 2_000, 256
    vectors = nearly_equal(n, d)
    store = create_store(f"lance:{tmp_path}/photos", Schema(d, {}), {})
    ids = [f"{i:05d}" for i in range(n)]
    store.upsert(Records(ids, vectors))
    exact = (vectors.astype(np.float64) * vectors[0]).sum(axis=1)
    ranked = sorted(zip(-exact, ids, strict=True))
    for k in (1, 5, 40):
        (hits,) = store.search(vectors[:1], k)
        assert [hit.id for hit in hits] == [each for _, each in ranked[:k]]
    store.close()


@pytest.mark.parametrize("in_memory", [True, False])
def test_few_candidates_are_scored_exactly(local: Store, monkeypatch: pytest.MonkeyPatch, in_memory: bool) -> None:
    """The room for errors is that of rounding: on scattered vectors a search looks at little more than k records."""
    if not in_memory:
        monkeypatch.setattr(snapshots, "IN_MEMORY", 0)
    local.upsert(records(1_000))
    scored: list[int] = []
    whole = search._scores
    monkeypatch.setattr(search, "_scores", lambda vectors, query: scored.append(len(vectors)) or whole(vectors, query))
    local.search(unit(4, seed=2), 5)
    assert len(scored) == 4
    assert max(scored) <= (6 if in_memory else 5 + search.SPARE)


def test_the_rows_of_the_last_filters_are_kept(local: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    local.upsert(records(50))
    filters: list[str | None] = []
    whole = snapshots.Snapshot.read

    def read(self: snapshots.Snapshot, fields: Sequence[str], condition: str | None = None) -> Any:
        filters.append(condition)
        return whole(self, fields, condition)

    monkeypatch.setattr(snapshots.Snapshot, "read", read)
    limits = range(1, snapshots.CACHED_FILTERS + 1)
    for _ in range(2):
        assert [local.count(f"width < {limit}") for limit in limits] == list(limits)
    assert len(filters) == 8
    assert local.count("width < 30") == 30  # in place of the one that was used longest ago
    assert local.count("width < 2") == 2
    assert len(filters) == 9
    assert local.count("width < 1") == 1
    assert len(filters) == 10
    local.delete(["00000"])  # another version
    assert local.count("width < 1") == 0


def test_a_collection_of_a_newer_format_is_refused(local: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    url = local.url
    monkeypatch.setattr(arrow, "FORMAT", arrow.FORMAT + 1)
    newer = create_store(f"{url}_newer", SCHEMA, {})
    newer.close()
    monkeypatch.undo()
    with pytest.raises(StoreError, match="format 2, this Tandem reads 1: install a newer one"):
        open_store(f"{url}_newer")


@pytest.mark.slow
def test_small_files_become_large_ones_and_old_versions_go(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(maintenance, "LOOK_EVERY", 8)
    monkeypatch.setattr(maintenance, "COMPACT_EVERY", 16)
    monkeypatch.setattr(maintenance, "KEEP", timedelta(milliseconds=1))
    store = create_store(url, SCHEMA, {"identity": "one"})
    for i in range(48):
        store.upsert(records(20, f"{i % 40}-", seed=i))
    store.annotate({"model_name": "toy"})
    table = table_of(store)
    assert table.version > 48
    assert table.stats()["fragment_stats"]["num_fragments"] < 24
    assert len(table.list_versions()) < 24
    assert store.count() == 800
    assert dict(store.notes) == {"identity": "one", "model_name": "toy"}
    store.close()
    again = open_store(url)
    assert len(ids_of(again)) == 800
    assert table_of(again).stats()["fragment_stats"]["num_fragments"] <= 16
    again.close()


def test_an_index_is_made_anew_for_a_table_that_has_outgrown_it(local: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(maintenance, "LOOK_EVERY", 1)
    monkeypatch.setattr(maintenance, "INDEX_FROM", 1000)
    local.upsert(records(1200))
    assert [index.name for index in table_of(local).list_indices()] == ["vector_for_1200"]
    local.upsert(records(4000))
    assert [index.name for index in table_of(local).list_indices()] == ["vector_for_1200"]
    local.upsert(records(6000))
    names = sorted(index.name for index in table_of(local).list_indices())
    assert names == ["id_idx", "vector_for_6000"]


def test_vectors_of_any_length_are_indexed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(maintenance, "LOOK_EVERY", 1)
    monkeypatch.setattr(maintenance, "INDEX_FROM", 300)
    store = create_store(f"lance:{tmp_path}/photos", Schema(5, {}), {})
    store.upsert(Records([str(i) for i in range(400)], unit(400, 5)))
    assert [index.index_type for index in table_of(store).list_indices()] == ["IvfFlat"]
    store.close()


def test_maintenance_that_fails_loses_no_batch(
    local: Store, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(maintenance, "LOOK_EVERY", 1)

    def full(*_: object) -> None:
        raise OSError("No space left on device")

    monkeypatch.setattr(maintenance, "_index", full)
    local.upsert(records(20))
    assert local.count() == 20
    assert "No space left" in caplog.text


@pytest.mark.skipif(sys.platform != "linux", reason="reads what Linux counts")
def test_thumbnails_are_not_read_unless_they_are_named(local: Store) -> None:
    size = 100_000
    put = records(100)
    thumbnails = [np.random.default_rng(i).bytes(size) for i in range(100)]
    local.upsert(Records(put.ids, put.vectors, {**put.columns, "thumbnail": thumbnails}))
    reader = open_store(local.url)

    def read() -> int:
        return int(re.findall(r"rchar: (\d+)", Path("/proc/self/io").read_text())[0])

    before = read()
    assert len(reader.search(unit(3), 20, where="width > 5")[0]) == 20
    assert len(reader.get(put.ids)) == 100
    assert sum(len(batch) for batch in reader.scan()) == 100
    assert len(reader.sample(10)) == 10
    assert read() - before < 20 * size
    assert reader.get(["00007"], columns=["thumbnail"]).columns["thumbnail"] == [thumbnails[7]]
    reader.close()
