"""Opening a data set again, and finding its vectors in the cache: what a second evaluation waits for.

    python bench/reading_data_sets.py [--images 10000] [--dimensions 512]

Photos are drawn small (a few hundred bytes each): the time per file counts here, not the disk. In a cache of its own.
"""

import argparse
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from reference import load_note, machine

CLASSES = 100
ROUNDS = 5


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n", maxsplit=1)[0])
    parser.add_argument("--images", type=int, default=10_000)
    parser.add_argument("--dimensions", type=int, default=512)
    arguments = parser.parse_args()
    print(machine(), load_note(), sep="\n", file=sys.stderr)
    with tempfile.TemporaryDirectory() as place:
        os.environ["TANDEM_CACHE"] = str(Path(place) / "cache")
        layouts = {"folder": _folder(Path(place), arguments.images), "parquet": _parquet(Path(place), arguments.images)}
        layouts["webdataset"] = _tar(Path(place), arguments.images)
        time.sleep(3)  # files that have just changed are not remembered
        print(f"{'opening':<12} {'first ms':>9} {'again ms':>9}")
        for name, path in layouts.items():
            _opened(name, path)
        _cached(Path(place), arguments.images, arguments.dimensions)


def _image(number: int) -> bytes:
    return np.random.default_rng(number).bytes(400)  # opening decodes nothing


def _folder(place: Path, count: int) -> Path:
    for number in range(count):
        path = place / "folder" / f"class {number % CLASSES}" / f"{number}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(_image(number))
    return place / "folder"


def _parquet(place: Path, count: int) -> Path:
    import pyarrow as pa
    import pyarrow.parquet as pq

    labels = [f"class {number % CLASSES}" for number in range(count)]
    pq.write_table(pa.table({"image": list(map(_image, range(count))), "label": labels}), place / "set.parquet")
    return place / "set.parquet"


def _tar(place: Path, count: int) -> Path:
    import io
    import tarfile

    with tarfile.open(place / "set.tar", "w") as tar:
        for number in range(count):
            for suffix, content in (("jpg", _image(number)), ("cls", f"class {number % CLASSES}".encode())):
                info = tarfile.TarInfo(f"{number}.{suffix}")
                info.size = len(content)
                tar.addfile(info, io.BytesIO(content))
    return place / "set.tar"


def _opened(name: str, path: Path) -> None:
    from tandem.datasets import open_dataset

    first = _ms(lambda: open_dataset(path), 1)
    print(f"{name:<12} {first:>9.0f} {_ms(lambda: open_dataset(path)):>9.0f}")


def _cached(place: Path, count: int, dimensions: int) -> None:
    from tandem.evaluate.feature_cache import FeatureCache

    cache = FeatureCache(place / "features", {"model": "bench"}, dimensions)
    random = np.random.default_rng(0)
    digests = [random.bytes(32) for _ in range(count)]
    cache.append(digests, random.normal(size=(count, dimensions)).astype(np.float32))
    mixed = [digests[place] for place in random.permutation(count)]
    in_order, shuffled = _ms(lambda: cache.lookup(digests)), _ms(lambda: cache.lookup(mixed))
    print(f"finding {count:,} x {dimensions} vectors: {in_order:.0f} ms in order, {shuffled:.0f} ms in another order")


def _ms(call: Callable[[], object], rounds: int = ROUNDS) -> float:
    times = []
    for _ in range(rounds):
        begun = time.perf_counter()
        call()
        times.append(time.perf_counter() - begun)
    return statistics.median(times) * 1000


if __name__ == "__main__":
    main()
