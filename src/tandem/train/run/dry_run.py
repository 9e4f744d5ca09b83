"""A dry run: recipe, data and model put together, a few steps taken, and an estimate of the whole run.

Writes nothing into the folder of the run; what must be written goes into a temporary one.
"""

import contextlib
import shutil
import tempfile
import time
from collections.abc import Generator, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from tandem.files import user_path
from tandem.train.parallel.process import Processes, start
from tandem.train.recipe import Recipe
from tandem.train.run.assembly import TrainingRun, assemble
from tandem.train.run.checkpoint import newest_checkpoint
from tandem.train.run.loop import train_step
from tandem.train.run.reporting import duration, memory_gb
from tandem.train.run.resume import check_checkpoint
from tandem.train.run.statistics import has_statistics, measure_statistics
from tandem.train.run.validation import read_validation, validate
from tandem.train.step.loss_monitor import LossMonitor
from tandem.weights import Checkpoint

STEPS = 2  # of each image size: the first warms up, the other is timed
# Files that a run reuses from its folder.
REUSED = ("tokenizer.json", "teacher.npz")


@dataclass(frozen=True)
class Timing:
    """A step at one image size."""

    image_size: int
    steps: int  # of the run, at that size
    step_s: float
    data_s: float  # to make the batch, in one worker
    loss: float

    def total_s(self, workers: int) -> float:
        """Seconds of a step with its data, which workers prepare ahead, or the process itself in between."""
        return max(self.step_s, self.data_s / workers) if workers else self.step_s + self.data_s


def dry_run(
    recipe: Recipe, processes: Processes | None = None, write_to: Path | None = None
) -> Generator[str, None, float]:
    """Try the recipe, yield the findings, in lines, and return the seconds that the run would still take.

    write_to: a folder for the model with its first weights. Raises what `train` would raise before its first
    step.
    """
    mine = processes or start(recipe.device)
    try:
        with temporary_folder(recipe, mine) as folder:
            findings = _try(recipe, folder, mine, write_to)
            while True:
                try:
                    line = next(findings)
                except StopIteration as ended:
                    return float(ended.value)
                if mine.is_main:
                    yield line
    finally:
        if processes is None:
            mine.close()


def _try(recipe: Recipe, folder: Path, processes: Processes, write_to: Path | None) -> Generator[str, None, float]:
    real = user_path(recipe.folder)
    found = newest_checkpoint(real / "checkpoints", lambda line: None)
    notes = check_checkpoint(recipe, processes, found)
    first_step = found[1].step if found else 0
    del found
    tried = [first for first, _ in _sizes(recipe, first_step)]
    run = assemble(replace(recipe, folder=str(folder)), processes, folder, tried)
    written = run.written_model() if write_to else None
    yield from (*run.describe(), *run.notes, *notes)
    if recipe.distillation.teacher and not (real / "teacher.npz").exists():
        count = len(run.loader.all_texts())
        yield f"teacher: before its first step the run encodes {count} texts (not tried, and not in the time below)"
    skipped = run.loader.skipped()
    for key, reason in skipped[:5]:
        yield f"skipped {key}: {reason}"
    if len(skipped) > 5:
        yield f"skipped {len(skipped)} samples in all"
    validation_s = 0.0
    if validation := read_validation(recipe, run.loader.class_names(), run.loader.reader):
        started = time.monotonic()
        with run.evaluation():
            validate(validation, run.image_vectors, run.text_vectors, run.logits)
        validation_s = time.monotonic() - started
        yield f"validation: {len(validation)} sets, {duration(validation_s)} each time"
    if processes.device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(processes.device)
    timings = [_time(run, first, steps) for first, steps in _sizes(recipe, first_step)]
    for timing in timings:
        yield _described(timing, recipe)
    memory = memory_gb(str(processes.device))
    yield f"memory: {memory:.2g} GB on each process, of {_memory_available(processes):.3g} GB"
    size = _checkpoint_bytes(run)
    keep = recipe.checkpoints.keep_last
    yield f"checkpoint: {size / 1e9:.2g} GB each, {keep} kept: with one being written {size * (keep + 1) / 1e9:.2g} GB"
    free = shutil.disk_usage(_existing_parent(real)).free
    if free < size * (keep + 1):
        yield f"disk: {free / 1e9:.2g} GB are free where {real} is: too little"
    left = sum(t.steps * t.total_s(recipe.workers) for t in timings)
    left += validation_s * ((recipe.steps - first_step) // recipe.validation.every_steps)
    if recipe.interpolation.alphas:
        interpolation_s = _time_interpolation(run, validation_s)
        left += interpolation_s
        count = len(recipe.interpolation.distinct_alphas)
        yield f"interpolation: {duration(interpolation_s)} for {count} alpha{'s' * (count > 1)}"
    yield f"time: about {duration(left)} for {recipe.steps - first_step} steps" + (
        f" from step {first_step}" if first_step else ""
    )
    yield f"nothing was written to {real}"
    if write_to and written and processes.is_main:
        run.write_model(written, write_to, head=False)
    processes.barrier()
    return left


def _time(run: TrainingRun, first: int, steps: int) -> Timing:
    """Two steps at `first`, the second timed. The weights change, and are thrown away."""
    started = time.monotonic()
    batch = run.loader.batch(first)
    data_s = time.monotonic() - started
    monitor = LossMonitor(run.recipe.guards)
    step_s = 0.0
    for _ in range(STEPS):
        run.processes.barrier()
        started = time.monotonic()
        result = train_step(run, first, batch, monitor)  # ends with a transfer from the device
        step_s = time.monotonic() - started
    return Timing(batch.pixels.shape[1], steps, step_s, data_s, result.losses["loss"])


def _time_interpolation(run: TrainingRun, validation_s: float) -> float:
    """Seconds that the measures at every alpha take, and batch-norm statistics in between, timed on one batch."""
    recipe = run.recipe
    alphas, images = recipe.interpolation.distinct_alphas, recipe.interpolation.statistics_images
    statistics_s = 0.0
    tensors = run.written_model().tensors
    model = Checkpoint(run.config, tensors, run.tokenizer, recipe.name)
    if run.processes.is_main and images and has_statistics(model):
        started = time.monotonic()
        measure_statistics(model, replace(recipe, workers=0), recipe.batch_size, run.processes.device)
        statistics_s = (time.monotonic() - started) * images / recipe.batch_size
    return len(alphas) * validation_s + sum(0 < alpha < 1 for alpha in alphas) * statistics_s


def _described(timing: Timing, recipe: Recipe) -> str:
    workers = max(recipe.workers, 1)
    share = timing.data_s / workers
    verdict = (
        f"the step waits for it: workers={max(2, round(timing.data_s / timing.step_s + 0.5))} would keep up"
        if share > timing.step_s or (recipe.workers == 0 and share > 0.1 * timing.step_s)
        else "faster than the step"
    )
    on = f"on {recipe.workers} worker{'s' * (recipe.workers > 1)}" if recipe.workers else "without workers"
    return (
        f"step at {timing.image_size} px: {timing.step_s:.3g} s, {recipe.batch_size / timing.step_s:.0f} pairs/s, loss "
        f"{timing.loss:.4g}; data {share:.3g} s a batch {on}: {verdict}"
    )


def _sizes(recipe: Recipe, first_step: int) -> list[tuple[int, int]]:
    """(first step, number of steps) of each image size still to come."""
    found: dict[int, list[int]] = {}
    for step in range(first_step, recipe.steps):
        size = recipe.image_size_at(step)
        at = found.setdefault(size, [step, 0])
        at[1] += 1
    return [(first, steps) for first, steps in found.values()]


def _checkpoint_bytes(run: TrainingRun) -> int:
    """Weights, two moments, the average where there is one; and the model in float16."""
    parameters = [p for p in run.parameters() if p.requires_grad]
    weights = sum(p.numel() * p.element_size() for p in run.parameters())
    moments = 2 * sum(p.numel() * p.element_size() for p in parameters)
    return weights * (2 if run.ema else 1) + moments + weights // 2


def _memory_available(processes: Processes) -> float:
    if processes.device.type == "cuda":
        return torch.cuda.get_device_properties(processes.device).total_memory / 1e9
    with contextlib.suppress(OSError, ValueError, IndexError), open("/proc/meminfo", encoding="ascii") as file:
        return int(next(line for line in file if line.startswith("MemTotal")).split()[1]) * 1024 / 1e9
    return float("nan")


@contextlib.contextmanager
def temporary_folder(recipe: Recipe, processes: Processes) -> Iterator[Path]:
    """A temporary folder for all processes of this machine, with what the real one already has to reuse."""
    folder = Path(processes.broadcast_object(tempfile.mkdtemp(prefix="tandem-dry-run-") if processes.is_main else None))
    try:
        if processes.local_rank == 0:
            folder.mkdir(parents=True, exist_ok=True)
            reusing(recipe, folder)
        processes.barrier()
        yield folder
    finally:
        if processes.local_rank == 0:
            shutil.rmtree(folder, ignore_errors=True)


def reusing(recipe: Recipe, folder: Path) -> None:
    """Copy what the folder of the run already has of `REUSED` into another one."""
    for name in REUSED:
        if (existing := user_path(recipe.folder) / name).is_file():
            shutil.copy(existing, folder / name)


def _existing_parent(path: Path) -> Path:
    return path if path.exists() else _existing_parent(path.absolute().parent)
