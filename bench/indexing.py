"""Indexing, in three figures, each side by side with what it is measured against:

1. JPEGs of about 460 x 390 with ViT-B/32 (random weights, float32), over the encoder's own rate on ready pixels;
2. JPEGs of 12 megapixels with --fast-decode, over full decoding, with the model that ships;
3. `tandem index` over 10,000 files that have not changed, the whole process.

    python bench/indexing.py [--rounds 3] [--pictures 1000] [--large 16] [--files 10000] [--only 1,2,3]

The sides take turns, so that whatever else the machine does hits both; each figure is the median of its rounds. The
pictures are crops of the photographs of scikit-image and scikit-learn, each with noise of its own.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image
from reference import load_note, machine, make_folder

import tandem
from tandem.model import Model
from tandem.search.identity import notes_for, schema_for
from tandem.search.indexing.ledger import Ledger
from tandem.search.indexing.local import index
from tandem.search.indexing.run import IndexingOptions, open_sources
from tandem.search.stores.backends import create_store

BATCH = 32


def photographs() -> list[Image.Image]:
    from skimage import data
    from sklearn.datasets import load_sample_images

    arrays = [data.astronaut(), data.chelsea(), data.coffee(), data.rocket(), *load_sample_images().images]
    return [Image.fromarray(array) for array in arrays]


def crops(count: int, size: tuple[int, int]) -> Iterator[Image.Image]:
    """Pictures of about that size that no other call gives twice."""
    draw = np.random.default_rng(size[0])
    found = photographs()
    for i in range(count):
        photo = found[i % len(found)]
        share = draw.uniform(0.6, 1)
        width, height = int(photo.width * share), int(photo.height * share)
        left, top = draw.integers(photo.width - width + 1), draw.integers(photo.height - height + 1)
        grown = photo.resize(size, Image.Resampling.BICUBIC, box=(left, top, left + width, top + height))
        noise = draw.integers(-6, 7, (size[1], size[0], 1), dtype=np.int16)
        yield Image.fromarray((np.asarray(grown).astype(np.int16) + noise).clip(0, 255).astype(np.uint8))


def save(pictures: Iterator[Image.Image], folder: Path, ending: str) -> Path:
    folder.mkdir()
    for i, picture in enumerate(pictures):
        picture.save(folder / f"{i:05}{ending}", quality=90)
    return folder


def seconds_to_index(model: Model, pictures: Path, home: Path, *, fast_decode: bool = False) -> float:
    """Of one run into an empty collection."""
    with tempfile.TemporaryDirectory(dir=home) as folder:
        store = create_store(f"{folder}/c.tandem", schema_for(model), notes_for(model))
        options = IndexingOptions(fast_decode=fast_decode, batch_size=BATCH)
        with Ledger.open(Path(folder) / "files.sqlite") as ledger, open_sources([pictures], options) as sources:
            start = time.perf_counter()
            report = index(store, lambda: model, sources, ledger, options)
            taken = time.perf_counter() - start
        store.close()
        assert not report.failures
        assert report.total == len(list(pictures.iterdir()))
        return taken


def seconds_to_encode(model: Model, pixels: np.ndarray, count: int) -> float:
    start = time.perf_counter()
    for _ in range(count // len(pixels)):
        model.engine.encode_images(pixels)
    model.engine.encode_images(pixels[: count % len(pixels)])
    return time.perf_counter() - start


def over_the_encoder(home: Path, model_folder: Path, count: int, rounds: int) -> None:
    model = tandem.load(make_folder(model_folder), precision="float32")
    pictures = save(crops(count, (460, 390)), home / "small", ".jpg")
    pixels = np.random.default_rng(0).integers(0, 256, (BATCH, 224, 224, 3), dtype=np.uint8)
    seconds_to_encode(model, pixels, 2 * BATCH)
    seconds_to_index(model, pictures, home)
    alone, whole, alone_cores, whole_cores = [], [], [], []
    for _ in range(rounds):
        clocks = [time.process_time()]
        alone.append(count / seconds_to_encode(model, pixels, count))
        clocks.append(time.process_time())
        whole.append(count / seconds_to_index(model, pictures, home))
        clocks.append(time.process_time())
        alone_cores.append(1000 * (clocks[1] - clocks[0]) / count)
        whole_cores.append(1000 * (clocks[2] - clocks[1]) / count)
    a, b = statistics.median(alone), statistics.median(whole)
    c, d = statistics.median(alone_cores), statistics.median(whole_cores)
    print(
        f"| {count:,} JPEGs of 460 x 390, ViT-B/32 float32, pictures/s | {a:.1f} encoder alone | {b:.1f} indexing |"
        f" {b / a:.2f}x (0.9x) |",
        flush=True,
    )
    # Which another process on the same cores hardly changes, as it does change the rates
    print(f"| the same, processor time of a picture, ms | {c:.1f} | {d:.1f} | {c / d:.2f}x |", flush=True)


def fast_over_full(home: Path, count: int, rounds: int) -> None:
    model = tandem.load()
    pictures = save(crops(count, (4000, 3000)), home / "large", ".jpg")
    model.embed_images([np.zeros((64, 64, 3), np.uint8)] * 2)
    full, fast = [], []
    for _ in range(rounds):
        full.append(count / seconds_to_index(model, pictures, home))
        fast.append(count / seconds_to_index(model, pictures, home, fast_decode=True))
    a, b = statistics.median(full), statistics.median(fast)
    print(
        f"| {count} JPEGs of 4000 x 3000, {model.name}, pictures/s | {a:.1f} full | {b:.1f} --fast-decode |"
        f" {b / a:.2f}x (3x) |",
        flush=True,
    )


def unchanged(home: Path, count: int, rounds: int) -> None:
    pictures = save((Image.new("L", (8, 8), i % 251) for i in range(count)), home / "many", ".png")
    for i, path in enumerate(sorted(pictures.iterdir())):
        with path.open("ab") as file:
            file.write(b"%d" % i)  # behind the picture's end: another file, the same picture
    command = [sys.executable, "-m", "tandem", "index", str(pictures), "--to", str(home / "many.tandem")]
    subprocess.run(command, check=True, capture_output=True)
    taken = []
    for _ in range(max(rounds, 3)):
        start = time.perf_counter()
        subprocess.run(command, check=True, capture_output=True)
        taken.append(time.perf_counter() - start)
    print(f"| {count:,} unchanged files, `tandem index`, whole process, s | | {statistics.median(taken):.2f} | (3) |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()) / "tandem-bench-vit-b-32")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--pictures", type=int, default=1000)
    parser.add_argument("--large", type=int, default=16)
    parser.add_argument("--files", type=int, default=10_000)
    parser.add_argument("--only", default="1,2,3")
    arguments = parser.parse_args()
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    print(f"{machine()}; {load_note()}\n")
    print("| | against | figure | ratio (target) |\n|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        if "1" in arguments.only:
            over_the_encoder(home, arguments.folder, arguments.pictures, arguments.rounds)
        if "2" in arguments.only:
            fast_over_full(home, arguments.large, arguments.rounds)
        if "3" in arguments.only:
            unchanged(home, arguments.files, arguments.rounds)


if __name__ == "__main__":
    main()
