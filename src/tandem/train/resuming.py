"""A run goes on from where its folder stands: what has changed since, and the state put back into live parts."""

import platform
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tandem import __version__
from tandem.errors import DataError
from tandem.train import changes, checkpoint, state
from tandem.train.assembly import Run
from tandem.train.parallel.process import Processes
from tandem.train.recipe import Recipe, to_dict

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
        notes = changes.compare(record.recipe, to_dict(recipe), record.layout, layout(recipe, processes))
    except DataError as error:
        raise DataError(f"{path}: {error}") from None
    return notes + changes.compare_versions(record.versions, versions())


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
        state.restore(tensors, run.modules, run.optimiser, run.average)
    except DataError as error:
        raise DataError(f"{path}: {error}") from None
    return record
