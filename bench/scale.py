"""The embedded store at ten million vectors: adding, size, opening, latency and recall, alone and for eight at once.

    python bench/scale.py [--count 10000000] [--dimensions 256] [--folder F] [--only add|exact|search|milvus] [--remove]

Parts are run in the order add, exact, search, each in a process of its own; what is there in the folder is used, and an
addition that was interrupted goes on where it ended: `--only search` repeats latency and recall on the finished
collection. Ten million of 256 dimensions take about 17 GB of disk. `milvus` (not among the defaults) takes `--server
milvus://HOST:PORT/NAME`, a collection that is made and removed.

Vectors are made like a model's of photos (`scale_data.py`); `--fit V.npy` prints what they have in common with the real
vectors in a file. Half of the queries are made like them, half like texts. Recall counts ids against exact search over
the same vectors, made anew without the store.
"""

import argparse
import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from reference import load_note, machine
from scale_data import BATCH, FILTERS, KINDS, Array, Data, fit, plain
from store import COLUMNS, recall, shown


class Memory:
    """The largest memory of this process: its own, and with pages of mapped files, which the system takes back."""

    def __init__(self) -> None:
        self.own_kb = 0
        threading.Thread(target=self._watch, daemon=True).start()

    def _watch(self) -> None:
        while True:
            for line in Path("/proc/self/status").read_text().splitlines():
                if line.startswith("RssAnon"):
                    self.own_kb = max(self.own_kb, int(line.split()[1]))
            time.sleep(0.1)

    def figures(self) -> dict[str, float]:
        mapped = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return {"peak of its own memory, MB": self.own_kb / 1024, "peak with mapped files, MB": mapped / 1024}


def size_gb(folder: Path, pattern: str) -> float:
    return sum(each.stat().st_size for each in folder.glob(pattern)) / 1e9


# --- parts ---


def add(data: Data, folder: Path) -> dict[str, Any]:
    from tandem.search.stores.backends import create_store, open_store
    from tandem.search.stores.protocol import Records, Schema

    memory = Memory()
    url = str(folder / "store.tandem")
    if (folder / "store.tandem").exists():
        store = open_store(url, write=True)
    else:
        store = create_store(url, Schema(data.dimensions, COLUMNS), {"identity": "bench"})
    began = time.perf_counter()
    with (folder / "adding.jsonl").open("a") as journal:
        for batch, n in data.batches(store.count() // BATCH):
            records = Records(data.ids(batch, n), data.vectors(batch, n), plain(data.columns(batch, n)))
            start, cpu = time.perf_counter(), time.process_time()
            store.upsert(records)
            took = {"rows": batch * BATCH + n, "s": time.perf_counter() - start, "cpu_s": time.process_time() - cpu}
            journal.write(json.dumps(took) + "\n")
            journal.flush()
        adding = time.perf_counter() - began
        start, cpu = time.perf_counter(), time.process_time()
        store.close()
        closing = {"closing": data.count, "s": time.perf_counter() - start, "cpu_s": time.process_time() - cpu}
        journal.write(json.dumps(closing) + "\n")
    lines = [json.loads(line) for line in (folder / "adding.jsonl").read_text().splitlines()]
    upserts = [each for each in lines if "rows" in each]
    return {
        "upserts s (of all runs)": sum(each["s"] for each in upserts),
        "first and last million, s": "{:.0f}, {:.0f}".format(
            sum(each["s"] for each in upserts if each["rows"] <= 10**6),
            sum(each["s"] for each in upserts if each["rows"] > data.count - 10**6),
        ),
        "this run with making the vectors s": adding,
        "closing with all indexes s": closing["s"],
        **memory.figures(),
        **sizes(folder),
    }


def sizes(folder: Path) -> dict[str, float]:
    inside = folder / "store.tandem"
    return {
        "vectors GB": size_gb(inside, "g*/vectors-*"),
        "index GB": size_gb(inside, "g*/index-*"),
        "records GB": size_gb(inside, "g*/records.sqlite*"),
    }


def exact(data: Data, folder: Path) -> dict[str, Any]:
    """The right answers: every vector compared, without the store."""
    asked = {kind: data.queries(kind) for kind in KINDS}
    best: dict[str, tuple[Array, NDArray[np.int64]]] = {}
    for batch, n in data.batches():
        vectors, columns = data.vectors(batch, n), data.columns(batch, n)
        for kind, queries in asked.items():
            scores = queries @ vectors.T
            for name, chosen in {"": None, **{name: mask(columns) for name, (_, mask) in FILTERS.items()}}.items():
                some, numbers = (scores, columns["number"]) if chosen is None else (
                    scores[:50, chosen], columns["number"][chosen])  # fmt: skip
                top = np.argpartition(-some, min(10, some.shape[1]) - 1, axis=1)[:, :10]
                found = np.take_along_axis(some, top, 1), numbers[top]
                if (key := f"{name}|{kind}") in best:
                    found = tuple(np.concatenate(pair, axis=1) for pair in zip(best[key], found, strict=True))  # type: ignore[assignment]
                order = np.argsort(-found[0], axis=1)[:, :10]
                best[key] = np.take_along_axis(found[0], order, 1), np.take_along_axis(found[1], order, 1)
    wanted = sorted({int(number) // BATCH for _, numbers in best.values() for number in numbers.ravel()})
    names = {batch: data.ids(batch, min(BATCH, data.count - batch * BATCH)) for batch in wanted}
    answers = {
        key: [[names[number // BATCH][number % BATCH] for number in row] for row in numbers.tolist()]
        for key, (_, numbers) in best.items()
    }
    (folder / "exact.json").write_text(json.dumps(answers))
    return {"median cosine of the best and the tenth": {
        kind: "{:.2f}, {:.2f}".format(*np.median(best[f"|{kind}"][0][:, [0, 9]], axis=0)) for kind in KINDS
    }}  # fmt: skip


Search = Callable[[Array, str | None], list[str]]


def search(data: Data, folder: Path) -> dict[str, Any]:
    from tandem.errors import FilterError
    from tandem.search.stores.backends import open_store

    memory = Memory()
    inside = folder / "store.tandem"
    start = time.perf_counter()
    store = open_store(str(inside))
    result: dict[str, Any] = {"opening ms": (time.perf_counter() - start) * 1000}
    right = json.loads((folder / "exact.json").read_text())
    start = time.perf_counter()
    store.search(data.queries(KINDS[0])[:1], 10)
    result["first search s"] = time.perf_counter() - start

    def one(query: Array, where: str | None = None) -> list[str]:
        return [hit.id for hit in store.search(query[None], 10, where=where)[0]]

    if hasattr(os, "posix_fadvise"):
        for path in inside.glob("g*/vectors-*"):
            with path.open("rb") as file:
                os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        result["vectors not in memory"] = figures(one, data.vectors(10**6 + 1, 100))
    for kind in KINDS:
        figures(one, data.queries(kind))
        result[kind] = figures(one, data.queries(kind), right[f"|{kind}"])
        print(kind, result[kind], file=sys.stderr, flush=True)
    for name, (where, _) in FILTERS.items():
        for kind in KINDS:
            queries = data.queries(kind)[:50]
            start = time.perf_counter()
            try:
                one(queries[0], where + " " * KINDS.index(kind))  # another text: nothing is remembered of it
            except FilterError as error:
                result[f"{name}, {kind}, asked first"] = f"refused: {error}"
                continue
            first = (time.perf_counter() - start) * 1000
            asked = figures(lambda q, w=where: one(q, w), queries, right[f"{name}|{kind}"])  # type: ignore[misc]
            result[f"{name}, {kind}"] = {"asked first ms": first, **asked}
            print(name, kind, result[f"{name}, {kind}"], file=sys.stderr, flush=True)
    result["eight at once"] = at_once(one, np.concatenate([data.queries(kind) for kind in KINDS] * 4), None)
    result["eight at once, width = 1234"] = at_once(one, data.queries(KINDS[0]), "width = 1234")
    start = time.perf_counter()
    store.search(np.concatenate([data.queries(KINDS[1])] * 10), 10)
    result["2,000 queries in one call s"] = time.perf_counter() - start
    return {**result, **memory.figures()}


def figures(one: Callable[[Array], list[str]], queries: Array, right: list[list[str]] | None = None) -> dict[str, Any]:
    found, took = [], []
    for query in queries:
        start = time.perf_counter()
        found.append(one(query))
        took.append((time.perf_counter() - start) * 1000)
    result: dict[str, Any] = {"median ms": float(np.median(took)), "p99 ms": float(np.quantile(took, 0.99))}
    if right is not None:
        result |= {"recall@10": recall(found, right), "fewest hits": min(map(len, found))}
    return result


def at_once(one: Search, queries: Array, where: str | None, clients: int = 8) -> dict[str, float]:
    """Clients that each send a query as soon as the one before is answered, as threads of a server do."""
    took: list[float] = []

    def ask(client: int) -> None:
        for query in queries[client::clients]:
            start = time.perf_counter()
            one(query, where)
            took.append((time.perf_counter() - start) * 1000)

    start = time.perf_counter()
    with ThreadPoolExecutor(clients) as pool:
        list(pool.map(ask, range(clients)))
    seconds = time.perf_counter() - start
    return {
        "median ms": float(np.median(took)), "p99 ms": float(np.quantile(took, 0.99)),
        "queries/s": len(queries) / seconds,
    }  # fmt: skip


def milvus(data: Data, folder: Path, server: str) -> dict[str, Any]:
    from tandem.search.stores.backends import backend, create_store, exists
    from tandem.search.stores.protocol import Records, Schema

    if exists(server):
        raise SystemExit(f"{server}: there is a collection already; choose another name")
    store = create_store(server, Schema(data.dimensions, COLUMNS), {"identity": "bench"})
    try:
        start = time.perf_counter()
        longest = 0.0
        for batch, n in data.batches():
            records = Records(data.ids(batch, n), data.vectors(batch, n), plain(data.columns(batch, n)))
            before = time.perf_counter()
            store.upsert(records)
            longest = max(longest, time.perf_counter() - before)
        result: dict[str, Any] = {"adding s": time.perf_counter() - start, "the longest batch s": longest}
        right = json.loads((folder / "exact.json").read_text())

        def one(query: Array, where: str | None = None) -> list[str]:
            return [hit.id for hit in store.search(query[None], 10, where=where)[0]]

        for kind in KINDS:
            figures(one, data.queries(kind)[:20])
            result[kind] = figures(one, data.queries(kind), right[f"|{kind}"])
        for name, (where, _) in FILTERS.items():
            queries = data.queries(KINDS[0])[:50]
            result[name] = figures(lambda q, w=where: one(q, w), queries, right[f"{name}|{KINDS[0]}"])  # type: ignore[misc]
        result["eight at once"] = at_once(one, data.queries(KINDS[0]), None)
        return result
    finally:
        store.close()
        backend(server).remove()


PARTS: dict[str, Callable[[Data, Path], dict[str, Any]]] = {"add": add, "exact": exact, "search": search}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=10_000_000)
    parser.add_argument("--dimensions", type=int, default=256)
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()) / "tandem-bench-scale")
    parser.add_argument("--only", choices=[*PARTS, "milvus"])
    parser.add_argument("--server", help="the address of a collection to make on a Milvus server")
    parser.add_argument("--remove", action="store_true", help="remove the folder at the end")
    parser.add_argument("--fit", type=Path, metavar="V.npy", help="compare the vectors that are made with real ones")
    parser.add_argument("--part", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    data = Data(arguments.count, arguments.dimensions)
    folder: Path = arguments.folder
    if arguments.fit:
        return fit(data, arguments.fit)
    if arguments.part:
        print(json.dumps(PARTS[arguments.part](data, folder)))
        return None
    folder.mkdir(parents=True, exist_ok=True)
    print(f"{machine()}; {load_note()}; {data.count:,} vectors of {data.dimensions}\n\n| | | |\n|---|---|---|")
    for name in [arguments.only] if arguments.only else PARTS:
        if name == "exact" and (folder / "exact.json").exists():
            continue
        if name == "milvus":
            if not arguments.server:
                parser.error("--only milvus needs --server")
            answer = milvus(data, folder, arguments.server)
        else:
            command = [sys.executable, __file__, "--part", name, "--folder", str(folder)]
            command += ["--count", str(data.count), "--dimensions", str(data.dimensions)]
            answer = json.loads(subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout)
        for key, value in answer.items():
            print(f"| {name} | {key} | {shown(value)} |", flush=True)
    if arguments.remove:
        shutil.rmtree(folder)
    return None


if __name__ == "__main__":
    main()
