"""Results as a file: what each row measured, kept as soon as the row is done, so that a run can be resumed."""

import json
from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from comparison.machine import BUSY_DURING


@dataclass
class Measured:
    """A row as it was measured. `values` are in the row's unit, by side: one a round, in which all sides took part."""

    row: str
    when: str
    values: dict[str, list[float]] = field(default_factory=dict)
    agreement: dict[str, tuple[float, float]] = field(default_factory=dict)  # least cosine; the same without the mean
    missing: dict[str, str] = field(default_factory=dict)  # sides that could not take part, and why
    versions: dict[str, dict[str, str]] = field(default_factory=dict)  # by side
    others_before: float = 0.0  # the share of all cores that other processes used
    others_during: float = 0.0
    load: float = 0.0  # the system's load average at the end of the row, of which this run is a part
    notes: list[str] = field(default_factory=list)
    settings: dict[str, str] = field(default_factory=dict)  # of the materials: photos, and the model's weights
    commit: str = ""  # of Tandem's sources

    def is_busy(self) -> bool:
        return self.others_during > BUSY_DURING


class Results:
    """Rows by key, of one machine, one set of materials and one version of each library.

    A file of another machine, or of as many threads less, is refused; so are rows of others, in `check`.
    """

    def __init__(self, path: Path, machine: dict[str, Any]) -> None:
        self._path = path
        self.machine = machine
        self.rows: dict[str, Measured] = {}
        if path.is_file():
            stored = json.loads(path.read_text(encoding="utf-8"))
            if stored["machine"] != machine:
                differing = sorted(key for key in machine if stored["machine"].get(key) != machine[key])
                raise ValueError(
                    f"{path}: measured elsewhere ({', '.join(differing)} differ); "
                    "give --fresh to measure everything anew"
                )
            self.rows = {key: _read(row) for key, row in stored["rows"].items()}

    def check(
        self,
        settings: Mapping[str, Mapping[str, str]],
        versions: Mapping[str, Mapping[str, str]],
        anew: Collection[str],
    ) -> None:
        """Refuse rows that do not compare with those that come: of other photos, another model, or other libraries.

        settings: of this run, by row; versions: of this run, by side. Rows that are measured `anew` may be of others.
        Raises `ValueError`.
        """
        differing: dict[str, list[str]] = {}
        for key, row in self.rows.items():
            if key in anew:
                continue
            names = [name for name, value in settings[key].items() if row.settings.get(name) != value]
            for side, found in row.versions.items():
                theirs = versions.get(side, {})
                names += [f"{name} {old}" for name, old in found.items() if theirs.get(name, old) != old]
            for name in dict.fromkeys(names):
                differing.setdefault(name, []).append(key)
        if differing:
            said = "; ".join(f"{name} in {', '.join(keys)}" for name, keys in differing.items())
            rows = ",".join(key for key in self.rows if any(key in keys for keys in differing.values()))
            raise ValueError(
                f"{self._path}: what differs from this run: {said}; measure them anew with --rows {rows}, "
                "or everything with --fresh"
            )

    def keep(self, measured: Measured) -> None:
        self.rows[measured.row] = measured
        document = {"machine": self.machine, "rows": {key: asdict(row) for key, row in self.rows.items()}}
        self._path.parent.mkdir(parents=True, exist_ok=True)
        part = self._path.with_suffix(".part")
        part.write_text(json.dumps(document, indent=1), encoding="utf-8")
        part.replace(self._path)


def _read(row: dict[str, Any]) -> Measured:
    return Measured(**{**row, "agreement": {name: (a, b) for name, (a, b) in row["agreement"].items()}})
