"""Kill what writes to a collection at random moments, and look whether it is whole and nothing acknowledged is lost.

    python bench/kills.py --kills 500

The operations take turns: index a folder, add images from memory, delete, compact, migrate to another model, and fold
the database's log into it (a checkpoint). After each kill another process reads all of the collection, and compares it
with its checksums and with what was acknowledged.
"""

import argparse
import os
import random
import sys
import tempfile
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

from support.forks import in_child

OPERATIONS = ("index", "add", "delete", "compact", "migrate", "checkpoint")
IMAGES = 24


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--kills", type=int, default=500)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    from support import toy

    from tandem.search.stores.embedded import index_maintainer, nearest, store
    from tandem.search.stores.embedded import vector_index as _  # noqa: F401 (imported before the forks)

    index_maintainer.INDEX_FROM, nearest.EXACT_BELOW, store.COMPACT_FROM = 20, 5, 10
    index_maintainer.QUIET_S = 0.0
    draw = random.Random(arguments.seed)
    counts: Counter[tuple[str, str]] = Counter()
    with tempfile.TemporaryDirectory(dir="/dev/shm" if os.path.isdir("/dev/shm") else None) as folder:
        home = Path(folder)
        (home / "pictures").mkdir()
        for number in range(IMAGES):
            toy.random_image(number, (24, 20)).save(home / "pictures" / f"{number}.png")
        url = str(home / "c.tandem")
        there: set[str] = set()  # ids that were acknowledged, and not removed since
        lasts = dict.fromkeys(OPERATIONS, 0.0)
        for operation in OPERATIONS:  # how long each takes, undisturbed
            began = time.perf_counter()
            run(operation, home, url, 0, None)
            lasts[operation] = time.perf_counter() - began
        there = set(acknowledged(home, set()))
        kills = turn = 0
        while kills < arguments.kills:
            operation = OPERATIONS[turn % len(OPERATIONS)]
            turn += 1
            killed = run(operation, home, url, turn, draw.uniform(0, 1) * lasts[operation])
            kills += killed
            there = set(acknowledged(home, there))
            problem = looked_at(home, url, there)
            counts[operation, "killed" if killed else "done before"] += 1
            if problem:
                counts[operation, "WRONG"] += 1
                print(f"kill {kills}, {operation}: {problem}", flush=True)
                return 1
    for (operation, what), count in sorted(counts.items()):
        print(f"{operation:12} {what:12} {count:6}")
    print(f"{kills} kills, {len(there)} acknowledged images in the end, nothing lost")
    return 0


def run(operation: str, home: Path, url: str, turn: int, kill_after_s: float | None) -> bool:
    """Do it in a process of its own, and kill that after a while. Gives whether it was killed."""
    log = home / "log"
    log.write_text("")
    return in_child(lambda: WORK[operation](home, url, turn), kill_after_s)


def say(home: Path, word: str, ids: list[str]) -> None:
    """Acknowledge: `begun` and then `+` or `-` of these ids."""
    with (home / "log").open("a") as file:
        file.write(" ".join((word, *ids)) + "\n")


def acknowledged(home: Path, there: set[str]) -> set[str]:
    """The ids that have to be there after what a process said. Those that it had only begun to delete may be gone."""
    for line in (home / "log").read_text().splitlines():
        word, *ids = line.split()
        there = there | set(ids) if word == "+" else there - set(ids)
    return there


def index(home: Path, url: str, turn: int) -> None:
    from support import toy
    from support.collection_toys import toy_model

    from tandem.search.collection import Collection

    toy.random_image(1000 + turn, (24, 20)).save(home / "pictures" / f"new{turn}.png")
    model = toy_model() if not os.path.exists(url) else None
    with Collection(url, model or current_model(url)) as photos:
        photos.add([home / "pictures"], batch_size=2)
        say(home, "+", [id for some in photos.store.scan(vectors=False) for id in some.ids])


def add(home: Path, url: str, turn: int) -> None:
    from support import toy

    from tandem.search.collection import Collection

    with Collection(url, current_model(url)) as photos:
        for part in range(4):
            ids = [f"{turn}-{part}-{number}" for number in range(4)]
            photos.add([toy.random_image(turn * 100 + number, (24, 20)) for number in range(4)], ids=ids)
            say(home, "+", ids)


def delete(home: Path, url: str, turn: int) -> None:
    from tandem.search.collection import Collection

    with Collection(url, current_model(url)) as photos:
        ids = [id for some in photos.store.scan(vectors=False) for id in some.ids]
        for at in range(0, len(ids) // 3, 4):
            say(home, "-", ids[at : at + 4])
            photos.delete(ids[at : at + 4])


def compact(home: Path, url: str, turn: int) -> None:
    """More than half of the rows are replaced, and so deleted."""
    from support import toy

    from tandem.search.collection import Collection

    with Collection(url, current_model(url)) as photos:
        ids = [f"c{number}" for number in range(40)]
        for part in range(3):
            photos.add([toy.random_image(turn * 7 + part + number, (24, 20)) for number in range(40)], ids=ids)
            say(home, "+", ids)


def migrate(home: Path, url: str, turn: int) -> None:
    """To another model and back. Images without files cannot move: they are left out, by request."""
    from tandem.search.collection import Collection
    from tandem.search.migration import migrate as move

    with Collection(url, current_model(url)) as photos:
        without = [
            id
            for some in photos.store.scan(columns=["paths"], vectors=False)
            for row, id in enumerate(some.ids)
            if some.row(row)["paths"] in (None, "[]")
        ]
        fingerprint = photos.notes["model_fingerprint"]
    say(home, "-", without)
    (other,) = (model for model in models() if model.fingerprint != fingerprint)
    move(url, other, drop_missing=True, batch_size=4)


def checkpoint(home: Path, url: str, turn: int) -> None:
    from tandem.search.stores.backends import open_store

    for _ in range(3):
        store = open_store(url, write=True)
        store.annotate({"turn": str(turn) * 2000})
        store.close()


WORK = {"index": index, "add": add, "delete": delete, "compact": compact, "migrate": migrate, "checkpoint": checkpoint}


def models() -> list[object]:
    from support import toy
    from support.collection_toys import ToyEngine, toy_model

    from tandem.model import Model

    return [toy_model(), Model(toy.checkpoint(seed=1), ToyEngine())]


def current_model(url: str) -> object:
    """The model that the collection belongs to now."""
    from contextlib import closing

    from tandem.search.stores.backends import open_store

    with closing(open_store(url)) as store:
        fingerprint = store.notes["model_fingerprint"]
    return next(model for model in models() if model.fingerprint == fingerprint)  # type: ignore[attr-defined]


def looked_at(home: Path, url: str, there: set[str]) -> str:
    """What is wrong with the collection, as another process finds it; nothing if all is well."""
    report = home / "report"
    report.write_text("it could not be read")

    def look() -> None:
        from contextlib import closing

        from tandem.search.stores.backends import backend

        damage = [finding for finding in backend(url).check() if finding.is_damage]
        with closing(backend(url).open()) as store:
            found = {id for some in store.scan() for id in some.ids}
            hits = {hit.id for hit in store.search(store.sample(1), len(found))[0]} if found else set()
        wrong = [*map(str, damage), *(f"lost: {id}" for id in sorted(there - found)[:5])]
        wrong += [f"search finds {len(hits)} of {len(found)}"] if hits != found else []
        report.write_text("; ".join(wrong))

    with suppress(AssertionError):  # then the report says so
        in_child(look)
    return report.read_text()


if __name__ == "__main__":
    raise SystemExit(main())
