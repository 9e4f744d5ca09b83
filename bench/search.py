"""`tandem search` from words to hits, whole process, cold, over 10,000 pictures: the shipped model, and ViT-B/32.

    python bench/search.py [--count 10000] [--rounds 5] [--folder F]

The collection holds ready vectors (of unit length, random) with paths and sizes; ViT-B/32 has random weights. Time is
wall-clock from starting the process to its end, weights read, fingerprint checked and words encoded included; memory
is the largest resident set (`ru_maxrss`, mapped files included). The models take turns; medians are printed.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from cold import run
from reference import load_note, machine, make_folder

QUERIES = ("a black cat sleeping on a red sofa", "two children at the beach", "a street at night")


def fill(url: str, source: str | None, count: int) -> None:
    """A collection of ready vectors."""
    import numpy as np

    import tandem
    from tandem.search.identity import notes_for, schema_for
    from tandem.search.stores.backends import create_store
    from tandem.search.stores.protocol import Records

    model = tandem.load(source)
    random = np.random.default_rng(0)
    vectors = random.normal(0, 1, (count, model.config.embed_dim)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    ids = [f"{i:032x}" for i in range(count)]
    columns = {
        "path": [f"/photos/{i % 12}/{i:07}.jpg" for i in range(count)],
        "paths": [f'["/photos/{i % 12}/{i:07}.jpg"]' for i in range(count)],
        "width": [640 + i % 4000 for i in range(count)],
        "height": [480 + i % 3000 for i in range(count)],
    }
    store = create_store(url, schema_for(model), notes_for(model))
    store.upsert(Records(ids, vectors, columns))
    store.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=10_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()) / "tandem-bench-vit-b-32")
    parser.add_argument("--fill", nargs=3, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.fill:
        url, source, count = arguments.fill
        fill(url, source or None, int(count))
        return
    print(f"{machine()}; {load_note()}\n")
    models = {"tandem-mini": None, "ViT-B/32": str(make_folder(arguments.folder))}
    with tempfile.TemporaryDirectory() as folder:
        seconds: dict[str, list[float]] = {name: [] for name in models}
        peaks: dict[str, list[float]] = {name: [] for name in models}
        for name, source in models.items():
            # In a process of its own: what this one holds would count as its children's.
            url = str(Path(folder) / name.replace("/", "-"))
            subprocess.run([sys.executable, __file__, "--fill", url, source or "", str(arguments.count)], check=True)
        os.environ["TANDEM_HOME"] = folder
        for round_ in range(arguments.rounds + 1):
            for name in models:
                url = str(Path(folder) / name.replace("/", "-"))
                words = QUERIES[round_ % len(QUERIES)]
                took, peak, printed = run([sys.executable, "-m", "tandem", "search", url, words])
                assert printed.count(".jpg") == 10, printed
                if round_:  # the first fills the page cache
                    seconds[name].append(took)
                    peaks[name].append(peak)
    print(f"| `tandem search`, {arguments.count:,} pictures, whole process | seconds (target 1.5) | peak MB |")
    print("|---|---|---|")
    for name in models:
        print(f"| {name} | {statistics.median(seconds[name]):.2f} | {statistics.median(peaks[name]):.0f} |")


if __name__ == "__main__":
    main()
