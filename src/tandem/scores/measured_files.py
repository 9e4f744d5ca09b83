"""Files of what was measured of a model's weights: in its folder, and the user's own, which takes precedence.

Knows paths and fingerprints; nothing of the contents.
"""

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, Protocol, TypeVar

from tandem.errors import TandemError
from tandem.files import write_text
from tandem.home import data_folder

T = TypeVar("T")


class Source(Protocol):
    """Where a model's weights came from."""

    @property
    def source(self) -> str: ...


class MeasuredModel(Protocol):
    """What is asked of a model."""

    @property
    def name(self) -> str: ...

    @property
    def fingerprint(self) -> str: ...

    @property
    def checkpoint(self) -> Source: ...


@dataclass(frozen=True)
class Read(Generic[T]):
    """What a file holds, and of which weights."""

    content: T
    fingerprint: str
    model: str = ""  # its name; "" where the file does not say


@dataclass(frozen=True)
class MeasuredFile(Generic[T]):
    """One kind of file."""

    name: str  # in a model's folder
    folder: str  # of the user's own files, one for each model
    read: Callable[[str, str], Read[T]]  # its text, and what to call it; raises `TandemError`
    advice: str = ""  # what to do about a file of other weights

    def own_path(self, fingerprint: str) -> Path:
        """Where the user's own file for a model is kept."""
        return data_folder() / self.folder / f"{fingerprint}.json"

    def shipped_path(self, model: MeasuredModel) -> Path:
        """Where a file that came with the model would be: in its folder."""
        return Path(model.checkpoint.source) / self.name

    def existing(self, model: MeasuredModel) -> list[Path]:
        """The files of a model that are there, the user's own first."""
        return [path for path in (self.own_path(model.fingerprint), self.shipped_path(model)) if path.is_file()]

    def load(self, model: MeasuredModel) -> T | None:
        """The user's own, else the one in the model's folder, else None.

        A file of other weights is ignored with a warning. Raises `TandemError` for an invalid one.
        """
        for path in self.existing(model):
            found = self.read(path.read_text(encoding="utf-8"), str(path))
            if found.fingerprint == model.fingerprint:
                return found.content
            of = f"{found.model} ({found.fingerprint[:12]})" if found.model else found.fingerprint[:12]
            warnings.warn(
                f"{path} is for {of}, not for {model.name} ({model.fingerprint[:12]}): not used{self.advice}",
                stacklevel=3,
            )
        return None

    def save(self, text: str, fingerprint: str, path: Path | None = None) -> Path:
        """Keep a file where `load` finds it, or at `path`. It is written whole or not at all."""
        path = self.own_path(fingerprint) if path is None else path
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            write_text(path, text)
        except OSError as error:
            raise TandemError(f"{path}: cannot be written: {error.strerror or error}") from None
        return path
