"""Damaged files for each reader, from a seed, in processes under limits of memory and time; what failed is kept.

python bench/fuzz.py [--cases 20000] [--seed 2] [--reader pickle ...] [--keep FOLDER]

A case that ends a process, raises anything but an error of Tandem's, or takes more than 300 MB is a failure. Copy it to
tests/hostile/corpus, where the tests read it from then on.
"""

import argparse
import os
import sys
import tempfile
import time
from pathlib import Path

TESTS = str(Path(__file__).resolve().parents[1] / "tests")
sys.path.insert(0, TESTS)
os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, (TESTS, os.environ.get("PYTHONPATH"))))  # for its processes

LOUD = ("tokenizer", "image")  # libraries in Rust and C say aloud what they stumble over
_BATCH = 500  # of a process: a failure ends one


def main() -> None:
    from support.bounded import bounded
    from support.fuzzing import READERS
    from support.processes import COMMANDS

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", type=int, default=20_000, help="for each reader")
    parser.add_argument("--seed", default="2")
    parser.add_argument("--reader", nargs="+", choices=READERS, default=list(READERS))
    parser.add_argument("--keep", type=Path, default=Path(tempfile.gettempdir()) / "tandem-fuzz")
    chosen = parser.parse_args()
    chosen.keep.mkdir(parents=True, exist_ok=True)
    failed = 0
    for reader in chosen.reader:
        began, read, refused = time.perf_counter(), 0, 0
        for batch in range(0, chosen.cases, _BATCH):
            count = min(_BATCH, chosen.cases - batch)
            try:
                outcome = bounded(
                    "support.fuzzing:run",
                    *(reader, f"{chosen.seed}.{batch}", str(count), str(chosen.keep)),
                    imported=(*COMMANDS, "support.fuzzing"),
                    seconds=120,
                    silent=reader not in LOUD,
                )
            except AssertionError as error:
                failed += 1
                print(f"{reader}, batch {batch}: {str(error)[-400:]}")
                continue
            if outcome.megabytes > 300:
                failed += 1
                print(f"{reader}, batch {batch}: {outcome.megabytes:.0f} MB")
            read, refused = read + outcome.result["read"], refused + outcome.result["refused"]
        took = time.perf_counter() - began
        print(f"{reader:14} {read:7,} read {refused:7,} refused  {took:5.0f} s", flush=True)
    print(f"{failed} failures; their cases are in {chosen.keep}")
    sys.exit(bool(failed))


if __name__ == "__main__":
    main()
