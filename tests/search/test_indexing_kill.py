"""`kill -9` at random moments of indexing: what is there is whole, and running again ends as if nothing had been.

This file is also the program that is killed. It forks after everything is imported, so that what is killed is at work
rather than starting.

More kills: TANDEM_KILLS=200 pytest tests/search/test_indexing_kill.py
"""

import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

KILLS = int(os.environ.get("TANDEM_KILLS", "20"))
SPREAD = KILLS // 3  # different numbers of images that had been committed at a kill
MOST_KILLS = 4 * KILLS
ROUNDS = max(1, KILLS // 5)  # a new folder and a new collection for each
IMAGES = 24


@pytest.mark.kill
@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_killed_at_random_moments_it_ends_in_the_same_collection() -> None:
    # In memory where there is such a folder: a kill is no power cut, and waiting for a disk would be most of the time.
    memory = "/dev/shm" if os.path.isdir("/dev/shm") else None
    with tempfile.TemporaryDirectory(dir=memory) as folder:
        check(Path(folder))


def check(folder: Path) -> None:
    environment = os.environ | {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, __file__, str(folder)],
        check=False,
        capture_output=True,
        text=True,
        timeout=300,
        env=environment,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    kills, whole, stages = (int(word) for word in done.stdout.split())
    assert kills >= KILLS
    assert whole == ROUNDS
    assert stages >= SPREAD


def change(folder: Path, draw: random.Random) -> None:
    """New, changed, moved, copied, broken and removed files."""
    from support import toy

    files = sorted(path for path in folder.rglob("*.png"))
    for path in draw.sample(files, min(len(files), 10)):
        match draw.randrange(5):
            case 0:
                toy.random_image(draw.randrange(10**6), (24, 20)).save(path)
            case 1:
                target = folder / f"moved{draw.randrange(3)}" / f"{draw.randrange(10**6)}.png"
                target.parent.mkdir(exist_ok=True)
                path.rename(target)
            case 2:
                shutil.copy(path, folder / f"copy{draw.randrange(10**6)}.png")
            case 3:
                path.write_bytes(path.read_bytes()[: draw.randrange(60)])
            case 4:
                path.unlink()
    for _ in range(4):
        toy.random_image(draw.randrange(10**6), (24, 20)).save(folder / f"new{draw.randrange(10**6)}.png")


def check_whole(home: Path, report: Path) -> None:
    """What is there can be opened and read by another process: every image with its values, none twice."""
    import numpy as np
    from support.collection_toys import contents

    held = contents(home)  # which looks at every image's places
    assert all(paths and np.isclose(np.linalg.norm(vector), 1, atol=1e-4) for paths, vector in held.values())
    places = [path for paths, _ in held.values() for path in paths]
    report.write_text(f"{len(held)} {len(places)}")


def main(home: Path) -> None:
    import numpy  # noqa: F401  (before the fork, so that children do not spend their lives on imports)
    from support.collection_toys import contents, run, same
    from support.forks import in_child

    draw = random.Random(7)
    kills, whole = 0, 0
    stages: set[str] = set()
    for number in range(ROUNDS):
        folder = home / f"round{number}"
        images = folder / "images"
        images.mkdir(parents=True)
        from support import toy

        for i in range(IMAGES):
            toy.random_image(draw.randrange(10**6), (24, 20)).save(images / f"{i:02}.png")
        (images / "bad.jpg").write_bytes(b"bad")
        began = time.perf_counter()
        (folder / "trial").mkdir()
        in_child(lambda trial=folder / "trial", source=images: run(trial, source, batch_size=2))
        lasts = time.perf_counter() - began
        wanted = KILLS * (number + 1) // ROUNDS
        # A machine that is slower now than in the trial kills too early: then the last round goes on
        while kills < wanted or (number == ROUNDS - 1 and len(stages) < SPREAD and kills < MOST_KILLS):
            while not in_child(
                lambda own=folder, source=images: run(own, source, batch_size=2, prune=True),
                draw.uniform(0.05, 1) * lasts,
            ):
                change(images, draw)  # it was done before: there is more to do for the next
            kills += 1
            if (folder / "c.tandem" / "current").exists():
                in_child(lambda own=folder: check_whole(own, own / "checked"))
                stages.add((folder / "checked").read_text())
            if draw.random() < 0.7:
                change(images, draw)
        in_child(lambda own=folder, source=images: run(own, source, batch_size=2, prune=True))
        (folder / "fresh").mkdir()
        in_child(lambda own=folder / "fresh", source=images: run(own, source, batch_size=3))
        killed, fresh = contents(folder), contents(folder / "fresh")
        if same(killed, fresh):
            whole += 1
        else:
            for id in killed.keys() | fresh.keys():
                mine, theirs = killed.get(id, ("none",))[0], fresh.get(id, ("none",))[0]
                if mine != theirs:
                    print(f"round {number}: {id}: {mine} instead of {theirs}", file=sys.stderr)
    print(kills, whole, len(stages))
    sys.exit(0 if whole == ROUNDS else 1)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
