"""`tandem serve` under load: rates, latencies, start, a soak at twice the capacity, and malformed requests.

    python bench/serve.py [--seconds 10] [--count 10000] [--models tandem-mini,ViT-B/32] [--folder F]
    python bench/serve.py --soak 10 --models ViT-B/32
    python bench/serve.py --hostile 5000 --models tandem-mini [--schemathesis st-venv/bin/schemathesis]

The server is the command itself, in a process of its own, over a collection of ready vectors (of unit length, random);
ViT-B/32 has random weights. The clients are one process on the same machine that sends ready bytes over kept
connections: what it takes of the processor is missing to the server, as is decoding. The encoder's own rate is that of
batches of 32 ready pixels with nothing else running; beside it stands what `embed_images` makes of the same JPEGs.
Twice the capacity is offered on a clock, not by clients that wait for answers.
"""

import argparse
import asyncio
import base64
import io
import os
import random
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter, deque
from collections.abc import Sequence
from pathlib import Path

from reference import load_note, machine, make_folder
from serve_load import Answers, closed_loop, open_loop, request, serving

SEARCHES = 4000
QUALITIES = ("red", "blue", "old", "small", "wooden", "wet", "bright", "black and white", "young", "happy", "two")
THINGS = ("dog", "cat", "boat", "child", "man", "woman", "horse", "bicycle", "car", "bird", "house", "tree", "ball")
DOINGS = ("sleeping", "running", "jumping", "standing", "swimming", "waiting", "playing", "falling", "being washed")
PLACES = ("at the beach", "on a sofa", "in the snow", "at night", "in a street", "near water", "in the forest")

# --- what is measured -----------------------------------------------------------------------------------------------


def jpegs(count: int, width: int, height: int) -> list[bytes]:
    """Pictures with edges and colours, of some 20 KB."""
    import numpy as np
    from PIL import Image

    chance = np.random.default_rng(0)
    made = []
    for _ in range(count):
        small = chance.integers(0, 256, (height // 20, width // 20, 3), dtype=np.uint8)
        file = io.BytesIO()
        Image.fromarray(small).resize((width, height), Image.Resampling.BICUBIC).save(file, "JPEG", quality=85)
        made.append(file.getvalue())
    return made


def own_rates(source: str | None, precision: str, pictures: Sequence[bytes], seconds: float) -> tuple[float, float]:
    """Pictures a second: the encoder alone, in batches of 32; and `embed_images` of the same JPEGs."""
    import numpy as np

    import tandem

    model = tandem.load(source, precision=precision) if precision else tandem.load(source)
    size = model.config.vision.image_size
    pixels = np.random.default_rng(0).integers(0, 256, (32, size, size, 3), dtype=np.uint8)
    batch = (list(pictures) * 32)[:32]
    rates = []
    for work in (lambda: model.engine.encode_images(pixels), lambda: model.embed_images(batch)):
        work()
        done, began = 0, time.perf_counter()
        while time.perf_counter() - began < seconds:
            work()
            done += 32
        rates.append(done / (time.perf_counter() - began))
    return rates[0], rates[1]


def embedding_requests(pictures: Sequence[bytes]) -> list[bytes]:
    uris = [f"data:image/jpeg;base64,{base64.b64encode(content).decode()}" for content in pictures]
    return [request("/v1/embeddings", {"input": uri, "encoding_format": "base64"}) for uri in uris]


def search_requests(k: int) -> list[bytes]:
    """What people type, of two to eight words; all differ, so that no answer is remembered."""
    chance = random.Random(0)
    texts: dict[str, None] = {}
    while len(texts) < SEARCHES:
        thing = f"{chance.choice(QUALITIES)} {chance.choice(THINGS)}"
        doing = chance.choice(("", f" {chance.choice(DOINGS)}"))
        where = chance.choice(("", f" {chance.choice(PLACES)}"))
        texts[chance.choice(("", "a ", "photo of a ")) + thing + doing + where] = None
    return [request("/v1/search", {"text": text, "k": k}) for text in texts]


def shown(answers: Answers) -> str:
    return f"p50 {answers.quantile(0.5) * 1000:.0f} ms, p99 {answers.quantile(0.99) * 1000:.0f} ms"


def measure(name: str, source: str | None, url: str, precision: str, arguments: argparse.Namespace) -> None:
    flags = ("--precision", precision) if precision else ()
    pictures = jpegs(64, arguments.width, arguments.width * 3 // 4)
    asked = [sys.executable, __file__, "--own", source or "", "--seconds", str(arguments.seconds)]
    asked += ["--width", str(arguments.width), "--own-precision", precision]
    printed = subprocess.run(asked, check=True, capture_output=True, text=True)
    encoder, library = (float(number) for number in printed.stdout.split())
    starts = []
    for _ in range(3):
        with serving(url, *flags) as running:
            starts.append(running.seconds_to_ready)
    with serving(url, *flags) as running:
        requests = embedding_requests(pictures)
        asyncio.run(closed_loop(running.port, requests, 32, 2))
        embedded = asyncio.run(closed_loop(running.port, requests, 32, arguments.seconds))
        searches = search_requests(10)
        asyncio.run(closed_loop(running.port, searches[-200:], 16, 1))
        found = asyncio.run(closed_loop(running.port, searches, 16, arguments.seconds))
        peak = running.rss_mb()
    print(f"| {name}: 32 clients embedding pictures, over the encoder alone | {embedded.rate / encoder:.2f}x (0.85x) |")
    print(f"| - a second: server / encoder / embed_images | {embedded.rate:.0f} / {encoder:.0f} / {library:.0f} |")
    print(f"| - latency, other statuses | {shown(embedded)}; {dict(embedded.statuses)} |")
    print(f"| {name}: text search, {arguments.count:,} pictures, 16 clients | {shown(found)} (60 / 250 ms) |")
    print(f"| - searches a second, statuses | {found.rate:.0f}; {dict(found.statuses)} |")
    print(f"| {name}: from start to ready | {statistics.median(starts):.2f} s (3 s) |")
    print(f"| {name}: resident after that | {peak:.0f} MB |", flush=True)


def soak(name: str, url: str, arguments: argparse.Namespace) -> None:
    """Twice what it can, for minutes."""
    with serving(url) as running:
        requests = embedding_requests(jpegs(64, arguments.width, arguments.width * 3 // 4))
        capacity = asyncio.run(closed_loop(running.port, requests, 32, arguments.seconds)).rate
        seconds = arguments.soak * 60
        answers, memory = asyncio.run(open_loop(running, requests, 2 * capacity, seconds))
        ready = running.ready()
    total = sum(answers.statuses.values())
    early = statistics.mean(mb for second, mb in memory if 0.1 * seconds <= second < 0.2 * seconds)
    late = statistics.mean(mb for second, mb in memory if second >= 0.9 * seconds)
    print(f"| {name}: {arguments.soak:g} minutes at {2 * capacity:.0f} pictures a second, twice the capacity | |")
    print(f"| - served | {answers.rate:.0f} a second; {shown(answers)}, most {max(answers.seconds):.2f} s |")
    print(f"| - refused with 503 | {answers.statuses[503] / total:.1%} of {total:,}; all: {dict(answers.statuses)} |")
    print(f"| - memory, second tenth -> last tenth | {early:.0f} -> {late:.0f} MB, {late / early - 1:+.1%} (5%) |")
    print(f"| - ready afterwards | {'yes' if ready else 'NO'} |", flush=True)


def hostile(url: str, arguments: argparse.Namespace) -> None:
    """Malformed requests of our own among slow and huge ones, then as many cases of schemathesis, if it is there."""
    import httpx

    sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))
    from support.hostile import malformed, pester

    chance = random.Random(11)
    statuses: Counter[int] = Counter()
    slow: deque[socket.socket] = deque()
    with serving(url) as running, httpx.Client(base_url=running.url, timeout=60) as http:
        for number in range(arguments.hostile):
            if number % 10 == 0:
                slow.append(pester(("127.0.0.1", running.port), chance))
            while len(slow) > 100:
                slow.popleft().close()
            asked = malformed(chance, http)
            answer = http.send(asked)
            statuses[answer.status_code] += 1
            if answer.status_code >= 500 and not (answer.status_code == 503 and "retry-after" in answer.headers):
                print(f"FAILED: {asked.method} {asked.url} {asked.content[:300]!r}: {answer.text[:300]}")
        said = f"{dict(sorted(statuses.items()))}; ready: {running.ready()}; {running.rss_mb():.0f} MB"
        print(f"| {arguments.hostile:,} malformed requests, {len(slow)} slow or huge ones beside them | {said} |")
        for there in slow:
            there.close()
        program = arguments.schemathesis or shutil.which("schemathesis")
        if program:
            command = [program, "run", f"{running.url}/openapi.json", "--phases", "examples,coverage,fuzzing"]
            command += ["--checks", "accepted_or_about_content,errors_are_problems"]
            command += ["--max-examples", str(max(1, arguments.hostile // 12)), "--seed", "1", "--no-color"]
            command += ["--continue-on-failure", "--suppress-health-check", "all", "--warnings", "off"]
            hooks = {"SCHEMATHESIS_HOOKS": "serve_checks", "PYTHONPATH": str(Path(__file__).parent)}
            with tempfile.TemporaryDirectory() as place:  # it leaves things where it runs
                done = subprocess.run(
                    command, cwd=place, env=os.environ | hooks, capture_output=True, text=True, check=False
                )
            print("\n".join((done.stdout + done.stderr).splitlines()[-arguments.lines :]))
            print(f"| schemathesis | exit code {done.returncode}; ready: {running.ready()} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=10)
    parser.add_argument("--count", type=int, default=10_000)
    parser.add_argument("--width", type=int, default=320, help="of the JPEGs, whose height is three quarters of it")
    parser.add_argument("--models", default="tandem-mini,ViT-B/32,ViT-B/32@bfloat16")
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()) / "tandem-bench-vit-b-32")
    parser.add_argument("--soak", type=float, metavar="MINUTES")
    parser.add_argument("--hostile", type=int, metavar="REQUESTS")
    parser.add_argument("--schemathesis", help="the program, if it is not on the path")
    parser.add_argument("--lines", type=int, default=40, help="of what schemathesis says")
    parser.add_argument("--own", help=argparse.SUPPRESS)
    parser.add_argument("--own-precision", default="", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.own is not None:
        pictures = jpegs(64, arguments.width, arguments.width * 3 // 4)
        print(*own_rates(arguments.own or None, arguments.own_precision, pictures, arguments.seconds))
        return
    print(f"{machine()}; {load_note()}\n\n| what | measured (target) |\n|---|---|", flush=True)
    with tempfile.TemporaryDirectory() as home:
        os.environ["TANDEM_HOME"] = home
        for name in arguments.models.split(","):
            model, _, precision = name.partition("@")
            source = None if model == "tandem-mini" else str(make_folder(arguments.folder))
            url = str(Path(home) / f"{name.replace('/', '-')}.tandem")
            filling = [sys.executable, str(Path(__file__).with_name("search.py")), "--fill"]
            subprocess.run([*filling, url, source or "", str(arguments.count)], check=True)
            if arguments.soak:
                soak(name, url, arguments)
            elif arguments.hostile:
                hostile(url, arguments)
            else:
                measure(name, source, url, precision, arguments)


if __name__ == "__main__":
    main()
