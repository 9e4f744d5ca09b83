"""The local store beyond the contract: one process writes and many read, each from one moment."""

import os
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from support.embedded_toys import exact, filled, in_process, index_for_toys, records, unit, vectors_of

from tandem.errors import StoreBusyError, StoreError
from tandem.search.stores.embedded import generations
from tandem.search.stores.embedded.backend import EmbeddedBackend
from tandem.search.stores.protocol import Records


@pytest.fixture
def url(tmp_path: Path) -> str:
    return str(tmp_path / "photos.tandem")


@pytest.fixture
def small_index(monkeypatch: pytest.MonkeyPatch) -> None:
    index_for_toys(monkeypatch)


# One writes, many read


def test_a_second_writer_learns_who_writes(url: str) -> None:
    with filled(url, 10):
        with pytest.raises(StoreBusyError, match=f"process {os.getpid()} is writing.*can be searched"):
            EmbeddedBackend(url).open(write=True)
        code = (
            "from tandem.errors import StoreBusyError\n"
            "try: EmbeddedBackend(sys.argv[1]).open(write=True)\n"
            "except StoreBusyError as error: print(error)"
        )
        assert f"process {os.getpid()} is writing" in in_process(code, url)
    EmbeddedBackend(url).open(write=True).close()


def test_what_is_read_together_is_of_one_moment(url: str) -> None:
    with filled(url, 10) as writer, EmbeddedBackend(url).open() as reader:
        with reader.reading(), reader.reading():  # one within the other is no other moment
            assert reader.count() == 10
            writer.upsert(records(10, 15))
            writer.annotate({"greeting": "hello"})
            assert reader.count() == 10
            assert "greeting" not in reader.notes
            assert len(reader.search(vectors_of(records(0, 1)), 100)[0]) == 10
            assert in_thread(reader.count) == 15
            assert sum(len(each) for each in reader.scan()) == 15  # begins now, and may be read on later
        assert (reader.count(), reader.notes["greeting"]) == (15, "hello")


def in_thread(work: Callable[[], int]) -> int:
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(work).result()


def test_readers_see_each_batch_when_it_is_there(url: str) -> None:
    with filled(url, 10) as writer, EmbeddedBackend(url).open() as reader:
        assert reader.count() == 10
        other = subprocess.Popen(
            [
                sys.executable,
                "-c",
                "import sys\nfrom tandem.search.stores.embedded.backend import EmbeddedBackend\n"
                "store = EmbeddedBackend(sys.argv[1]).open()\n"
                "for line in sys.stdin: print(store.count(), flush=True)",
                url,
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert other.stdin is not None
        assert other.stdout is not None
        with other:
            for stop in (20, 30):
                writer.upsert(records(stop - 10, stop))
                assert reader.count() == stop
                (hits,) = reader.search(unit(10, stop - 10)[9:], 1)
                assert hits[0].id == f"{stop - 1:06d}"
                other.stdin.write("count\n")
                other.stdin.flush()
                assert other.stdout.readline() == f"{stop}\n"
            other.stdin.close()


def test_a_reader_cannot_write(url: str) -> None:
    filled(url, 10).close()
    with EmbeddedBackend(url).open() as reader:
        with pytest.raises(StoreError, match="opened for reading"):
            reader.upsert(records(0, 1))
        with pytest.raises(StoreError, match="opened for reading"):
            reader.annotate({"a": "b"})


def test_a_forked_process_opens_connections_of_its_own(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    filled(url, 10).close()
    with EmbeddedBackend(url).open() as reader:
        used = []
        for process in (1, 1, 2):
            monkeypatch.setattr(os, "getpid", lambda process=process: process)
            with reader.snapshots.connection() as connection:
                used.append(connection)
        assert used[0] is used[1]
        assert used[1] is not used[2]  # SQLite's connections do not survive a fork
        assert reader.count() == 10


def test_a_closed_store_says_so(url: str) -> None:
    store = filled(url, 10)
    store.close()
    for verb in (store.count, lambda: store.upsert(records(0, 1)), lambda: store.search(unit(1), 1)):
        with pytest.raises(StoreError, match="closed"):
            verb()


@pytest.mark.slow
def test_many_threads_search_while_one_writes(url: str, small_index: None) -> None:
    store = filled(url, 2000)
    query = unit(1, seed=77)
    failures: list[BaseException] = []
    done = threading.Event()

    def search() -> None:
        try:
            while not done.is_set():
                with EmbeddedBackend(url).open() as own:
                    for reader in (store, own):
                        (hits,) = reader.search(query, 5, where="number >= 0")
                        assert len(hits) == 5
                        assert [hit.score for hit in hits] == sorted((hit.score for hit in hits), reverse=True)
                        assert reader.count("number < 1000") in (0, 1000)  # those come and go together
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=search) for _ in range(4)]
    for thread in threads:
        thread.start()
    for i in range(5):
        store.delete([f"{n:06d}" for n in range(1000)])
        store.upsert(records(0, 1000, seed=i))
    done.set()
    for thread in threads:
        thread.join()
    store.close()
    assert not failures, failures[0]


# Snapshots and compaction


def test_a_scan_sees_one_moment(url: str) -> None:
    with filled(url, 3000) as store, EmbeddedBackend(url).open() as reader:
        before = {
            name: vector for batch in store.scan() for name, vector in zip(batch.ids, vectors_of(batch), strict=True)
        }
        scans = [
            store.scan(batch_size=100),
            reader.scan(batch_size=100),
            reader.scan(batch_size=100, where="number >= 0"),
        ]
        old = store.folder / "vectors-1.f32"
        assert old.exists()
        store.upsert(records(3000, 3100))
        store.upsert(Records(["000001"], unit(1, 5)))
        store.delete([f"{i:06d}" for i in range(100, 2900)])
        assert not old.exists(), "it was to be compacted meanwhile"
        for scan in scans:
            found = {name: vector for batch in scan for name, vector in zip(batch.ids, vectors_of(batch), strict=True)}
            assert found.keys() == before.keys()
            assert all((found[name] == before[name]).all() for name in before)
        assert store.count() == reader.count() == 300


def test_compaction_keeps_what_lives(url: str, small_index: None) -> None:
    with filled(url, 4000) as store:
        store.delete([f"{i:06d}" for i in range(0, 4000) if i % 4])
        assert store.count() == 1000
        with store.snapshots.take() as snapshot:
            assert (snapshot.state.rows, snapshot.state.deleted_count) == (1000, 0)
        got = store.get(["000004", "003996"], columns=["number", "thumbnail"])
        assert got.columns == {"number": [4, 3996], "thumbnail": [b"x" * 50] * 2}
        np.testing.assert_array_equal(vectors_of(got)[0], unit(1000, 0)[4])
        assert store.count("number >= 2000") == 500
        store.upsert(records(4000, 4100))
        assert store.count() == 1100
    with EmbeddedBackend(url).open() as store:
        query = unit(1, 3)
        assert [hit.id for hit in store.search(query, 10)[0]] == exact(store, query[0], 10)
    assert len(list(store.folder.glob("vectors-*"))) == 1
    connection = sqlite3.connect(store.folder / "records.sqlite")
    assert connection.execute("SELECT count(*) FROM attachments").fetchone() == (1100,)
    connection.close()


def test_values_alone_are_changed_in_place(url: str) -> None:
    with filled(url, 500) as store:
        put = records(0, 500)
        changed = {**put.columns, "number": [i + 1000 for i in range(500)]}
        for _ in range(10):
            store.upsert(Records(put.ids, put.vectors, changed))
        with store.snapshots.take() as snapshot:
            assert (snapshot.state.rows, snapshot.state.deleted_count) == (500, 0)
            assert snapshot.connection.execute("SELECT count(*) FROM attachments").fetchone() == (500,)
        assert store.count("number >= 1000") == 500


def test_what_an_interrupted_batch_left_is_overwritten(url: str) -> None:
    filled(url, 100).close()
    vectors = generations.folder(url) / "vectors-1.f32"
    size = vectors.stat().st_size
    with vectors.open("ab") as file:
        file.write(b"\xff" * 1000)
    (generations.folder(url) / "vectors-9.f32").write_bytes(b"half a compaction")
    (generations.folder(url) / "index-draft-1").write_bytes(b"half an index")
    with EmbeddedBackend(url).open() as store:
        assert store.count() == 100
        assert len(store.search(unit(1), 200)[0]) == 100
    with EmbeddedBackend(url).open(write=True) as store:
        store.upsert(records(100, 200))
        np.testing.assert_array_equal(vectors_of(store.get(["000150"]))[0], unit(100, 100)[50])
    assert vectors.stat().st_size == 2 * size
    assert not list(store.folder.glob("vectors-9.f32"))
    assert not list(store.folder.glob("index-draft-*"))
