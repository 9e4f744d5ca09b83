"""`tandem serve` among hostile clients: how long honest ones wait, beside how long they wait alone.

    python bench/soak.py [--minutes 10] [--idle-minutes 2] [--count 5000] [--rate 10] [--attacks 5] [--seed 0]

The server is the command itself, in a process of its own, with keys. Honest clients send searches, a picture to
classify, a record and the page, so many a second on a clock, with a key of their own. Hostile ones, in a process of
lower priority (elsewhere they would have a machine of their own), send one attack after another, without a key, with a
wrong one, and with a right one. What is printed says whether honest p99 stayed within twice its idle value. The exit
code is 1 where it did not, where an honest request failed, or where the server logged a traceback.
"""

import argparse
import asyncio
import base64
import contextlib
import io
import json
import multiprocessing
import os
import random
import socket
import struct
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from serve_load import Answers, Running, open_loop, serving

HONEST, HOSTILE = "honest-key-0123456789", "hostile-key-0123456789"
HELD = 200  # connections that the hostile leave open
TIMES = 2.0  # what p99 may become


def message(method: str, path: str, document: object = None, *headers: str, key: str = "") -> bytes:
    body = b"" if document is None else json.dumps(document).encode()
    named = [f"{method} {path} HTTP/1.1", "host: localhost", *headers]
    if body:
        named += ["content-type: application/json", f"content-length: {len(body)}"]
    return "\r\n".join([*named, *([f"x-api-key: {key}"] if key else []), "", ""]).encode() + body


def picture(seed: int, size: tuple[int, int] = (320, 240)) -> str:
    import numpy as np
    from PIL import Image

    small = np.random.default_rng(seed).integers(0, 256, (size[1] // 20, size[0] // 20, 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(small).resize(size).save(file, "JPEG", quality=85)
    return "data:image/jpeg;base64," + base64.b64encode(file.getvalue()).decode()


def honest(ids: list[str]) -> list[bytes]:
    """What people send: new texts, so that nothing is answered from a cache."""
    chance = random.Random(1)
    words = ("red", "old", "small", "wet", "dog", "boat", "child", "house", "tree", "street", "snow", "night", "sea")
    made = []
    for number in range(20_000):
        text = " ".join(chance.sample(words, 4)) + f" {number}"
        made.append(message("POST", "/v1/search", {"text": text, "k": 20}, key=HONEST))
        if number % 10 == 0:
            asked = {"image": picture(number % 50), "labels": ["cat", "dog", "street"]}
            made.append(message("POST", "/v1/classify", asked, key=HONEST))
        if number % 5 == 0:
            made.append(message("GET", f"/v1/images/{chance.choice(ids)}", key=HONEST))
            made.append(message("GET", "/"))
    return made


# --- attacks ---------------------------------------------------------------------------------------------------------


def requests() -> dict[str, Callable[[random.Random], bytes]]:
    """Requests of one piece, by name. Each costs little to send."""
    png = picture(3)

    def post(path: str, body: bytes, key: str = HOSTILE) -> bytes:
        head = f"POST {path} HTTP/1.1\r\nhost: localhost\r\nx-api-key: {key}\r\ncontent-type: application/json\r\n"
        return f"{head}content-length: {len(body)}\r\n\r\n".encode() + body

    def plain(path: str, document: object) -> bytes:
        return post(path, json.dumps(document).encode())

    zeros = b'{"labels": ["a"], "images": [' + b"0," * 2_000_000 + b"0]}"
    long = json.dumps({"labels": [f"{i} " + "word " * 1900 for i in range(200)]}).encode()
    deep = b'{"text": ' + b"[" * 1_000_000
    split = json.dumps({"input": ["word " * 1800] * 64, "long": "split"}).encode()
    return {
        "zeros for images": lambda chance: post("/v1/classify", zeros),
        "long labels": lambda chance: post("/v1/label", long),
        "deep": lambda chance: post("/v1/search", deep),
        "sentences to split": lambda chance: post("/v1/embeddings", split),
        "many texts": lambda chance: plain("/v1/embeddings", {"input": [f"{chance.random()} {i}" for i in range(256)]}),
        "labels in templates": lambda chance: plain(
            "/v1/label",
            {"labels": [f"{chance.random()} {i}" for i in range(64)], "templates": [f"{i} {{}}" for i in range(16)]},
        ),
        "odd letters": lambda chance: plain(
            "/v1/search", {"text": "".join(chance.choices("\u0315\u0300\u00e9\u4e00", k=5000)), "long": "truncate"}
        ),
        "a scan": lambda chance: plain("/v1/label", {"labels": ["a", "b"], "by": "image", "offset": 10**9}),
        "a filter": lambda chance: plain("/v1/search", {"text": "a", "where": "path like '" + "%a" * 2000 + "'"}),
        "pictures": lambda chance: plain("/v1/classify", {"images": [png] * 16, "labels": ["a", "b"]}),
        "no picture": lambda chance: plain("/v1/search", {"image": png[: chance.randrange(40, len(png))]}),
        "a map": lambda chance: message("GET", "/v1/map", key=HOSTILE),
        "a wrong key": lambda chance: message("GET", "/v1/models", key=f"guess-{chance.random()}"),
        "no key": lambda chance: message("POST", "/v1/search", {"text": "a"}),
        "another host": lambda chance: b"GET /v1/models HTTP/1.1\r\nhost: evil.example\r\n\r\n",
        "no HTTP": lambda chance: chance.randbytes(500) + b"\r\n\r\n",
        "ready?": lambda chance: message("GET", "/readyz") * 20,
        "pages in a row": lambda chance: message("GET", "/") * 50,
        "tiny chunks": lambda chance: (
            message("POST", "/v1/search", None, "transfer-encoding: chunked", key=HOSTILE) + b"1\r\na\r\n" * 50_000
        ),
    }


def unfinished(chance: random.Random) -> bytes:
    """The beginning of a request that never ends."""
    return chance.choice(
        [
            b"POST /v1/search HTTP/1.1\r\nhost: localhost\r\ncontent-le",
            message("GET", "/", None, "content-length: 100000") + b"x",
            message("POST", "/v1/search", None, "content-length: 1000", key=HOSTILE) + b'{"text',
            message("POST", "/v1/search", None, "content-length: 1000") + b'{"text',
            b"",
        ]
    )


def attack(
    port: int, per_second: float, seconds: float, seed: int, sent: "multiprocessing.Queue[Counter[str]]"
) -> None:
    """In a process of its own: attacks on a clock. Some connections are kept open, some are reset."""
    os.nice(10)
    chance = random.Random(seed)
    known = requests()
    counts: Counter[str] = Counter()
    held: list[socket.socket] = []
    began = time.perf_counter()
    while (now := time.perf_counter() - began) < seconds:
        if sum(counts.values()) > now * per_second:
            time.sleep(0.01)
            continue
        name = chance.choice([*known, "unfinished", "unfinished"])
        counts[name] += 1
        with contextlib.suppress(OSError):
            there = socket.create_connection(("127.0.0.1", port), timeout=2)
            there.sendall(unfinished(chance) if name == "unfinished" else known[name](chance))
            if name == "unfinished" or chance.random() < 0.3:  # nobody reads the answer
                held.append(there)
            elif chance.random() < 0.3:  # closing is a reset
                there.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                there.close()
            else:
                there.settimeout(0.5)
                with contextlib.suppress(TimeoutError):
                    there.recv(4096)
                there.close()
        while len(held) > HELD:
            held.pop(chance.randrange(len(held))).close()
    sent.put(counts)


# --- the report -------------------------------------------------------------------------------------------------------


def besieged(
    running: Running, arguments: argparse.Namespace, asked: list[bytes]
) -> tuple[Answers, float, Counter[str]]:
    """The honest answers among attacks, the server's largest memory in MB, and the attacks."""
    sent: multiprocessing.Queue[Counter[str]] = multiprocessing.Queue()
    seconds = 60 * arguments.minutes
    options = (running.port, arguments.attacks, seconds, arguments.seed, sent)
    hostile = multiprocessing.Process(target=attack, args=options, daemon=True)
    hostile.start()
    answers, memory = asyncio.run(open_loop(running, asked, arguments.rate, seconds))
    counts = sent.get(timeout=30)
    hostile.join(timeout=30)
    return answers, max(size for _, size in memory), counts


def line(name: str, answers: Answers) -> str:
    times = " / ".join(f"{1000 * answers.quantile(share):.0f}" for share in (0.5, 0.95, 0.99))
    return f"| {name} | {len(answers.seconds):,} | {times} ms | {dict(answers.statuses)} |"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--idle-minutes", type=float, default=2.0)
    parser.add_argument("--count", type=int, default=5000, help="images of the collection (%(default)s)")
    parser.add_argument("--rate", type=float, default=10.0, help="honest requests a second (%(default)s)")
    parser.add_argument("--attacks", type=float, default=5.0, help="attacks a second (%(default)s)")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        here = Path(folder)
        keys = here / "keys"
        keys.write_text(f"{HONEST}\n{HOSTILE}\n")
        keys.chmod(0o600)
        ids = filled(here / "photos.tandem", arguments.count)
        with serving(str(here / "photos.tandem"), "--api-key-file", str(keys)) as running:
            asked = honest(ids)
            asyncio.run(open_loop(running, asked[-200:], arguments.rate, 5))  # what is made once
            before = running.rss_mb()
            alone, _ = asyncio.run(open_loop(running, asked, arguments.rate, 60 * arguments.idle_minutes))
            among, memory, attacks = besieged(running, arguments, asked[::-1])
            ready = running.ready()
            said = running.log()
    print("| honest requests | 200 | p50 / p95 / p99 | statuses |\n|---|---|---|---|")
    print(line("alone", alone))
    print(line(f"among {sum(attacks.values()):,} attacks", among))
    ratio = among.quantile(0.99) / alone.quantile(0.99)
    print(f"\np99: {ratio:.2f} of that alone (at most {TIMES:g}); memory {before:.0f} MB, at most {memory:.0f} MB")
    print(f"log: {len(said.splitlines())} lines, {said.count('Traceback')} tracebacks; ready afterwards: {ready}")
    if "Traceback" in said:
        print(said[max(0, said.index("Traceback") - 500) :][:6000], file=sys.stderr)
    print(f"attacks: {dict(attacks.most_common())}")
    failed = sum(among.statuses.values()) - among.statuses[200]
    return int(ratio > TIMES or failed > 0 or "Traceback" in said or not ready)


def filled(url: Path, count: int) -> list[str]:
    """A collection of the model that ships with random vectors, and some ids of it."""
    import numpy as np

    import tandem

    vectors = np.random.default_rng(0).standard_normal((count, tandem.load().config.embed_dim)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    ids = [f"{number:032x}" for number in range(count)]
    with tandem.open(url) as photos:
        photos.add_vectors(ids, vectors, {"path": [f"/photos/{id}.jpg" for id in ids]})
    return ids[:500]


if __name__ == "__main__":
    sys.exit(main())
