"""Kill the writer of a local store at random moments: what was acknowledged is there, whole, and can be found.

Each round a child process writes and is killed by SIGKILL while it inserts, replaces, deletes, makes its index, or
compacts; another process then opens what is left and compares it with what the child had acknowledged. Then the next
child goes on from there: so recovery, and the index made after recovery, are killed too.

More rounds: TANDEM_KILLS=200 pytest tests/test_embedded_crash.py
"""

import os
import random
import signal
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.processes import EMBEDDED, Child

from tandem.search.stores.embedded import nearest
from tandem.search.stores.embedded.backend import EmbeddedBackend
from tandem.search.stores.protocol import Schema

pytestmark = [
    pytest.mark.kill,
    pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="kills processes as POSIX does"),
]
KILLS = int(os.environ.get("TANDEM_KILLS", "20"))
TESTS = Path(__file__).parent

# What a child does: batches of ids (new and old ones), sometimes deletes; it tells before and after each step.
WRITER = """
import random, sys
import numpy as np
from tandem.search.stores.embedded.backend import EmbeddedBackend
from tandem.search.stores.embedded import nearest
from tandem.search.stores.embedded import store as store_module
from tandem.search.stores.embedded import index_maintainer
from tandem.search.stores.protocol import Records

index_maintainer.INDEX_FROM = 300       # so that toys have an index, which is refreshed often
nearest.EXACT_BELOW = 100
index_maintainer.QUIET_S, index_maintainer.MAX_BEHIND, index_maintainer.MAX_BEHIND_AT_REST = 0.01, 0.0, 50
store_module.COMPACT_FROM = 200

def vectors(step, n):
    rows = np.random.default_rng(step).standard_normal((n, 16)).astype(np.float32)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)

url, step = sys.argv[1], int(sys.argv[2])
store = EmbeddedBackend(url).open(write=True)
print("ready", flush=True)
while True:
    choose = random.Random(step)
    names = [f"{i:04d}" for i in choose.sample(range(3000), choose.choice((50, 200, 800)))]
    if step % 5 == 4:
        print("before", step, flush=True)
        store.delete(names)
    else:
        print("before", step, flush=True)
        blobs = [bytes([step % 256]) * 40] * len(names)
        store.upsert(Records(names, vectors(step, len(names)), {"step": [step] * len(names), "blob": blobs}))
    print("after", step, flush=True)
    step += 1
    if step % 9 == 0:
        store.close()
        print("closed", step, flush=True)
        store = EmbeddedBackend(url).open(write=True)
"""


@dataclass(frozen=True)
class Left:
    """What another process than the killed one finds: id -> step, id -> vector, recall of its searches, rows."""

    found: dict[str, int]
    vectors: dict[str, np.ndarray]
    recall: float | None
    rows: int
    live: int
    index_rows: int


def read_back(url: str) -> Left:
    """Read and search all of a store, as a process does that has just opened it."""
    store = EmbeddedBackend(url).open()
    try:
        found: dict[str, int] = {}
        vectors: dict[str, np.ndarray] = {}
        for batch in store.scan(columns=["step", "blob"]):
            assert batch.vectors is not None
            for i, each in enumerate(batch.ids):
                row = batch.row(i)
                assert row["blob"] == bytes([row["step"] % 256]) * 40, (each, row)
                assert each not in found
                found[each], vectors[each] = row["step"], batch.vectors[i]
        assert store.count() == len(found) == store.count("step >= 0"), (store.count(), len(found))
        recall = None
        if found:
            names, rows = list(vectors), np.stack(list(vectors.values()))
            queries = np.random.default_rng(1).standard_normal((20, 16)).astype(np.float32)
            queries /= np.linalg.norm(queries, axis=1, keepdims=True)
            hits = store.search(queries, 5)
            exact = [{names[j] for j in np.argsort(-(rows @ query))[:5]} for query in queries]
            right = sum(len({hit.id for hit in each} & best) for each, best in zip(hits, exact, strict=True))
            recall = right / sum(map(len, exact))
            every = store.search(queries[:1], len(names))[0]
            assert {hit.id for hit in every} == set(names)
            some = store.search(queries[:1], 5, where="step >= 0")[0]
            assert len(some) == min(5, len(names))
        with store.snapshots.take() as snapshot:
            state = snapshot.state
        return Left(found, vectors, recall, state.rows, state.live, state.index_rows)
    finally:
        store.close()


def expected_batch(step: int) -> tuple[list[str], Any]:
    choose = random.Random(step)
    names = [f"{i:04d}" for i in choose.sample(range(3000), choose.choice((50, 200, 800)))]
    rows = np.random.default_rng(step).standard_normal((len(names), 16)).astype(np.float32)
    return names, rows / np.linalg.norm(rows, axis=1, keepdims=True)


def applied(model: dict[str, int], step: int) -> dict[str, int]:
    """The records (id -> step that wrote it) after one step more."""
    names, _ = expected_batch(step)
    if step % 5 == 4:
        return {name: each for name, each in model.items() if name not in set(names)}
    return {**model, **dict.fromkeys(names, step)}


def test_nothing_acknowledged_is_lost(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nearest, "EXACT_BELOW", 100)  # so that toys are searched by their index
    url = str(tmp_path / "photos.tandem")
    EmbeddedBackend(url).create(Schema(16, {"step": "integer", "blob": "bytes"}), {}).close()
    luck = random.Random(KILLS)
    model: dict[str, int] = {}
    step = 0
    recalls, indexed, most_files, in_index, in_compaction = [], 0, 0, 0, 0
    for kill in range(KILLS):
        with Child(EMBEDDED, WRITER, url, str(step)) as writer:
            assert writer.stdout.readline() == "ready\n"
            time.sleep(luck.uniform(0, 0.6) if kill % 4 else luck.uniform(0, 0.03))
            writer.send_signal(signal.SIGKILL)
            reported = [
                line.split() for line in writer.stdout.read().splitlines() if line.endswith(tuple("0123456789"))
            ]
        acknowledged = [int(number) for word, number in reported if word == "after"]
        for each in acknowledged:
            model = applied(model, each)
            step = each + 1
        left = [path.name for path in (tmp_path / "photos.tandem" / "g1").iterdir()]
        in_index += any(name.startswith("index-draft") for name in left)
        in_compaction += sum(name.startswith("vectors") for name in left) > 1
        begun = any(word == "before" and int(number) == step for word, number in reported)

        seen = read_back(url)
        if seen.found != model:
            # The step that was under way may have happened, but then all of it did.
            assert begun, f"kill {kill}: acknowledged work is not what is there"
            model = applied(model, step)
            step += 1
            assert seen.found == model, f"kill {kill}: half a batch"
        for each in set(model.values()):
            names, rows = expected_batch(each)
            for name, row in zip(names, rows, strict=True):
                if model.get(name) == each:
                    np.testing.assert_array_equal(seen.vectors[name], row)
        if seen.recall is not None:
            recalls.append(seen.recall)
        indexed += seen.index_rows > 0
        most_files = max(most_files, len(list((tmp_path / "photos.tandem" / "g1").iterdir())))
        assert seen.rows <= 2 * seen.live + 2000, "deleted rows pile up"
    print(f"{KILLS} kills: {step} steps, {in_index} kills left a draft of an index, {in_compaction} of vectors")
    assert np.mean(recalls) > 0.97
    assert indexed, "no round had an index: the test tests too little"
    assert most_files <= 12, "leftovers pile up"
    EmbeddedBackend(url).open(write=True).close()
    names_left = sorted(path.name.split("-")[0] for path in (tmp_path / "photos.tandem" / "g1").iterdir())
    assert names_left.count("vectors") == 1
    assert names_left.count("index") <= 1


# Kills at the very steps where order matters: just before or just after a function is called for the n-th time.
EXACT_WRITER = """
import os, signal, sys
import numpy as np
from tandem.search.stores.embedded.backend import EmbeddedBackend
from tandem.search.stores.embedded import generations
from tandem.search.stores.embedded import nearest
from tandem.search.stores.embedded import records_database
from tandem.search.stores.embedded import records_table
from tandem.search.stores.embedded import index_maintainer
from tandem.search.stores.embedded import vector_file
from tandem.search.stores.embedded import vector_index
from tandem.search.stores.protocol import Records

url, module, name, moment, nth = sys.argv[1:]
index_maintainer.INDEX_FROM = 300
index_maintainer.QUIET_S = 0.0
calls = 0

def kill(*arguments, **more):
    global calls
    calls += 1
    if calls == int(nth) and moment == "before":
        os.kill(os.getpid(), signal.SIGKILL)
    result = original(*arguments, **more)
    if calls == int(nth) and moment == "after":
        os.kill(os.getpid(), signal.SIGKILL)
    return result

original = getattr(globals().get(module) or __import__(module), name)
store = EmbeddedBackend(url).open(write=True)
setattr(globals().get(module) or __import__(module), name, kill)
rows = np.random.default_rng(0).standard_normal((3000, 16)).astype(np.float32)
rows /= np.linalg.norm(rows, axis=1, keepdims=True)
store.upsert(Records([f"{i:04d}" for i in range(3000)], rows, {"step": [0] * 3000, "blob": [bytes(40)] * 3000}))
print("inserted", flush=True)
store.delete([f"{i:04d}" for i in range(2000)])
print("deleted", flush=True)
store.close()
print("closed", flush=True)
"""


STEPS = [
    ("vector_file", "append", 1),
    ("records_table", "write_records", 1),
    ("records_database", "write_state", 1),
    ("records_table", "delete_records", 1),
    ("vector_file", "append", 3),  # of the compaction
    ("records_table", "renumber", 1),
    ("os", "unlink", 1),
    ("os", "replace", 1),
    ("vector_index", "train", 1),
    ("records_table", "make_index", 1),
]


def test_a_kill_at_each_step(tmp_path: Path) -> None:
    """One after another on the same store, so that each also recovers from the one before."""
    url = str(tmp_path / "photos.tandem")
    EmbeddedBackend(url).create(Schema(16, {"step": "integer", "blob": "bytes"}), {}).close()
    everything, rest = {f"{i:04d}" for i in range(3000)}, {f"{i:04d}" for i in range(2000, 3000)}
    there: set[str] = set()
    killed = 0
    for moment in ("before", "after", "never"):
        for module, name, nth in STEPS if moment != "never" else [("os", "replace", 1)]:
            with Child(EMBEDDED, EXACT_WRITER, url, module, name, moment, str(nth)) as writer:
                reported, said = writer.stdout.read().split(), writer.stderr.read()
                writer.wait()
            assert writer.returncode == -signal.SIGKILL or "closed" in reported, said
            killed += writer.returncode == -signal.SIGKILL
            with EmbeddedBackend(url).open() as store:
                found = {each for batch in store.scan(vectors=False) for each in batch.ids}
                assert store.count() == len(found)
                if found:
                    (hits,) = store.search(np.eye(16, dtype=np.float32)[:1], len(found))
                    assert {hit.id for hit in hits} == found
            possible = {0: (there, everything), 1: (everything, rest)}.get(len(reported), (rest,))
            assert found in possible, (module, name, moment, reported)
            there = found
    assert "closed" in reported
    assert there == rest
    assert killed >= 16, "too few of the steps were met"
    kinds = sorted(path.name.split("-")[0] for path in (tmp_path / "photos.tandem" / "g1").iterdir())
    assert (kinds.count("vectors"), kinds.count("index")) == (1, 1)
