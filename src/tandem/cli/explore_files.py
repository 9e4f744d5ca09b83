"""The files that `tandem explore` writes for other programs: map.json, duplicates.csv and duplicates.json."""

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, TextIO

import numpy as np
from numpy.typing import NDArray

from tandem.cli.csv_cells import CsvWriter
from tandem.files import atomic_write
from tandem.search.exploring.duplicates import DuplicateGroup, Member
from tandem.search.exploring.map2d import Coordinates
from tandem.search.exploring.survey import Cluster, survey_rows
from tandem.search.stores.protocol import Records

DIGITS = 5  # of places and cosines


class MapFile:
    """map.json, written while the collection is scanned: one image per line, between what describes the whole.

    `{..., "images": [{"id", "path", "x", "y", "cluster"}], "clusters": [{"name", "words", "size", "coherence", "x",
    "y", "representatives"}]}`; `cluster` counts from 0 into `clusters`; a `name` may be null. The file is there
    whole, or as it was before.
    """

    def __init__(self, path: Path, described: Mapping[str, Any]) -> None:
        self._open, self._finished = ExitStack(), False
        self._temporary = self._open.enter_context(atomic_write(path))
        self.file = self._temporary.open("w", encoding="utf-8")
        self.file.write(json.dumps(described, ensure_ascii=False)[:-1] + ', "images": [')
        self.between = "\n"

    def __enter__(self) -> "MapFile":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.file.close()
        if not self._finished:
            self._temporary.unlink(missing_ok=True)
        self._open.__exit__(kind, error, trace)

    def add(self, records: Records, coordinates: Coordinates, clusters: NDArray[np.int32]) -> None:
        """Add records, with their coordinates [n 2] and clusters [n]."""
        for row in survey_rows(records, coordinates, clusters, digits=DIGITS):
            self.file.write(self.between + json.dumps(row, ensure_ascii=False))
            self.between = ",\n"

    def finish(self, clusters: Sequence[Cluster]) -> None:
        """Write the end of the document."""
        described = ",\n".join(json.dumps(cluster.as_dict(DIGITS), ensure_ascii=False) for cluster in clusters)
        self.file.write(f'\n], "clusters": [\n{described}\n]}}\n')
        self._finished = True


def write_duplicates(groups: Sequence[DuplicateGroup], folder: Path) -> tuple[Path, Path]:
    """Write duplicates.csv, one image per line, and duplicates.json, one object per group. Returns both paths."""
    table, document = folder / "duplicates.csv", folder / "duplicates.json"
    with _replaced(table, newline="") as file:
        written = CsvWriter(file)
        written.write([("group", "keep", "cosine", "path", "width", "height", "bytes", "id")])
        for number, group in enumerate(groups, start=1):
            written.write(_rows_of(number, group))
    with _replaced(document) as file:
        listed = [
            {
                "keep": _as_document(group.kept),
                "duplicates": [_as_document(member) for member in group.others],
                "freed_bytes": group.freed_bytes,
            }
            for group in groups
        ]
        json.dump(listed, file, indent=1, ensure_ascii=False)
        file.write("\n")
    return table, document


def _rows_of(number: int, group: DuplicateGroup) -> Iterator[Sequence[Any]]:
    for member in group.members:
        values = [member.metadata.get(name) for name in ("path", "width", "height", "bytes")]
        keep = "yes" if member is group.kept else "no"
        yield number, keep, f"{member.score:.{DIGITS}f}", *values, member.id


def _as_document(member: Member) -> dict[str, Any]:
    names = ("path", "width", "height", "bytes")
    return {"id": member.id, "cosine": round(member.score, DIGITS)} | {n: member.metadata.get(n) for n in names}


@contextmanager
def _replaced(path: Path, newline: str | None = None) -> Iterator[TextIO]:
    """A text file that takes its place when it is whole. Names of files that are not UTF-8 are kept as they are."""
    with (
        atomic_write(path) as temporary,
        temporary.open("w", encoding="utf-8", errors="surrogateescape", newline=newline) as file,
    ):
        yield file
