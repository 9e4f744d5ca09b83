"""The tasks by name: which function measures one, what it needs of the data, and which settings it takes.

A new task is a module, a line here and its name in `result.Task`; reports draw the tables and outcomes that `result.py`
names. Defaults are those of the functions. Imports nothing slow: the command line lists the names.
"""

from collections.abc import Callable, Mapping
from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, NamedTuple

from tandem.errors import DataError, MissingExtraError, TandemError, did_you_mean

if TYPE_CHECKING:
    from tandem.evaluate.features import Features
    from tandem.evaluate.result import TaskResult
    from tandem.model import Model

AUTO = "auto"


class TaskEntry(NamedTuple):
    """A task. Its function takes (model, features), or (model, train, test) where it learns from labelled images.

    One that trains the model itself takes (model_source, train, test) of data sets: their vectors change.
    """

    name: str
    module: str
    function: str
    needs: str  # "labels" or "captions"
    learns: bool
    automatic: bool  # measured where nobody names a task
    trains: bool = False


TASKS = {
    entry.name: entry
    for entry in (
        TaskEntry("zero-shot", "tandem.evaluate.zero_shot", "zero_shot", "labels", False, True),
        TaskEntry("retrieval", "tandem.evaluate.retrieval", "retrieval", "captions", False, True),
        TaskEntry("linear-probe", "tandem.evaluate.linear_probe", "linear_probe", "labels", True, False),
        TaskEntry("few-shot", "tandem.evaluate.few_shot", "few_shot", "labels", True, False),
        TaskEntry("fine-tune", "tandem.train.fine_tune", "fine_tune", "labels", True, False, trains=True),
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
    import inspect

    return setting in inspect.signature(function_of(entry)).parameters


def taken(entry: TaskEntry, settings: Mapping[str, Any]) -> dict[str, Any]:
    """The settings that a task's function has, without those that are None."""
    return {name: value for name, value in settings.items() if value is not None and takes(entry, name)}


def measure(
    entry: TaskEntry, model: "Model", data: "Features", train: "Features | None", settings: Mapping[str, Any]
) -> "TaskResult":
    """Run a task. Settings that are None, or that its function does not have, are left to the function."""
    given = taken(entry, settings)
    function = function_of(entry)
    result: TaskResult
    if not entry.learns:
        result = function(model, data, **given)
    else:
        if train is None:
            raise DataError(f"{entry.name} needs labelled images to learn from: give train")
        result = function(model, train, data, **given)
    return result


def function_of(entry: TaskEntry) -> "Callable[..., TaskResult]":
    """What measures a task. Raises `MissingExtraError` for one that trains, where torch is not installed."""
    if entry.trains and find_spec("torch") is None:
        raise MissingExtraError("torch", "train", f"the task {entry.name}")
    function: Callable[..., TaskResult] = getattr(import_module(entry.module), entry.function)
    return function
