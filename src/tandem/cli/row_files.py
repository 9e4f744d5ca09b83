"""Writes rows of plain values to `.csv`, `.jsonl` or `.parquet` as they come, completely or not at all."""

import json
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from tandem.cli.csv_cells import CsvWriter
from tandem.errors import MissingExtraError, TandemError
from tandem.files import atomic_write, display_name

SUFFIXES = (".csv", ".jsonl", ".parquet")
_ROW_BATCH = 65_536  # of a Parquet row group


def check_target(path: Path) -> None:
    """Refuse what cannot be written, before the long work."""
    if path.suffix.lower() not in SUFFIXES:
        raise TandemError(f"{path}: expected a name ending in {', '.join(SUFFIXES)}, got {path.suffix or 'no suffix'}")
    if path.suffix.lower() == ".parquet":
        try:
            import pyarrow  # noqa: F401
        except ImportError:
            raise MissingExtraError("pyarrow", "parquet", "writing Parquet") from None


class RowFile:
    """Add rows as they come; the file at `path` is replaced when the `with` block succeeds, and unchanged if not.

    `kinds` names the columns and what they hold: str, int or float.
    """

    def __init__(self, path: Path, kinds: Mapping[str, type]) -> None:
        check_target(path)
        self.path, self.kinds, self.count = path, dict(kinds), 0
        self._open = ExitStack()

    def __enter__(self) -> Self:
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            temporary = self._open.enter_context(atomic_write(self.path))
            if self.path.suffix.lower() == ".parquet":
                self._add = self._parquet(temporary)
            else:
                file = self._open.enter_context(temporary.open("w", encoding="utf-8", newline=""))
                if self.path.suffix.lower() == ".csv":
                    self._add = CsvWriter(file).write
                    self._add([list(self.kinds)])
                else:
                    self._add = lambda rows: file.writelines(
                        json.dumps(dict(zip(self.kinds, row, strict=True)), ensure_ascii=False) + "\n" for row in rows
                    )
        except OSError as error:
            self._open.__exit__(type(error), error, error.__traceback__)
            raise TandemError(f"{self.path}: cannot be written: {error.strerror or error}") from None
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._open.__exit__(kind, error, trace)

    def add(self, rows: Iterable[Sequence[Any]]) -> None:
        """Rows with a value for each column."""
        plain = [[display_name(value) if isinstance(value, str) else value for value in row] for row in rows]
        self._add(plain)
        self.count += len(plain)

    def _parquet(self, temporary: Path) -> Any:
        import pyarrow
        import pyarrow.parquet

        types = {str: pyarrow.string(), int: pyarrow.int64(), float: pyarrow.float32()}
        schema = pyarrow.schema([(name, types[kind]) for name, kind in self.kinds.items()])
        writer = self._open.enter_context(pyarrow.parquet.ParquetWriter(temporary, schema))
        waiting: list[Sequence[Any]] = []

        def flush() -> None:
            if waiting:
                columns = [list(column) for column in zip(*waiting, strict=True)]
                writer.write_table(pyarrow.table(dict(zip(self.kinds, columns, strict=True)), schema=schema))
                waiting.clear()

        def add(rows: list[Sequence[Any]]) -> None:
            waiting.extend(rows)
            if len(waiting) >= _ROW_BATCH:
                flush()

        self._open.callback(flush)  # before the writer closes
        return add
