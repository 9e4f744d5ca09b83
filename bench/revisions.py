"""The same work at two revisions of Tandem, side by side: did a change make anything slower?

    python bench/revisions.py --before v0.1.0 [--rounds 5] [--only encode,cold,index,search,serve,train]

The older revision is unpacked into a temporary folder; both run on the same Python and packages, in processes of their
own that take turns, on the same folders. Only what has the same interface in both is used: the command line, HTTP, and
`tandem.load` with its methods. Medians; the ratio is after over before, in time (below 1 is faster).
"""

import argparse
import json
import os
import socket
import statistics
import subprocess
import sys
import tarfile
import tempfile
import time
import urllib.request
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image
from reference import load_note, machine, make_folder

ROOT = Path(__file__).resolve().parents[1]
QUERY = "a black cat sleeping on a red sofa"

ENCODE = """
import json, sys, time
import numpy as np
import tandem
model = tandem.load(sys.argv[1] or None)
size = model.config.preprocessing.image_size
pixels = np.random.default_rng(0).integers(0, 256, (int(sys.argv[2]), size, size, 3), np.uint8)
images = list(pixels)
texts = [f"a photo of a {a} {b}" for a in ("red", "small", "wet", "old") for b in range(int(sys.argv[3]) // 4)]
model.embed_images(images[:32]); model.embed_texts(texts[:32])
began = time.perf_counter(); model.embed_images(images, batch_size=32); a = time.perf_counter() - began
began = time.perf_counter(); model.embed_texts(texts); b = time.perf_counter() - began
print(json.dumps([a, b]))
"""


@dataclass
class Revision:
    """A source tree, and a data folder of its own."""

    name: str
    source: Path
    home: Path
    seconds: dict[str, list[float]] = field(default_factory=dict)

    @property
    def environment(self) -> dict[str, str]:
        return os.environ | {"PYTHONPATH": str(self.source / "src"), "TANDEM_HOME": str(self.home)}

    def run(self, *arguments: str) -> str:
        command = [sys.executable, *arguments]
        done = subprocess.run(command, env=self.environment, capture_output=True, text=True, check=False)
        if done.returncode:
            raise SystemExit(f"{self.name}: {' '.join(command[:4])} ...: {done.stderr.strip()[-800:]}")
        return done.stdout

    def timed(self, row: str, *arguments: str) -> None:
        began = time.perf_counter()
        self.run(*arguments)
        self.note(row, time.perf_counter() - began)

    def note(self, row: str, seconds: float) -> None:
        self.seconds.setdefault(row, []).append(seconds)


def unpack(revision: str, folder: Path) -> Path:
    """The tree of a revision, without touching the working tree."""
    archive = folder / "tree.tar"
    subprocess.run(["git", "archive", "-o", str(archive), revision], cwd=ROOT, check=True)
    with tarfile.open(archive) as tar:
        tar.extractall(folder / "before", filter="data")
    return folder / "before"


def make_photos(folder: Path, count: int, size: tuple[int, int] = (460, 390)) -> Path:
    folder.mkdir(parents=True)
    draw = np.random.default_rng(0)
    for i in range(count):
        small = Image.fromarray(draw.integers(0, 256, (24, 28, 3), np.uint8))
        small.resize(size, Image.Resampling.BICUBIC).save(folder / f"{i:05}.jpg", quality=88)
    return folder


class Work:
    """What is timed; each method runs one round of one revision."""

    def __init__(self, folder: Path, vit: Path) -> None:
        self.folder, self.vit = folder, str(vit)
        self.photos = make_photos(folder / "photos", 600)
        self.few = make_photos(folder / "few", 64)
        self.classes = folder / "classes"
        for name in ("red panda", "zebra"):
            make_photos(self.classes / "photos" / name, 64, (96, 96))
        self.big = folder / "big"  # links: many files, few decoded twice
        self.made: dict[str, Path] = {}
        self.count = 0

    def fresh(self, name: str) -> Path:
        self.count += 1
        return self.folder / f"{name}-{self.count}"

    def encode(self, side: Revision) -> None:
        for name, source, images, texts in (("tandem-mini", "", 1024, 4000), ("ViT-B/32", self.vit, 64, 400)):
            a, b = json.loads(side.run("-c", ENCODE, source, str(images), str(texts)))
            side.note(f"encode: {images} images, {name}", a)
            side.note(f"encode: {texts} texts, {name}", b)

    def cold(self, side: Revision) -> None:
        photo = str(self.few / "00000.jpg")
        side.timed("cold: import tandem", "-c", "import tandem")
        side.timed("cold: tandem --help", "-m", "tandem", "--help")
        side.timed("cold: classify one photo, tandem-mini", "-m", "tandem", "classify", photo, "--labels", "a,b")
        side.timed(
            "cold: classify one photo, ViT-B/32",
            *("-m", "tandem", "classify", photo, "--labels", "a,b", "--model", self.vit),
        )

    def index(self, side: Revision) -> None:
        url = self.fresh("index")
        side.timed("index: 600 JPEGs, tandem-mini", "-m", "tandem", "index", str(self.photos), "--to", str(url))
        side.timed("index: 600 unchanged files", "-m", "tandem", "index", str(self.photos), "--to", str(url))
        side.timed(
            "index: 64 JPEGs, ViT-B/32",
            *("-m", "tandem", "index", str(self.few), "--to", str(self.fresh("vit")), "--model", self.vit),
        )

    def collection(self, side: Revision) -> str:
        """One of 10,000 vectors, filled by the older revision, so that both read the same files."""
        url = self.folder / "ready"
        if not url.exists():
            before = side if side.name == "before" else Revision("before", self.folder / "before", side.home)
            before.run(str(before.source / "bench" / "search.py"), "--fill", str(url), "", "10000")
        return str(url)

    def search(self, side: Revision) -> None:
        side.timed("search: 10,000 images, cold", "-m", "tandem", "search", self.collection(side), QUERY)

    def serve(self, side: Revision) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        command = [sys.executable, "-m", "tandem", "serve", self.collection(side), "--port", str(port)]
        began = time.perf_counter()
        with subprocess.Popen(command, env=side.environment, stderr=subprocess.DEVNULL) as server:
            try:
                address = f"http://127.0.0.1:{port}"
                while not is_ready(address):
                    if server.poll() is not None or time.perf_counter() - began > 60:
                        raise SystemExit(f"{side.name}: the server did not become ready")
                    time.sleep(0.01)
                side.note("serve: start to ready", time.perf_counter() - began)
                search = [{"text": f"a {a} photo of a {b}"} for a in ("red", "wet", "old") for b in range(134)]
                embed = [{"input": f"a dog and {b} cats"} for b in range(400)]
                for name, path, bodies in (("searches", "search", search), ("embeddings", "embeddings", embed)):
                    post(f"{address}/v1/{path}", bodies[0])
                    side.note(f"serve: {len(bodies)} {name}, 16 clients", posts(f"{address}/v1/{path}", bodies))
            finally:
                server.terminate()

    def train(self, side: Revision) -> None:
        recipe = str(side.source / "recipes" / "finetune.toml")
        taken = []
        for steps in (4, 14):
            values = [f"data_root={self.classes}", f"steps={steps}", f"folder={self.fresh('run')}", "workers=0"]
            began = time.perf_counter()
            side.run("-m", "tandem", "train", recipe, *values, "optimiser.warmup_steps=5")
            taken.append(time.perf_counter() - began)
        side.note("train: 10 steps of tandem-mini, batch 64", taken[1] - taken[0])


def is_ready(address: str) -> bool:
    try:
        with urllib.request.urlopen(f"{address}/readyz", timeout=2) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


def post(address: str, body: dict[str, object]) -> None:
    request = urllib.request.Request(address, json.dumps(body).encode(), {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=60) as answer:
        answer.read()


def posts(address: str, bodies: list[dict[str, object]]) -> float:
    began = time.perf_counter()
    with ThreadPoolExecutor(16) as clients:
        list(clients.map(lambda body: post(address, body), bodies))
    return time.perf_counter() - began


PARTS: dict[str, Callable[[Work, Revision], None]] = {
    name: getattr(Work, name) for name in ("encode", "cold", "index", "search", "serve", "train")
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--before", required=True, metavar="REVISION")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", default=",".join(PARTS))
    arguments = parser.parse_args()
    vit = make_folder(Path(tempfile.gettempdir()) / "tandem-bench-vit-b-32")
    print(f"{machine()}; {load_note()}\n")
    with tempfile.TemporaryDirectory() as folder:
        sides = [
            Revision("before", unpack(arguments.before, Path(folder)), Path(folder) / "home-before"),
            Revision("after", ROOT, Path(folder) / "home-after"),
        ]
        work = Work(Path(folder), vit)
        for part in arguments.only.split(","):
            for round_ in range(arguments.rounds):
                for side in sides if round_ % 2 == 0 else sides[::-1]:
                    PARTS[part](work, side)
        print("| whole work, seconds | before | after | after / before (of pairs) |\n|---|---|---|---|")
        for row, before in sides[0].seconds.items():
            after = sides[1].seconds[row]
            ratios = [b / a for a, b in zip(before, after, strict=True)]
            a, b = statistics.median(before), statistics.median(after)
            print(f"| {row} | {a:.3f} | {b:.3f} | {b / a:.2f} ({min(ratios):.2f} to {max(ratios):.2f}) |")


if __name__ == "__main__":
    main()
