"""What the checksums of a local store cost: the same work at a revision without them, and now.

    python bench/checksums.py --before 03b8af4 [--count 100000] [--rounds 7]

Each revision fills a store of its own and reads it in processes that take turns. Time of the processor, of all threads,
since it hardly depends on what else runs; faiss uses one thread. `later` is what comes after every row was read once.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from reference import load_note, machine
from revisions import ROOT, unpack

WORK = """
import json, sys, time
import faiss
import numpy as np
from tandem.search.stores.embedded.backend import EmbeddedBackend
from tandem.search.stores.protocol import Records, Schema

url, count, filling = sys.argv[1], int(sys.argv[2]), sys.argv[3] == "fill"
faiss.omp_set_num_threads(1)
draw = np.random.default_rng(0)
kinds = {"path": "text", "paths": "text", "width": "integer", "thumbnail": "bytes"}
seconds = {}


def unit(n):
    vectors = draw.standard_normal((n, 512)).astype(np.float32) / 2 + centres[draw.integers(0, len(centres), n)]
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def timed(name, work):
    clock = time.thread_time if filling else time.process_time  # while a thread makes indexes
    began = clock()
    result = work()
    seconds[name] = seconds.get(name, 0) + clock() - began
    return result


centres = draw.standard_normal((500, 512)).astype(np.float32)
if filling:
    store = EmbeddedBackend(url).create(Schema(512, kinds), {"identity": "bench"})
    for first in range(0, count, 5000):
        ids = [f"{i:032x}" for i in range(first, min(count, first + 5000))]
        columns = {
            "path": [f"/photos/{id}.jpg" for id in ids],
            "paths": [json.dumps([f"/photos/{id}.jpg"]) for id in ids],
            "width": list(range(len(ids))),
            "thumbnail": [b"x" * 200] * len(ids),
        }
        records = Records(ids, unit(len(ids)), columns)
        timed("insert", lambda: store.upsert(records))
    store.close()
else:
    queries = unit(400)
    store = timed("open", EmbeddedBackend(url).open)
    timed("first search", lambda: store.search(queries[:1], 20))

    def searches(some):
        for i in some:
            store.search(queries[i : i + 1], 20)

    timed("searches 2 to 100", lambda: searches(range(1, 100)))

    def scan(vectors):
        return sum(len(each) for each in store.scan(columns=["path"], vectors=vectors))

    timed("first scan", lambda: scan(True))
    timed("later scan", lambda: scan(True))
    timed("later scan without vectors", lambda: scan(False))
    timed("later searches: 300", lambda: searches(range(100, 400)))
print(json.dumps(seconds))
"""


def run(source: Path, *arguments: str) -> dict[str, float]:
    command = [sys.executable, "-c", WORK, *arguments]
    environment = os.environ | {"PYTHONPATH": str(source / "src")}
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True)
    seconds: dict[str, float] = json.loads(done.stdout)
    return seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--before", required=True, metavar="REVISION")
    parser.add_argument("--count", type=int, default=100_000)
    parser.add_argument("--rounds", type=int, default=7)
    arguments = parser.parse_args()
    count = str(arguments.count)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        sides = [("before", unpack(arguments.before, folder)), ("after", ROOT)]
        found: dict[str, dict[str, list[float]]] = {side: {} for side, _ in sides}
        for side, source in sides:
            run(source, str(folder / f"{side}.tandem"), count, "fill")
        for number in range(arguments.rounds):
            for side, source in sides if number % 2 else sides[::-1]:
                seconds = run(source, str(folder / f"{side}.tandem"), count, "read")
                if number < 3:  # without its index, which is made in the background
                    seconds |= run(
                        source, str(folder / f"{side}-{number}.tandem"), str(min(15_000, arguments.count)), "fill"
                    )
                for row, each in seconds.items():
                    found[side].setdefault(row, []).append(each)
        print(f"{machine()}; {load_note()}; {arguments.count:,} vectors of 512\n")
        print("| processor, ms | before | after | after / before (of pairs) | of the best |\n|---|---|---|---|---|")
        for row, before in found["before"].items():
            after = found["after"][row]
            ratios = [b / a for a, b in zip(before, after, strict=True)]
            a, b, ratio = (1e3 * statistics.median(before), 1e3 * statistics.median(after), statistics.median(ratios))
            best = f"{min(after) / min(before):.2f}"
            print(f"| {row} | {a:.1f} | {b:.1f} | {ratio:.2f} ({min(ratios):.2f} to {max(ratios):.2f}) | {best} |")


if __name__ == "__main__":
    main()
