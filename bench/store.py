"""The local store at a million: adding, searching, filtering, memory. `--peers` does the same with zvec and LanceDB.

    python bench/store.py [--count 1000000] [--folder F] [--keep] [--peers] [--only tandem|zvec|lancedb]

Vectors of 512 in 2,000 clusters that share a common part, as pictures of a real collection do; half of the queries are
drawn like them, half from another region (other common part, weak pull towards a cluster), as sentences are. Every
part runs in a process of its own, so its peak of resident memory is its own. Recall counts ids against exact search.
"""

import argparse
import json
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from reference import load_note, machine

D = 512
CLUSTERS = 2000
BATCH = 10_000
QUERIES = 200
COLUMNS: dict[str, Literal["text", "integer"]] = {
    "path": "text",
    "width": "integer",
    "height": "integer",
    "bytes": "integer",
    "format": "text",
    "taken": "text",
}
FILTERS = {
    "width = 1234 (1%)": "width = 1234",
    "taken in 3 days (1%)": "taken >= '2023-06-01' and taken < '2023-06-04T15'",
    "path like '%/0042/%' (1%)": "path like '%/0042/%'",
    "format and half of widths (5%)": "format = 'PNG' and width >= 1250",
    "half (50%)": "width >= 1250",
}
Array = NDArray[np.float32]


def unit(vectors: Array) -> Array:
    lengths: Array = np.linalg.norm(vectors, axis=1, keepdims=True)
    return (vectors / lengths).astype(np.float32)


def clusters() -> Array:
    return unit(np.random.default_rng(0).standard_normal((CLUSTERS, D)).astype(np.float32))


def vectors(
    batch: int, n: int = BATCH, common: int = 1, shares: tuple[float, float, float] = (0.7, 0.6, 0.55)
) -> Array:
    """Unit vectors [n d]: what all share, what a cluster shares, and noise."""
    generator = np.random.default_rng((7, batch))
    offset = unit(np.random.default_rng((3, common)).standard_normal((1, D)).astype(np.float32))
    noise = generator.standard_normal((n, D), np.float32) / np.float32(D**0.5)
    chosen = clusters()[generator.integers(0, CLUSTERS, n)]
    return unit(shares[0] * offset + shares[1] * chosen + np.float32(shares[2]) * noise)


def queries(kind: str) -> Array:
    if kind == "like the data":
        return vectors(10**6, QUERIES)
    return vectors(10**6 + 1, QUERIES, common=2, shares=(0.8, 0.3, 0.5))


def values(first: int, n: int) -> dict[str, list[Any]]:
    generator = np.random.default_rng((11, first))
    day = np.datetime64("2023-01-01T00:00:00") + generator.integers(0, 365 * 86400, n).astype("timedelta64[s]")
    return {
        "path": [f"/pictures/{i % 2023}/{i % 100:04d}/IMG_{i:07d}.jpg" for i in range(first, first + n)],
        "width": (1200 + generator.integers(0, 100, n)).tolist(),
        "height": generator.integers(500, 4000, n).tolist(),
        "bytes": generator.integers(10**4, 10**7, n).tolist(),
        "format": np.where(generator.random(n) < 0.1, "PNG", "JPEG").tolist(),
        "taken": [str(each) for each in day],
    }


def ids(first: int, n: int) -> list[str]:
    """As content hashes are: without any order."""
    generator = np.random.default_rng((13, first))
    return [generator.bytes(16).hex() for _ in range(n)]


def batches(count: int) -> Iterator[tuple[list[str], Array, dict[str, list[Any]]]]:
    for first in range(0, count, BATCH):
        n = min(BATCH, count - first)
        yield ids(first, n), vectors(first, n), values(first, n)


def peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def timed(search: Callable[[Array], list[str]], asked: Array, rounds: int = 1) -> tuple[float, float, list[list[str]]]:
    """Median and 99th percentile in ms, and what was found."""
    found: list[list[str]] = []
    took = []
    for _ in range(rounds):
        found = []
        for i in range(len(asked)):
            start = time.perf_counter()
            found.append(search(asked[i : i + 1]))
            took.append((time.perf_counter() - start) * 1000)
    return statistics.median(took), float(np.quantile(took, 0.99)), found


def recall(found: list[list[str]], exact: list[list[str]]) -> float:
    return sum(len(set(a) & set(b)) for a, b in zip(found, exact, strict=True)) / max(1, sum(map(len, exact)))


# Tandem


def tandem_add(folder: Path, count: int) -> dict[str, Any]:
    from tandem.search.stores.backends import create_store
    from tandem.search.stores.protocol import Records, Schema

    store = create_store(str(folder / "store.tandem"), Schema(D, COLUMNS), {"identity": "bench"})
    adding = 0.0
    for names, some, columns in batches(count):
        start = time.perf_counter()
        store.upsert(Records(names, some, columns))
        adding += time.perf_counter() - start
    start = time.perf_counter()
    store.close()
    closing = time.perf_counter() - start
    return {"upserts s": adding, "close with all indexes s": closing, "peak MB": peak_mb()}


def tandem_exact(folder: Path, count: int) -> dict[str, Any]:
    """What is right: every vector compared."""
    from tandem.search.stores.backends import open_store

    store = open_store(str(folder / "store.tandem"))
    answers: dict[str, Any] = {}
    asked = {kind: queries(kind) for kind in ("like the data", "from elsewhere")}
    for name, where in {"": None, **FILTERS}.items():
        for kind, some in asked.items():
            best: list[list[tuple[float, str]]] = [[] for _ in some]
            for batch in store.scan(where=where, columns=[]):
                assert batch.vectors is not None
                scores = some @ batch.vectors.T
                k = min(10, scores.shape[1])
                top = np.argpartition(-scores, k - 1, axis=1)[:, :k]
                for i, row in enumerate(top):
                    best[i] = sorted(best[i] + [(-float(scores[i, j]), batch.ids[j]) for j in row])[:10]
            answers[f"{name}|{kind}"] = [[each for _, each in row] for row in best]
    (folder / "exact.json").write_text(json.dumps(answers))
    return {}


def tandem_search(folder: Path, count: int) -> dict[str, Any]:
    from tandem.search.stores.backends import open_store

    start = time.perf_counter()
    store = open_store(str(folder / "store.tandem"))
    opened = time.perf_counter() - start
    start = time.perf_counter()
    store.search(queries("like the data")[:1], 10)
    first = time.perf_counter() - start
    exact = json.loads((folder / "exact.json").read_text())
    result: dict[str, Any] = {"opening ms": opened * 1000, "first search ms": first * 1000}
    for kind in ("like the data", "from elsewhere"):
        median, late, found = timed(lambda q: [hit.id for hit in store.search(q, 10)[0]], queries(kind), 2)
        result[kind] = {"median ms": median, "p99 ms": late, "recall@10": recall(found, exact[f"|{kind}"])}
    for name, where in FILTERS.items():
        for kind in ("like the data", "from elsewhere"):
            asked = queries(kind)[:50]
            cold = []
            for i in range(3):  # spaces make it another text: nothing is remembered of it
                start = time.perf_counter()
                store.search(asked[:1], 10, where=where + " " * (1 + i + 5 * (kind == "from elsewhere")))
                cold.append((time.perf_counter() - start) * 1000)
            median, late, found = timed(
                lambda q, w=where: [hit.id for hit in store.search(q, 10, where=w)[0]],  # type: ignore[misc]
                asked,
            )
            result[f"{name}, {kind}"] = {
                "asked first ms": statistics.median(cold), "median ms": median, "p99 ms": late,
                "recall@10": recall(found, exact[f"{name}|{kind}"][:50]), "fewest hits": min(map(len, found)),
            }  # fmt: skip
    start = time.perf_counter()
    many = np.concatenate([queries("from elsewhere")] * 10)
    store.search(many, 10)
    result["2,000 queries at once, s"] = time.perf_counter() - start
    result["peak MB"] = peak_mb()
    return result


# Peers


def zvec_add(folder: Path, count: int) -> dict[str, Any]:
    import zvec

    types = {"text": zvec.DataType.STRING, "integer": zvec.DataType.INT64}
    schema = zvec.CollectionSchema(
        name="bench",
        fields=[zvec.FieldSchema(name, types[kind]) for name, kind in COLUMNS.items()],
        vectors=[
            zvec.VectorSchema(
                "vector", zvec.DataType.VECTOR_FP32, D, index_param=zvec.IvfRabitqIndexParam(zvec.MetricType.COSINE)
            )
        ],
    )
    store = zvec.create_and_open(str(folder / "zvec"), schema)
    adding = 0.0
    for names, some, columns in batches(count):
        docs = [
            zvec.Doc(id=each, vectors={"vector": vector}, fields={name: columns[name][i] for name in columns})
            for i, (each, vector) in enumerate(zip(names, some.tolist(), strict=True))
        ]
        start = time.perf_counter()
        for first in range(0, len(docs), 1000):
            store.upsert(docs[first : first + 1000])
        adding += time.perf_counter() - start
    start = time.perf_counter()
    store.optimize()
    optimising = time.perf_counter() - start
    code = f"import zvec; zvec.open({str(folder / 'zvec')!r}, zvec.CollectionOption(read_only=True)); print('reads')"
    reader = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    beside = "reads" in reader.stdout
    store.flush()
    return {"upserts s": adding, "index s": optimising, "reader beside a writer": beside, "peak MB": peak_mb()}


def zvec_search(folder: Path, count: int) -> dict[str, Any]:
    import zvec

    store = zvec.open(str(folder / "zvec"), zvec.CollectionOption(read_only=True))
    exact = json.loads((folder / "exact.json").read_text())

    def search(query: Array) -> list[str]:
        near = zvec.IvfRabitqQueryParam(nprobe=32, is_using_refiner=True)
        asked = zvec.Query("vector", vector=query[0].tolist(), param=near)
        return [doc.id for doc in store.query(asked, topk=10, output_fields=list(COLUMNS))]

    return peer_figures(search, exact)


def lancedb_add(folder: Path, count: int) -> dict[str, Any]:
    import lancedb
    import lancedb.index
    import pyarrow

    database = lancedb.connect(folder / "lancedb")
    table = None
    adding = 0.0
    for names, some, columns in batches(count):
        start = time.perf_counter()
        flat = pyarrow.FixedSizeListArray.from_arrays(pyarrow.array(some.reshape(-1)), D)
        rows = pyarrow.table({"id": names, "vector": flat, **columns})
        if table is None:
            table = database.create_table("bench", rows)
        else:
            table.add(rows)
        adding += time.perf_counter() - start
    assert table is not None
    start = time.perf_counter()
    table.create_index("vector", config=lancedb.index.IvfPq(distance_type="cosine"))
    indexing = time.perf_counter() - start
    return {"upserts s": adding, "index s": indexing, "reader beside a writer": True, "peak MB": peak_mb()}


def lancedb_search(folder: Path, count: int) -> dict[str, Any]:
    import lancedb

    table = lancedb.connect(folder / "lancedb").open_table("bench")
    exact = json.loads((folder / "exact.json").read_text())

    def search(query: Array) -> list[str]:
        asked: Any = table.search(query[0])
        asked = asked.distance_type("cosine").nprobes(32).refine_factor(20)
        return list(asked.select(["id", "_distance", *COLUMNS]).limit(10).to_arrow()["id"].to_pylist())

    return peer_figures(search, exact)


def peer_figures(search: Callable[[Array], list[str]], exact: dict[str, Any]) -> dict[str, Any]:
    result: dict[str, Any] = {}
    for kind in ("like the data", "from elsewhere"):
        search(queries(kind)[:1])
        median, late, found = timed(search, queries(kind))
        result[kind] = {"median ms": median, "p99 ms": late, "recall@10": recall(found, exact[f"|{kind}"])}
    result["peak MB"] = peak_mb()
    return result


PARTS = {
    "tandem": [tandem_add, tandem_exact, tandem_search],
    "zvec": [zvec_add, zvec_search],
    "lancedb": [lancedb_add, lancedb_search],
}


def part(name: str, folder: Path, count: int) -> dict[str, Any]:
    """Run a part in a process of its own."""
    command = [sys.executable, __file__, "--part", name, "--folder", str(folder), "--count", str(count)]
    answer: dict[str, Any] = json.loads(subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout)
    return answer


def shown(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name} {shown(each)}" for name, each in value.items())
    return (
        f"{value:.3g}"
        if isinstance(value, float) and value < 100
        else f"{value:,.0f}"
        if isinstance(value, float)
        else str(value)
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=1_000_000)
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()) / "tandem-bench-store")
    parser.add_argument("--keep", action="store_true", help="leave the stores where they are, and use them next time")
    parser.add_argument("--peers", action="store_true")
    parser.add_argument("--only", choices=sorted(PARTS))
    parser.add_argument("--part", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.part:
        work = {each.__name__: each for parts in PARTS.values() for each in parts}[arguments.part]
        print(json.dumps(work(arguments.folder, arguments.count)))
        return
    print(f"{machine()}; {load_note()}; {arguments.count:,} vectors of {D}\n\n| | | |\n|---|---|---|")
    sides = [arguments.only] if arguments.only else ["tandem", *(["zvec", "lancedb"] if arguments.peers else [])]
    arguments.folder.mkdir(parents=True, exist_ok=True)
    for side in sides:
        for work in PARTS[side]:
            there = {"tandem": "store.tandem"}.get(side, side)
            if work.__name__.endswith("_add") and (arguments.folder / there).exists():
                if arguments.keep:
                    continue
                shutil.rmtree(arguments.folder / there)
            for name, value in part(work.__name__, arguments.folder, arguments.count).items():
                print(f"| {side} | {name} | {shown(value)} |", flush=True)
    if not arguments.keep:
        shutil.rmtree(arguments.folder)


if __name__ == "__main__":
    main()
