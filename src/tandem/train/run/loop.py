"""One training run, from a recipe to a model folder, on one process or on each of many.

Reads top to bottom: parts, resuming, then steps. A step: a batch in, its gradient out, judged, AdamW, the scale capped.
It does not know how batches are made (`data/`), how a batch becomes a gradient (`step/`, `objective/`), how measures
are taken (`validation.py`), nor what a checkpoint's files are (`checkpoint.py`).
"""

import json
import math
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from tandem.errors import DataError, TandemError
from tandem.train.data.batch import Batch
from tandem.train.model import batch_norm, initial_weights
from tandem.train.objective.device_batch import to_tensors
from tandem.train.parallel.process import Processes, start
from tandem.train.recipe import Recipe, to_dict, to_toml
from tandem.train.run import checkpoint
from tandem.train.run.assembly import Run, assemble
from tandem.train.run.reporting import Meter, Report, memory_gb, say
from tandem.train.run.resume import compare, layout, resume, versions
from tandem.train.run.sample_records import SetAside, note_batch
from tandem.train.run.validation import ValidationSet, measure, read_validation, score
from tandem.train.step.gradient import gradient
from tandem.train.step.loss_monitor import Guard, Verdict
from tandem.train.step.optimiser import clip, learning_rate, set_learning_rate


@dataclass(frozen=True)
class Step:
    """What one step came to, the same on every process."""

    rate: float
    losses: dict[str, float]  # of the whole batch, by name
    norm: float
    verdict: Verdict


def train(
    recipe: Recipe, stop_requested: Callable[[], bool] = lambda: False, processes: Processes | None = None
) -> Path | None:
    """Run a recipe to its end, from where its folder stands, and return the folder of the finished model.

    `stop_requested` is asked after every step; when it agrees on any process, the run is saved and None returned.
    Raises `ConfigError` or `DataError` before the first step when recipe or data are not usable, `DataError` later
    when no step in a row is finite.
    """
    processes = processes or start(recipe.device)
    folder = Path(recipe.folder)
    folder.mkdir(parents=True, exist_ok=True)
    known = checkpoint.newest(folder / "checkpoints", _say_on(processes))
    notes = compare(recipe, processes, known)
    run = assemble(recipe, processes, folder)
    record = resume(run, known)
    del known
    validation = read_validation(recipe)
    report = Report(recipe, folder, record.step if record else 0, speaks=processes.first)
    if processes.first:
        (folder / "recipe.json").write_text(json.dumps(to_dict(recipe), indent=1), encoding="utf-8")
        (folder / "recipe.toml").write_text(to_toml(recipe), encoding="utf-8")
        checkpoint.clean(folder / "checkpoints")
    for line in (*run.describe(), *run.notes, *notes):
        report.say(line)
    with closing(report):
        return _steps(run, record, folder, validation, report, stop_requested)


def _steps(
    run: Run,
    record: checkpoint.Record | None,
    folder: Path,
    validation: list[ValidationSet],
    report: Report,
    stop_requested: Callable[[], bool],
) -> Path | None:
    recipe, processes = run.recipe, run.processes
    begun = record.step if record else 0
    best_score = record.best_score if record else None
    guard = Guard(recipe.guards, record.guard if record else None)
    set_aside = SetAside(folder / "left-out", processes.rank, say)
    if processes.first:
        set_aside.add(run.loader.left_out())
    report.say(f"{recipe.name}: step {begun} of {recipe.steps}, on {processes.count} x {processes.device.type}")
    meter = Meter()
    stream = run.loader.stream(begun, recipe.steps)
    for step, batch in timed(stream, meter, begun):
        taken = take_step(run, step, batch, guard)
        set_aside.add(batch.broken)
        if taken.verdict.reason:
            _tell(folder, step, batch, taken, processes, report)
        if taken.verdict.stop:
            raise DataError(
                f"step {step}: {guard.bad_in_a_row} steps in a row without a finite loss and gradient "
                f"({taken.verdict.reason}); what was saved before them is kept. Lower optimiser.learning_rate, look at "
                f"{folder / 'suspect'} for their samples, and start again"
            )
        done = step + 1
        last = done == recipe.steps
        meter.count(batch.pictures, taken.losses)
        if done % recipe.log_every_steps == 0 or last:
            report.step(done, recipe.steps, _figures(run, batch, taken, meter.read(recipe.steps - done)))
        best_found = False
        if validation and (done % recipe.validation.every_steps == 0 or last):
            with run.measured():
                measures = measure(validation, run.image_vectors, run.text_vectors)
            report.measures(done, measures)
            found = score(measures, recipe.validation.best)
            best_found = found is not None and (best_score is None or found > best_score)
            best_score = found if best_found else best_score
        stopping = processes.any(stop_requested())
        saving = done % recipe.checkpoints.every_steps == 0 or last or stopping
        arrays = _model_arrays(run) if saving or best_found else {}
        # In a row of bad steps the weights may be what is bad: the checkpoint before them stays the newest.
        if saving and not guard.bad_in_a_row:
            now = _record(run, done, best_score, guard)
            tensors = checkpoint.collect(run.modules, run.optimiser, run.average, keep=processes.first)
            if processes.first:
                checkpoint.save(
                    folder / "checkpoints", now, tensors, lambda path, a=arrays: run.write_model(a, path),  # type: ignore[misc]
                    recipe.checkpoints.keep_last,
                )  # fmt: skip
        if best_found and recipe.checkpoints.keep_best and processes.first:
            _write_best(run, arrays, folder, report)
        if stopping and not last:
            processes.barrier()  # the others must not leave while the first one writes
            return None
    left_out = int(processes.sum_over(torch.tensor(len(set_aside), device=processes.device)))
    if left_out:
        report.say(f"left out {left_out} samples, named in {folder / 'left-out'}")
    arrays = _model_arrays(run)
    if processes.first:
        run.write_model(arrays, folder / "model")
    processes.barrier()
    return folder / "model"


def take_step(run: Run, step: int, batch: Batch, guard: Guard) -> Step:
    """One step of the optimiser, or none where loss or gradient are not finite."""
    recipe, processes = run.recipe, run.processes
    chosen = recipe.optimiser
    # Whatever draws at random draws by the step: a resumed run needs no generator's state.
    torch.manual_seed(int(np.random.default_rng((recipe.seed, step, processes.rank, 2)).integers(2**62)))
    rate = learning_rate(step, recipe.steps, chosen.warmup_steps, chosen.learning_rate)
    set_learning_rate(run.optimiser, rate)
    initial_weights.set_mode(run.towers, True)
    tensors = to_tensors(
        batch, run.lessons, run.tokenizer, run.config.text.context_length, processes.device, run.clip_teacher
    )
    losses = gradient(run.wrapped, run.heads, tensors, recipe.parallel, processes)
    norm = clip(run.parameters(), chosen.clip_norm)
    # One message from the device for all of them.
    *values, norm_value = torch.stack([*(loss.float() for loss in losses.values()), norm.float()]).tolist()
    named = dict(zip(losses, values, strict=True))
    verdict = guard.judge(named["loss"], norm_value)
    if verdict.apply:
        batch_norm.update(run.towers, processes)
        run.optimiser.step()
        run.heads.cap()
        if run.average:
            run.average.update(step)
    else:  # batch norm has counted what its statistics must not have
        statistics = [buffer.clone() for buffer in run.towers.buffers()]
        batch_norm.update(run.towers, processes)
        for buffer, before in zip(run.towers.buffers(), statistics, strict=True):
            buffer.copy_(before)
    run.optimiser.zero_grad(set_to_none=True)
    return Step(rate, named, norm_value, verdict)


def timed(stream: Iterator[Batch], meter: Meter, begun: int) -> Iterator[tuple[int, Batch]]:
    """Batches with their steps; `meter` hears how long each was waited for."""
    step = begun
    while True:
        asked = time.monotonic()
        batch = next(stream, None)
        meter.waited(time.monotonic() - asked)
        if batch is None:
            return
        yield step, batch
        step += 1


def _record(run: Run, done: int, best_score: float | None, guard: Guard) -> checkpoint.Record:
    recipe = run.recipe
    return checkpoint.Record(
        done,
        best_score,
        to_dict(recipe),
        layout(recipe, run.processes),
        versions(),
        guard.remembered(),
        run.loader.counts(),
    )


def _model_arrays(run: Run) -> dict[str, np.ndarray]:
    with run.measured():
        return run.model_arrays()


def _write_best(run: Run, arrays: dict[str, np.ndarray], folder: Path, report: Report) -> None:
    try:
        run.write_model(arrays, folder / "best")
    except TandemError as error:  # the run itself is safe: this must not cost its steps
        report.say(f"the best weights so far are not kept: {error}")


def _figures(run: Run, batch: Batch, taken: Step, read: Mapping[str, float]) -> dict[str, float]:
    """Of a line of the log: means since the last one, and how things stand."""
    return {
        **read,
        "learning_rate": taken.rate,
        "scale": math.exp(run.heads.logit_scale.item()),
        "gradient_norm": taken.norm,
        "memory_gb": memory_gb(str(run.processes.device)),
        "image_size": batch.pixels.shape[1],
    }


def _tell(folder: Path, step: int, batch: Batch, taken: Step, processes: Processes, report: Report) -> None:
    """Each process writes down its share of a suspect batch; the first one says so."""
    reason = taken.verdict.reason
    path = note_batch(folder / "suspect", step, processes.rank, reason, taken.losses, batch.keys, batch.sentences)
    what = "" if taken.verdict.apply else "; the step is left out"
    report.say(f"step {step}: {reason}{what}; its batch is in {path}")


def _say_on(processes: Processes) -> Callable[[str], None]:
    return say if processes.first else lambda line: None
