"""LanceDB: a writer that is killed leaves whole batches."""

import random
import signal
import time
from pathlib import Path

import pytest
from support import skip_without
from support.lance_toys import SCHEMA, records
from support.processes import LANCE, Child

from tandem.search.stores.backends import create_store
from tandem.search.stores.lance import backend as backend_module
from tandem.search.stores.lance import store as store_module
from tandem.search.stores.lance.database import parse_address
from tandem.search.stores.protocol import Store

skip_without("lancedb")

pytest_plugins = ["support.lance_toys"]


KILLED = """
import sys
import numpy as np
from tandem.search.stores.backends import open_store
from tandem.search.stores.lance import maintenance
from tandem.search.stores.protocol import Records
maintenance.LOOK_EVERY, maintenance.COMPACT_EVERY, maintenance.ID_INDEX_FROM = 4, 8, 100
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
        with Child(LANCE, KILLED, store.url, str(step)) as child:
            assert child.stdout.readline() == "ready\n"
            time.sleep(dice.uniform(0.05, 0.6))
            child.send_signal(signal.SIGKILL)
            reported = [line.split() for line in child.stdout.read().splitlines(keepends=True) if line.endswith("\n")]
        acknowledged = [int(number) for word, number in reported if word == "after"]
        begun = [int(number) for word, number in reported if word == "before"]
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


@pytest.mark.slow
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
