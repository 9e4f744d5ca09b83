"""Samples that cannot be used: each is named once, counted, and kept in a file of the run. Knows keys and reasons."""

import csv
from collections.abc import Callable, Iterable
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
