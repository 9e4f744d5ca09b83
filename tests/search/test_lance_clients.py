"""LanceDB with several clients, and versions: who reads while another writes."""

import contextlib
import random
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import Any

import pytest
from support import skip_without
from support.lance_toys import SCHEMA, ids_of, records, unit
from support.processes import LANCE, Child

from tandem.arrays import Vectors
from tandem.errors import (
    StoreError,
    StoreExistsError,
    StoreNotFoundError,
)
from tandem.search.stores.backends import create_store, exists, open_store, promote
from tandem.search.stores.lance import maintenance
from tandem.search.stores.lance.arrow import ArrowMapping
from tandem.search.stores.lance.database import Catalog, Database, create_catalog, parse_address
from tandem.search.stores.protocol import Records, Schema, Store

skip_without("lancedb")

pytest_plugins = ["support.lance_toys"]


# --- several clients ---


@pytest.mark.slow
def test_what_one_client_has_written_the_other_sees(store: Store) -> None:
    other = open_store(store.url)
    try:
        for i in range(12):
            writer, reader = (store, other) if i % 2 else (other, store)
            one = unit(1, seed=i)
            writer.upsert(Records([f"{i}"], one, {"width": [i]}))
            assert reader.count() == i + 1
            assert reader.search(one, 1)[0][0].id == f"{i}"
            assert len(reader.get([f"{i}"])) == 1
        assert other.delete([f"{i}" for i in range(10)]) == 10
        assert store.count() == 2
        assert ids_of(store) == ["10", "11"]
        other.annotate({"model_name": "toy"})
        assert dict(store.notes) == {"identity": "one", "model_name": "toy"}
    finally:
        other.close()


def test_an_open_client_sees_the_replacement_at_its_next_call(store: Store) -> None:
    store.upsert(records(50))
    reader = open_store(store.url)
    staging = create_store(store.url, Schema(4, {"other": "text"}), {"identity": "two"}, staging=True)
    staging.upsert(Records(["a"], unit(1, 4), {"other": ["x"]}))
    staging.close()
    with pytest.raises(StoreExistsError):
        create_store(store.url, SCHEMA, {}, staging=True)
    halfway = reader.scan(batch_size=10, vectors=False)
    seen = list(next(halfway).ids)
    assert reader.count() == 50
    promote(store.url)
    assert reader.count() == 1
    assert dict(reader.notes) == {"identity": "two"}
    assert dict(reader.schema.columns) == {"other": "text"}
    assert reader.search(unit(1, 4), 5)[0][0].metadata == {"other": "x"}
    with contextlib.suppress(StoreError):
        seen += [each for batch in halfway for each in batch.ids]
        assert sorted(seen) == list(records(50).ids)  # all of it, or an error: never half an answer
    reader.close()
    with pytest.raises(StoreError, match="no staging collection"):
        promote(store.url)


def test_a_promotion_that_was_cut_off_is_done(store: Store) -> None:
    """The catalog names the new table, and the process died before it removed the old one."""
    store.upsert(records(5))
    create_store(store.url, SCHEMA, {"identity": "two"}, staging=True).close()
    database = Database(parse_address(store.url))
    _, old = Catalog(database).promote()
    assert dict(store.notes) == {"identity": "two"}
    assert not exists(store.url, staging=True)
    assert old in tables(store.url)
    create_store(store.url, SCHEMA, {"identity": "three"}, staging=True).close()
    promote(store.url)
    assert dict(store.notes) == {"identity": "three"}
    assert len(tables(store.url)) == 2


@pytest.mark.parametrize("staging", [False, True])
def test_of_several_that_make_the_same_collection_one_does(url: str, staging: bool) -> None:
    if staging:
        create_store(url, SCHEMA, {}).close()
    together = threading.Barrier(4)

    def make(number: int) -> Store | None:
        together.wait()
        try:
            return create_store(url, SCHEMA, {"identity": str(number)}, staging=staging)
        except StoreExistsError:
            return None

    with ThreadPoolExecutor(4) as threads:
        made = [each for each in threads.map(make, range(4)) if each is not None]
    assert len(made) == 1
    made[0].upsert(records(3))
    again = open_store(url, staging=staging)
    assert dict(again.notes) == dict(made[0].notes)
    assert again.count() == 3
    made[0].close()
    assert len(tables(url)) == 2 + staging


def tables(url: str) -> list[str]:
    return list(Database(parse_address(url))._connection.list_tables().tables)


def test_who_loses_the_race_for_a_catalog_changes_nothing(store: Store) -> None:
    """LanceDB may let two create the same table: the second one's, which is empty, is committed over the first."""
    store.upsert(records(3))
    blank = Database(parse_address(store.url)).table("tandem").schema
    blank = blank.set(0, blank.field(0).with_metadata({"tandem.format": "1"}))
    for identity in ("one", "two", "three"):
        Database(parse_address(store.url))._connection.create_table("tandem", schema=blank, mode="overwrite")
        assert dict(store.notes) == {"identity": identity}
        assert dict(open_store(store.url).notes) == {"identity": identity}
        with pytest.raises(StoreExistsError):
            create_store(store.url, SCHEMA, {})
        following = {"one": "two", "two": "three"}.get(identity)
        if following:
            create_store(store.url, SCHEMA, {"identity": following}, staging=True).close()
            Database(parse_address(store.url))._connection.create_table("tandem", schema=blank, mode="overwrite")
            assert exists(store.url, staging=True)
            promote(store.url)


def test_a_creation_that_was_cut_off_leaves_nothing_in_the_way(url: str) -> None:
    """The catalog and a table of records were made, and the process died before it joined them."""
    database = Database(parse_address(url))
    create_catalog(database)
    database.create_table("records_0123456789ab", ArrowMapping(SCHEMA).arrow({}))
    assert not exists(url)
    with pytest.raises(StoreNotFoundError):
        open_store(url)
    create_store(url, SCHEMA, {}).close()
    create_store(url, SCHEMA, {}, staging=True).close()
    promote(url)
    assert len(tables(url)) == 2


def test_several_clients_annotate_at_once(store: Store) -> None:
    with ThreadPoolExecutor(4) as threads:
        list(threads.map(lambda i: open_store(store.url).annotate({f"note{i}": str(i), "last": str(i)}), range(8)))
    assert {f"note{i}": str(i) for i in range(8)}.items() <= dict(store.notes).items()


WRITER = """
import sys
import numpy as np
from tandem.search.stores.backends import open_store
from tandem.search.stores.protocol import Records
url, first, stop = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
store = open_store(url, write=True)
for start in range(first, stop, 50):
    numbers = list(range(start, start + 50))
    vectors = np.eye(8, dtype=np.float32)[np.arange(50) % 8]
    store.upsert(Records([f"{i:05d}" for i in numbers], vectors, {"width": numbers}))
store.close()
"""


@pytest.mark.slow
def test_several_processes_write_the_same_records_at_once(store: Store) -> None:
    parts = [(0, 400), (200, 600)]
    reader = open_store(store.url)
    with ExitStack() as stack:
        writers = [stack.enter_context(Child(LANCE, WRITER, store.url, str(first), str(stop))) for first, stop in parts]
        while any(writer.poll() is None for writer in writers):
            assert reader.count() % 50 == 0  # batches are whole, whoever looks
            time.sleep(0.05)
        assert [writer.wait() for writer in writers] == [0, 0]
    reader.close()
    assert ids_of(store, batch_size=7) == [f"{i:05d}" for i in range(600)]
    assert store.count("width >= 400") == 200


# --- versions ---


def test_a_scan_and_a_block_of_reading_see_one_version(store: Store) -> None:
    store.upsert(records(300))
    other = open_store(store.url)
    scan = store.scan(batch_size=50, columns=["width"])
    with store.reading():
        assert store.count() == 300
        other.delete([f"{i:05d}" for i in range(100)])
        other.upsert(Records(["00200", "new"], unit(2, seed=9), {"width": [-1, -1]}))
        assert store.count() == 300
        assert store.count("width < 0") == 0
        assert len(store.get(["00000", "new"])) == 1
        assert store.search(unit(300)[:1], 1)[0][0].id == "00000"
        thread: list[int] = []
        asking = threading.Thread(target=lambda: thread.append(store.count()))
        asking.start()
        asking.join()
        assert thread == [201]
    assert store.count() == 201
    found = {each: width for batch in scan for each, width in zip(batch.ids, batch.columns["width"], strict=True)}
    assert found == {f"{i:05d}": i for i in range(300)}
    other.close()


@pytest.mark.slow
def test_threads_read_while_another_client_writes(store: Store) -> None:
    store.upsert(records(50))
    writer = open_store(store.url)
    wrong: list[object] = []
    stop = threading.Event()

    def read() -> None:
        query = unit(50)[7:8]
        while not stop.is_set():
            try:
                hits = store.search(query, 3, columns=["width"])[0]
                if hits[0].id != "00007" or hits[0].metadata["width"] != 7:
                    wrong.append(hits)
                if store.count() % 50 or len(store.sample(20)) != 20:
                    wrong.append("count")
            except Exception as error:
                wrong.append(error)

    threads = [threading.Thread(target=read) for _ in range(3)]
    for thread in threads:
        thread.start()
    for i in range(8):
        writer.upsert(records(50, f"more{i}-", seed=i + 1))
    stop.set()
    for thread in threads:
        thread.join()
    writer.close()
    assert not wrong
    assert store.count() == 450


@pytest.mark.slow
def test_of_a_new_version_only_what_has_changed_is_read(local: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(maintenance, "COMPACT_EVERY", 8)
    monkeypatch.setattr(maintenance, "LOOK_EVERY", 8)
    local.upsert(records(2000))
    reader = open_store(local.url)
    reader.search(unit(1), 1)
    read: list[int] = []
    whole = ArrowMapping.vectors

    def counted(self: ArrowMapping, found: Any) -> Vectors:
        vectors = whole(self, found)
        read.append(len(vectors))
        return vectors

    monkeypatch.setattr(ArrowMapping, "vectors", counted)
    dice = random.Random(2)
    again = []
    for step in range(30):
        ids = [f"{i:05d}" for i in dice.sample(range(2500), 40)]
        if step % 3 == 2:
            local.delete(ids)
        else:
            local.upsert(Records(ids, unit(40, seed=step + 5), {"width": [step] * 40}))
        if step % 4 == 1:
            continue  # a version that the reader never sees
        read.clear()
        queries = unit(3, seed=100 + step)
        found = reader.search(queries, 50, columns=["width"])
        if sum(read) > 80:
            again.append(step)
        fresh = open_store(local.url)
        assert found == fresh.search(queries, 50, columns=["width"])
        fresh.close()
    assert again == [6, 11, 18, 23], "all are read again only where files were compacted"
    reader.close()
