"""`evaluate`: a model on one or several data sets, all tasks that fit, as one run."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from tandem.datasets.dataset import Dataset
from tandem.datasets.opening import open_dataset
from tandem.errors import TandemError
from tandem.evaluate.features import Features, embed_dataset
from tandem.evaluate.records import ModelRecord
from tandem.evaluate.result import TaskResult
from tandem.evaluate.run_report import RunReport
from tandem.evaluate.splits import hold_out
from tandem.evaluate.task_table import AUTO, TaskEntry, measure, takes, tasks_for
from tandem.model import Model, load

OnError = Literal["raise", "skip"]
Data = Dataset | str | Path
Waiting = Callable[[str], AbstractContextManager[None]]  # shows what is being measured, while it is
HELD_OUT = 0.5  # of the images of each class, where one data set is both learnt from and measured on


def evaluate(
    model: Model | str | Path | None,
    data: Data | Sequence[Data],
    *,
    task: str = AUTO,
    train: Data | None = None,
    language: str | None = None,
    seed: int = 0,
    cache: bool = True,
    on_error: OnError = "raise",
    progress: bool | None = None,
) -> RunReport:
    """Measure a model on data sets; `RunReport.save` writes the report with charts and images.

    Args:
        model: a model, or what `tandem.load` takes.
        data: a data set, or what `datasets.open_dataset` takes; several make one report.
        task: "zero-shot", "retrieval", "linear-probe" or "few-shot"; "auto" measures zero-shot classification where
            there are labels, and retrieval where there are captions.
        train: labelled images for tasks that learn; None holds out half of the data for measuring.
        language: that of the labels, as for `Model.classify`.
        seed: of draws, splits and resamples.
        cache, on_error, progress: as for `evaluate.features.embed_dataset`.

    Raises: `DataError` for data that is missing or does not fit the task, and what `tandem.load` raises.
    """
    sources = [data] if isinstance(data, Dataset | str | Path) else list(data)
    opened = [opened_dataset(each) for each in sources]
    learnt = None if train is None else opened_dataset(train)
    settings = {"language": language, "seed": seed}
    planned = [(dataset, plan(task, dataset, settings)) for dataset in opened]
    loaded = model if isinstance(model, Model) else load(model)

    def embed(dataset: Dataset) -> Features:
        return embed_dataset(loaded, dataset, cache=cache, on_error=on_error, progress=progress)

    results: list[TaskResult] = []
    shown: list[Dataset] = []
    for dataset, entries in planned:
        for features, result in measured(loaded, dataset, entries, learnt, {**settings, "cache": cache}, embed):
            results.append(result)
            shown.append(features.dataset)
    return RunReport.of(ModelRecord.of(loaded), results, shown)


def opened_dataset(data: Data) -> Dataset:
    """A data set as it is, or opened."""
    return data if isinstance(data, Dataset) else open_dataset(data)


def plan(task: str, dataset: Dataset, settings: Mapping[str, Any]) -> list[TaskEntry]:
    """The tasks to measure on a data set. Raises `TandemError` for a setting that none of them has."""
    entries = tasks_for(task, labels=bool(dataset.classes), captions=bool(dataset.captions), data=dataset.name)
    for name, value in settings.items():
        if value is not None and not any(takes(entry, name) for entry in entries):
            raise TandemError(f"{name}: {', '.join(entry.name for entry in entries)} on {dataset.name} takes none")
    return entries


def measured(
    model: Model,
    dataset: Dataset,
    entries: Sequence[TaskEntry],
    train: Dataset | None,
    settings: Mapping[str, Any],
    embed: Callable[[Dataset], Features],
    waiting: Waiting = lambda what: nullcontext(),
) -> Iterator[tuple[Features, TaskResult]]:
    """Each task's result on a data set, and the features that it was measured on."""
    features = embed(dataset)
    for entry in entries:
        test, learnt = features, None
        if entry.learns:
            test, learnt = _test_and_train(features, train, int(settings["seed"]), embed)
        with waiting(f"{entry.name} on {dataset.name}"):
            result = measure(entry, model, test, learnt, settings)
        yield test, result


def _test_and_train(
    features: Features, train: Dataset | None, seed: int, embed: Callable[[Dataset], Features]
) -> tuple[Features, Features]:
    """What is measured on and what is learnt from: two data sets, or two halves of one, by class."""
    if train is not None:
        return features, embed(train)
    learnt, held, note = _halved(features.dataset, seed)
    return features.take(held, note), features.take(learnt)


def halves(dataset: Dataset, seed: int) -> tuple[Dataset, Dataset]:
    """A data set to learn from and one to measure on: half of the images of each class each."""
    learnt, held, note = _halved(dataset, seed)
    return dataset.take(learnt.tolist()), dataset.take(held.tolist(), note)


def _halved(dataset: Dataset, seed: int) -> tuple[NDArray[np.intp], NDArray[np.intp], str]:
    learnt, held = hold_out(dataset.labels, HELD_OUT, seed)
    note = (
        f"{len(learnt):,} images were learnt from, {len(held):,} others measured on: halves of each class, seed {seed}"
    )
    return learnt, held, note
