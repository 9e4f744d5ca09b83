"""What a run says of itself: means since the last line, and the curve as a CSV."""

import csv
import time
from pathlib import Path


class Meter:
    """Means of the losses and the rate since it was last read."""

    def __init__(self) -> None:
        self._sums: dict[str, float] = {}
        self._steps = self._pairs = 0
        self._since = time.monotonic()

    def count(self, pairs: int, values: dict[str, float]) -> None:
        """Add a step."""
        self._steps += 1
        self._pairs += pairs
        for name, value in values.items():
            self._sums[name] = self._sums.get(name, 0.0) + value

    def read(self) -> dict[str, float]:
        """Means and pairs a second; starts again."""
        now = time.monotonic()
        out = {name: value / self._steps for name, value in self._sums.items()}
        out["pairs_per_s"] = self._pairs / max(now - self._since, 1e-9)
        self.__init__()  # type: ignore[misc]
        return out


class Curve:
    """The run as a CSV: a line whenever there is something to say. Lines past the step a run resumes at are dropped."""

    COLUMNS = (
        "step", "loss", "contrast", "distance", "learning_rate", "scale", "gradient_norm", "pairs_per_s", "image_size",
        "zero_shot_top1", "text_to_image_r10", "image_to_text_r10",
    )  # fmt: skip

    def __init__(self, path: Path, step: int) -> None:
        self.path = path
        kept = []
        if path.exists():
            with path.open(newline="") as file:
                kept = [row for row in csv.DictReader(file) if row["step"].isdigit() and int(row["step"]) <= step]
        with path.open("w", newline="") as file:
            writer = csv.DictWriter(file, self.COLUMNS)
            writer.writeheader()
            writer.writerows(kept)

    def write(self, row: dict[str, float]) -> None:
        """Append a line."""
        with self.path.open("a", newline="") as file:
            csv.DictWriter(file, self.COLUMNS).writerow(row)
