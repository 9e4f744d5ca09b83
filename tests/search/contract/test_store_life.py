"""The contract of stores: their notes and addresses, opening again, staging, removal; run against each kind."""

import numpy as np
import pytest
from support.store_contract import COLUMNS, NOTES, SCHEMA, D, by_hand, ids_of, random_unit, records, same
from support.stores import close

from tandem.errors import StoreExistsError, StoreNotFoundError
from tandem.search.stores.backends import backend, create_store, exists, open_store, promote
from tandem.search.stores.protocol import Records, Schema, Store


def test_notes(store: Store) -> None:
    assert dict(store.notes) == NOTES
    store.annotate({"model_name": "other", "more": "ü 'quoted'"})
    assert dict(store.notes) == {"model_name": "other", "identity": "abc", "more": "ü 'quoted'"}
    store.annotate({"more": ""})
    assert dict(store.notes) == {"model_name": "other", "identity": "abc"}


def test_it_is_there_when_opened_again(store: Store) -> None:
    put = records(0, 60)
    store.upsert(put)
    store.delete(["000003"])
    store.close()
    store.close()
    assert exists(store.url)
    again = open_store(store.url)
    try:
        assert again.url == store.url
        assert again.schema.dimensions == D
        assert dict(again.schema.columns) == COLUMNS
        assert dict(again.notes) == NOTES
        assert ids_of(again) == sorted(set(put.ids) - {"000003"})
        query = random_unit(1, seed=3)
        (hits,) = again.search(query, 5, where="width > 100")
        expected = [each for each in by_hand(put, query[0], 6, "width > 100") if each[0] != "000003"][:5]
        same(hits, expected)
    finally:
        again.close()


def test_there_is_one_store_at_an_address(store: Store) -> None:
    with pytest.raises(StoreExistsError):
        create_store(store.url, SCHEMA, NOTES)
    with pytest.raises(StoreNotFoundError):
        open_store(store.url + "_other")
    with pytest.raises(StoreNotFoundError):
        open_store(store.url, staging=True)
    assert not exists(store.url + "_other")


def test_the_place_of_a_store(store: Store) -> None:
    place = backend(store.url)
    assert place.url == store.url
    assert backend(place.url).name == place.name
    assert "/" not in place.name
    assert place.uploads is None or store.folder is None or store.folder not in place.uploads.parents
    if place.is_shared:
        reader = place.open()
        reader.upsert(records(0, 3))
        reader.close()
        assert store.count() == 3


def test_a_staging_store_takes_the_place(store: Store) -> None:
    url = store.url
    store.upsert(records(0, 20))
    assert not exists(url, staging=True)
    other = Schema(8, {"path": "text"})
    staging = create_store(url, other, {"model_name": "next"}, staging=True)
    staging.upsert(Records(["a"], np.eye(8, dtype=np.float32)[:1], {"path": ["p"]}))
    assert not staging.is_stale()
    staging.close()
    with pytest.raises(StoreExistsError):
        create_store(url, other, {}, staging=True)
    assert exists(url, staging=True)
    assert store.count() == 20
    staging = open_store(url, write=True, staging=True)
    staging.upsert(Records(["b"], np.eye(8, dtype=np.float32)[1:2], {"path": ["q"]}))
    assert store.folder is None or store.folder != staging.folder
    staging.close()
    reader = open_store(url)
    assert not reader.is_stale()
    store.close()
    promote(url)
    assert reader.is_stale()
    reader.close()
    assert not exists(url, staging=True)
    now = open_store(url)
    try:
        assert not now.is_stale()
        assert now.folder is None or now.folder.is_dir()
        assert now.schema.dimensions == 8
        assert now.notes["model_name"] == "next"
        assert ids_of(now) == ["a", "b"]
    finally:
        now.close()


def test_a_removed_store_is_gone_with_its_staging_store_and_can_be_made_again(store: Store) -> None:
    there, schema = backend(store.url), store.schema
    store.upsert(records(0, 5))
    there.create(schema, {"format": "1"}, staging=True).close()
    store.close()
    there.remove()
    assert not there.exists()
    with pytest.raises(StoreNotFoundError, match="no collection there"):
        there.open()
    with pytest.raises(StoreNotFoundError):
        there.remove()
    made = there.create(schema, {"format": "1"})
    try:
        assert made.count() == 0
        assert not there.exists(staging=True)
    finally:
        close(made)
