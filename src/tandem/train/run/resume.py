"""Resuming a run from its newest checkpoint: what has changed since it was saved, and its state put into live parts.

What may change, and what a change means, is pure: plain records in, notes or a refusal out.
"""

import platform
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tandem import __version__
from tandem.errors import ConfigError, DataError
from tandem.train import recipe as recipes
from tandem.train.parallel.process import Processes
from tandem.train.recipe import Recipe, to_dict
from tandem.train.run import checkpoint
from tandem.train.run.assembly import TrainingRun
from tandem.train.toml import differences

# May change at any time: what a step learns from stays the same, or it is what people tune on the way.
FREE = (
    "name", "folder", "data_root", "workers", "cache_images", "cache_folder", "log_every_steps", "steps", "device",
    "optimiser", "ema", "init", "validation", "interpolation", "checkpoints", "guards", "log", "remote", "resume",
    "model.name", "model.licence", "model.data", "model.notes",
)  # fmt: skip
# The same run up to rounding: needs `resume.allow_rounding`.
ROUNDING = ("precision", "parallel.strategy", "parallel.micro_batches", "parallel.activation_checkpointing",
            "parallel.compile")  # fmt: skip
# Of `FREE`, what the model at the end depends on. Not `init`: a run of a chain is known before the model that it starts
# from has a path.
_DECIDING = ("steps", "optimiser", "ema", "interpolation")
_EFFECTS = {"steps": "the learning rate falls to 0 there, and stages begin at their share of it"}

Found = tuple[Path, checkpoint.Record, dict[str, Tensor]]  # a checkpoint as it was read


def layout(recipe: Recipe, processes: Processes) -> dict[str, Any]:
    """Settings on which the rounding of sums depends."""
    return {
        "processes": processes.count,
        "device": processes.device.type,
        "threads": torch.get_num_threads(),
        "micro_batches": recipe.parallel.micro_batches,
        "norm_batch": recipe.parallel.norm_batch,
    }


def versions() -> dict[str, str]:
    """Versions of the libraries that compute."""
    return {
        "tandem": __version__,
        "torch": torch.__version__,
        "numpy": np.__version__,
        "python": platform.python_version(),
    }


def check_checkpoint(recipe: Recipe, processes: Processes, found: Found | None) -> list[str]:
    """Notes on what has changed since a checkpoint was saved. Raises `DataError` for what must not change."""
    if found is None:
        return []
    path, record, _ = found
    try:
        notes = resume_checks(record.recipe, to_dict(recipe), record.layout, layout(recipe, processes))
    except DataError as error:
        raise DataError(f"{path}: {error}") from None
    return notes + [f"{name} was {old}, is {new}" for name, old, new in differences(record.versions, versions())]


def restore(run: TrainingRun, found: Found | None) -> checkpoint.Record | None:
    """Put a checkpoint into the parts of a run, and return its record."""
    # Every process reads the file itself: all machines must see the folder of a run.
    step = run.processes.broadcast_object(found[1].step if found else None)
    if found is None and step is None:
        return None
    if found is None or found[1].step != step:
        raise DataError(
            f"{run.recipe.folder}: the main process finds a checkpoint of step {step}, process {run.processes.rank} "
            "does not; the folder must be one that all machines see"
        )
    path, record, tensors = found
    for source, before, now in zip(run.recipe.data, record.sample_counts, run.loader.sample_counts(), strict=False):
        if before != now:
            raise DataError(
                f"{path}: {source.path} had {before:,} samples and has {now:,}: every step would have others; bring "
                "its files back, or choose another folder= and start from these weights with init.model"
            )
    try:
        checkpoint.restore_state(tensors, run.modules, run.optimiser, run.ema)
    except DataError as error:
        raise DataError(f"{path}: {error}") from None
    return record


def resume_checks(
    before: Mapping[str, Any], now: Mapping[str, Any], before_layout: Mapping[str, Any], now_layout: Mapping[str, Any]
) -> list[str]:
    """Notes on what has changed since a run was saved.

    before, now: recipes as plain values; layouts: processes, device and the like. Raises `DataError` that names what
    must not change, or not without `resume.allow_rounding`.
    """
    notes, refused, rounding = [], [], []
    for name, old, new in differences(_complete(before), now):
        change = f"{name} was {_shortened(old)}, is {_shortened(new)}"
        if _is_under(name, FREE):
            if name not in ("folder", "resume.allow_rounding"):
                notes.append(change + (f": {_EFFECTS[name]}" if name in _EFFECTS else ""))
        elif _is_under(name, ROUNDING):
            rounding.append(change)
        else:
            refused.append(change)
    if refused:
        raise DataError(
            f"does not fit the run that was started: {'; '.join(refused[:4])}; choose another folder= for another run, "
            "or start from these weights with init.model"
        )
    processes = before_layout.get("processes"), now_layout.get("processes")
    if processes[0] != processes[1]:
        rounding.insert(0, f"started on {processes[0]} processes, now on {processes[1]}")
    devices = before_layout.get("device"), now_layout.get("device")
    if devices[0] != devices[1]:
        rounding.append(f"started on {devices[0]}, now on {devices[1]}")
    if rounding and not now.get("resume", {}).get("allow_rounding"):
        raise DataError(
            f"{'; '.join(rounding)}: sums would be rounded differently; add resume.allow_rounding=true to resume anyway"
        )
    notes += [f"{change}: sums are rounded differently from here on" for change in rounding]
    if (threads := before_layout.get("threads")) != now_layout.get("threads"):
        notes.append(f"threads were {threads}, are {now_layout.get('threads')}: some sums are rounded differently")
    return notes


def ends_differently(before: Mapping[str, Any], now: Mapping[str, Any]) -> bool:
    """Whether the model at the end of a run would be another one, but for rounding. Recipes as plain values."""
    chooses = len(now["interpolation"]["alphas"]) > 1
    deciding = (*_DECIDING, "validation") if chooses else _DECIDING
    return any(
        _is_under(name, deciding) or not _is_under(name, (*FREE, *ROUNDING))
        for name, _, _ in differences(_complete(before), now)
    )


def _complete(before: Mapping[str, Any]) -> Mapping[str, Any]:
    """An old record with fields added since, at their defaults, under their present names."""
    try:
        return recipes.to_dict(recipes.from_dict(_without_format(before)))
    except ConfigError as error:
        raise DataError(f"started with a recipe that this version of Tandem does not know: {error}") from None


def _without_format(before: Mapping[str, Any]) -> dict[str, Any]:
    model = {k: v for k, v in before.get("model", {}).items() if k not in ("format", "version")}
    return {**before, "model": model}


def _is_under(name: str, parents: tuple[str, ...]) -> bool:
    return any(name == parent or name.startswith((f"{parent}.", f"{parent}[")) for parent in parents)


def _shortened(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
