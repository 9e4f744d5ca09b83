"""The table of tasks: every line leads to a function, and auto takes what the data has."""

import inspect
from typing import get_args

import pytest

from tandem.errors import DataError, TandemError
from tandem.evaluate.result import Task
from tandem.evaluate.task_table import AUTO, TASKS, function_of, tasks_for


@pytest.mark.parametrize("name", TASKS)
def test_a_line_leads_to_a_function_of_its_kind(name: str) -> None:
    entry = TASKS[name]
    parameters = list(inspect.signature(function_of(entry)).parameters)
    expected = ["model", "train", "test"] if entry.learns else ["model", "data"]
    if entry.trains:
        expected = ["model_source", "train_dataset", "test_dataset"]
    assert parameters[: len(expected)] == expected
    assert "seed" in parameters


def test_results_name_their_task_as_it_was_asked_for() -> None:
    assert {*TASKS, "multi-label"} == set(get_args(Task))


@pytest.mark.parametrize(
    ("labels", "captions", "names"),
    [(True, False, ["zero-shot"]), (False, True, ["retrieval"]), (True, True, ["zero-shot", "retrieval"])],
)
def test_auto_takes_what_the_data_has(labels: bool, captions: bool, names: list[str]) -> None:
    assert [entry.name for entry in tasks_for(AUTO, labels=labels, captions=captions, data="pets")] == names


def test_what_the_data_lacks_is_refused() -> None:
    with pytest.raises(DataError, match="pets: expected images with labels or with captions"):
        tasks_for(AUTO, labels=False, captions=False, data="pets")
    with pytest.raises(DataError, match="pets: few-shot needs images with labels"):
        tasks_for("few-shot", labels=False, captions=True, data="pets")
    with pytest.raises(TandemError, match="did you mean 'zero-shot'"):
        tasks_for("zeroshot", labels=True, captions=True, data="pets")
