"""What files of vectors and of states have in common: each appears whole, or not at all. Knows no format.

Tables of plain values (`row_files`) are another kind: they replace what was there even with no row.
"""

from abc import ABC, abstractmethod
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Self

from tandem.files import atomic_write


class WholeFile(ABC):
    """The file appears when the `with` block succeeds and `count` is not 0."""

    def __init__(self, path: Path) -> None:
        self.count = 0
        self._open = ExitStack()
        self._temporary = self._open.enter_context(atomic_write(path))

    @abstractmethod
    def finish(self) -> None:
        """Write what is left."""

    def close(self) -> None:  # noqa: B027 - most files have nothing to let go
        """Let go of the file."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        done = kind is None and self.count > 0
        with self._open:
            try:
                if done:
                    self.finish()
            finally:
                self.close()
            if not done:
                self._temporary.unlink(missing_ok=True)
