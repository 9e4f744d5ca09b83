"""What a run writes down of its samples: those it cannot use, and those of a suspect batch. Knows keys and texts."""

import csv
import json
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

NAMED = 20  # on the terminal by each process; all are in the file


class SetAside:
    """What one process has met, also before it was stopped; `folder/process-P.tsv` has a line for each sample."""

    def __init__(self, folder: Path, process: int, say: Callable[[str], None]) -> None:
        self.path = folder / f"process-{process}.tsv"
        self._say = say
        self._known: dict[str, str] = {}
        if self.path.exists():
            with self.path.open(newline="", encoding="utf-8") as file:
                self._known = {row[0]: row[1] for row in csv.reader(file, delimiter="\t") if len(row) == 2}
        self._said = 0

    def __len__(self) -> int:
        return len(self._known)

    def add(self, samples: Iterable[tuple[str, str]]) -> None:
        """(key, reason) of each; those that are known already are not said again."""
        new = {key: reason for key, reason in samples if key not in self._known}
        if not new:
            return
        self._known.update(new)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("a", newline="", encoding="utf-8") as file:
            csv.writer(file, delimiter="\t", lineterminator="\n").writerows(new.items())
        for key, reason in new.items():
            self._said += 1
            if self._said <= NAMED:
                self._say(f"left out {key}: {reason}")
            elif self._said == NAMED + 1:
                self._say(f"further samples that are left out are named in {self.path}")


def note_batch(
    folder: Path, step: int, process: int, reason: str, losses: Mapping[str, float], keys: Sequence[str],
    sentences: Sequence[str],
) -> Path:  # fmt: skip
    """Write this process's share of a step to `folder/step-N-process-P.json`, and return the file.

    `keys`: where each picture came from. Numbers that are none are written as words: JSON has no NaN.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"step-{step:08d}-process-{process}.json"
    plain = {name: value if math.isfinite(value) else str(value) for name, value in losses.items()}
    told = {"step": step, "reason": reason, "losses": plain, "keys": list(keys), "sentences": list(sentences)}
    path.write_text(json.dumps(told, indent=1, ensure_ascii=False), encoding="utf-8")
    return path
