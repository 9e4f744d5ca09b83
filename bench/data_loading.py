"""Data loading alone: batches of Tiny-ImageNet from Parquet, 64 px, a random part of each image, mirrored or not.
With --remote instead: photos with captions from tars, once as local files and once from a server on loopback.

    python bench/data_loading.py --data FOLDER [--size 64] [--batch 256] [--steps 120] [--workers 1,2] [--rounds 3]
                                 [--plain | --remote]

FOLDER has tiny-imagenet/train-*.parquet. Each row goes through the whole loader: drawing, reading, decoding, cutting
out, texts, token ids, targets, and the way to the training process. Nothing decoded is kept. The first steps,
while workers begin, are not counted. CPU time is of all processes over all samples: what a busy machine does to the
rate, it does far less to that. `--plain` adds the loop that most would write: a torch data set with random access to
the same bytes in memory, Pillow, the same cut, torch's default workers and collation.

`--remote` (FOLDER has flickr8k/{train,dev,test}-00000.tar): the server sends ranges of files, in a process of its own
on the same cores. Its CPU time is not counted: it would be another machine's. Three ways take turns with the local
files: the cache is empty when the first step begins; it holds everything; there is none, and every image is a request.
"""

import argparse
import io
import multiprocessing
import resource
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import torch
from PIL import Image
from reference import load_note, machine

from tandem.tokenizer import Tokenizer
from tandem.train.data.loader import Loader
from tandem.train.recipe import from_dict

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

WARM_UP = 8  # steps
TOWERS = {
    "embed_dim": 256,
    "vision": {"type": "resnet", "image_size": 64, "layers": [1, 2, 3, 2], "width": 32, "heads": 4},
    "text": {"context_length": 77, "vocabulary_size": 49408, "width": 192, "layers": 3, "heads": 3}
    | {"mlp_width": 768, "activation": "gelu", "start_id": 49406, "end_id": 49407},
}


def recipe(data: Path, folder: Path, size: int, batch: int, workers: int) -> Any:
    source = {"path": "tiny-imagenet/train-*.parquet", "text": "names", "kind": "names", "per_batch": batch}
    return from_dict(
        {
            "name": "loading",
            "folder": str(folder),
            "data_root": str(data),
            "steps": 10**6,
            "workers": workers,
            "stages": [{"start": 0.0, "image_size": size}],
            "model": TOWERS,
            "data": [{**source, "crop": [0.35, 1.0]}],
        }
    )


class Plain(torch.utils.data.Dataset):
    """Images and names in memory; each is decoded, cut and mirrored when asked for."""

    def __init__(self, data: Path, size: int) -> None:
        tables = [pq.read_table(path) for path in sorted(data.glob("tiny-imagenet/train-*.parquet"))]
        self.images = [image for table in tables for image in table["image"].to_pylist()]
        self.names = [name for table in tables for name in table["names"].to_pylist()]
        self.size = size

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, number: int) -> tuple[torch.Tensor, torch.Tensor]:
        image = Image.open(io.BytesIO(self.images[number])).convert("RGB")
        width, height = image.size
        share = np.random.uniform(0.35, 1.0)
        aspect = np.exp(np.random.uniform(np.log(3 / 4), np.log(4 / 3)))
        w = max(1, min(width, round((width * height * share * aspect) ** 0.5)))
        h = max(1, min(height, round((width * height * share / aspect) ** 0.5)))
        left, top = np.random.randint(width - w + 1), np.random.randint(height - h + 1)
        cut = image.resize((self.size, self.size), Image.Resampling.BILINEAR, box=(left, top, left + w, top + h))
        pixels = np.asarray(cut)
        pixels = pixels[:, ::-1].copy() if np.random.rand() < 0.5 else pixels
        ids = Tokenizer.clip()([f"a photo of a {self.names[number].split(',')[0]}."], truncate=True, pad_to=77)
        return torch.from_numpy(pixels.copy()), torch.from_numpy(ids[0])


def plain_steps(data: Path, size: int, batch: int, workers: int, steps: int) -> Iterator[int]:
    loader = torch.utils.data.DataLoader(Plain(data, size), batch, shuffle=True, num_workers=workers, drop_last=True)
    for step, (pixels, _) in enumerate(loader):
        if step == steps:
            return
        yield len(pixels)


def remote_recipe(root: str, folder: Path, chosen: argparse.Namespace, workers: int, cache_gb: float) -> Any:
    source = {"path": "flickr8k/{train,dev,test}-00000.tar", "text": "captions", "per_batch": chosen.batch}
    return from_dict(
        {
            "name": "loading",
            "folder": str(folder),
            "data_root": root,
            "steps": 10**6,
            "workers": workers,
            "stages": [{"start": 0.0, "image_size": chosen.size}],
            "model": TOWERS,
            "data": [source],
            "remote": {"cache_folder": str(folder / "cache"), "cache_gb": cache_gb},
        }
    )


def serve(folder: Path, told: Any) -> None:
    """A server in this process, which ends with the one that started it."""
    from support.range_server import RangeServer

    running = RangeServer(folder)
    told.send(running.url)
    running.server.serve_forever()


def compare_remote(chosen: argparse.Namespace, home: Path) -> None:
    mine, other = multiprocessing.Pipe()
    server = multiprocessing.get_context("spawn").Process(target=serve, args=(chosen.data, other), daemon=True)
    server.start()
    url = mine.recv()
    for workers in map(int, chosen.workers.split(",")):
        found: dict[str, list[tuple[float, float]]] = {}
        for _ in range(chosen.rounds):
            for name, root, cache_gb, empty in (
                ("local files", str(chosen.data), 0.0, False),
                ("server, cache empty at first", url, 100.0, True),
                ("server, cache full", url, 100.0, False),
                ("server, no cache", url, 0.0, False),
            ):
                loader = Loader(remote_recipe(root, home, chosen, workers, cache_gb), Tokenizer.clip())
                if empty:
                    shutil.rmtree(home / "cache")  # which the index filled
                stream = loader.stream(0, WARM_UP + chosen.steps)
                measure = measured((len(batch.pixels) for batch in stream), chosen.steps)
                found.setdefault(name, []).append(measure)
                if empty:  # all of it, for the next way
                    for file in loader.samples[0].files:
                        loader.samples[0].reader.read(file.path, 0, file.path.size)
        for name, rounds in found.items():
            print(row(f"{name}, {workers} workers, {chosen.size} px", rounds), flush=True)


def cpu_s() -> float:
    """CPU time of this process and of its children that have ended."""
    return sum(sum(resource.getrusage(who)[:2]) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))


def measured(batches: Iterator[int], steps: int) -> tuple[float, float]:
    """Samples a second after the first steps, and CPU time of all processes in µs a sample."""
    cpu, samples = cpu_s(), 0
    for _ in range(WARM_UP):
        samples += next(batches)
    begin, before = time.perf_counter(), samples
    for _ in range(steps):
        samples += next(batches)
    rate = (samples - before) / (time.perf_counter() - begin)
    rest = sum(batches)  # to its end: only then is the CPU time of its workers known
    return rate, (cpu_s() - cpu) / (samples + rest) * 1e6


def row(name: str, found: list[tuple[float, float]]) -> str:
    rates, times = zip(*found, strict=True)
    median = statistics.median(rates)
    return f"| {name} | {median:,.0f} | {min(rates):,.0f} to {max(rates):,.0f} | {statistics.median(times):,.0f} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--size", type=int, default=64)
    parser.add_argument("--batch", type=int, default=256)
    parser.add_argument("--steps", type=int, default=120)
    parser.add_argument("--workers", default="1,2")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--plain", action="store_true")
    parser.add_argument("--remote", action="store_true")
    chosen = parser.parse_args()
    print(machine())
    print(load_note())
    print("| loader | samples/s | of the rounds | CPU µs a sample |")
    print("|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        if chosen.remote:
            compare_remote(chosen, Path(folder))
            return
        for workers in map(int, chosen.workers.split(",")):
            found = []
            for _ in range(chosen.rounds):
                made = recipe(chosen.data, Path(folder), chosen.size, chosen.batch, workers)
                stream = Loader(made, Tokenizer.clip()).stream(0, WARM_UP + chosen.steps)
                found.append(measured((len(batch.pixels) for batch in stream), chosen.steps))
            print(row(f"tandem, {workers} workers, {chosen.size} px", found), flush=True)
            if chosen.plain:
                found = []
                for _ in range(chosen.rounds):
                    steps = WARM_UP + chosen.steps
                    batches = plain_steps(chosen.data, chosen.size, chosen.batch, workers, steps)
                    found.append(measured(batches, chosen.steps))
                print(row(f"plain, {workers} workers, {chosen.size} px", found), flush=True)


if __name__ == "__main__":
    main()
