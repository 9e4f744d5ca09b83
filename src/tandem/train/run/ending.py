"""The two ends of a run: the model that it starts from, where it is needed later, and the one that it leaves.

`finished.json` is written last, and taken away before another model takes the place of its own: it says which folder is
the model, and of which recipe. Knows a run and its folder; no steps.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from tandem.errors import DataError, TandemError
from tandem.files import user_path, write_json
from tandem.train.recipe import Recipe, to_dict
from tandem.train.run.assembly import MODEL, TrainingRun, WrittenModel
from tandem.train.run.checkpoint import Record
from tandem.train.run.fine_tuned import WISE_FT, ZERO_SHOT, write_wise_ft
from tandem.train.run.interpolated import INITIAL, TRAINED, write_interpolated
from tandem.train.run.reporting import RunLog
from tandem.train.run.resume import ends_differently
from tandem.train.run.validation import ValidationSet
from tandem.train.wise_ft import head_file

FINISHED = "finished.json"


@dataclass(frozen=True)
class TrainResult:
    """How a run ended: at its last step, or stopped on request."""

    model: Path | None  # the folder of the finished model, WiSE-FT's of a classifier; None: stopped before its end
    step: int  # steps done
    saved_step: int | None  # the step of the newest checkpoint: where the same command resumes; None: there is none
    classes: tuple[str, ...] = ()  # that the model was trained on, where its training sets have names
    head: Path | None = None  # the file of the head of that model, where one was trained


def finished_model(recipe: Recipe) -> Path | None:
    """The model of a run that has come to the end which its recipe describes; None: there is none yet."""
    folder = user_path(recipe.folder)
    try:
        record = json.loads((folder / FINISHED).read_text(encoding="utf-8"))
        model, before = folder / str(record["model"]), dict(record["recipe"])
        ended = (model / "config.json").is_file() and not ends_differently(before, to_dict(recipe))
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError, TandemError):
        return None  # no file, or none of ours: the run says what it finds
    return model if ended else None


def written_model(run: TrainingRun) -> WrittenModel:
    """The weights of a run as they are written, averaged where there is an average. All processes must call it."""
    with run.evaluation():
        return run.written_model()


def write_start(run: TrainingRun, record: Record | None, folder: Path) -> None:
    """Write the first weights, which the end of a run may interpolate from; with the zero-shot classifier of a head.

    Call it before the checkpoint of `record` is restored: until then the run has its first weights. Those that an
    earlier start has written stay, where `record` goes on from that start. All processes must call it. Raises
    `DataError` where an earlier start has not written them, and had another model in `init`.
    """
    recipe = run.recipe
    if not (recipe.classifies or recipe.interpolation.alphas):
        return
    target = folder / (ZERO_SHOT if recipe.classifies else INITIAL)
    # Without a checkpoint, whatever an earlier start has left is of another start: `init` may have changed since.
    known = record is not None and (head_file(target) if recipe.classifies else target / "config.json").exists()
    if run.processes.broadcast_object(known):
        return
    if record is not None and not recipe.classifies:
        _check_same_start(recipe, record, target)
    written = written_model(run)
    if run.processes.is_main:
        run.write_model(written, target)


def end(
    run: TrainingRun,
    folder: Path,
    validation: Sequence[ValidationSet],
    log: RunLog,
    stop_requested: Callable[[], bool],
    saved_step: int | None,
) -> TrainResult:
    """Write the model of the last step, or what the recipe makes of it. All processes must call it."""
    recipe, processes = run.recipe, run.processes
    written = written_model(run)
    if recipe.interpolation.alphas:
        done = _interpolate(run, written, folder, validation, log, stop_requested)
        if not done:
            return TrainResult(None, recipe.steps, saved_step)
    elif processes.is_main:
        (folder / FINISHED).unlink(missing_ok=True)
        run.write_model(written, folder / MODEL)
        if recipe.classifies:
            log.echo(write_wise_ft(folder, validation, processes.device))
    model = folder / (WISE_FT if recipe.classifies else MODEL)
    if processes.is_main:
        write_json(folder / FINISHED, {"model": model.name, "recipe": to_dict(recipe)})
    processes.barrier()
    if recipe.classifies:
        return TrainResult(model, recipe.steps, saved_step, run.classes, head_file(model))
    return TrainResult(model, recipe.steps, saved_step, tuple(run.loader.classes()))


def _interpolate(
    run: TrainingRun,
    written: WrittenModel,
    folder: Path,
    validation: Sequence[ValidationSet],
    log: RunLog,
    stop_requested: Callable[[], bool],
) -> bool:
    """Whether a model was chosen; False: stopped.

    The main process measures. The others ask with it, once for each alpha, whether to stop.
    """
    recipe, processes = run.recipe, run.processes

    def go_on() -> bool:
        return not processes.any(stop_requested())

    if processes.broadcast_object(finished_model(recipe) is not None):
        log.echo(f"interpolation: {folder / MODEL} is chosen already")
        return True
    if not processes.is_main:
        return all(go_on() for _ in recipe.interpolation.distinct_alphas)
    (folder / FINISHED).unlink(missing_ok=True)
    run.write_model(written, folder / TRAINED)
    return write_interpolated(recipe, folder, validation, processes.device, go_on, log.echo)


def _check_same_start(recipe: Recipe, record: Record, target: Path) -> None:
    before = record.recipe.get("init", {})
    for key in ("model", "image", "text"):
        was, now = before.get(key, ""), getattr(recipe.init, key)
        if was != now:
            raise DataError(
                f"{target}: the first weights of this run were not kept, and init.{key} was {was!r}, is {now!r}: say "
                f"init.{key}={was} to interpolate from there, or interpolation.alphas=[] not to"
            )
