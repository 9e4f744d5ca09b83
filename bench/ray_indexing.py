"""Indexing on Ray Data against one process on the same cores: what gets lost between the workers?

    python bench/ray_indexing.py [--pictures 512] [--workers 2] [--rounds 3] [--precision float32]

JPEGs of 460 x 390 with ViT-B/32 (random weights), into an empty collection each time. The sides take turns; each figure
is the median of its rounds. Both are measured from the moment when all their models are loaded until everything is in
the collection; how long it took until then stands below: workers live as long as the run, which pays it once.

Processor time for an image is that of this process, of Ray's own processes, and of the workers: what another process on
the same cores does to the rate, it hardly does to that.
"""

import argparse
import os
import statistics
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from comparison.machine import TICK, tree_ticks
from indexing import BATCH, crops, save
from reference import load_note, machine, make_folder

import tandem
from tandem.model import Model
from tandem.search.identity import notes_for, schema_for
from tandem.search.indexing import local, on_ray
from tandem.search.indexing.entries import Entry
from tandem.search.indexing.ledger import Ledger
from tandem.search.indexing.run import IndexingOptions, open_sources
from tandem.search.stores.backends import create_store

Figures = tuple[
    float, float, float
]  # images a second, processor time of an image in ms, seconds until models are there


def measuring_worker(folder: str) -> type:
    """A worker that writes down its processor time: once it has its model, and after each batch."""

    class Measured(on_ray._Worker):
        def __init__(self, *given: Any) -> None:
            super().__init__(*given)
            self._write("ready")

        def __call__(self, entries: Sequence[Entry]) -> Iterator[Any]:
            for answer in super().__call__(entries):
                self._write("done")
                yield answer

        def _write(self, what: str) -> None:
            path = os.path.join(folder, f"{what}-{os.getpid()}")
            with open(path + ".part", "w") as file:
                file.write(str(time.process_time()))
            os.replace(path + ".part", path)

    return Measured


def cpu_s_below(left_out: set[int]) -> dict[int, float]:
    """Processor time of this process and everything below it, by id, but for some."""
    return {pid: ticks / TICK for pid, ticks in tree_ticks(os.getpid()).items() if pid not in left_out}


def with_ray(model: Model, pictures: Path, home: Path, workers: int) -> Figures:
    with tempfile.TemporaryDirectory(dir=home) as notes:
        ready: list[tuple[float, dict[int, float]]] = []  # when, and processor time of all but the workers
        pids: set[int] = set()

        def wait() -> None:
            while len(found := list(Path(notes).glob("ready-*[0-9]"))) < workers:
                time.sleep(0.05)
            pids.update(int(path.name.split("-")[1]) for path in found)
            ready.append((time.perf_counter(), cpu_s_below(pids)))

        waiting = threading.Thread(target=wait, daemon=True)
        ends: list[tuple[float, dict[int, float]]] = []

        def side(*given: Any) -> Any:
            return on_ray.index(*given, workers=workers)

        def on_progress(progress: Any) -> None:
            if progress.done == progress.total:
                ends.append((time.perf_counter(), cpu_s_below(pids)))

        on_ray._Worker = measuring_worker(notes)  # type: ignore[misc]
        begin = time.perf_counter()
        waiting.start()
        count = indexed(model, pictures, home, side, on_progress)
        used = {
            what: sum(float(p.read_text()) for p in Path(notes).glob(f"{what}-*[0-9]")) for what in ("ready", "done")
        }
        (start, others), (end, others_after) = ready[0], ends[-1]
        workers_cpu = used["done"] - used["ready"]
        # Of those that live: Ray ends idle processes meanwhile.
        outside = sum(after - others.get(pid, 0) for pid, after in others_after.items())
        return count / (end - start), 1000 * (workers_cpu + outside) / count, 1000 * outside / count, start - begin


def in_one_process(model: Model, pictures: Path, home: Path) -> Figures:
    begin, cpu = time.perf_counter(), time.process_time()
    count = indexed(model, pictures, home, local.index, lambda _: None)
    return count / (time.perf_counter() - begin), 1000 * (time.process_time() - cpu) / count, 0.0, 0.0


def indexed(model: Model, pictures: Path, home: Path, side: Any, on_progress: Any) -> int:
    """How many images."""
    with tempfile.TemporaryDirectory(dir=home) as folder:
        store = create_store(f"{folder}/c.tandem", schema_for(model), notes_for(model))
        options = IndexingOptions(batch_size=BATCH, on_progress=on_progress)
        with Ledger.open(Path(folder) / "files.sqlite") as ledger, open_sources([pictures], options) as sources:
            report = side(store, lambda: model, sources, ledger, options)
        store.close()
        assert not report.failures
        assert report.total == len(list(pictures.iterdir()))
        return int(report.total)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pictures", type=int, default=512)
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--precision", default="float32")
    parser.add_argument(
        "--model", default="", help="another one; with tandem-mini, what is outside of the workers shows"
    )
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()) / "tandem-bench-vit-b-32")
    chosen = parser.parse_args()
    print(machine())
    print(load_note())
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        model = tandem.load(chosen.model or make_folder(chosen.folder), precision=chosen.precision)
        pictures = save(crops(chosen.pictures, (460, 390)), home / "pictures", ".jpg")
        model.embed_images([str(path) for path in sorted(pictures.iterdir())[:BATCH]])  # as warm as workers are
        here, there = [], []
        for _ in range(chosen.rounds):
            here.append(in_one_process(model, pictures, home))
            there.append(with_ray(model, pictures, home, chosen.workers))
    rate, cpu, _, _ = map(statistics.median, zip(*here, strict=True))
    ray_rate, ray_cpu, outside, begin = map(statistics.median, zip(*there, strict=True))
    print(
        f"| {chosen.pictures:,} JPEGs of 460 x 390, {chosen.model or 'ViT-B/32'} {chosen.precision} | one process |",
        end=" ",
    )
    print(f"{chosen.workers} workers on Ray | ratio (0.9x) |")
    print("|---|---|---|---|")
    print(f"| images/s | {rate:.1f} | {ray_rate:.1f} | {ray_rate / rate:.2f}x |")
    print(f"| processor time of an image, ms | {cpu:.1f} | {ray_cpu:.1f} | {cpu / ray_cpu:.2f}x |")
    print(f"| of that outside of the workers, which one machine does for all, ms | | {outside:.1f} | |")
    print(f"| Ray, its workers and their models, s | | {begin:.1f} | |")


if __name__ == "__main__":
    main()
