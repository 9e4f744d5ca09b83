"""A run goes on from where its folder stands: what has changed since, and the state put back into live parts.

What may change and what it means is pure: records in, notes or a refusal out.
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
from tandem.train.run.assembly import Run
from tandem.train.typed import differences

# May change at any time: what is learnt from each batch stays the same, or it is what people tune on the way.
FREE = (
    "name", "folder", "data_root", "workers", "cache_pictures", "cache_folder", "log_every_steps", "steps", "device",
    "optimiser", "ema", "init", "validation", "checkpoints", "guards", "log", "resume",
    "model.name", "model.licence", "model.data", "model.notes",
)  # fmt: skip
# Gives the same run but for rounding: with `resume.elsewhere`.
ROUNDING = ("precision", "parallel.strategy", "parallel.micro_batches", "parallel.activation_checkpointing",
            "parallel.compile")  # fmt: skip
_WHY = {"steps": "the learning rate falls to 0 there, and stages begin at their share of it"}

Known = tuple[Path, checkpoint.Record, dict[str, Tensor]]  # a checkpoint as it was read


def layout(recipe: Recipe, processes: Processes) -> dict[str, Any]:
    """What sums are rounded by."""
    return {
        "processes": processes.count,
        "device": processes.device.type,
        "threads": torch.get_num_threads(),
        "micro_batches": recipe.parallel.micro_batches,
        "norm_batch": recipe.parallel.norm_batch,
    }


def versions() -> dict[str, str]:
    """Of what computes."""
    return {
        "tandem": __version__,
        "torch": torch.__version__,
        "numpy": np.__version__,
        "python": platform.python_version(),
    }


def compare(recipe: Recipe, processes: Processes, known: Known | None) -> list[str]:
    """Notes on what has changed since the checkpoint `known`. Raises `DataError` for what may not."""
    if known is None:
        return []
    path, record, _ = known
    try:
        notes = resume_checks(record.recipe, to_dict(recipe), record.layout, layout(recipe, processes))
    except DataError as error:
        raise DataError(f"{path}: {error}") from None
    return notes + _version_changes(record.versions, versions())


def resume(run: Run, known: Known | None) -> checkpoint.Record | None:
    """Put the checkpoint `known` into the parts of a run, and return what it knows beside tensors."""
    # Every process reads the file itself: the folder of a run is where all machines see it.
    steps = run.processes.tell(known[1].step if known else None)
    if known is None and steps is None:
        return None
    if known is None or known[1].step != steps:
        raise DataError(
            f"{run.recipe.folder}: the first process finds a checkpoint of step {steps}, process "
            f"{run.processes.rank} none of it; the folder must be one that all machines see"
        )
    path, record, tensors = known
    for source, before, now in zip(run.recipe.data, record.samples, run.loader.counts(), strict=False):
        if before != now:
            raise DataError(
                f"{path}: {source.path} had {before:,} samples and has {now:,}: every step would draw others; bring "
                "its files back, or choose another folder= and begin from these weights with init.model"
            )
    try:
        checkpoint.restore(tensors, run.modules, run.optimiser, run.average)
    except DataError as error:
        raise DataError(f"{path}: {error}") from None
    return record


def resume_checks(
    before: Mapping[str, Any], now: Mapping[str, Any], before_layout: Mapping[str, Any], now_layout: Mapping[str, Any]
) -> list[str]:
    """Notes on what has changed since a run was saved, in words.

    before, now: recipes as plain values; layouts: processes, device and the like. Raises `DataError` that names what
    may not change, or may not without `resume.elsewhere`.
    """
    notes, refused, elsewhere = [], [], []
    for name, old, new in differences(_complete(before), now):
        said = f"{name} was {_short(old)}, is {_short(new)}"
        if _under(name, FREE):
            if name not in ("folder", "resume.elsewhere"):
                notes.append(said + (f": {_WHY[name]}" if name in _WHY else ""))
        elif _under(name, ROUNDING):
            elsewhere.append(said)
        else:
            refused.append(said)
    if refused:
        raise DataError(
            f"does not fit what was begun: {'; '.join(refused[:4])}; choose another folder= for another run, or begin "
            "from these weights with init.model"
        )
    processes = before_layout.get("processes"), now_layout.get("processes")
    if processes[0] != processes[1]:
        elsewhere.insert(0, f"begun on {processes[0]} processes, now on {processes[1]}")
    devices = before_layout.get("device"), now_layout.get("device")
    if devices[0] != devices[1]:
        elsewhere.append(f"begun on {devices[0]}, now on {devices[1]}")
    if elsewhere and not now.get("resume", {}).get("elsewhere"):
        raise DataError(
            f"{'; '.join(elsewhere)}: its sums are rounded otherwise; add resume.elsewhere=true to go on all the same"
        )
    notes += [f"{said}: from here on sums are rounded otherwise" for said in elsewhere]
    if (threads := before_layout.get("threads")) != now_layout.get("threads"):
        notes.append(f"{threads} threads before, {now_layout.get('threads')} now: some sums are rounded otherwise")
    return notes


def _version_changes(before: Mapping[str, str], now: Mapping[str, str]) -> list[str]:
    """Notes on libraries that are not those the run was begun with."""
    return [f"{name} {old} before, {new} now" for name, old, new in differences(before, now)]


def _complete(before: Mapping[str, Any]) -> Mapping[str, Any]:
    """An old record with the fields that are new since, at their defaults."""
    try:
        return recipes.to_dict(recipes.from_dict(_without_format(before)))
    except ConfigError as error:
        raise DataError(f"begun with a recipe that this version of Tandem does not know: {error}") from None


def _without_format(before: Mapping[str, Any]) -> dict[str, Any]:
    model = {k: v for k, v in before.get("model", {}).items() if k not in ("format", "version")}
    return {**before, "model": model}


def _under(name: str, parents: tuple[str, ...]) -> bool:
    return any(name == parent or name.startswith((f"{parent}.", f"{parent}[")) for parent in parents)


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
