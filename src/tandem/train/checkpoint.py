"""A run's checkpoints on disk: folders that appear whole or not at all, each of them a model that `tandem.load` reads.

    checkpoints/step-00001200/
      config.json  model.safetensors  tokenizer.json  README.md     the model, as any other
      trainer.safetensors                                           weights, optimiser and average, every bit
      trainer.json                                                  step, scores, recipe, layout, versions

The step is the data's position: a batch is a function of (recipe, step), and so are the random numbers of a step.
Knows files and tensors by name; nothing of what they mean.
"""

import json
import os
import shutil
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from tandem.errors import DataError

FORMAT = 2  # 1: its steps drew other batches


@dataclass(frozen=True)
class Record:
    """What a checkpoint knows beside tensors."""

    step: int  # the next one to do
    best_score: float | None  # of the measure that chooses; None before any
    recipe: dict[str, Any]
    layout: dict[str, Any]  # what sums are rounded by: processes, device, ...
    versions: dict[str, str]
    guard: dict[str, Any] = field(default_factory=dict)  # what `guards.Guard` remembers
    samples: list[int] = field(default_factory=list)  # of each training set
    format: int = FORMAT


def save(
    folder: Path, record: Record, tensors: Mapping[str, Tensor], write_model: Callable[[Path], None], keep_last: int = 1
) -> Path:
    """Write `folder/step-N`; beyond the newest `keep_last` ones, older ones go once it stands.

    `write_model` is given a path and makes the model folder there.
    """
    folder.mkdir(parents=True, exist_ok=True)
    clean(folder)
    target = folder / f"step-{record.step:08d}"
    part = folder / f".{target.name}.part"
    write_model(part)
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, part / "trainer.safetensors")
    (part / "trainer.json").write_text(json.dumps(asdict(record), indent=1), encoding="utf-8")
    for file in (*part.iterdir(), part):
        _to_disk(file)  # a machine that loses power must not keep the name and lose the bytes
    _remove(target)
    part.rename(target)
    _to_disk(folder)
    for old in found(folder)[max(keep_last, 1) :]:
        _remove(old)
    return target


def found(folder: Path) -> list[Path]:
    """The checkpoints of a run, the newest first."""
    return sorted(folder.glob("step-*"), reverse=True)


def read(path: Path) -> tuple[Record, dict[str, Tensor]]:
    """One checkpoint. Raises `DataError` that names the file when it is damaged or of another format."""
    try:
        plain = json.loads((path / "trainer.json").read_text(encoding="utf-8"))
        if plain.get("format", 1) != FORMAT:
            raise DataError(
                f"{path}: this run was begun by another version of Tandem (format {plain.get('format', 1)}, here "
                f"{FORMAT}), whose steps drew other batches; choose another folder=, with init.model={path} to go on "
                "from its weights"
            )
        return Record(**plain), load_file(path / "trainer.safetensors")
    except (OSError, ValueError, TypeError, SafetensorError) as error:
        raise DataError(f"{path}: a damaged checkpoint ({str(error).strip().splitlines()[0]})") from None


def newest(folder: Path, say: Callable[[str], None]) -> tuple[Path, Record, dict[str, Tensor]] | None:
    """The newest checkpoint that can be read; None where there is none.

    One that is damaged is named, and the one before it is taken. Raises `DataError` when all are damaged: whoever
    would begin again must say so by another folder.
    """
    paths = found(folder)
    for path in paths:
        try:
            return path, *read(path)
        except DataError as error:
            if path == paths[-1]:
                raise
            say(f"{error}; going on from the one before it")
    return None


def clean(folder: Path) -> None:
    """Remove what a killed process left half written or half removed."""
    for left in (*folder.glob(".step-*.part"), *folder.glob(".step-*.gone"), *folder.glob("..step-*")):
        shutil.rmtree(left, ignore_errors=True)


def _remove(path: Path) -> None:
    """By a name that nobody takes for a checkpoint while half of it is there."""
    if path.exists():
        gone = path.with_name(f".{path.name}.gone")
        path.rename(gone)
        shutil.rmtree(gone)


def _to_disk(path: Path) -> None:
    if os.name == "nt" and path.is_dir():
        return  # Windows opens no folders
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
