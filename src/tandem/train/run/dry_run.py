"""A run tried out: recipe, data and model put together, a few steps taken, and what the whole of it would cost.

Writes nothing into the run's folder; what has to be written meanwhile goes into a temporary one.
"""

import contextlib
import shutil
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from tandem.train.parallel.process import Processes, start
from tandem.train.recipe import Recipe
from tandem.train.run.assembly import Run, assemble
from tandem.train.run.checkpoint import newest
from tandem.train.run.loop import take_step
from tandem.train.run.reporting import duration, memory_gb
from tandem.train.run.resume import compare
from tandem.train.run.validation import measure, read_validation
from tandem.train.step.loss_monitor import Guard

STEPS = 2  # of each picture size: the first of them warms up, the others are timed
# What a run finds in its folder and would make again: small, and reading them changes nothing.
KEPT = ("tokenizer.json", "teacher.npz")


@dataclass(frozen=True)
class Timing:
    """A step at one picture size."""

    image_size: int
    steps: int  # of the run, at that size
    step_s: float
    data_s: float  # to make the batch, in one worker
    loss: float

    def whole_s(self, workers: int) -> float:
        """Of a step with its data: made ahead by workers, or in between."""
        return max(self.step_s, self.data_s / workers) if workers else self.step_s + self.data_s


def dry_run(recipe: Recipe, processes: Processes | None = None) -> Iterator[str]:
    """Try the recipe, and say in lines what was found. Raises what `train` would raise before its first step."""
    mine = processes or start(recipe.device)
    try:
        with _elsewhere(recipe, mine) as folder:
            for line in _try(recipe, folder, mine):
                if mine.first:
                    yield line
    finally:
        if processes is None:
            mine.close()


def _try(recipe: Recipe, folder: Path, processes: Processes) -> Iterator[str]:
    real = Path(recipe.folder)
    known = newest(real / "checkpoints", lambda line: None)
    notes = compare(recipe, processes, known)
    begun = known[1].step if known else 0
    del known
    tried = [first for first, _ in _sizes(recipe, begun)]
    run = assemble(replace(recipe, folder=str(folder)), processes, folder, tried)
    yield from (*run.describe(), *run.notes, *notes)
    if recipe.distillation.teacher and not (real / "teacher.npz").exists():
        count = len(run.loader.all_sentences())
        yield f"teacher: before its first step the run has {count} sentences encoded (not tried, nor in the time below)"
    left_out = run.loader.left_out()
    for key, reason in left_out[:5]:
        yield f"left out {key}: {reason}"
    if len(left_out) > 5:
        yield f"left out {len(left_out)} samples in all"
    validation_s = 0.0
    if validation := read_validation(recipe):
        asked = time.monotonic()
        with run.measured():
            measure(validation, run.image_vectors, run.text_vectors)
        validation_s = time.monotonic() - asked
        yield f"validation: {len(validation)} sets, {duration(validation_s)} each time"
    if processes.device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(processes.device)
    timings = [_time(run, first, steps) for first, steps in _sizes(recipe, begun)]
    for timing in timings:
        yield _said(timing, recipe)
    memory = memory_gb(str(processes.device))
    yield f"memory: {memory:.2g} GB on each process, of {_memory_there(processes):.3g} GB"
    size = _checkpoint_bytes(run)
    keep = recipe.checkpoints.keep_last
    yield f"checkpoint: {size / 1e9:.2g} GB each, {keep} kept: with one being written {size * (keep + 1) / 1e9:.2g} GB"
    free = shutil.disk_usage(_there(real)).free
    if free < size * (keep + 1):
        yield f"room: {free / 1e9:.2g} GB are free where {real} is: too little"
    left = sum(t.steps * t.whole_s(recipe.workers) for t in timings)
    left += validation_s * ((recipe.steps - begun) // recipe.validation.every_steps)
    yield f"time: about {duration(left)} for {recipe.steps - begun} steps" + (f" from step {begun}" if begun else "")
    yield f"nothing was written to {real}"


def _time(run: Run, first: int, steps: int) -> Timing:
    """Two steps at `first`, the second timed. The weights move, and are thrown away."""
    asked = time.monotonic()
    batch = run.loader.batch(first)
    data_s = time.monotonic() - asked
    guard = Guard(run.recipe.guards)
    step_s = 0.0
    for _ in range(STEPS):
        run.processes.barrier()
        asked = time.monotonic()
        taken = take_step(run, first, batch, guard)  # ends with a message from the device
        step_s = time.monotonic() - asked
    return Timing(batch.pixels.shape[1], steps, step_s, data_s, taken.losses["loss"])


def _said(timing: Timing, recipe: Recipe) -> str:
    workers = max(recipe.workers, 1)
    share = timing.data_s / workers
    verdict = (
        f"the step waits for it: workers={max(2, round(timing.data_s / timing.step_s + 0.5))} would keep up"
        if share > timing.step_s or (recipe.workers == 0 and share > 0.1 * timing.step_s)
        else "faster than the step"
    )
    return (
        f"step at {timing.image_size} px: {timing.step_s:.3g} s, {recipe.batch_size / timing.step_s:.0f} pairs/s, loss "
        f"{timing.loss:.4g}; data {share:.3g} s a batch on {recipe.workers} workers: {verdict}"
    )


def _sizes(recipe: Recipe, begun: int) -> list[tuple[int, int]]:
    """(first step, number of steps) of each picture size that is still to come."""
    found: dict[int, list[int]] = {}
    for step in range(begun, recipe.steps):
        size = recipe.image_size_at(step)
        at = found.setdefault(size, [step, 0])
        at[1] += 1
    return [(first, steps) for first, steps in found.values()]


def _checkpoint_bytes(run: Run) -> int:
    """Weights, two moments, the average where there is one; and the model in float16."""
    parameters = [p for p in run.parameters() if p.requires_grad]
    weights = sum(p.numel() * p.element_size() for p in run.parameters())
    moments = 2 * sum(p.numel() * p.element_size() for p in parameters)
    return weights * (2 if run.average else 1) + moments + weights // 2


def _memory_there(processes: Processes) -> float:
    if processes.device.type == "cuda":
        return torch.cuda.get_device_properties(processes.device).total_memory / 1e9
    with contextlib.suppress(OSError, ValueError, IndexError), open("/proc/meminfo", encoding="ascii") as file:
        return int(next(line for line in file if line.startswith("MemTotal")).split()[1]) * 1024 / 1e9
    return float("nan")


@contextlib.contextmanager
def _elsewhere(recipe: Recipe, processes: Processes) -> Iterator[Path]:
    """A temporary folder that all processes of this machine know, with what the real one has already made."""
    folder = Path(processes.tell(tempfile.mkdtemp(prefix="tandem-dry-run-") if processes.first else None))
    try:
        if processes.local_rank == 0:
            folder.mkdir(parents=True, exist_ok=True)
            for name in KEPT:
                if (made := Path(recipe.folder) / name).is_file():
                    shutil.copy(made, folder / name)
        processes.barrier()
        yield folder
    finally:
        if processes.local_rank == 0:
            shutil.rmtree(folder, ignore_errors=True)


def _there(path: Path) -> Path:
    return path if path.exists() else _there(path.absolute().parent)
