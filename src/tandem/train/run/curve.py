"""A run's curve as a CSV: a line whenever there is something to say. Knows names and numbers."""

import csv
from collections.abc import Mapping
from pathlib import Path

FIRST = ("step", "loss", "learning_rate", "scale", "gradient_norm", "pairs_per_s", "wait", "memory_gb", "image_size")


class Curve:
    """Appends lines; a name that is new becomes a further column. Lines past the step a run resumes at are dropped."""

    def __init__(self, path: Path, step: int) -> None:
        self.path = path
        columns, rows = read(path) if path.exists() else ([], [])
        self.columns = [*columns] or [*FIRST]
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
        part = self.path.with_suffix(".part")
        with part.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, self.columns)
            writer.writeheader()
            writer.writerows(rows)
        part.replace(self.path)


def read(path: Path) -> tuple[list[str], list[dict[str, str]]]:
    """Columns and whole lines. A last line that a killed process left unfinished is dropped."""
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
            except (TypeError, ValueError):  # this line does not speak of it
                continue
    return series
