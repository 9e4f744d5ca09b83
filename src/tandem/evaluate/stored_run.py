"""The files of a run, read back: `result.json` checked key by key, `outcomes.npz` member by member.

A run may come from anybody. No array is read before its header says that it is what the JSON names; nothing is
unpickled.
"""

import json
import math
import struct
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray

from tandem import fields
from tandem.errors import DataError, in_words
from tandem.evaluate.figures import Figure, Unit
from tandem.evaluate.records import Environment, ModelRecord
from tandem.evaluate.result import DatasetRecord, Task, TaskResult

FORMAT, VERSION = "tandem-evaluation", 1
RESULT, OUTCOMES = "result.json", "outcomes.npz"
_LARGEST = 1 << 30  # bytes of the JSON, and of one array
_DEEPEST = 16  # lists and mappings within one another, in settings and tables
# What json, zipfile, zlib and numpy raise for files that are not whole.
_DAMAGED = (ValueError, KeyError, TypeError, RecursionError, MemoryError, OverflowError, EOFError, NotImplementedError)
_DAMAGED_ZIP = (zipfile.BadZipFile, zlib.error, struct.error, RuntimeError, SyntaxError)


@dataclass(frozen=True)
class _StoredFigure:
    value: float
    interval: tuple[float, float]
    n: fields.NonNegative
    chance: float | None
    unit: Unit


@dataclass(frozen=True)
class _StoredResult:
    task: Task
    dataset: DatasetRecord
    settings: Mapping[str, Any]
    figures: Mapping[str, _StoredFigure]
    tables: Mapping[str, Any]
    outcomes: tuple[str, ...]
    notes: tuple[str, ...]


@dataclass(frozen=True)
class _StoredRun:
    format: str
    version: int
    made: str
    model: ModelRecord
    environment: Environment
    results: tuple[_StoredResult, ...]


@dataclass(frozen=True, eq=False)
class StoredRun:
    """What the two files of a run hold."""

    model: ModelRecord
    environment: Environment
    made: str
    results: tuple[TaskResult, ...]


def read_run(folder: Path) -> StoredRun:
    """Read a run's folder. Raises `DataError` where there is none, or where it is damaged."""
    if not (folder / RESULT).is_file():
        raise DataError(f"{folder}: expected a folder that tandem evaluate --out wrote, found no {RESULT} in it")
    try:
        document = _json(folder / RESULT)
        check_format(document, folder / RESULT)
        stored = fields.read(_StoredRun, document, error=_Damaged)
        if not (folder / OUTCOMES).is_file():
            raise DataError(f"{folder}: {OUTCOMES} is missing: the run is not whole")
        with zipfile.ZipFile(folder / OUTCOMES) as arrays:
            results = tuple(_result(each, at, arrays) for at, each in enumerate(stored.results))
    except _Damaged as error:
        raise DataError(f"{folder}: the run is damaged ({error}); measure it again") from None
    except DataError:  # no damage, but another format
        raise
    except (*_DAMAGED, *_DAMAGED_ZIP) as error:
        raise DataError(f"{folder}: the run is damaged ({in_words(error)}); measure it again") from None
    return StoredRun(stored.model, stored.environment, stored.made, results)


def check_format(document: Any, path: Path) -> None:
    """Refuse JSON that is no evaluation, or one of a later version. Raises `DataError`."""
    if not isinstance(document, Mapping) or document.get("format") != FORMAT:
        raise DataError(f"{path}: expected an evaluation that tandem evaluate wrote")
    if document.get("version") != VERSION:
        version = document.get("version")
        age = "an unknown" if not isinstance(version, int) else "an older" if version < VERSION else "a newer"
        raise DataError(
            f"{path}: written in {age} format (version {fields.shown(version)}, this Tandem reads {VERSION}): "
            "measure it again"
        )


class _Damaged(DataError):
    """What is wrong with a file of the run, without the name of its folder."""


def _json(path: Path) -> Any:
    if path.stat().st_size > _LARGEST:
        raise _Damaged(f"{RESULT} is larger than {_LARGEST:,} bytes")

    def no_number(text: str) -> NoReturn:
        raise _Damaged(f"{RESULT}: {text} is no number")

    return json.loads(path.read_bytes().decode("utf-8"), parse_constant=no_number)


def _result(stored: _StoredResult, at: int, arrays: zipfile.ZipFile) -> TaskResult:
    for name, value in (("settings", stored.settings), ("tables", stored.tables)):
        if not _is_shallow(value, _DEEPEST):
            raise _Damaged(f"results[{at}].{name}: nested more than {_DEEPEST} deep")
    keys = _array(arrays, f"{at}/keys", "U")
    if len(keys) != stored.dataset.images:
        raise _Damaged(f"{OUTCOMES} has {len(keys):,} images of {stored.dataset.name}, {RESULT} has "
                       f"{stored.dataset.images:,}")  # fmt: skip
    outcomes = {name: _array(arrays, f"{at}/{name}", "f", len(keys)) for name in stored.outcomes}
    return TaskResult(
        stored.task,
        stored.dataset,
        stored.settings,
        {
            name: Figure(each.value, each.n, *each.interval, each.chance, each.unit)
            for name, each in stored.figures.items()
        },
        stored.tables,
        tuple(keys.tolist()),
        outcomes,
        stored.notes,
    )


def _array(arrays: zipfile.ZipFile, name: str, kind: str, length: int | None = None) -> NDArray[Any]:
    """An array [n] of texts ("U") or of finite floats ("f"), whose header is checked before it is read."""
    with arrays.open(f"{name}.npy") as file:
        major, _ = np.lib.format.read_magic(file)
        header = np.lib.format.read_array_header_1_0 if major == 1 else np.lib.format.read_array_header_2_0
        shape, _, dtype = header(file)
    what = "texts" if kind == "U" else "floating-point numbers"
    if dtype.kind != kind or len(shape) != 1 or (length is not None and shape != (length,)):
        expected = what if length is None else f"{length:,} {what}"
        raise _Damaged(f"{OUTCOMES}, {name}: expected {expected}, got {dtype} {list(shape)}")
    size = math.prod(shape) * dtype.itemsize
    if size > _LARGEST or arrays.getinfo(f"{name}.npy").file_size < size:
        raise _Damaged(f"{OUTCOMES}, {name}: {size:,} bytes are announced, more than there are")
    with arrays.open(f"{name}.npy") as file:
        found: NDArray[Any] = np.lib.format.read_array(file, allow_pickle=False)
    if kind == "f" and not np.isfinite(found).all():
        raise _Damaged(f"{OUTCOMES}, {name}: not all numbers are finite")
    return found


def _is_shallow(value: Any, levels: int) -> bool:
    if isinstance(value, Mapping):
        value = list(value.values())
    return not isinstance(value, list) or (levels > 0 and all(_is_shallow(each, levels - 1) for each in value))
