"""What hostile input costs whoever reads it: each case of the tables in docs/benchmarks.md, measured anew.

    python bench/hostile.py [--case NAME ...] [--list]

The cases of a server are sent to a real one, in a process of its own, with the toy model of the tests; the others run
in a process each. Measured are the seconds until the answer, the processor seconds, and the memory at its peak above
what there was before. Files are made before the clock starts. The exit code is 1 where a case takes more than 2
processor seconds or 300 MB, or is not answered as it should be. Needs Linux, which tells of peaks of memory.
"""

import argparse
import gzip
import http.server
import json
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

TESTS = str(Path(__file__).resolve().parents[1] / "tests")
sys.path.insert(0, TESTS)
os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [TESTS, os.environ.get("PYTHONPATH")]))  # for its processes

from support import costs, toy  # noqa: E402
from support.hostile import connected, head, received  # noqa: E402
from support.serving import Server, serving, toy_collection  # noqa: E402

CPU_S, MEMORY = 2.0, 300 * costs.MB
LONG_S = 120.0


@dataclass(frozen=True)
class Row:
    """One case, as it went."""

    name: str
    answer: str
    wall_s: float
    cpu_s: float
    memory_bytes: int
    expected: bool  # whether the answer is one that it may have

    @property
    def holds(self) -> bool:
        return self.expected and self.cpu_s <= CPU_S and self.memory_bytes <= MEMORY


# --- requests to a server ------------------------------------------------------------------------------------------


def posted(path: str, body: object, *statuses: int) -> Callable[[Server], tuple[str, bool]]:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()

    def ask(server: Server) -> tuple[str, bool]:
        headers = {"content-type": "application/json"}
        answer = httpx.post(f"{server.url}{path}", content=content, headers=headers, timeout=LONG_S)
        return str(answer.status_code), answer.status_code in statuses

    return ask


def slow_bodies(server: Server) -> tuple[str, bool]:
    with ExitStack() as stack:
        slow = [stack.enter_context(closing(connected(server))) for _ in range(300)]
        for there in slow:
            there.sendall(head("GET", "/", "content-length: 100000") + b"x")
        answered = httpx.get(f"{server.url}/healthz", timeout=LONG_S).status_code
        statuses = {received(there)[9:12].decode() for there in slow}
    return f"{'/'.join(sorted(statuses))}; others {answered}", statuses == {"400"} and answered == 200


def chunks_of_a_byte(server: Server) -> tuple[str, bool]:
    with closing(connected(server)) as there:
        there.sendall(head("POST", "/v1/search", "transfer-encoding: chunked"))
        with suppress(OSError):
            there.sendall(b"1\r\n \r\n" * 50_000 + b"0\r\n\r\n")
        status = received(there)[9:12].decode()
    return status, status == "400"


def first_map(server: Server) -> tuple[str, bool]:
    statuses = {httpx.get(f"{server.url}/v1/map", timeout=LONG_S).status_code}
    for number in range(20):
        asked = {"input": f"number {number}"}
        statuses.add(httpx.post(f"{server.url}/v1/embeddings", json=asked, timeout=LONG_S).status_code)
    return "/".join(map(str, sorted(statuses))), statuses <= {200, 202}


LABELS = {"labels": [f"{i:03} " + "word " * 1999 for i in range(250)], "templates": ["a photo of {}"]}
ZEROS = b'{"labels": ["a"], "images": [' + b"0," * 4_000_000 + b"0]}"
SENTENCES = {"input": ["word " * 1800] * 64, "long": "split"}
SERVER: dict[str, Callable[[Server], tuple[str, bool]]] = {
    "0.5 MB of labels to fill into templates": posted(
        "/v1/label", {"labels": LABELS["labels"][:50], "templates": LABELS["templates"]}, 413
    ),
    "2.5 MB of labels to fill into templates": posted("/v1/label", LABELS, 413),
    "8 MB of zeros for images": posted("/v1/classify", ZEROS, 413),
    "300 slow bodies to GET /": slow_bodies,
    "64 sentences of 9,000 characters to split": posted("/v1/embeddings", SENTENCES, 413),
    "30 MB of one text": posted("/v1/search", b'{"text": "' + b"a" * 30_000_000 + b'"}', 413),
    "30 MB of a text's escapes": posted("/v1/search", b'{"text": "' + b"\\u0061" * 5_000_000 + b'"}', 413),
    "the first GET /v1/map, and 20 texts": first_map,
    "50,000 chunks of a byte": chunks_of_a_byte,
}


def of_a_server(chosen: list[str], folder: Path) -> Iterator[Row]:
    with serving(toy_collection(folder), body_timeout_s=5.0) as server:
        for path in ("/v1/search", "/v1/label"):  # what is made once is made before
            body = {"text": "a"} if path == "/v1/search" else {"labels": ["a", "b"]}
            httpx.post(f"{server.url}{path}", json=body, timeout=LONG_S)
        for name in chosen:
            began = time.perf_counter()
            with costs.measured(server.process.pid) as cost:
                answer, expected = SERVER[name](server)
                took = time.perf_counter() - began
            yield Row(name, answer, took, cost.cpu_s, cost.memory_bytes, expected)


def emptied_keys(folder: Path) -> Row:
    keys, key = folder / "keys", "the-key-of-the-honest"
    keys.write_text(f"{key}\n")
    keys.chmod(0o600)
    with serving(toy_collection(folder), keys_file=keys) as server:
        keys.write_text("")
        began, status = time.perf_counter(), 200
        with costs.measured(server.process.pid) as cost:
            while status == 200 and time.perf_counter() - began < LONG_S:
                status = httpx.get(f"{server.url}/v1/models", headers={"x-api-key": key}).status_code
                time.sleep(0.02)
            took = time.perf_counter() - began
        ready = httpx.get(f"{server.url}/readyz").status_code
    name = "an emptied key file"
    return Row(name, f"{status}; ready {ready}", took, cost.cpu_s, cost.memory_bytes, (status, ready) == (503, 503))


# --- what is read, in a process of its own --------------------------------------------------------------------------


def unfolding_parquet(folder: Path) -> Path:
    """2.5 GB of zeros in pages of 20 MB."""
    import pyarrow
    import pyarrow.parquet

    path = folder / "bomb.parquet"
    table = pyarrow.table({"image": [bytes(20 * costs.MB)] * 4})
    with pyarrow.parquet.ParquetWriter(path, table.schema, compression="zstd", use_dictionary=False) as writer:
        for _ in range(32):
            writer.write_table(table)
    return path


def read_parquet(path: str) -> str:
    from tandem import samples

    return f"{sum(1 for _ in samples.parquet_rows(Path(path), ['image']))} rows"


def gzip_in_gzip(folder: Path) -> Path:
    path = folder / "answer.gz"
    inner = gzip.compress(bytes(costs.MB)) * 2500
    path.write_bytes(gzip.compress(inner))
    return path


def read_answer(path: str) -> str:
    import tandem

    content = Path(path).read_bytes()

    class Answer(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("content-encoding", "gzip, gzip")
            self.send_header("content-length", str(len(content)))
            self.end_headers()
            with suppress(OSError):
                self.wfile.write(content)

        def log_message(self, *_: Any) -> None:
            pass

    server = http.server.HTTPServer(("127.0.0.1", 0), Answer)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    with tandem.Client(f"http://127.0.0.1:{server.server_port}", retries=0) as client:
        return str(client.models())


def collection(folder: Path) -> Path:
    from support import flips

    return Path(flips.make(folder / "made", 12).url)


def damaged_vector(folder: Path) -> Path:
    path = collection(folder)
    (vectors,) = path.glob("g1/vectors-*.f32")
    content = bytearray(vectors.read_bytes())
    content[:4] = b"\x00\x00\xc0\x7f"  # NaN
    vectors.write_bytes(content)
    return path


def search(path: str) -> str:
    import numpy as np
    from support.collection_toys import toy_model

    from tandem.search.collection import Collection

    query = np.eye(1, toy.DIMENSIONS, dtype=np.float32)
    with warnings.catch_warnings(record=True) as said, Collection(path, toy_model()) as photos:
        warnings.simplefilter("always")
        (hits,) = photos.store.search(query, 20)
    return f"{len(hits)} hits; {len(said)} warning" + "s" * (len(said) != 1)


def tar_of_nothing(folder: Path) -> Path:
    path = folder / "empty.tar.gz"
    with tarfile.open(path, "w:gz") as tar:
        for number in range(60_000):
            tar.addfile(tarfile.TarInfo(f"{number}.png"))
    return path


def index(path: str) -> str:
    from support.collection_toys import run

    report = run(Path(path).parent, Path(path))
    return f"{report.added} added, {len(report.failures):,} named"


READERS: dict[str, tuple[Callable[[Path], Path], Callable[[str], str], str]] = {  # made, read, what it has to say
    "Parquet whose pages unfold to 2.5 GB": (unfolding_parquet, read_parquet, "unfold to"),
    "gzip in gzip as a server's answer, 2.5 GB": (gzip_in_gzip, read_answer, "was not asked for"),
    "one damaged vector in a collection": (damaged_vector, search, "1 warning"),
    "a tar of 60,000 empty images": (tar_of_nothing, index, "0 added"),
}


def of_a_reader(name: str, folder: Path) -> Row:
    make, _, expected = READERS[name]
    path = make(folder)
    command = [sys.executable, __file__, "--read", name, str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        return Row(name, f"killed or failed: {done.stderr[-200:]}", 0.0, 0.0, 0, False)
    said = json.loads(done.stdout.splitlines()[-1])
    right = expected in said["answer"]
    return Row(name, said["answer"], said["wall_s"], said["cpu_s"], said["memory_bytes"], right)


def read(name: str, path: str) -> None:
    """In the process of a case: what it costs. What it imports is no part of it, so a good case goes before."""
    from support import collection_toys  # noqa: F401

    import tandem
    from tandem import samples
    from tandem.errors import TandemError
    from tandem.search.stores.embedded import store, vector_index  # noqa: F401

    with tempfile.TemporaryDirectory() as folder:
        search(str(collection(Path(folder))))
        with suppress(TandemError):
            list(samples.parquet_rows(Path(folder) / "none.parquet", ["image"]))
        with suppress(TandemError), tandem.Client("http://127.0.0.1:9", retries=0) as client:
            client.models()
    began, answer = time.perf_counter(), ""
    with costs.measured(os.getpid()) as cost:
        try:
            answer = READERS[name][1](path)
        except TandemError as error:
            answer = f"{type(error).__name__}: {error}"
    print(json.dumps({"answer": answer, "wall_s": time.perf_counter() - began, **vars(cost)}))


def long_line(folder: Path) -> Row:
    """A line of 1 GB to `tandem mcp`, and a question after it."""
    command = [sys.executable, "-m", "tandem", "mcp", str(toy_collection(folder))]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, bufsize=0
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        hello = {
            "protocolVersion": "2025-06-18",
            "capabilities": {},
            "clientInfo": {"name": "hostile", "version": "1"},
        }
        start = {"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": hello}
        process.stdin.write(json.dumps(start).encode() + b"\n")
        process.stdout.readline()
        began, piece = time.perf_counter(), b"a" * costs.MB
        with costs.measured(process.pid) as cost:
            for _ in range(1000):
                process.stdin.write(piece)
            process.stdin.write(b"\n" + json.dumps({"jsonrpc": "2.0", "id": 2, "method": "ping"}).encode() + b"\n")
            answer = process.stdout.readline()
            while answer and b'"id":2' not in answer.replace(b" ", b""):
                answer = process.stdout.readline()
            took = time.perf_counter() - began
        process.stdin.close()
    name = "a line of 1 GB to tandem mcp"
    return Row(name, "the next line is answered", took, cost.cpu_s, cost.memory_bytes, b'"result"' in answer)


# --- all of them --------------------------------------------------------------------------------------------------


ALONE: dict[str, Callable[[Path], Row]] = {
    "an emptied key file": emptied_keys,
    "a line of 1 GB to tandem mcp": long_line,
}


@contextmanager
def scratch() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp())
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def rows(chosen: list[str]) -> Iterator[Row]:
    if of_server := [name for name in SERVER if name in chosen]:
        with scratch() as folder:
            yield from of_a_server(of_server, folder)
    for name in chosen:
        with scratch() as folder:
            if name in ALONE:
                yield ALONE[name](folder)
            elif name in READERS:
                yield of_a_reader(name, folder)


def main() -> int:
    known = [*SERVER, *ALONE, *READERS]
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--case", action="append", choices=known, metavar="NAME", help="this one only; repeatable")
    parser.add_argument("--list", action="store_true", help="name the cases")
    parser.add_argument("--read", nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.list:
        print("\n".join(known))
        return 0
    if arguments.read:
        read(*arguments.read)
        return 0
    beyond = 0
    print("| what is sent or opened | answer | seconds | processor seconds | memory above the base |")
    print("|---|---|---|---|---|")
    for row in rows(arguments.case or known):
        mark = "" if row.holds else " **beyond**"
        memory = f"{max(0, row.memory_bytes) / 1e6:.0f} MB"
        answer = " ".join(row.answer.split())[:90]
        print(f"| {row.name} | {answer} | {row.wall_s:.2f} | {row.cpu_s:.2f} | {memory}{mark} |", flush=True)
        beyond += not row.holds
    return 1 if beyond else 0


if __name__ == "__main__":
    raise SystemExit(main())
