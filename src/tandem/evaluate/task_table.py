"""The tasks by name: which function measures one, what it needs of the data, and which settings it takes.

A new task is a module and a line here. Defaults are those of the functions.
"""

import inspect
from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any, NamedTuple

from tandem.errors import DataError, TandemError, did_you_mean
from tandem.evaluate.features import Features
from tandem.evaluate.result import TaskResult
from tandem.model import Model

AUTO = "auto"


class TaskEntry(NamedTuple):
    """A task. Its function takes (model, features), or (model, train, test) where it learns from labelled images."""

    name: str
    module: str
    function: str
    needs: str  # "labels" or "captions"
    learns: bool
    automatic: bool  # measured where nobody names a task


TASKS = {
    entry.name: entry
    for entry in (
        TaskEntry("zero-shot", "tandem.evaluate.zero_shot", "zero_shot", "labels", False, True),
        TaskEntry("retrieval", "tandem.evaluate.retrieval", "retrieval", "captions", False, True),
        TaskEntry("linear-probe", "tandem.evaluate.linear_probe", "linear_probe", "labels", True, False),
        TaskEntry("few-shot", "tandem.evaluate.few_shot", "few_shot", "labels", True, False),
    )
}


def tasks_for(name: str, *, labels: bool, captions: bool, data: str) -> list[TaskEntry]:
    """The task of this name; for "auto" those that the data has labels or captions for. Raises `DataError`."""
    has = {"labels": labels, "captions": captions}
    if name == AUTO:
        found = [entry for entry in TASKS.values() if entry.automatic and has[entry.needs]]
        if not found:
            raise DataError(f"{data}: expected images with labels or with captions, found neither")
        return found
    if name not in TASKS:
        raise TandemError(f"task: expected one of {', '.join([AUTO, *TASKS])}, got {name!r}{did_you_mean(name, TASKS)}")
    entry = TASKS[name]
    if not has[entry.needs]:
        raise DataError(f"{data}: {name} needs images with {entry.needs}, and there are none")
    return [entry]


def takes(entry: TaskEntry, setting: str) -> bool:
    """Whether a task's function has this setting."""
    return setting in inspect.signature(_function(entry)).parameters


def measure(
    entry: TaskEntry, model: Model, data: Features, train: Features | None, settings: Mapping[str, Any]
) -> TaskResult:
    """Run a task. Settings that are None, or that its function does not have, are left to the function."""
    given = {name: value for name, value in settings.items() if value is not None and takes(entry, name)}
    function = _function(entry)
    result: TaskResult
    if not entry.learns:
        result = function(model, data, **given)
    else:
        if train is None:
            raise DataError(f"{entry.name} needs labelled images to learn from: give train")
        result = function(model, train, data, **given)
    return result


def _function(entry: TaskEntry) -> Callable[..., TaskResult]:
    function: Callable[..., TaskResult] = getattr(import_module(entry.module), entry.function)
    return function
