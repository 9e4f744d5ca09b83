"""Milvus: filters mean the same as everywhere, also those that Milvus cannot express."""

import random
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from support import skip_without
from support.filter_toys import EDGES, ODD_FILTERS, comparisons, filter_records, random_filter
from support.filter_toys import SCHEMA as FILTER_SCHEMA
from support.milvus_toys import SCHEMA, D, ids_of, new_url, records, unit
from support.stores import close

from tandem.search.stores.backends import create_store, open_store
from tandem.search.stores.filter_parser import parse
from tandem.search.stores.filters import matches
from tandem.search.stores.milvus import backend as milvus_backend
from tandem.search.stores.milvus.fields import FieldMapping
from tandem.search.stores.milvus.filters import to_expression
from tandem.search.stores.protocol import Records, Schema, Store

skip_without("pymilvus")
pytestmark = pytest.mark.milvus


@pytest.fixture
def url() -> str:
    pytest.importorskip("milvus", reason="needs the milvus wheel (Linux only)")
    return new_url()


@pytest.fixture
def store(url: str) -> Iterator[Store]:
    made = create_store(url, SCHEMA, {"identity": "one"})
    yield made
    close(made)


@pytest.mark.parametrize("kind", ["server", "lite"])
def test_random_filters_mean_the_same_as_everywhere(kind: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    """NULLs, odd text, numbers beyond what Milvus reads, and patterns that it does not know."""
    address = request.getfixturevalue("url") if kind == "server" else f"milvus-lite:{tmp_path}/a.db/photos"
    dice = random.Random(7)
    put = filter_records(80, dice, lists=True)
    rows = [{**put.row(i), "id": each} for i, each in enumerate(put.ids)]
    filters = [*(random_filter(dice, 2) for _ in range(60)), *comparisons(*EDGES), *ODD_FILTERS]
    filters.append("path like '\ud7ff%'")
    store = create_store(address, FILTER_SCHEMA, {})
    try:
        store.upsert(put)
        for where in filters:
            expression = parse(where, FILTER_SCHEMA)
            expected = [row["id"] for row in rows if matches(expression, row) is True]
            assert ids_of(store, where) == expected, where
    finally:
        store.close()


def test_a_collection_of_layout_1_is_read_and_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It does not say of its records whether they have several paths."""
    pytest.importorskip("milvus_lite")
    schema = Schema(D, {"path": "text", "paths": "text"})
    address = f"milvus-lite:{tmp_path}/photos.db/photos"
    with monkeypatch.context() as before:
        before.setattr(milvus_backend, "FieldMapping", lambda schema: FieldMapping(schema, 1))
        create_store(address, schema, {"identity": "old"}).close()
    store = open_store(address)
    try:
        columns = {"path": ["a/1.jpg", "a/2.jpg"], "paths": ['["a/1.jpg"]', '["a/2.jpg", "b/2.jpg"]']}
        store.upsert(Records(["1", "2"], unit(2), columns))
        assert ids_of(store, "path like 'b/%'") == ["2"]
        assert ids_of(store, "path not like 'b/%'") == ["1"]
        assert ids_of(store, "path like 'a/%'") == ["1", "2"]
    finally:
        store.close()


def test_search_where_milvus_cannot_decide(store: Store) -> None:
    """Few pass, and they are far from the query: they must be found nevertheless, and be the nearest of those."""
    put = records(3000)
    store.upsert(put)
    vectors = unit(3000)
    far = np.argsort(vectors @ vectors[0])[:40]
    ids = [put.ids[i] for i in far]
    store.upsert(Records(ids, vectors[far], {"path": [f"holiday/{i}/CAT" for i in range(40)], "width": [7] * 40}))
    assert not to_expression(parse("path like '%day%'", SCHEMA), FieldMapping(SCHEMA)).exact
    queries = unit(3, seed=3)
    queries[0] = vectors[0]
    for where in ("path like '%day%' and width > 3", "path ilike '%cat'", "not (path not like '%/CAT')"):
        for query, hits in zip(queries, store.search(queries, 10, where=where), strict=True):
            order = np.argsort(-(vectors[far] @ query))[:10]
            assert [hit.id for hit in hits] == [ids[i] for i in order]
        assert store.count(where) == 40
    assert [len(hits) for hits in store.search(queries, 100, where="path like '%day%'")] == [40] * 3
