"""`evaluate`: a model on one or several data sets, all tasks that fit, as one run."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tandem.datasets.dataset import Dataset
from tandem.datasets.opening import dataset_splits, open_dataset
from tandem.errors import DataError, TandemError
from tandem.evaluate.features import Features, embed_dataset
from tandem.evaluate.readable import OnError, readable
from tandem.evaluate.records import ModelRecord
from tandem.evaluate.result import TaskResult
from tandem.evaluate.run_report import RunReport
from tandem.evaluate.splits import hold_out
from tandem.evaluate.task_table import AUTO, TASKS, TaskEntry, function_of, measure, taken, takes, tasks_for
from tandem.model import SHIPPED, Model, load

Data = Dataset | str | Path
Waiting = Callable[[str], AbstractContextManager[None]]  # shows what is being measured, while it is
HELD_OUT = 0.5  # of the images of each class, where one data set is both learnt from and measured on


def evaluate(
    model: Model | str | Path | None,
    data: Data | Sequence[Data],
    *,
    task: str = AUTO,
    train: Data | None = None,
    templates: str | Sequence[str] | None = None,
    language: str | None = None,
    steps: int | None = None,
    folder: str | Path | None = None,
    seed: int = 0,
    cache: bool = True,
    on_error: OnError = "raise",
    progress: bool | None = None,
) -> RunReport:
    """Measure a model on data sets; `RunReport.save` writes the report with charts and pictures.

    Args:
        model: a model, or what `tandem.load` takes; "fine-tune" needs the latter.
        data: a data set, or what `datasets.open_dataset` takes; several make one report.
        task: "zero-shot", "retrieval", "linear-probe", "few-shot" or "fine-tune"; "auto" measures zero-shot
            classification where there are labels, and retrieval where there are captions. "fine-tune" measures on the
            first data set; further ones say what it cost elsewhere.
        train: labelled images for tasks that learn; None takes the split `train` of the data, and where there is none
            holds out half of the data for measuring.
        templates: prompts with {} for a class; None for those of the data set, else the default one.
        language: that of the labels, as for `Model.classify`.
        steps, folder: of "fine-tune": how many training steps, and where its run and its model are kept.
        seed: of draws, splits and resamples.
        cache, on_error, progress: as for `evaluate.features.embed_dataset`.

    Raises: `DataError` for data that is missing or does not fit the task, and what `tandem.load` raises.
    """
    settings = {"templates": templates, "language": language, "steps": steps, "folder": folder, "seed": seed}
    plan = prepare(data, task=task, train=train, settings=settings)
    if not plan.trains:
        model = model if isinstance(model, Model) else load(model)
    return plan.run(model, cache=cache, on_error=on_error, progress=progress)


@dataclass(frozen=True, eq=False)
class Plan:
    """What is measured on which data sets: known before a model is loaded."""

    datasets: tuple[Dataset, ...]
    entries: tuple[tuple[TaskEntry, ...], ...]  # the tasks of each data set
    train: Dataset | None
    settings: Mapping[str, Any]

    @property
    def trains(self) -> bool:
        """Whether the model itself is trained: `run` then takes its name."""
        return any(entry.trains for entries in self.entries for entry in entries)

    def run(
        self,
        model: Model | str | Path | None,
        *,
        cache: bool = True,
        on_error: OnError = "raise",
        progress: bool | None = None,
        waiting: Waiting = lambda what: nullcontext(),
    ) -> RunReport:
        """Measure; arguments and errors are those of `evaluate`."""
        if self.trains:
            return self._trained(model, on_error)
        if not isinstance(model, Model):
            raise TandemError(f"model: expected a loaded model, got {model!r}")
        loaded, skipped = model, 0
        settings = {**self.settings, "cache": cache}

        def embed(dataset: Dataset) -> Features:
            nonlocal skipped
            features = embed_dataset(loaded, dataset, cache=cache, on_error=on_error, progress=progress)
            skipped += len(dataset) - len(features)
            return features

        learnt = None if self.train is None else embed(self.train)
        results: list[TaskResult] = []
        shown: list[Dataset] = []
        for dataset, entries in zip(self.datasets, self.entries, strict=True):
            for test, result in measured(loaded, dataset, entries, learnt, settings, embed, waiting):
                results.append(result)
                shown.append(test.dataset)
        return replace(RunReport.of(ModelRecord.of(loaded), results, shown), skipped=skipped)

    def _trained(self, model: Model | str | Path | None, on_error: OnError) -> RunReport:
        """Train on one data set and measure on the first; the others say what it cost.

        Every image is looked at before the training, which would be lost.
        """
        entry = self.entries[0][0]
        if isinstance(model, Model):
            raise TandemError(f"{entry.name}: expected the folder or the name of a model, which it trains; got a Model")
        before = [*self.datasets, *([] if self.train is None else [self.train])]
        checked = [readable(dataset, on_error) for dataset in before]
        test, *elsewhere = checked[: len(self.datasets)]
        if self.train is None:
            train, test = halves(test, int(self.settings["seed"]))
        else:
            train = checked[-1]
        source = str(SHIPPED if model is None else model)
        measuring = load(source, engine="torch")  # as it is trained
        given = taken(entry, self.settings)
        result = function_of(entry)(source, train, test, elsewhere=elsewhere, **given)
        report = RunReport.of(ModelRecord.of(measuring), [result], [test])
        return replace(report, skipped=sum(map(len, before)) - sum(map(len, checked)))


def prepare(data: Data | Sequence[Data], *, task: str, train: Data | None, settings: Mapping[str, Any]) -> Plan:
    """Open the data, and refuse what does not fit the task. Arguments and errors are those of `evaluate`."""
    sources = [data] if isinstance(data, Dataset | str | Path) else list(data)
    if not sources:
        raise DataError("expected at least one data set, got none")
    opened = [opened_dataset(each) for each in sources]
    first = planned(task, opened[0])
    trains = first[0].trains
    entries = [first, *([] if trains else (planned(task, dataset) for dataset in opened[1:]))]
    every = [entry for each in entries for entry in each]
    for name, value in settings.items():
        if value is not None and not any(takes(entry, name) for entry in every):
            names = ", ".join(dict.fromkeys(entry.name for entry in every))
            raise TandemError(f"{name}: {names} takes none")
    if not any(entry.learns for entry in every):
        if train is not None:
            *others, last = [entry.name for entry in TASKS.values() if entry.learns]
            raise TandemError(f"train: it goes with {', '.join(others)} or {last}, not with {task}")
        return Plan(tuple(opened), tuple(map(tuple, entries)), None, settings)
    if trains and settings.get("folder") is None:
        raise TandemError(f"{first[0].name}: expected a folder: the run and the model are kept there")
    learnt = None
    if train is not None:
        learnt = train if isinstance(train, Dataset) else open_train_split(train) or open_dataset(train)
    elif len(sources) == 1 and not isinstance(sources[0], Dataset):
        learnt = open_train_split(sources[0])
    for dataset in [opened[0], *([] if learnt is None else [learnt])]:
        if not dataset.classes or dataset.multi_label:
            has = "several labels" if dataset.multi_label else "none"
            raise DataError(f"{dataset.name}: {first[0].name} needs images with one label each, and they have {has}")
    if trains:
        for dataset in opened[1:]:
            if dataset.multi_label:
                raise DataError(
                    f"{dataset.name}: {first[0].name} measures images with one label, and they have several"
                )
    return Plan(tuple(opened), tuple(map(tuple, entries)), learnt, settings)


def opened_dataset(data: Data) -> Dataset:
    """A data set as it is, or opened."""
    return data if isinstance(data, Dataset) else open_dataset(data)


def open_train_split(source: str | Path, **options: Any) -> Dataset | None:
    """The split `train` of a source, None where it has none. `options` are those of `open_dataset`."""
    if "train" not in dataset_splits(source, layout=options.get("layout")):
        return None
    return open_dataset(source, **(options | {"split": "train", "limit": None}))


def planned(task: str, dataset: Dataset) -> list[TaskEntry]:
    """The tasks to measure on a data set."""
    return tasks_for(task, labels=bool(dataset.classes), captions=bool(dataset.captions), data=dataset.name)


def measured(
    model: Model,
    dataset: Dataset,
    entries: Sequence[TaskEntry],
    train: Features | None,
    settings: Mapping[str, Any],
    embed: Callable[[Dataset], Features],
    waiting: Waiting = lambda what: nullcontext(),
) -> Iterator[tuple[Features, TaskResult]]:
    """Each task's result on a data set, and the features that it was measured on."""
    features = embed(dataset)
    for entry in entries:
        test, learnt = features, train if entry.learns else None
        if entry.learns and train is None:
            chosen, held, note = _halved(features.dataset, int(settings["seed"]))
            test, learnt = features.take(held, note), features.take(chosen)
        with waiting(f"{entry.name} on {dataset.name}"):
            result = measure(entry, model, test, learnt, settings)
        yield test, result


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
