"""Change single bytes of a collection's files: are there silent wrong answers, or errors that nobody foresaw?

    python bench/flips.py --flips 1000

Each flip: open the collection, search, filter, read every record and thumbnail, then `tandem check`; every tenth one
that is found is repaired, and what the collection answers then has to be all of what it answered before.
"""

import argparse
import shutil
import sys
import tempfile
import traceback
import warnings
from collections import Counter
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--flips", type=int, default=1000)
    parser.add_argument("--images", type=int, default=60)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    from support import flips

    counts: Counter[tuple[str, str]] = Counter()
    wrong = 0
    with tempfile.TemporaryDirectory() as folder, flips.small_indexes():
        photos = flips.make(Path(folder) / "made", arguments.images)
        url, root = photos.url, Path(photos.url)
        truth = flips.answers(url)
        for number, flip in enumerate(flips.flips(root, arguments.flips, arguments.seed)):
            name = flip.file.name.partition("-")[0]
            with flip.applied():
                try:
                    kind, told = flips.outcome(url, truth)
                    found = "found" if flips.checked(url).damage else "not found"
                except Exception:
                    kind, told, found = "traceback", traceback.format_exc(), ""
                if found == "found" and number % 10 == 0:
                    found = repaired(flips, flip, Path(folder), root, truth)
            counts[name, f"{kind}, {found}"] += 1
            if (
                kind in ("silent", "traceback")
                or found in ("not repaired",)
                or (kind != "same" and found == "not found")
            ):
                wrong += 1
                print(f"{kind}, {found}: {flip.file.name} at {flip.at}, bits {flip.bits:#x}: {told[-400:]}", flush=True)
    for (name, kind), count in sorted(counts.items()):
        print(f"{name:16} {kind:28} {count:6}")
    print(f"{arguments.flips} flips, {wrong} wrong")
    return int(wrong > 0)


def repaired(flips: object, flip: object, folder: Path, root: Path, truth: object) -> str:
    """Whether a copy of the damaged collection can be repaired."""
    from support.flips import answers, checked

    from tandem.errors import StoreError

    copy = folder / "copy.tandem"
    shutil.copytree(root, copy)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            checked(str(copy), repair=True)
            same = answers(str(copy)).records.keys() == truth.records.keys()  # type: ignore[attr-defined]
            return "repaired" if same and not checked(str(copy)).damage else "not repaired"
    except StoreError as error:
        return f"refused: {str(error).partition(': ')[2][:60]}"
    finally:
        shutil.rmtree(copy)


if __name__ == "__main__":
    raise SystemExit(main())
