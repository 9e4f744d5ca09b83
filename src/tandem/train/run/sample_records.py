"""Files about the samples of a run: those that were skipped, and those of a suspect batch. Knows keys and texts."""

import csv
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

from tandem import files

MAX_ECHOED = 20  # skipped samples on the terminal, by each process; all are in the file
_OLD_FOLDER = "left-out"  # of runs before the first release


class SkippedSamples:
    """The samples that one process could not use, since the run began; `skipped/process-P.tsv` has a line for each."""

    def __init__(self, folder: Path, process: int, echo: Callable[[str], None]) -> None:
        """`folder`: of the run."""
        self.path = folder / "skipped" / f"process-{process}.tsv"
        self._echo = echo
        self._known: dict[str, str] = {}
        for path in (folder / _OLD_FOLDER / self.path.name, self.path):
            if path.exists():
                with path.open(newline="", encoding="utf-8") as file:
                    self._known |= {row[0]: row[1] for row in csv.reader(file, delimiter="\t") if len(row) == 2}
        self._echoed = 0

    def __len__(self) -> int:
        return len(self._known)

    def add(self, samples: Iterable[tuple[str, str]]) -> None:
        """(key, reason) of each; samples that are known already are not reported again."""
        new = {key: reason for key, reason in samples if key not in self._known}
        if not new:
            return
        self._known.update(new)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("a", newline="", encoding="utf-8") as file:
            csv.writer(file, delimiter="\t", lineterminator="\n").writerows(new.items())
        for key, reason in new.items():
            self._echoed += 1
            if self._echoed <= MAX_ECHOED:
                self._echo(f"skipped {key}: {reason}")
            elif self._echoed == MAX_ECHOED + 1:
                self._echo(f"further skipped samples are listed in {self.path}")


def record_suspect_batch(
    folder: Path, step: int, process: int, reason: str, losses: Mapping[str, float], keys: Sequence[str],
    texts: Sequence[str],
) -> Path:  # fmt: skip
    """Write this process's share of a step to `folder/step-N-process-P.json`, and return the file.

    `keys`: where each image came from. Losses that are not finite are written as strings: JSON has no NaN.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"step-{step:08d}-process-{process}.json"
    plain = {name: value if math.isfinite(value) else str(value) for name, value in losses.items()}
    record = {"step": step, "reason": reason, "losses": plain, "keys": list(keys), "texts": list(texts)}
    files.write_json(path, record)
    return path
