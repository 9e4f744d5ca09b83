"""Where each millisecond of embedding JPEG files goes: reading, decoding, resizing, copying, encoding, waiting.

    python bench/stages.py [--model tandem-mini|ViT-B/32|FOLDER] [--precision P] [--images 512] [--rounds 5]
    python bench/stages.py --photos FOLDER [--fast-decode]

First each step by itself, in one thread, in processor time: it is the same on a busy machine. Then `embed_images` as
it is: processor time of the whole process for an image, how long the encoder waited for pixels between its batches
(bar: 5% of the time), and its rate over the encoder's own, on ready pixels in batches of 32 and in ones as large as
`embed_images` makes them, in turns. What an image takes beyond its steps is Python's own: queues, arrays, lists.
"""

import argparse
import io
import resource
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from PIL import Image
from reference import load_note, machine, make_folder
from serve import jpegs

import tandem
from tandem.image import IMAGE_SUFFIXES, SIZE_MARGIN, ImageSource, load_image, load_pixels, read_bytes
from tandem.pixels import preprocess


def processor_s() -> float:
    """Of all threads of this process."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def each_ms(work: Callable[[int], object], count: int, rounds: int) -> float:
    """Processor time of this thread for one item, the best of some rounds."""
    best = float("inf")
    for _ in range(rounds):
        began = time.thread_time()
        for i in range(count):
            work(i)
        best = min(best, time.thread_time() - began)
    return best / count * 1000


def bare(content: bytes, at_least: int | None) -> Image.Image:
    """Decoded by Pillow, without limits."""
    image = Image.open(io.BytesIO(content))
    if at_least is not None:
        image.draft(None, (at_least, at_least))
    image.load()
    return image


class Waiting:
    """The engine of a model, and how long it waited between two batches."""

    def __init__(self, model: tandem.Model) -> None:
        self._encode = model.encode_pixels
        self.busy_s = 0.0

    def __call__(self, pixels: np.ndarray) -> np.ndarray:
        began = time.perf_counter()
        vectors = self._encode(pixels)
        self.busy_s += time.perf_counter() - began
        return vectors


def steps(model: tandem.Model, paths: Sequence[Path], fast: bool, rounds: int) -> None:
    """A table of each step by itself."""
    preprocessing = model.config.preprocessing
    at_least = SIZE_MARGIN * preprocessing.image_size if fast else None
    some = paths[:64]
    contents = [read_bytes(path) for path in some]
    decoded = [load_image(content, at_least=at_least) for content in contents]
    pixels = [preprocess(image, preprocessing) for image in decoded]
    count = len(some)
    rows = {
        "reading the file": lambda i: read_bytes(some[i]),
        "decoding, by Pillow alone": lambda i: bare(contents[i], at_least),
        "decoding, under limits and upright": lambda i: load_image(contents[i], at_least=at_least),
        "resizing, cropping, to an array": lambda i: preprocess(decoded[i], preprocessing),
        "a batch of the arrays": lambda i: np.stack(pixels[:32]) if i % 32 == 0 else None,
        "all of that": lambda i: load_pixels(some[i], preprocessing, at_least=at_least),
    }
    for name, work in rows.items():
        work(0)
        print(f"| {name} | {each_ms(work, count, rounds):.3f} |", flush=True)


def whole(model: tandem.Model, paths: Sequence[ImageSource], fast: bool, rounds: int) -> None:
    """`embed_images` and the encoder by itself, in turns."""
    rng = np.random.default_rng(0)
    ready = rng.integers(0, 256, (min(len(paths), 256), *model.config.preprocessing.pixel_shape), dtype=np.uint8)
    waiting = Waiting(model)
    model.encode_pixels = waiting  # type: ignore[method-assign, assignment]
    figures: dict[str, list[tuple[float, float, float]]] = {"encoder": [], "embed_images": []}

    def encode() -> int:
        for start in range(0, len(ready), 32):
            model.engine.encode_images(ready[start : start + 32])
        return len(ready)

    def embed() -> int:
        return len(model.embed_images(paths, progress=False, fast_decode=fast))

    for turn in range(rounds + 1):
        for name, work in (("encoder", encode), ("embed_images", embed)):
            waiting.busy_s = 0.0
            began, used = time.perf_counter(), processor_s()
            count = work()
            took, used = time.perf_counter() - began, processor_s() - used
            if turn:  # the first brings the files into memory
                figures[name].append((used / count, took / count, 1 - waiting.busy_s / took))
    median = {name: [statistics.median(column) for column in zip(*rows, strict=True)] for name, rows in figures.items()}
    for name, (used, took, idle) in median.items():
        said = f"; encoder idle {idle:.1%} (5%)" if name == "embed_images" else ""
        print(f"| {name}: processor time, ms an image | {used * 1000:.3f} |")
        print(f"| {name}: images a second | {1 / took:,.0f}{said} |")
    ratios = [
        [theirs[at] / ours[at] for theirs, ours in zip(figures["encoder"], figures["embed_images"], strict=True)]
        for at in (0, 1)
    ]
    print(f"| embed_images over the encoder alone, by processor time | {statistics.median(ratios[0]):.2f}x |")
    print(f"| - by the clock | {statistics.median(ratios[1]):.2f}x (0.85x) |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="tandem-mini")
    parser.add_argument("--precision", default="auto")
    parser.add_argument("--photos", type=Path, help="a folder of real ones; made ones without it")
    parser.add_argument("--images", type=int, default=512)
    parser.add_argument("--width", type=int, default=320, help="of those that are made, three quarters as high")
    parser.add_argument("--fast-decode", action="store_true")
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    print(f"{machine()}; {load_note()}\n")
    source: str | Path | None = None if arguments.model == "tandem-mini" else arguments.model
    if source == "ViT-B/32":
        source = make_folder(Path(tempfile.gettempdir()) / "tandem-bench-vit-b-32")
    model = tandem.load(source, precision=arguments.precision)
    with tempfile.TemporaryDirectory() as folder:
        if arguments.photos:
            found = sorted(path for path in arguments.photos.rglob("*") if path.suffix.lower() in IMAGE_SUFFIXES)
            paths = found[: arguments.images]
        else:
            made = jpegs(min(64, arguments.images), arguments.width, arguments.width * 3 // 4)
            paths = [Path(folder) / f"{i}.jpg" for i in range(arguments.images)]
            for i, path in enumerate(paths):
                path.write_bytes(made[i % len(made)])
        if not paths:
            raise SystemExit(f"{arguments.photos}: no photos")
        print(f"{len(paths)} images, {model.name}, {model.engine.precision}\n")
        print("| step, one thread, processor time | ms an image |\n|---|---|")
        steps(model, paths, arguments.fast_decode, arguments.rounds)
        whole(model, paths, arguments.fast_decode, arguments.rounds)


if __name__ == "__main__":
    main()
