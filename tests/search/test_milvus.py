"""Milvus: what the contract (contract/) does not ask: several clients, growth, errors."""

import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from support import skip_without
from support.milvus_server import milvus_server
from support.milvus_toys import SCHEMA, ids_of, new_url, records, unit
from support.stores import close

from tandem.errors import StoreBusyError, StoreError, TandemError
from tandem.search.collection import open_collection
from tandem.search.stores.backends import create_store, exists, open_store, promote
from tandem.search.stores.milvus import backend as milvus_backend
from tandem.search.stores.milvus import search as milvus_search
from tandem.search.stores.milvus import store as milvus
from tandem.search.stores.milvus.client import Address, Connection, parse_address
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


# --- several clients ---


def test_what_one_client_has_written_the_other_sees(store: Store) -> None:
    other = open_store(store.url)
    try:
        for i in range(30):
            writer, reader = (store, other) if i % 2 else (other, store)
            one = unit(1, seed=i)
            writer.upsert(Records([f"{i}"], one, {"width": [i]}))
            assert reader.count() == i + 1
            assert reader.search(one, 1)[0][0].id == f"{i}"
            assert len(reader.get([f"{i}"])) == 1
        assert other.delete([f"{i}" for i in range(10)]) == 10
        assert store.count() == 20
        assert sorted(ids_of(store)) == sorted(f"{i}" for i in range(10, 30))
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
    with pytest.raises(StoreError, match="staging collection already"):
        create_store(store.url, SCHEMA, {}, staging=True)
    halfway = reader.scan(batch_size=10, vectors=False)
    next(halfway)
    assert reader.count() == 50
    promote(store.url)
    assert reader.count() == 1
    assert dict(reader.notes) == {"identity": "two"}
    assert dict(reader.schema.columns) == {"other": "text"}
    assert reader.search(unit(1, 4), 5)[0][0].metadata == {"other": "x"}
    with pytest.raises(StoreError):
        list(halfway)  # it is gone: an error, never half an answer
    reader.close()
    with pytest.raises(StoreError, match="no staging collection"):
        promote(store.url)


def test_a_promotion_that_was_cut_off_is_done(store: Store) -> None:
    """The name was moved, and the process died before the name of the staging collection was taken away."""
    create_store(store.url, SCHEMA, {"identity": "two"}, staging=True).close()
    connection = Connection(parse_address(store.url))
    name = connection.address.name
    new = connection.call("describe_collection", f"{name}__next")["collection_name"]
    connection.call("alter_alias", new, name)
    connection.close()
    assert dict(store.notes) == {"identity": "two"}
    assert not exists(store.url, staging=True)
    with pytest.raises(StoreError):
        open_store(store.url, staging=True)
    create_store(store.url, SCHEMA, {"identity": "three"}, staging=True).close()
    promote(store.url)
    assert dict(store.notes) == {"identity": "three"}


def test_one_opening_is_one_connection(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("milvus_lite")
    address = f"milvus-lite:{tmp_path}/photos.db/photos"
    create_store(address, SCHEMA, {"identity": "one"}).close()
    made = []

    class Counted(Connection):
        def __init__(self, address: Address) -> None:
            made.append(address)
            super().__init__(address)

    monkeypatch.setattr(milvus_backend, "Connection", Counted)
    with open_collection(address, must_exist=True) as collection:
        assert collection.count() == 0
        assert repr(collection).startswith("<tandem.Collection")
        assert collection.delete(["nobody"]) == 0
    assert len(made) == 1


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


def test_several_processes_write_at_once(store: Store) -> None:
    parts = [(0, 600), (300, 900), (600, 1200)]
    writers = [
        subprocess.Popen([sys.executable, "-c", WRITER, store.url, str(first), str(stop)]) for first, stop in parts
    ]
    assert [writer.wait() for writer in writers] == [0, 0, 0]
    assert store.count() == 1200
    assert ids_of(store, batch_size=7) == [f"{i:05d}" for i in range(1200)]
    assert store.count("width >= 600") == 600


def test_after_the_server_was_killed_and_restarted() -> None:
    pytest.importorskip("milvus", reason="needs the milvus wheel (Linux only)")
    with milvus_server() as server:
        url = f"milvus://{server.address}/photos"
        store = create_store(url, SCHEMA, {"identity": "one"})
        store.upsert(records(200))
        store.annotate({"model_name": "toy"})
        server.pause()
        began = time.monotonic()
        with pytest.raises(StoreError, match=f"cannot reach Milvus at {server.address}"):
            open_store(url)
        assert time.monotonic() - began < 60
        server.restart()
        assert dict(store.notes) == {"identity": "one", "model_name": "toy"}
        assert store.count() == 200
        assert store.search(unit(200)[7:8], 1)[0][0].id == "00007"
        store.upsert(records(10, "more"))
        assert store.count() == 210
        store.close()


# --- growth ---


def test_every_record_is_scanned_once_however_the_server_divides_them(store: Store) -> None:
    """Some in segments on disk, of unequal sizes, some still growing."""
    put = records(3000)
    assert put.vectors is not None
    connection = Connection(parse_address(store.url))
    name = connection.call("describe_collection", connection.address.name)["collection_name"]
    for start, stop in ((0, 2000), (1500, 2100), (2100, 2200), (2200, 3000)):
        part = slice(start, stop)
        columns = {name: values[part] for name, values in put.columns.items()}
        store.upsert(Records(put.ids[part], put.vectors[part], columns))
        if stop < 3000:
            connection.call("flush", name)
    connection.close()
    for size in (10_000, 1000, 170):
        assert ids_of(store, batch_size=size) == list(put.ids)
        assert ids_of(store, "path like '%7.jpg'", batch_size=size) == [each for each in put.ids if each[-1] == "7"]
    assert store.count() == 3000
    assert store.count("path like '%7.jpg'") == 300


def test_it_is_indexed_as_it_grows_and_stays_open_to_others(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(milvus, "EXACT_UP_TO", 1000)
    vectors = unit(3000)
    reader = open_store(store.url)
    wrong: list[object] = []
    stop = threading.Event()

    def read() -> None:
        while not stop.is_set():
            try:
                wrong.extend(hits for hits in reader.search(vectors[:2], 3) if not hits)
            except Exception as error:
                wrong.append(error)

    put = records(3000)
    store.upsert(Records(put.ids[:900], vectors[:900], {name: put.columns[name][:900] for name in put.columns}))
    thread = threading.Thread(target=read)
    thread.start()
    store.upsert(put)
    stop.set()
    thread.join()
    reader.close()
    assert not wrong
    connection = Connection(parse_address(store.url))
    name = connection.call("describe_collection", connection.address.name)["collection_name"]
    assert connection.call("describe_index", name, "vector")["index_type"] == "HNSW"
    connection.close()
    assert store.count() == 3000
    queries = unit(50, seed=1)
    found = store.search(queries, 10)
    right = sum(
        len({hit.id for hit in hits} & {put.ids[i] for i in np.argsort(-(vectors @ query))[:10]})
        for query, hits in zip(queries, found, strict=True)
    )
    assert right >= 485
    for where, count in (("width < 30", 10), ("width < 7", 7), ("width >= 0", 10)):
        assert [len(hits) for hits in store.search(queries, 10, where=where)] == [count] * 50
    asked: list[object] = []
    monkeypatch.setattr(milvus_search.Search, "_candidates", lambda *given: asked.append(given))
    few = np.flatnonzero(np.arange(3000) % 30 == 0)  # the graph would miss some: these are all compared
    numbers = ", ".join(map(str, few))
    for query, hits in zip(queries[:3], store.search(queries[:3], 10, where=f"width in ({numbers})"), strict=True):
        assert [hit.id for hit in hits] == [put.ids[few[i]] for i in np.argsort(-(vectors[few] @ query))[:10]]
    assert not asked


def test_hits_that_the_index_misses_are_found(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """A graph that loses its way gives too few; here it is made to, by an answer cut short."""
    store.upsert(records(300))
    whole = milvus_search.Search._candidates
    monkeypatch.setattr(
        milvus_search.Search, "_candidates", lambda *args: [rows[: len(rows) // 3] for rows in whole(*args)]
    )
    query = unit(1, seed=2)
    (hits,) = store.search(query, 20, where="width < 25")
    assert [hit.id for hit in hits] == [f"{i:05d}" for i in np.argsort(-(unit(300)[:25] @ query[0]))[:20]]


# --- limits and errors ---


def test_limits_are_named_before_anything_is_written(store: Store) -> None:
    with pytest.raises(StoreError, match="16384"):
        store.search(unit(1), 20_000)
    bad = (
        ({"path": ["fine", "x" * 70_000]}, "column path.*70000"),
        ({"thumbnail": [b"fine", b"x" * 60_000]}, "column thumbnail.*65535"),
        ({"path": ["fine", "\udcff"]}, "column path.*Unicode"),
        ({"width": [1, 2**63]}, "column width.*larger"),
        ({"width": [1, "two"]}, "column width is integer"),
    )
    for columns, words in bad:
        with pytest.raises(TandemError, match=words):
            store.upsert(Records(["a", "b"], unit(2), columns))
    for record_id in ("", "a\nb", "x" * 2000):
        with pytest.raises(StoreError, match="an id"):
            store.upsert(Records(["a", record_id], unit(2)))
    assert store.count() == 0
    assert len(store.get(["", "a\nb", "nobody\x00"])) == 0


def test_thumbnails_and_long_texts_in_a_large_batch(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """More than one message holds; small batches in a scan."""
    monkeypatch.setattr(milvus, "MAX_MESSAGE_BYTES", 200_000)
    thumbnails = [np.random.default_rng(i).bytes(10_000) for i in range(60)]
    texts = [("日本🐈" * 800)[:i] for i in range(60)]
    store.upsert(Records([f"{i}" for i in range(60)], unit(60), {"thumbnail": thumbnails, "path": texts}))
    got = store.get([f"{i}" for i in range(60)], columns=["thumbnail", "path"])
    assert list(got.columns["thumbnail"]) == thumbnails
    assert list(got.columns["path"]) == texts
    seen = {}
    for batch in store.scan(columns=["thumbnail"], batch_size=7, vectors=False):
        assert len(batch) <= 7
        seen.update(zip(batch.ids, batch.columns["thumbnail"], strict=True))
    assert [seen[f"{i}"] for i in range(60)] == thumbnails


def test_a_collection_that_is_not_ours(url: str) -> None:
    connection = Connection(parse_address(url))
    connection.call("create_collection", connection.address.name, dimension=4)
    connection.close()
    for act in (lambda: open_store(url), lambda: exists(url), lambda: create_store(url, SCHEMA, {})):
        with pytest.raises(StoreError, match="Tandem did not make"):
            act()


def test_nothing_is_written_to_stderr(url: str) -> None:
    program = f"""
from tandem.errors import StoreError
from tandem.search.stores.backends import create_store, exists, open_store
from tandem.search.stores.protocol import Schema
store = create_store({url!r}, Schema(4, {{"width": "integer"}}), {{}})
try:
    store._connection.call("query", "nothing_such", filter="what?")
except StoreError:
    pass
store.close()
for address in ("milvus://127.0.0.1:1/photos", {url + "_other"!r}):
    try:
        open_store(address)
    except StoreError:
        print("as it should")
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr, done.stdout) == (0, "", "as it should\n" * 2)


def test_a_file_of_milvus_lite_is_for_one_process_at_a_time(tmp_path: Path) -> None:
    pytest.importorskip("milvus_lite")
    address = f"milvus-lite:{tmp_path}/photos.db/photos"
    assert not exists(address)
    assert not (tmp_path / "photos.db").exists()
    store = create_store(address, SCHEMA, {})
    second = open_store(address)  # in the same process: fine
    store.upsert(records(20))
    assert second.count() == 20
    second.close()
    asking = [
        sys.executable,
        "-c",
        f"from tandem.search.stores.backends import open_store; print(open_store({address!r}).count())",
    ]
    refused = subprocess.run(asking, capture_output=True, text=True, check=False)
    assert StoreBusyError.__name__ in refused.stderr
    assert "another process" in refused.stderr
    store.close()
    allowed = subprocess.run(asking, capture_output=True, text=True, check=False)
    assert (allowed.stdout, allowed.stderr) == ("20\n", "")
