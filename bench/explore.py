"""What `tandem explore` costs by the size of a collection: sample, clusters, layout, placing, near-duplicates.

    python bench/explore.py [--count 1000000] [--dimensions 512] [--folder F]

Vectors lie in 2,000 heaps, as those of photos do more or less; 1 in 1,000 is a near-duplicate (cosine 0.98) of the
one before it, and how many of these are found is printed. Names are left out: they cost the same for any size.
With --photos TAR..., instead: trustworthiness of the map of real photos against PCA's, with the model that ships.
"""

import argparse
import resource
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import numpy as np

from tandem.search.exploring import clusters, duplicates, map2d
from tandem.search.exploring.survey import survey, take_sample
from tandem.search.stores.backends import create_store, open_store
from tandem.search.stores.protocol import Records, Schema, Store

HEAPS, DUPLICATE_EVERY, DUPLICATE_COSINE = 2000, 1000, 0.98
AT_ONCE = 20_000

Given = TypeVar("Given")


def unit(vectors: np.ndarray) -> np.ndarray:
    return np.asarray(vectors / np.linalg.norm(vectors, axis=1, keepdims=True), dtype=np.float32)


def fill(url: str, count: int, dimensions: int) -> Store:
    """A store of made-up vectors, made once."""
    store = create_store(url, Schema(dimensions, {"path": "text", "width": "integer"}), {})
    rng = np.random.default_rng(0)
    middles = unit(rng.normal(size=(HEAPS, dimensions)))
    for begin in range(0, count, AT_ONCE):
        size = min(AT_ONCE, count - begin)
        vectors = unit(middles[rng.integers(0, HEAPS, size)] + unit(rng.normal(size=(size, dimensions))) * 0.8)
        twins = np.arange(DUPLICATE_EVERY, size, DUPLICATE_EVERY)
        apart = unit(rng.normal(size=(len(twins), dimensions)))
        vectors[twins] = unit(DUPLICATE_COSINE * vectors[twins - 1] + (1 - DUPLICATE_COSINE**2) ** 0.5 * apart)
        ids = [f"{i:032x}" for i in range(begin, begin + size)]
        store.upsert(Records(ids, vectors, {"path": [f"{i}.jpg" for i in ids], "width": [640] * size}))
    return store


def timed(what: str, work: Callable[[], Given]) -> Given:
    start = time.perf_counter()
    given = work()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    print(f"{what:34s} {time.perf_counter() - start:8.1f} s   peak {peak:.2f} GB", flush=True)
    return given


def by_size(url: str, count: int, dimensions: int, with_duplicates: bool) -> None:
    if not Path(url).exists():
        timed(f"adding {count:,} x {dimensions}", lambda: fill(url, count, dimensions).close())
    store = open_store(url)
    sample = timed("sample", lambda: take_sample(store))
    centres = timed("clusters", lambda: clusters.find_centres(sample, clusters.choose_count(count)))
    layout = timed(f"layout of {len(sample):,} landmarks", lambda: map2d.lay_out(sample))
    words = [(str(i),) for i in range(len(centres))]
    timed("placing and counting", lambda: survey(store, layout, centres, words, columns=["path"]))
    if with_duplicates:
        groups = timed("near-duplicates", lambda: duplicates.find(store))
        there = sum((min(AT_ONCE, count - begin) - 1) // DUPLICATE_EVERY for begin in range(0, count, AT_ONCE))
        print(f"{len(groups):,} groups; {there:,} are there")
    store.close()


def by_photos(paths: list[str]) -> None:
    import tarfile

    from sklearn.manifold import trustworthiness

    import tandem

    pictures = []
    for path in paths:
        with tarfile.open(path) as archive:
            pictures += [
                archive.extractfile(member).read()  # type: ignore[union-attr]
                for member in archive
                if member.name.endswith((".jpg", ".png", ".webp"))
            ]
    vectors = tandem.load().embed_images(pictures)
    rng = np.random.default_rng(0)
    shown = rng.permutation(len(vectors))[:3000]
    half = np.arange(0, len(vectors), 2)
    layout = timed(f"layout of {len(vectors):,} photos", lambda: map2d.lay_out(vectors))
    by_half = map2d.lay_out(vectors[half]).place(vectors)
    centred = vectors - vectors.mean(axis=0)
    axes = np.linalg.svd(centred, full_matrices=False)[2][:2]
    for name, places in (("map", layout.coordinates), ("map, half as landmarks", by_half), ("PCA", centred @ axes.T)):
        scores = [
            trustworthiness(vectors[shown], places[shown], n_neighbors=k, metric="cosine") for k in (5, 15, 50)
        ]  # fmt: skip
        print(f"trustworthiness of {name:24s} at 5, 15, 50 neighbours: " + ", ".join(f"{s:.3f}" for s in scores))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=1_000_000)
    parser.add_argument("--dimensions", type=int, default=512)
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()) / "tandem-bench-explore")
    parser.add_argument("--no-duplicates", action="store_true")
    parser.add_argument("--photos", nargs="+", metavar="TAR")
    arguments = parser.parse_args()
    if arguments.photos:
        by_photos(arguments.photos)
        return
    arguments.folder.mkdir(parents=True, exist_ok=True)
    url = str(arguments.folder / f"{arguments.count}x{arguments.dimensions}.tandem")
    by_size(url, arguments.count, arguments.dimensions, not arguments.no_duplicates)


if __name__ == "__main__":
    main()
