"""The embedded store at ten million vectors: adding, size, opening, latency and recall, alone and for eight at once.

    python bench/scale.py [--count 10000000] [--dimensions 256] [--folder F] [--only add|exact|search|milvus] [--remove]

Parts are run in the order add, exact, search, each in a process of its own; what is there in the folder is used, and an
addition that was interrupted goes on where it ended: `--only search` repeats latency and recall on the finished
collection. Ten million of 256 dimensions take about 17 GB of disk. `milvus` (not among the defaults) takes `--server
milvus://HOST:PORT/NAME`, a collection that is made and removed.

Vectors are made like a model's of photos: a part that all share, topics of unequal sizes, scenes within them (one for
each hundred vectors), and a spread within a scene; topics, scenes and spread have the decaying spectrum of real
vectors. `--fit V.npy` prints what they have in common with the real vectors in a file. Half of the queries are made
like them, half like texts: with another shared part and a weaker pull towards a topic. Recall counts ids against exact
search over the same vectors, made anew without the store.
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
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from reference import load_note, machine
from store import COLUMNS, recall, shown, unit

BATCH = 50_000
TOPICS = 2000
PER_SCENE = 100
QUERIES = 200  # of each kind; a filter is asked by the first 50
Array = NDArray[np.float32]
Columns = dict[str, NDArray[Any]]
# Of the squared length. As CLIP's vectors of photos: two have a cosine of about 0.5, two of one scene of 0.85.
SHARED, TOPIC, SCENE, WITHIN = 0.5, 0.2, 0.15, 0.15
DECAY = 0.5  # spectrum: the i-th direction has a deviation of i^-DECAY
FILTERS: dict[str, tuple[str, Callable[[Columns], NDArray[np.bool_]]]] = {
    "width and format (0.1%)": (
        "width = 1234 and format = 'PNG'",
        lambda c: (c["width"] == 1234) & (c["format"] == "PNG"),
    ),
    "width = 1234 (1%)": ("width = 1234", lambda c: c["width"] == 1234),
    "taken in 3 days (1%)": (
        "taken >= '2023-06-01' and taken < '2023-06-04T15'",
        lambda c: (c["taken"] >= np.datetime64("2023-06-01")) & (c["taken"] < np.datetime64("2023-06-04T15")),
    ),
    "path like '%/0042/%' (1%)": ("path like '%/0042/%'", lambda c: c["number"] % 100 == 42),
    "format and half of widths (5%)": (
        "format = 'PNG' and width >= 1250",
        lambda c: (c["format"] == "PNG") & (c["width"] >= 1250),
    ),
    "half (50%)": ("width >= 1250", lambda c: c["width"] >= 1250),
}


@dataclass(frozen=True)
class Data:
    """Ten million vectors that are never all there."""

    count: int
    dimensions: int

    @cache  # noqa: B019 - one object a process
    def _parts(self) -> tuple[Array, Array, Array, Array, Array]:
        """What all share and what texts share [d], topics [t d], scenes [s d], the way from noise to a spread [d d]."""
        random = np.random.default_rng(3)
        d = self.dimensions
        basis = np.linalg.qr(random.standard_normal((d, d)))[0]
        spread = (basis * np.arange(1, d + 1) ** -DECAY).T.astype(np.float32)
        spread /= np.float32(np.linalg.norm(spread))  # what comes out has length 1 on average
        shared, texts = (unit(random.standard_normal((1, d)).astype(np.float32))[0] for _ in range(2))
        topics = random.standard_normal((TOPICS, d), np.float32) @ spread
        scenes = random.standard_normal((max(1, self.count // PER_SCENE), d), np.float32) @ spread
        return shared, texts, topics, scenes, spread

    def _topic_of(self, scenes: NDArray[np.int64]) -> NDArray[np.int64]:
        """The topics of scenes: a few are large, most are small."""
        position = (scenes * 2_654_435_761 % 2**32) / 2**32  # evenly spread, the same everywhere
        found: NDArray[np.int64] = (TOPICS * position**2).astype(np.int64)
        return found

    def vectors(self, batch: int, n: int) -> Array:
        """Unit vectors [n d]."""
        shared, _, topics, scenes, spread = self._parts()
        random = np.random.default_rng((7, batch))
        chosen = random.integers(0, len(scenes), n)
        within = random.standard_normal((n, self.dimensions), np.float32) @ spread
        return unit(
            shared * np.float32(SHARED**0.5)
            + topics[self._topic_of(chosen)] * np.float32(TOPIC**0.5)
            + scenes[chosen] * np.float32(SCENE**0.5)
            + within * np.float32(WITHIN**0.5)
        )

    def queries(self, kind: str, n: int = QUERIES) -> Array:
        if kind == KINDS[0]:
            return self.vectors(10**6, n)
        _, texts, topics, _, spread = self._parts()
        random = np.random.default_rng(17)
        within = random.standard_normal((n, self.dimensions), np.float32) @ spread
        pull = topics[random.integers(0, TOPICS, n)]
        return unit(texts * np.float32(0.7) + pull * np.float32(0.4) + within * np.float32(0.6))

    def columns(self, batch: int, n: int) -> Columns:
        """Values of a batch, as arrays."""
        random = np.random.default_rng((11, batch))
        return {
            "number": np.arange(batch * BATCH, batch * BATCH + n),
            "width": 1200 + random.integers(0, 100, n),
            "height": random.integers(500, 4000, n),
            "bytes": random.integers(10**4, 10**7, n),
            "format": np.where(random.random(n) < 0.1, "PNG", "JPEG"),
            "taken": np.datetime64("2023-01-01T00:00:00") + random.integers(0, 365 * 86400, n).astype("timedelta64[s]"),
        }

    def ids(self, batch: int, n: int) -> list[str]:
        """As content hashes are: without any order."""
        text = np.random.default_rng((13, batch)).bytes(16 * n).hex()
        return [text[i : i + 32] for i in range(0, 32 * n, 32)]

    def batches(self, first: int = 0) -> Iterator[tuple[int, int]]:
        for batch in range(first, -(-self.count // BATCH)):
            yield batch, min(BATCH, self.count - batch * BATCH)


KINDS = ("like the data", "like texts")


def plain(columns: Columns) -> dict[str, list[Any]]:
    """Columns as the store takes them."""
    values = {name: columns[name].tolist() for name in ("width", "height", "bytes", "format")}
    path = [f"/pictures/{i % 2023}/{i % 100:04d}/IMG_{i:08d}.jpg" for i in columns["number"].tolist()]
    return {"path": path, **values, "taken": np.datetime_as_string(columns["taken"]).tolist()}


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


def fit(data: Data, file: Path) -> None:
    """What vectors of photos in a file [n d], and as many made, have in common."""
    real = unit(np.load(file).astype(np.float32))
    for name, vectors in {"real": real, "made": data.vectors(0, len(real))}.items():
        cosines = vectors[:2000] @ vectors[2000:4000].T
        values = np.linalg.svd(vectors - vectors.mean(axis=0), compute_uv=False) ** 2
        share = np.cumsum(values) / values.sum()
        print(f"{name}: length of the mean {np.linalg.norm(vectors.mean(axis=0)):.2f}; cosines of pairs "
              f"{cosines.mean():.2f} +- {cosines.std():.3f}, nearest of 2,000 {np.median(cosines.max(axis=1)):.2f}; "
              f"directions for half of the variance {np.searchsorted(share, 0.5) + 1}, "
              f"effective {values.sum() ** 2 / (values**2).sum():.0f}")  # fmt: skip


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
