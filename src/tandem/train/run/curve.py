"""The logged figures of a run as a CSV file. Knows names and numbers."""

import csv
from collections.abc import Mapping
from pathlib import Path

from tandem import files

FIRST_COLUMNS = (
    "step",
    "loss",
    "learning_rate",
    "scale",
    "gradient_norm",
    "pairs_per_s",
    "wait",
    "memory_gb",
    "image_size",
)


class Curve:
    """Appends lines; a new name becomes a further column. Lines past the step at which a run resumes are dropped."""

    def __init__(self, path: Path, step: int) -> None:
        self.path = path
        columns, rows = read(path) if path.exists() else ([], [])
        self.columns = [*columns] or [*FIRST_COLUMNS]
        self._rewrite([row for row in rows if int(row["step"]) <= step])

    def write(self, row: Mapping[str, float]) -> None:
        """Append a line."""
        if new := [name for name in row if name not in self.columns]:
            rows = read(self.path)[1]
            self.columns += new
            self._rewrite(rows)
        with self.path.open("a", newline="", encoding="utf-8") as file:
            csv.DictWriter(file, self.columns).writerow(dict(row))

    def _rewrite(self, rows: list[dict[str, str]]) -> None:
        with files.atomic_write(self.path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, self.columns)
            writer.writeheader()
            writer.writerows(rows)


def read(path: Path) -> tuple[list[str], list[dict[str, str]]]:
    """Columns and complete lines. A last line that a killed process left incomplete is dropped."""
    text = path.read_text(encoding="utf-8")
    reader = csv.DictReader(text[: text.rfind("\n") + 1].splitlines())
    rows = [row for row in reader if (row.get("step") or "").isdigit()]
    return list(reader.fieldnames or ()), rows


def read_series(path: Path) -> dict[str, list[tuple[int, float]]]:
    """For each column the points (step, value) where it has one."""
    columns, rows = read(path)
    series: dict[str, list[tuple[int, float]]] = {name: [] for name in columns if name != "step"}
    for row in rows:
        for name, points in series.items():
            try:
                points.append((int(row["step"]), float(row[name])))
            except (TypeError, ValueError):  # no value in this line
                continue
    return series
