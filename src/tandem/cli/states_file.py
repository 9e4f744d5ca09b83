"""Writes the states of images to Parquet as they come, completely or not at all. Knows no model and no images.

Shapes: p tokens of an image, w width.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tandem.cli import vector_files
from tandem.cli.whole_file import WholeFile
from tandem.errors import TandemError
from tandem.files import display_name
from tandem.image_states import ImageStates

_ROW_GROUP_BYTES = 32 << 20  # held until they are written: about 50 images of ViT-B/16


def check_target(path: Path) -> None:
    """Refuse what cannot be written, before the long work."""
    if path.suffix.lower() != ".parquet":
        raise TandemError(
            f"{path}: states are written to .parquet alone, image by image; a .npz would hold all of them in memory"
        )
    vector_files.check_target(path)


class StatesFile(WholeFile):
    """Columns `id`, `states` (for each token a list of w float32), `rows` and `columns`; `about` is JSON under the
    schema's metadata key `tandem`.
    """

    def __init__(self, path: Path, width: int, about: Mapping[str, Any]) -> None:
        import pyarrow
        import pyarrow.parquet

        check_target(path)
        super().__init__(path)
        self._arrow = pyarrow
        self._token = pyarrow.list_(pyarrow.float32(), width)
        fields = {
            "id": pyarrow.string(),
            "states": pyarrow.list_(self._token),
            "rows": pyarrow.int32(),
            "columns": pyarrow.int32(),
        }
        self._schema = pyarrow.schema(list(fields.items()), metadata={"tandem": json.dumps(about)})
        # Numbers that hardly repeat: a dictionary and compression take time and save nothing
        self._writer = pyarrow.parquet.ParquetWriter(
            self._temporary, self._schema, use_dictionary=False, compression="none"
        )
        self._ids: list[str] = []
        self._states: list[NDArray[np.float32]] = []
        self._grids: list[tuple[int, int]] = []
        self._bytes = 0

    def add(self, name: str, states: ImageStates) -> None:
        """The states of one image [p w]."""
        self._ids.append(display_name(name))
        self._states.append(states.states)
        self._grids.append(states.grid)
        self._bytes += states.states.nbytes
        self.count += 1
        if self._bytes >= _ROW_GROUP_BYTES:
            self._flush()

    def finish(self) -> None:
        self._flush()

    def close(self) -> None:
        self._writer.close()

    def _flush(self) -> None:
        if not self._ids:
            return
        arrow = self._arrow
        tokens = arrow.FixedSizeListArray.from_arrays(
            arrow.array(np.concatenate(self._states).ravel()), type=self._token
        )
        ends = np.cumsum([0, *(len(states) for states in self._states)], dtype=np.int32)
        rows, columns = (arrow.array(side, arrow.int32()) for side in zip(*self._grids, strict=True))
        states = arrow.ListArray.from_arrays(arrow.array(ends), tokens, type=self._schema.field("states").type)
        self._writer.write_table(
            arrow.Table.from_arrays([arrow.array(self._ids), states, rows, columns], schema=self._schema)
        )
        self._ids, self._states, self._grids, self._bytes = [], [], [], 0
