"""LanceDB: what the contract (test_store.py) does not ask: several clients, versions, growth, crashes, errors."""

import contextlib
import random
import re
import signal
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support import s3_server, toy
from test_filters import SCHEMA as FILTER_SCHEMA
from test_filters import random_filter, random_row

import tandem
from tandem import weights
from tandem.arrays import Vectors
from tandem.cli import main
from tandem.errors import (
    MissingExtraError,
    StoreBusyError,
    StoreError,
    StoreExistsError,
    StoreNotFoundError,
    TandemError,
)
from tandem.search.migration import migrate
from tandem.search.stores.backends import backend, create_store, exists, open_store, promote
from tandem.search.stores.filter_parser import parse
from tandem.search.stores.filters import matches
from tandem.search.stores.lance import backend as backend_module
from tandem.search.stores.lance import search, snapshots, upkeep
from tandem.search.stores.lance import store as store_module
from tandem.search.stores.lance.database import CURRENT, Catalog, Database, _translated, create_catalog, parse_address
from tandem.search.stores.lance.filters import translated
from tandem.search.stores.lance.layout import Layout
from tandem.search.stores.lance.snapshots import IN_MEMORY
from tandem.search.stores.protocol import Records, Schema, Store

pytest.importorskip("lancedb")

D = 8
SCHEMA = Schema(D, {"path": "text", "width": "integer", "thumbnail": "bytes"})


def unit(n: int, d: int = D, seed: int = 0) -> Vectors:
    vectors = np.random.default_rng(seed).standard_normal((n, d))
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def records(n: int, prefix: str = "", seed: int = 0) -> Records:
    return Records(
        [f"{prefix}{i:05d}" for i in range(n)],
        unit(n, seed=seed),
        {"path": [f"/photos/{prefix}{i}.jpg" for i in range(n)], "width": list(range(n))},
    )


def ids_of(store: Store, where: str | None = None, batch_size: int = 8192) -> list[str]:
    batches = store.scan(where=where, columns=[], vectors=False, batch_size=batch_size)
    return sorted(each for batch in batches for each in batch.ids)


def table_of(store: Store) -> Any:
    """LanceDB's own view of the table, as of its newest version."""
    database = Database(parse_address(store.url))
    return database.table(Catalog(database).read()[CURRENT])


@pytest.fixture(params=["folder", pytest.param("s3", marks=pytest.mark.s3)])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """An address where nothing is, in a folder and in a bucket."""
    if request.param == "folder":
        return f"lance:{tmp_path}/photos"
    pytest.importorskip("moto")
    s3_server.shared_server()
    return f"lance+s3://{s3_server.BUCKET}/some/where/photos_{uuid.uuid4().hex[:12]}"


@pytest.fixture
def store(url: str) -> Iterator[Store]:
    made = create_store(url, SCHEMA, {"identity": "one"})
    yield made
    made.close()


@pytest.fixture
def local(tmp_path: Path) -> Iterator[Store]:
    made = create_store(f"lance:{tmp_path}/photos", SCHEMA, {"identity": "one"})
    yield made
    made.close()


# --- several clients ---


def test_what_one_client_was_told_is_done_the_other_sees(store: Store) -> None:
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
    database.create_table("records_0123456789ab", Layout(SCHEMA).arrow({}))
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
    writers = [
        subprocess.Popen([sys.executable, "-c", WRITER, store.url, str(first), str(stop)]) for first, stop in parts
    ]
    reader = open_store(store.url)
    while any(writer.poll() is None for writer in writers):
        assert reader.count() % 50 == 0  # batches are whole, whoever looks
        time.sleep(0.05)
    reader.close()
    assert [writer.wait() for writer in writers] == [0, 0]
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


def test_of_a_new_version_only_what_has_changed_is_read(local: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(upkeep, "COMPACT_EVERY", 8)
    monkeypatch.setattr(upkeep, "LOOK_EVERY", 8)
    local.upsert(records(2000))
    reader = open_store(local.url)
    reader.search(unit(1), 1)
    read: list[int] = []
    whole = Layout.vectors

    def counted(self: Layout, found: Any) -> Vectors:
        vectors = whole(self, found)
        read.append(len(vectors))
        return vectors

    monkeypatch.setattr(Layout, "vectors", counted)
    dice = random.Random(2)
    again = 0
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
        again += sum(read) > 80
        fresh = open_store(local.url)
        assert found == fresh.search(queries, 50, columns=["width"])
        fresh.close()
    assert again <= 6, "all are read again only where files were compacted"
    reader.close()


# --- crashes ---

KILLED = """
import sys
import numpy as np
from tandem.search.stores.backends import open_store
from tandem.search.stores.lance import upkeep
from tandem.search.stores.protocol import Records
upkeep.LOOK_EVERY, upkeep.COMPACT_EVERY, upkeep.ID_INDEX_FROM = 4, 8, 100
url, step = sys.argv[1], int(sys.argv[2])
store = open_store(url, write=True)
print("ready", flush=True)
while True:
    names = [f"{(step * 37 + i) % 1500:04d}" for i in range(300)]
    print("before", step, flush=True)
    store.upsert(Records(names, np.eye(8, dtype=np.float32)[np.arange(300) % 8], {"width": [step] * 300}))
    print("after", step, flush=True)
    step += 1
"""


@pytest.mark.kill
@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="kills processes as POSIX does")
def test_a_writer_that_is_killed_leaves_whole_batches(store: Store) -> None:
    """In the middle of an upsert, or of compacting: what was acknowledged is there, the last batch wholly or not."""
    dice = random.Random(3)
    expected: dict[str, int] = {}
    step = 0
    for _ in range(3):
        child = subprocess.Popen(
            [sys.executable, "-c", KILLED, store.url, str(step)], stdout=subprocess.PIPE, text=True
        )
        assert child.stdout is not None
        assert child.stdout.readline() == "ready\n"
        time.sleep(dice.uniform(0.05, 0.6))
        child.send_signal(signal.SIGKILL)
        told = [line.split() for line in child.stdout.read().splitlines(keepends=True) if line.endswith("\n")]
        child.wait()
        child.stdout.close()
        acknowledged = [int(number) for word, number in told if word == "after"]
        begun = [int(number) for word, number in told if word == "before"]
        for done in acknowledged:
            expected |= {f"{(done * 37 + i) % 1500:04d}": done for i in range(300)}
        found = {
            each: int(str(width))
            for batch in store.scan(columns=["width"], vectors=False)
            for each, width in zip(batch.ids, batch.columns["width"], strict=True)
        }
        if found != expected:
            (last,) = set(begun) - set(acknowledged)
            expected |= {f"{(last * 37 + i) % 1500:04d}": last for i in range(300)}
        assert found == expected
        step = max(begun, default=step) + 1
    assert step > 3, "the child never came to write"


def test_a_folder_is_synced_before_a_batch_is_acknowledged(
    local: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = parse_address(local.url).folder
    assert folder is not None
    synced: set[Path] = set()
    monkeypatch.setattr(backend_module, "sync", synced.add)
    create_store(f"lance:{tmp_path}/other", SCHEMA, {}).close()
    assert {tmp_path, tmp_path / "other", *(tmp_path / "other").rglob("*")} <= synced
    monkeypatch.setattr(store_module, "sync", synced.add)
    for act in (
        lambda: local.upsert(records(20)),
        lambda: local.delete(["00003"]),
        lambda: local.annotate({"model_name": "toy"}),
    ):
        before = set(folder.rglob("*"))
        synced.clear()
        act()
        new = set(folder.rglob("*")) - before
        assert any(path.suffix == ".manifest" for path in new)
        assert new <= synced
        assert {path.parent for path in new} <= synced


# --- filters ---


def filter_records(n: int, dice: random.Random) -> Records:
    rows = [random_row(dice) for _ in range(n)]
    for row in rows:  # a column of reals gives back reals
        latitude = row["latitude"]
        row["latitude"] = float(latitude) if isinstance(latitude, int) else latitude
    columns = {name: [row[name] for row in rows] for name in FILTER_SCHEMA.columns if name != "thumbnail"}
    return Records([f"{i:04d}{row['id']}" for i, row in enumerate(rows)], unit(n, 4), columns)


def nested(depth: int, right: bool) -> str:
    """Conditions in parentheses: SQL parsers count those on the right twice."""
    text = "width = 1"
    for i in range(depth):
        other = f"width = {i}" if i % 2 else "path not like '%a%'"
        word = "or" if i % 3 else "and"
        text = f"{other} {word} ({text})" if right else f"({text}) {word} {other}"
    return text


def test_random_filters_mean_the_same_as_everywhere(tmp_path: Path) -> None:
    """NULLs, odd text, numbers at the edges, patterns, depth, and what LanceDB's SQL cannot say."""
    dice = random.Random(7)
    put = filter_records(80, dice)
    rows = [{**put.row(i), "id": each} for i, each in enumerate(put.ids)]
    filters = [random_filter(dice, 3) for _ in range(150)] + [
        f"{column} {operator} {number}"
        for column in ("width", "latitude")
        for operator in ("=", "!=", "<", "<=", ">", ">=")
        for number in (-(2**63), 2**63 - 1, 2**53 + 1, 1.5, 1e300, -1e300, "-0.0")
    ]
    filters += ["width in (-9223372036854775808, 1, 2.5)", "width not in (1.5)", "latitude in (0.5, 9007199254740993)"]
    filters += [
        "path = '\" or id != \"'",
        "path != '\\'",
        "path = '\\\" or true or \"'",
        "not (path = 'x\ny\x00' or path < '\t')",
        "path like '\U0010ffff%'",
        "path not like 'a%'",
        "path like '\\%'",
        "path not like '%\\\\'",
        "path like '~%' or path ilike 'A%'",
        "path not ilike '%É%'",
        "path ilike '" + "%a" * 60 + "%'",
        "path ilike '" + "%_" * 2000 + "'",
        "not path like '" + "_%" * 2000 + "' and width > 0",
        "sharp in (true, false)",
        "sharp not in (true)",
        "sharp in (false, false)",
        " or ".join(f"(width = {i} and path is not null)" for i in range(200)),
        " and ".join(f"width != {i}" for i in range(10, 500)),
        f"path in ({', '.join(repr(str(i)) for i in range(9000))}, 'ab')",
        *(nested(depth, right) for depth in (5, 20, 30, 40, 48) for right in (False, True)),
    ]
    store = create_store(f"lance:{tmp_path}/photos", FILTER_SCHEMA, {})
    seen = 0
    try:
        store.upsert(put)
        for where in filters:
            expression = parse(where, FILTER_SCHEMA)
            expected = [row["id"] for row in rows if matches(expression, row) is True]
            assert ids_of(store, where) == expected, where
            assert store.count(where) == len(expected), where
            seen += len(expected) not in (0, len(rows))
    finally:
        store.close()
    assert seen > 100, "the filters must tell records apart"
    assert not translated(parse(nested(48, True), FILTER_SCHEMA), FILTER_SCHEMA, Layout(FILTER_SCHEMA).fields).exact


def test_case_is_ignored_as_everywhere(tmp_path: Path) -> None:
    """Each character that has cases, against those that Python takes for the same; LanceDB's ILIKE has others."""
    cased = [chr(code) for code in range(0x110000) if not 0xD800 <= code <= 0xDFFF]
    cased = [each for each in cased if each.lower() != each or each.upper() != each]
    store = create_store(f"lance:{tmp_path}/photos", Schema(4, {"path": "text"}), {})
    try:
        vectors = np.tile(unit(1, 4), (len(cased), 1))
        store.upsert(Records([f"{ord(each):06x}" for each in cased], vectors, {"path": cased}))
        together = "".join(cased)
        for letter in (
            "k",
            "ſ",
            "İ",
            "ı",
            "ß",
            "Σ",
            "Ω",
            "µ",
            "ǅ",
            "Ა",
            "\U00010400",
            "ͅ",
            *random.Random(1).sample(cased, 20),
        ):
            expected = sorted(
                f"{ord(each):06x}" for each in set(re.findall(re.escape(letter), together, re.IGNORECASE))
            )
            assert ids_of(store, f"path ilike '{letter}'") == expected
    finally:
        store.close()


# --- growth ---


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


def test_small_files_become_large_ones_and_old_versions_go(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(upkeep, "LOOK_EVERY", 8)
    monkeypatch.setattr(upkeep, "COMPACT_EVERY", 16)
    monkeypatch.setattr(upkeep, "KEEP", timedelta(milliseconds=1))
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
    monkeypatch.setattr(upkeep, "LOOK_EVERY", 1)
    monkeypatch.setattr(upkeep, "INDEX_FROM", 1000)
    local.upsert(records(1200))
    assert [index.name for index in table_of(local).list_indices()] == ["vector_for_1200"]
    local.upsert(records(4000))
    assert [index.name for index in table_of(local).list_indices()] == ["vector_for_1200"]
    local.upsert(records(6000))
    names = sorted(index.name for index in table_of(local).list_indices())
    assert names == ["id_idx", "vector_for_6000"]


def test_vectors_of_any_length_are_indexed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(upkeep, "LOOK_EVERY", 1)
    monkeypatch.setattr(upkeep, "INDEX_FROM", 300)
    store = create_store(f"lance:{tmp_path}/photos", Schema(5, {}), {})
    store.upsert(Records([str(i) for i in range(400)], unit(400, 5)))
    assert [index.index_type for index in table_of(store).list_indices()] == ["IvfFlat"]
    store.close()


def test_upkeep_that_fails_loses_no_batch(
    local: Store, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(upkeep, "LOOK_EVERY", 1)

    def full(*_: object) -> None:
        raise OSError("No space left on device")

    monkeypatch.setattr(upkeep, "_index", full)
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


# --- collections ---


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Two models that are alike in all but their weights."""
    folder = tmp_path_factory.mktemp("models")
    for seed, name in enumerate(("one", "other")):
        weights.write(toy.checkpoint(seed=seed, name=name), folder / name, "tandem")
    return folder / "one", folder / "other"


def test_a_collection_is_filled_asked_and_moved(
    url: str, tmp_path: Path, models: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TANDEM_HOME", str(tmp_path / "home"))
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    for i in range(8):
        toy.picture(i, (40 + 10 * i, 60)).save(pictures / f"{i}.png")
    photos = tandem.open(url, models[0])
    assert photos.add(pictures).added == 8
    (ledger,) = (tmp_path / "home" / "ledgers").glob("*.sqlite")
    assert ledger.stem == photos.store.notes["identity"]

    other = tandem.open(url)
    assert other.search(image=pictures / "3.png", k=1)[0].path == str(pictures / "3.png")
    assert len(other.search("a dog", k=5, where="width >= 60")) == 5
    first = other.search(image=pictures / "5.png", k=1)[0]
    assert other.delete([first.id]) == 1
    assert photos.count() == 7
    assert photos.add(pictures).unchanged == 8  # what was taken out stays out

    moved = migrate(url, tandem.load(models[1]))
    assert (moved.done, moved.images, moved.lost) == (True, 7, 0)
    assert other.store.is_stale()
    now = tandem.open(url)
    assert now.model.name == "other"
    assert now.search(image=pictures / "3.png", k=1)[0].score == pytest.approx(1, abs=1e-5)
    assert now.add(pictures).unchanged >= 7


def test_index_and_search_as_commands(
    url: str,
    tmp_path: Path,
    models: tuple[Path, Path],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("TANDEM_HOME", str(tmp_path / "home"))
    toy.picture(1, (40, 60)).save(tmp_path / "a.png")
    assert main(["index", str(tmp_path / "a.png"), "--to", url, "--model", str(models[0])]) == 0
    assert main(["search", url, "--image", str(tmp_path / "a.png")]) == 0
    assert "a.png" in capsys.readouterr().out
    assert main(["search", f"{url}_other", "a dog"]) == 2
    assert "no collection there" in capsys.readouterr().err


# --- limits and errors ---


def test_odd_texts_and_values_that_are_refused(store: Store) -> None:
    ids = ["a\\b", "it's", "nul\0x", "nl\nx", "日本🐈", 'say "b"', "%", "", "a`b"]
    store.upsert(Records(ids, unit(len(ids)), {"path": list(ids)}))
    assert list(store.get(ids, columns=["path"]).columns["path"]) == ids
    assert store.delete(ids[:4]) == 4
    bad = (
        ({"path": ["fine", "\udcff"]}, "column path.*Unicode"),
        ({"width": [1, 2**63]}, "column width.*larger"),
        ({"width": [1, "two"]}, "column width is integer"),
        ({"width": [1, True]}, "column width is integer"),
    )
    for columns, words in bad:
        with pytest.raises(StoreError, match=words):
            store.upsert(Records(["a", "b"], unit(2), columns))
    with pytest.raises(TandemError, match="NaN"):
        store.search(np.full((1, D), np.nan, np.float32), 3)
    assert len(store.get(["\udcff"])) == store.delete(["\udcff"]) == 0
    assert store.count() == len(ids) - 4
    store.close()
    for act in (store.count, lambda: store.upsert(records(1))):
        with pytest.raises(StoreError, match="closed"):
            act()


def test_columns_of_any_name(local: Store, tmp_path: Path) -> None:
    """A column that no field can be called is kept under another; the others stay as they are, for other tools."""
    names = ["path", "Path", "a column", "vector", "_rowid", "column_1", "order", "x`y", "äö", "_distance", "select"]
    store = create_store(f"lance:{tmp_path}/other", Schema(4, dict.fromkeys(names, "integer")), {})
    store.upsert(Records(["a", "b"], unit(2, 4), {name: [number, -1] for number, name in enumerate(names)}))
    for number, name in enumerate(names):
        quoted = '"' + name + '"'
        assert ids_of(store, f"{quoted} = {number}") == ["a"]
    assert store.get(["a"], columns=names).row(0) == {name: number for number, name in enumerate(names)}
    (hits,) = store.search(unit(2, 4)[:1], 1)
    assert hits[0].metadata == {name: number for number, name in enumerate(names)}
    assert {"path", "order", "select"} <= set(table_of(store).schema.names)
    store.close()


def test_what_tandem_did_not_make(url: str, tmp_path: Path) -> None:
    import pyarrow as pa

    Database(parse_address(url)).create_table("tandem", pa.schema([pa.field("x", pa.string())]))
    for act in (
        lambda: open_store(url),
        lambda: exists(url),
        lambda: create_store(url, SCHEMA, {}),
        backend(url).remove,
    ):
        with pytest.raises(StoreError, match="Tandem did not make"):
            act()
    (tmp_path / "notes.txt").write_text("mine")
    for address, words in ((f"lance:{tmp_path}", "empty or a new folder"), (f"lance:{tmp_path}/notes.txt", "a file")):
        with pytest.raises(StoreError, match=words):
            create_store(address, SCHEMA, {})
    assert not exists(f"lance:{tmp_path}/nothing")
    assert not (tmp_path / "nothing").exists()


@pytest.mark.parametrize(
    ("address", "words"),
    [
        ("lance+s3://user:secret@bucket/photos", "AWS_ACCESS_KEY_ID"),
        ("lance+s3://bucket/photos?key=secret", "AWS_ACCESS_KEY_ID"),
        ("lance+s3://bucket", "lance\\+s3://BUCKET/NAME"),
        ("lance+s3:///photos", "lance\\+s3://BUCKET/NAME"),
        ("lance+ftp://bucket/photos", "lance\\+s3://BUCKET/NAME"),
        ("lance+s3://[bucket/photos", "cannot be read"),
        ("lance:", "lance:FOLDER"),
        ("lance://photos", "lance:FOLDER"),
    ],
)
def test_addresses_that_lead_nowhere(address: str, words: str) -> None:
    for act in (lambda: open_store(address), lambda: create_store(address, SCHEMA, {})):
        with pytest.raises(StoreError, match=words) as caught:
            act()
        assert "secret" not in str(caught.value)


def test_addresses() -> None:
    place = backend("lance+s3://bucket/some/where/photos/")
    assert (place.url, place.name, place.is_shared) == ("lance+s3://bucket/some/where/photos", "photos", True)
    assert parse_address("lance+gs://bucket/photos").uri == "gs://bucket/photos"
    assert parse_address("lance+az://container/photos").uri == "az://container/photos"
    assert backend("lance:~/photos.lance").url == f"lance:{Path.home()}/photos.lance"
    assert backend("lance:photos.lance").name == "photos"


@pytest.mark.s3
@pytest.mark.slow
def test_buckets_that_cannot_be_reached_are_said_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("moto")
    s3_server.shared_server()
    with pytest.raises(StoreError, match="no bucket of that name"):
        open_store("lance+s3://nosuchbucket/photos")
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    with pytest.raises(StoreError, match=r"cannot be reached.*AWS_ENDPOINT_URL") as caught:
        open_store(f"lance+s3://{s3_server.BUCKET}/photos")
    assert "\n" not in str(caught.value)


def test_errors_of_object_storage_are_ours() -> None:
    address = parse_address("lance+s3://bucket/photos")
    for message, kind, words in (
        ("Generic S3 error: Client error with status 403 Forbidden: AccessDenied", StoreError, "credentials"),
        ("Failed to get AWS credentials: ProviderError", StoreError, "credentials"),
        ("lance error: Commit conflict for version 7: this transaction was ...", StoreBusyError, "other processes"),
        ("kind: Builder, source: BadScheme", StoreError, "AWS_ALLOW_HTTP"),
        ("Too many\nconcurrent writers", StoreBusyError, "other processes"),
        ("something\n  else", StoreError, "LanceDB: something else"),
    ):
        error = _translated(address, RuntimeError(message))
        assert type(error) is kind
        assert words in str(error)


@pytest.mark.slow
def test_nothing_is_written_to_stderr_and_lancedb_is_imported_when_it_is_needed(tmp_path: Path) -> None:
    program = f"""
import sys
from tandem.search.stores.backends import backend, create_store, open_store
from tandem.search.stores.protocol import Records, Schema
import numpy as np
create_store({str(tmp_path / "c.tandem")!r}, Schema(4, {{"width": "integer"}}), {{}}).close()
backend("lance+s3://bucket/photos")
assert "lancedb" not in sys.modules and "pyarrow" not in sys.modules
store = create_store({f"lance:{tmp_path}/c.lance"!r}, Schema(4, {{"width": "integer"}}), {{}})
from tandem.search.stores.lance import upkeep
upkeep.LOOK_EVERY = upkeep.INDEX_FROM = 1
rows = np.random.default_rng(0).standard_normal((300, 4)).astype(np.float32)
for _ in range(3):
    store.upsert(Records([str(i) for i in range(300)], rows))
assert len(store.search(rows[:1], 5)[0]) == 5
store.close()
print("as it should")
"""
    done = subprocess.run([sys.executable, "-W", "always", "-c", program], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr, done.stdout) == (0, "", "as it should\n")


def test_without_lancedb_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "lancedb", None)
    with pytest.raises(MissingExtraError, match=r"tandem-clip\[lance\]"):
        open_store("lance+s3://bucket/photos")
    with pytest.raises(MissingExtraError, match=r"tandem-clip\[lance\]"):
        create_store(f"lance:{tmp_path}/photos", SCHEMA, {})
