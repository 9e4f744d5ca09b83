"""One training run, from a recipe to a model folder, on one process or on each of many.

Reads top to bottom: parts, resuming, then steps. A step: a batch, its gradient, a check, AdamW, the scale capped.
It does not know how batches are made (`data/`), how a batch becomes a gradient (`step/`, `objective/`), how validation
works (`validation.py`), nor what files a checkpoint has (`checkpoint.py`).
"""

import math
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from tandem import files
from tandem.errors import DataError, TandemError
from tandem.files import user_path
from tandem.train.data.batch import Batch
from tandem.train.model import batch_norm, initial_weights
from tandem.train.objective.device_batch import to_device_batch
from tandem.train.parallel.process import Processes, start
from tandem.train.recipe import Recipe, to_dict, to_toml
from tandem.train.run import checkpoint
from tandem.train.run.assembly import TrainingRun, WrittenModel, assemble
from tandem.train.run.checkpoint import Record
from tandem.train.run.ending import TrainResult, end, write_start, written_model
from tandem.train.run.reporting import Meter, RunLog, echo, memory_gb
from tandem.train.run.resume import check_checkpoint, layout, restore, versions
from tandem.train.run.run_lock import only_run
from tandem.train.run.sample_records import SkippedSamples, record_suspect_batch
from tandem.train.run.validation import ValidationSet, read_validation, score, validate
from tandem.train.step.gradient import gradient
from tandem.train.step.loss_monitor import LossCheck, LossMonitor
from tandem.train.step.optimiser import clip_gradients, learning_rate, set_learning_rate


@dataclass(frozen=True)
class StepResult:
    """The outcome of one step, the same on every process."""

    learning_rate: float
    losses: dict[str, float]  # of the whole batch, by name
    gradient_norm: float
    verdict: LossCheck


def train(
    recipe: Recipe, stop_requested: Callable[[], bool] = lambda: False, processes: Processes | None = None
) -> TrainResult:
    """Run a recipe to its end, from the newest checkpoint in its folder.

    `stop_requested` is asked after every step; if it agrees on any process, the run is saved and ends early. Steps
    without a finite loss are not saved, so `saved_step` may be an earlier one.
    Raises `ConfigError` or `DataError` before the first step if recipe or data are not usable or another run is in the
    folder, `DataError` later if too many steps in a row have no finite loss.
    """
    processes = processes or start(recipe.device)
    folder = user_path(recipe.folder)
    folder.mkdir(parents=True, exist_ok=True)
    with only_run(folder, processes):
        return _run(recipe, folder, stop_requested, processes)


def _run(recipe: Recipe, folder: Path, stop_requested: Callable[[], bool], processes: Processes) -> TrainResult:
    found = checkpoint.newest_checkpoint(folder / "checkpoints", echo if processes.is_main else lambda line: None)
    notes = check_checkpoint(recipe, processes, found)
    run = assemble(recipe, processes, folder)
    write_start(run, found[1] if found else None, folder)
    record = restore(run, found)
    del found
    validation = read_validation(recipe, run.loader.class_names(), run.loader.reader)
    log = RunLog(recipe, folder, record.step if record else 0, is_main=processes.is_main)
    if processes.is_main:
        files.write_json(folder / "recipe.json", to_dict(recipe))
        files.write_text(folder / "recipe.toml", to_toml(recipe))
        checkpoint.remove_partial(folder / "checkpoints")
    for line in (*run.describe(), *run.notes, *notes):
        log.echo(line)
    with closing(log):
        return _steps(run, record, folder, validation, log, stop_requested)


def _steps(
    run: TrainingRun,
    record: Record | None,
    folder: Path,
    validation: list[ValidationSet],
    log: RunLog,
    stop_requested: Callable[[], bool],
) -> TrainResult:
    recipe, processes = run.recipe, run.processes
    first_step = record.step if record else 0
    best_score = record.best_score if record else None
    saved_step = record.step if record else None
    monitor = LossMonitor(recipe.guards, record.loss_monitor if record else None)
    skipped = SkippedSamples(folder, processes.rank, echo)
    if processes.is_main:
        skipped.add(run.loader.skipped())
    log.echo(f"{recipe.name}: step {first_step} of {recipe.steps}, on {processes.count} x {processes.device.type}")
    meter = Meter()
    stream = run.loader.stream(first_step, recipe.steps)
    for step, batch in _timed(stream, meter, first_step):
        result = train_step(run, step, batch, monitor)
        skipped.add(batch.replaced)
        if result.verdict.reason:
            _record_suspect(folder, step, batch, result, processes, log)
        if result.verdict.stop:
            raise DataError(
                f"step {step}: {monitor.bad_steps} steps in a row without a finite loss and gradient "
                f"({result.verdict.reason}); what was saved before them is kept. Lower optimiser.learning_rate, see "
                f"the samples in {folder / 'suspect'}, and start again"
            )
        done = step + 1
        last = done == recipe.steps
        meter.count(batch.total_images, result.losses)
        if done % recipe.log_every_steps == 0 or last:
            log.step(done, recipe.steps, _figures(run, batch, result, meter.read(recipe.steps - done)))
        is_best = False
        if validation and (done % recipe.validation.every_steps == 0 or last):
            with run.evaluation():
                measures = validate(validation, run.image_vectors, run.text_vectors, run.logits)
            log.measures(done, measures)
            found = score(measures, recipe.validation.best)
            is_best = found is not None and (best_score is None or found > best_score)
            best_score = found if is_best else best_score
        stopping = processes.any(stop_requested())
        due = done % recipe.checkpoints.every_steps == 0 or last or stopping
        # During a row of bad steps the weights may be what is bad: the checkpoint before them stays the newest.
        saving = due and not monitor.bad_steps
        written = written_model(run) if saving or is_best else WrittenModel({})
        if saving:
            _save(run, _record(run, done, best_score, monitor), written, folder)
            saved_step = done
        if is_best and recipe.checkpoints.keep_best and processes.is_main:
            _write_best(run, written, folder, log)
        if stopping and not last:
            processes.barrier()  # the others must not leave while the main one writes
            return TrainResult(None, done, saved_step)
    count = int(processes.all_sum(torch.tensor(len(skipped), device=processes.device)))
    if count:
        log.echo(f"skipped {count} sample{'s' if count > 1 else ''}, listed in {skipped.path.parent}")
    return end(run, folder, validation, log, stop_requested, saved_step)


def train_step(run: TrainingRun, step: int, batch: Batch, monitor: LossMonitor) -> StepResult:
    """One step of the optimiser, or none if loss or gradient are not finite."""
    recipe, processes = run.recipe, run.processes
    chosen = recipe.optimiser
    # Random numbers are seeded by the step: a resumed run needs no state of a generator.
    torch.manual_seed(int(np.random.default_rng((recipe.seed, step, processes.rank, 2)).integers(2**62)))
    rate = learning_rate(step, recipe.steps, chosen.warmup_steps, chosen.learning_rate)
    set_learning_rate(run.optimiser, rate)
    # Interpolation between two models needs one set of statistics, and those of a few classes fit no other image.
    initial_weights.set_training(run.towers, True, keep_statistics=recipe.classifies)
    device_batch = to_device_batch(
        batch, run.teacher, run.tokenizer, run.config.text.context_length, processes.device, run.clip_teacher
    )
    losses = gradient(run.wrapped, run.objective, device_batch, recipe.parallel, processes)
    norm = clip_gradients(run.parameters(), chosen.clip_norm)
    # One transfer from the device for all of them.
    *values, norm_value = torch.stack([*(loss.float() for loss in losses.values()), norm.float()]).tolist()
    named = dict(zip(losses, values, strict=True))
    verdict = monitor.check(named["loss"], norm_value)
    if verdict.apply:
        batch_norm.update_running_stats(run.towers, processes)
        run.optimiser.step()
        run.objective.cap()
        if run.ema:
            run.ema.update(step)
    else:  # batch norms have collected statistics that must not count
        statistics = [buffer.clone() for buffer in run.towers.buffers()]
        batch_norm.update_running_stats(run.towers, processes)
        for buffer, before in zip(run.towers.buffers(), statistics, strict=True):
            buffer.copy_(before)
    run.optimiser.zero_grad(set_to_none=True)
    return StepResult(rate, named, norm_value, verdict)


def _timed(stream: Iterator[Batch], meter: Meter, first_step: int) -> Iterator[tuple[int, Batch]]:
    """Batches with their steps; `meter` counts the time spent waiting for each."""
    step = first_step
    while True:
        wait_started = time.monotonic()
        batch = next(stream, None)
        meter.waited(time.monotonic() - wait_started)
        if batch is None:
            return
        yield step, batch
        step += 1


def _record(run: TrainingRun, done: int, best_score: float | None, monitor: LossMonitor) -> Record:
    recipe = run.recipe
    return Record(
        done,
        best_score,
        to_dict(recipe),
        layout(recipe, run.processes),
        versions(),
        monitor.state_dict(),
        run.loader.sample_counts(),
    )


def _save(run: TrainingRun, record: Record, written: WrittenModel, folder: Path) -> None:
    tensors = checkpoint.collect_state(run.modules, run.optimiser, run.ema, keep=run.processes.is_main)
    if run.processes.is_main:
        checkpoint.save(
            folder / "checkpoints",
            record,
            tensors,
            lambda path: run.write_model(written, path, head=False),  # trainer.safetensors has it
            run.recipe.checkpoints.keep_last,
        )


def _write_best(run: TrainingRun, written: WrittenModel, folder: Path, log: RunLog) -> None:
    try:
        run.write_model(written, folder / "best")
    except TandemError as error:  # the run itself is safe: this must not end it
        log.echo(f"the best weights so far are not kept: {error}")


def _figures(run: TrainingRun, batch: Batch, result: StepResult, means: Mapping[str, float]) -> dict[str, float]:
    """Of a line of the log: means since the last one, and present values."""
    return {
        **means,
        "learning_rate": result.learning_rate,
        "scale": math.exp(run.objective.logit_scale.item()),
        "gradient_norm": result.gradient_norm,
        "memory_gb": memory_gb(str(run.processes.device)),
        "image_size": batch.pixels.shape[1],
    }


def _record_suspect(
    folder: Path, step: int, batch: Batch, result: StepResult, processes: Processes, log: RunLog
) -> None:
    """Each process writes its share of a suspect batch; the main one reports it."""
    reason = result.verdict.reason
    path = record_suspect_batch(
        folder / "suspect", step, processes.rank, reason, result.losses, batch.keys, batch.texts
    )
    what = "" if result.verdict.apply else "; the step is skipped"
    log.echo(f"step {step}: {reason}{what}; its batch is in {path}")
