"""CLIP_benchmark's folders of tars: `ROOT/{train,test}/{nshards.txt,0.tar,1.tar,...}`, and what their text files say.

In ROOT: `classnames.txt`, `zeroshot_classification_templates.txt` with `{c}` for the class, and `dataset_type.txt`
("retrieval": a caption on each line of `KEY.txt`; "multilabel": `KEY.npy` with a number for each class; else a class
number in `KEY.cls`).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from tandem.datasets.data_files import number_in, read_text
from tandem.datasets.images import full_path
from tandem.datasets.rows import ClassNames
from tandem.errors import DataError, TextError
from tandem.files import user_path
from tandem.prompts import SLOT, check_templates

_SHARDS, _TYPE = "nshards.txt", "dataset_type.txt"
_TEMPLATES, _CLASSES = "zeroshot_classification_templates.txt", "classnames.txt"
_CLASS = "{c}"
_LARGEST = 16 << 20  # bytes of a text file


@dataclass(frozen=True)
class BenchmarkFolder:
    """A folder of CLIP_benchmark, and what its text files say."""

    root: Path
    splits: Mapping[str, Path]

    @property
    def kind(self) -> str:
        """ "retrieval", "multilabel", or "classification"."""
        path = self.root / _TYPE
        kind = _text(path).strip() if path.is_file() else "classification"
        if kind not in ("retrieval", "multilabel", "classification"):
            raise DataError(f"{path}: expected retrieval, multilabel or classification, found {kind!r:.40}")
        return kind

    def shards(self, folder: Path) -> list[Path]:
        """The tars that `nshards.txt` counts. Raises `DataError` for one that is missing."""
        written = _text(folder / _SHARDS).strip()
        count = number_in(written)
        if not count:
            raise DataError(f"{folder / _SHARDS}: expected the number of tars, found {written!r:.40}")
        found = []
        for number in range(count):
            path = folder / f"{number}.tar"
            if not path.is_file():
                raise DataError(f"{path}: there is no such file; {_SHARDS} says {written} tars, 0.tar on")
            found.append(path)
        return found

    def class_names(self) -> ClassNames | None:
        path = self.root / _CLASSES
        return [line.strip() for line in _text(path).splitlines() if line.strip()] if path.is_file() else None

    def templates(self) -> tuple[str, ...] | None:
        path = self.root / _TEMPLATES
        if not path.is_file():
            return None
        lines = [line.strip().replace(_CLASS, SLOT) for line in _text(path).splitlines() if line.strip()]
        try:
            return check_templates(lines)
        except TextError as error:
            raise DataError(f"{path}: expected templates with {_CLASS} for the class: {error}") from None


def find(source: str) -> BenchmarkFolder | None:
    """The folder that a source is, or whose split it is; None for other sources."""
    folder = user_path(source, strict=False)
    if (folder / _SHARDS).is_file():
        return BenchmarkFolder(full_path(folder).parent, {full_path(folder).name: folder})
    found = sorted(folder.glob(f"*/{_SHARDS}")) if folder.is_dir() else []
    return BenchmarkFolder(folder, {path.parent.name: path.parent for path in found}) if found else None


def _text(path: Path) -> str:
    try:
        return read_text(path, most=_LARGEST)
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: cannot be read: {error}") from None
