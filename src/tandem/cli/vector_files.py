"""Writes vectors with their ids to `.npz` or `.parquet`, completely or not at all. Knows no model and no images.

Either file carries the model's name and fingerprint: vectors of different fingerprints must not be compared.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tandem.cli.whole_file import WholeFile
from tandem.errors import MissingExtraError, TandemError
from tandem.files import display_name

_ROW_BATCH = 4096  # of a Parquet row group: at 512 dimensions about 8 MB


def check_target(path: Path) -> None:
    """Refuse what cannot be written, before the long work."""
    if path.suffix.lower() not in (".npz", ".parquet"):
        raise TandemError(f"{path}: expected a name ending in .npz or .parquet, got {path.suffix or 'no suffix'}")
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix.lower() == ".parquet":
        try:
            import pyarrow  # noqa: F401
        except ImportError:
            raise MissingExtraError("pyarrow", "parquet", "writing Parquet") from None


class VectorsFile(WholeFile):
    """Rows of vectors with their ids."""

    def __init__(self, path: Path, dimensions: int, about: Mapping[str, str]) -> None:
        super().__init__(path)
        self.path, self.dimensions = path, dimensions
        self.about = {key: display_name(value) for key, value in about.items()}
        self._ids: list[str] = []
        self._parts: list[NDArray[np.float32]] = []

    def add(self, ids: Sequence[str], vectors: NDArray[np.float32]) -> None:
        """`vectors` is [n d], `ids` its n names."""
        self._ids += map(display_name, ids)
        self._parts.append(vectors)
        self.count += len(ids)


def create(path: Path, dimensions: int, about: Mapping[str, str]) -> VectorsFile:
    """A file to add rows to. `about` (model, fingerprint, kind) goes into it."""
    check_target(path)
    return (Parquet if path.suffix.lower() == ".parquet" else Npz)(path, dimensions, about)


class Npz(VectorsFile):
    """Arrays `vectors` [n d] and `ids` [n], and a text for each entry of `about`. Held in memory until the end."""

    def finish(self) -> None:
        about: dict[str, Any] = {key: np.array(value) for key, value in self.about.items()}
        with self._temporary.open("wb") as file:
            np.savez(file, vectors=np.concatenate(self._parts), ids=np.array(self._ids, dtype=np.str_), **about)


class Parquet(VectorsFile):
    """Columns `id` and `vector`, in row groups; `about` is JSON under the schema's metadata key `tandem`."""

    def __init__(self, path: Path, dimensions: int, about: Mapping[str, str]) -> None:
        import pyarrow
        import pyarrow.parquet

        super().__init__(path, dimensions, about)
        self._arrow = pyarrow
        self._schema = pyarrow.schema(
            [("id", pyarrow.string()), ("vector", pyarrow.list_(pyarrow.float32(), dimensions))],
            metadata={"tandem": json.dumps(self.about)},
        )
        self._writer = pyarrow.parquet.ParquetWriter(self._temporary, self._schema)

    def add(self, ids: Sequence[str], vectors: NDArray[np.float32]) -> None:
        super().add(ids, vectors)
        if len(self._ids) >= _ROW_BATCH:
            self._flush()

    def finish(self) -> None:
        self._flush()

    def close(self) -> None:
        self._writer.close()

    def _flush(self) -> None:
        if self._ids:
            flat = self._arrow.array(np.concatenate(self._parts).ravel())
            columns = [
                self._arrow.array(self._ids),
                self._arrow.FixedSizeListArray.from_arrays(flat, type=self._schema.field("vector").type),
            ]
            self._writer.write_table(self._arrow.Table.from_arrays(columns, schema=self._schema))
            self._ids, self._parts = [], []
