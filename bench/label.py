"""Labelling a million at once: the best pictures of 1,000 labels, and the best labels of every picture.

    python bench/label.py [--count 1000000] [--labels 1000] [--folder F] [--keep]

Random vectors of 512 in a local store. Every part runs in a process of its own, so its peak of resident memory
(`ru_maxrss`, mapped files included) is its own; beside the time of labelling stands that of a bare scan, and of the
same matrix products on data at hand.
"""

import argparse
import json
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from reference import load_note, machine

from tandem.scores.scoring import Scoring
from tandem.search.labelling import top_images, top_labels
from tandem.search.stores.backends import create_store, open_store
from tandem.search.stores.protocol import Records, Schema

D, K, BATCH, SCALE = 512, 10, 10_000, 100.0


def vectors(count: int, seed: int) -> NDArray[np.float32]:
    found = np.random.default_rng(seed).standard_normal((count, D), dtype=np.float32)
    return found / np.linalg.norm(found, axis=1, keepdims=True)


def fill(url: str, count: int) -> None:
    with_path = Schema(D, {"path": "text"})
    store = create_store(url, with_path, {})
    for start in range(0, count, BATCH):
        size = min(BATCH, count - start)
        ids = [f"{row:032x}" for row in range(start, start + size)]
        store.upsert(Records(ids, vectors(size, start), {"path": [f"/photos/{name}.jpg" for name in ids]}))
    store.close()


def part(name: str, url: str, labels: int) -> dict[str, float]:
    """One measurement, in this process."""
    classes = vectors(labels, seed=10**9)
    start = time.perf_counter()
    if name == "products":
        block = vectors(4000, seed=1)
        start = time.perf_counter()
        for _ in range(5):
            classes @ block.T
        took = (time.perf_counter() - start) / (5 * 4000)
        return {"seconds_each": took}
    store = open_store(url)
    parts: dict[str, Callable[[], int]] = {
        "scan": lambda: sum(len(records) for records in store.scan(columns=())),
        "best pictures": lambda: sum(map(len, top_images(store, classes, K, scoring=Scoring("softmax", SCALE)))),
        "best labels": lambda: sum(map(len, top_labels(store, classes, K, scoring=Scoring("softmax", SCALE)))),
    }
    answered = parts[name]()
    took = time.perf_counter() - start
    store.close()
    return {"seconds": took, "answered": answered, "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=1_000_000)
    parser.add_argument("--labels", type=int, default=1000)
    parser.add_argument("--folder", type=Path, help="where the store goes, or is from last time")
    parser.add_argument("--keep", action="store_true")
    parser.add_argument("--part", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    folder = arguments.folder or Path(tempfile.mkdtemp(prefix="tandem-bench-"))
    url = str(folder / "label.tandem")
    if arguments.part:
        print(json.dumps(part(arguments.part, url, arguments.labels)))
        return
    print(machine(), load_note(), sep="\n")
    try:
        if not Path(url).exists():
            start = time.perf_counter()
            fill(url, arguments.count)
            print(f"made a store of {arguments.count:,} in {time.perf_counter() - start:.0f} s")
        for name in ("scan", "products", "best pictures", "best labels"):
            command = [
                sys.executable,
                __file__,
                "--part",
                name,
                "--folder",
                str(folder),
                "--labels",
                str(arguments.labels),
            ]
            found = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
            if name == "products":
                print(f"{name}: {found['seconds_each'] * arguments.count:.1f} s for as many")
            else:
                print(f"{name}: {found['seconds']:.1f} s, peak {found['peak_mb']:.0f} MB")
    finally:
        if not arguments.keep and not arguments.folder:
            shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
