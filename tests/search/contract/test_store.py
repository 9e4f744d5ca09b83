"""The contract of stores: records written, read, searched, filtered, deleted; run against each kind in `stores.py`."""

from collections.abc import Iterator

import numpy as np
import pytest
from support.store_contract import COLUMNS, NOTES, SCHEMA, D, by_hand, ids_of, random_unit, records, same
from support.stores import PARAMS, STORES, close

from tandem.errors import FilterError, TandemError
from tandem.search.stores.protocol import Records, Store

FILLED = records(0, 700)


@pytest.fixture(scope="module", params=PARAMS)
def filled(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    """With records, for tests that only read."""
    made = STORES[request.param](tmp_path_factory.mktemp("filled"), SCHEMA, NOTES)
    made.upsert(FILLED)
    yield made
    close(made)


def test_what_goes_in_comes_out(store: Store) -> None:
    put = records(0, 300)
    store.upsert(put)
    assert store.schema.dimensions == D
    assert dict(store.schema.columns) == COLUMNS
    assert store.count() == 300
    ids = ["000299", "nobody", "000007", "000000"]
    got = store.get(ids, columns=list(COLUMNS))
    assert list(got.ids) == ["000299", "000007", "000000"]
    assert got.vectors is not None
    assert put.vectors is not None
    for i, number in enumerate((299, 7, 0)):
        assert got.row(i) == put.row(number)
        assert type(got.row(i)["sharp"]) is type(put.row(number)["sharp"])
        np.testing.assert_array_equal(got.vectors[i], put.vectors[number])
    assert store.get([]).ids == [] or len(store.get([])) == 0
    assert store.get(["000001"], vectors=False).vectors is None


def test_bytes_come_only_when_named(store: Store) -> None:
    store.upsert(records(0, 10))
    assert set(store.get(["000001"]).columns) == set(COLUMNS) - {"thumbnail"}
    assert store.get(["000001"], columns=["thumbnail"]).columns == {"thumbnail": [b"\1\1\1"]}
    (hits,) = store.search(random_unit(1), 1)
    assert set(hits[0].metadata) == set(COLUMNS) - {"thumbnail"}
    (hits,) = store.search(random_unit(1), 1, columns=["thumbnail", "width"])
    assert hits[0].metadata == {"thumbnail": b"\0\0\0", "width": 0}
    (hits,) = store.search(random_unit(1), 1, columns=[])
    assert hits[0].metadata == {}


def test_search_is_exact_while_small(store: Store) -> None:
    put = records(0, 700)
    store.upsert(put)
    queries = random_unit(20, seed=9)
    for query, hits in zip(queries, store.search(queries, 10), strict=True):
        same(hits, by_hand(put, query, 10))


@pytest.mark.parametrize(
    "where",
    [
        "width > 500",
        "width >= 37 and width < 75.5",
        "not width > 500",
        "width in (37, 74, 111, 4000)",
        "width not in (37, 74)",
        "width in (1e308, 37)",
        "width not in (1e308, 37)",
        "width between 100 and 200 or latitude < -80",
        "width is null",
        "caption is not null and not (width < 900)",
        "latitude = -90.25",
        "latitude != -90.25",
        "sharp",
        "not sharp",
        "sharp = false",
        "sharp is null and width > 3",
        "path like '%.png'",
        "path like 'copy of%'",
        "path not like 'copy of%' and width > 300",
        "path = 'copy of 10/Cat.jpg' or path in ('copy of 4/Cat.jpg', 'copy of 16/a cat''s 100%.PNG')",
        "path != 'copy of 10/Cat.jpg'",
        "path between 'copy' and 'd'",
        "path ilike 'COPY%CAT.JPG' and not path like '%1%'",
        "path like '%cat%'",
        "path not like '%cat%'",
        "path ilike '%CAT%'",
        "path ilike '%äpfel.PNG'",
        "path ilike '%STRASSE%'",
        "path like '%[c]?d'",
        "path like '%b*%'",
        "path like '%s 100_.PNG'",
        "path like '_/%'",
        "path like '%a%t%1%0%P%'",
        "path like ''",
        "path = '3/a cat''s 100%.PNG'",
        "path like '%日本/猫.jpg'",
        "path < '3' and path >= '1'",
        "id in ('000003', '000005', 'nobody')",
        "id > '000650' or id like '00000_'",
        "(width < 100 or sharp) and not (latitude > 0 and caption is null)",
        "width > 5000",
    ],
)
def test_filters_mean_what_they_say(filled: Store, where: str) -> None:
    query = random_unit(1, seed=5)
    passing = by_hand(FILLED, query[0], 1000, where)
    assert ids_of(filled, where) == sorted(name for name, _ in passing)
    assert filled.count(where) == len(passing)
    (hits,) = filled.search(query, 10, where=where)
    same(hits, passing[:10])


def test_bad_questions_are_named(store: Store) -> None:
    store.upsert(records(0, 5))
    with pytest.raises(FilterError, match="widht"):
        store.search(random_unit(1), 1, where="widht > 3")
    with pytest.raises(FilterError):
        store.count("width >")
    with pytest.raises(FilterError):
        list(store.scan(where="thumbnail = 'x'"))
    with pytest.raises(TandemError, match="nothing_such"):
        store.search(random_unit(1), 1, columns=["nothing_such"])


@pytest.mark.parametrize("count", [0, 5])
def test_queries_that_no_store_could_answer_are_refused(store: Store, count: int) -> None:
    if count:
        store.upsert(records(0, count))
    for value in (np.nan, np.inf):
        broken = random_unit(2)
        broken[1, 3] = value
        with pytest.raises(TandemError, match="queries: expected finite numbers, got NaN or infinity"):
            store.search(broken, 1)
    with pytest.raises(TandemError, match="k: expected 0 or more, got -1"):
        store.search(random_unit(1), -1)
    for shape in ((1, D + 1), (D,)):
        with pytest.raises(TandemError, match=rf"queries: expected vectors \[q {D}\], got an array"):
            store.search(np.ones(shape, np.float32), 1)
    assert store.search(random_unit(2), 0) == [[], []]
    assert store.search(random_unit(0), 3) == []


def test_upsert_replaces(store: Store) -> None:
    store.upsert(records(0, 50))
    other = records(0, 50, seed=1)
    changed = Records(other.ids[:10], other.vectors[:10] if other.vectors is not None else None, {"path": ["new"] * 10})
    store.upsert(changed)
    assert store.count() == 50
    got = store.get(changed.ids, columns=list(COLUMNS))
    np.testing.assert_array_equal(got.vectors, changed.vectors)
    assert got.row(3) == {**dict.fromkeys(COLUMNS), "path": "new"}
    assert changed.vectors is not None
    (hits,) = store.search(changed.vectors[:1], 1)
    assert hits[0].id == "000000"
    assert hits[0].score == pytest.approx(1, abs=1e-6)
    old = records(0, 50)
    assert old.vectors is not None
    (hits,) = store.search(old.vectors[:1], 50)
    assert max(hit.score for hit in hits if hit.id == "000000") < 0.99


def test_values_change_where_the_vector_stays(store: Store) -> None:
    put = records(0, 50)
    store.upsert(put)
    assert put.vectors is not None
    store.upsert(Records(["000009"], put.vectors[9:10], {"width": [4321], "thumbnail": [b"new"]}))
    assert store.count() == 50
    assert store.count("width = 4321") == 1
    got = store.get(["000009"], columns=["width", "path", "thumbnail"])
    assert got.row(0) == {"width": 4321, "path": None, "thumbnail": b"new"}
    (hits,) = store.search(put.vectors[9:10], 1)
    assert (hits[0].id, hits[0].metadata["width"]) == ("000009", 4321)


def test_an_id_twice_in_one_batch_is_one_record(store: Store) -> None:
    put = records(0, 3)
    store.upsert(Records(["a", "b", "a"], put.vectors, {"width": [1, 2, 3]}))
    assert store.count() == 2
    got = store.get(["a"], columns=["width"])
    assert got.row(0) == {"width": 3}
    assert put.vectors is not None
    np.testing.assert_array_equal(got.vectors, put.vectors[2:])


def test_delete(store: Store) -> None:
    put = records(0, 100)
    store.upsert(put)
    assert store.delete([f"{i:06d}" for i in range(0, 100, 2)] + ["nobody", "000000"]) == 50
    assert store.delete(["000000"]) == 0
    assert store.delete([]) == 0
    assert store.count() == 50
    assert len(store.get(["000000", "000001"])) == 1
    assert put.vectors is not None
    (hits,) = store.search(put.vectors[:1], 100)
    assert sorted(hit.id for hit in hits) == [f"{i:06d}" for i in range(1, 100, 2)]
    assert store.delete(["000051", "000099"]) == 2  # a store may keep in memory what it has read
    (hits,) = store.search(put.vectors[99:], 100)
    assert sorted(hit.id for hit in hits) == [f"{i:06d}" for i in range(1, 99, 2) if i != 51]
    store.upsert(Records(["000000"], put.vectors[:1]))
    (hits,) = store.search(put.vectors[:1], 1)
    assert hits[0].id == "000000"


def test_equal_scores_come_by_id(store: Store) -> None:
    one = random_unit(1)
    ids = [f"{(i * 7919) % 400:04d}" for i in range(400)]
    store.upsert(Records(ids, np.repeat(one, 400, axis=0)))
    (hits,) = store.search(one, 25)
    assert [hit.id for hit in hits] == [f"{i:04d}" for i in range(25)]
    assert len({hit.score for hit in hits}) == 1


def test_an_empty_store_and_small_k(store: Store) -> None:
    assert store.count() == 0
    assert store.search(random_unit(2), 5) == [[], []]
    assert list(store.scan()) == []
    assert store.sample(5).shape == (0, D)
    store.upsert(records(0, 3))
    assert [len(hits) for hits in store.search(random_unit(2), 5)] == [3, 3]
    assert store.search(random_unit(2), 0) == [[], []]
    assert store.search(np.empty((0, D), np.float32), 5) == []


def test_scan_gives_every_record_once(store: Store) -> None:
    put = records(0, 300)
    store.upsert(put)
    batches = list(store.scan(batch_size=64, columns=["path", "sharp", "thumbnail"]))
    assert max(len(batch) for batch in batches) <= 64
    found = {}
    for batch in batches:
        assert batch.vectors is not None
        assert set(batch.columns) == {"path", "sharp", "thumbnail"}
        for i, each in enumerate(batch.ids):
            assert each not in found
            found[each] = (batch.row(i), batch.vectors[i])
    assert put.vectors is not None
    for i, each in enumerate(put.ids):
        row, vector = found.pop(each)
        assert row == {name: put.columns[name][i] for name in row}
        np.testing.assert_array_equal(vector, put.vectors[i])
    assert not found
    assert next(store.scan(vectors=False)).vectors is None


def test_many_queries_at_once(store: Store) -> None:
    put = records(0, 400)
    store.upsert(put)
    queries = random_unit(1500, seed=4)
    found = store.search(queries, 3, columns=[])
    assert len(found) == 1500
    for i in (0, 700, 1499):
        same(found[i], by_hand(put, queries[i], 3))


def test_sample_stands_for_the_whole(store: Store) -> None:
    put = records(0, 300)
    store.upsert(put)
    assert put.vectors is not None
    there = {row.tobytes() for row in put.vectors}
    some = store.sample(50)
    assert 40 <= len(some) <= 60
    assert some.dtype == np.float32
    assert {row.tobytes() for row in some} <= there
    everything = store.sample(1000)
    assert {row.tobytes() for row in everything} == there
