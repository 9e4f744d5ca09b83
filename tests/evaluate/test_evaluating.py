"""Tasks that learn: from what, and on what they are measured."""

import numpy as np
import pytest
from support.task_toys import GivenModel, features, unit

from tandem.evaluate.evaluating import halves, measured
from tandem.evaluate.task_table import TASKS


@pytest.mark.parametrize("task", ["linear-probe", "few-shot"])
def test_halves_are_apart_drawn_by_the_seed_and_the_same_for_every_task(task: str) -> None:
    model = GivenModel({"cat": [1, 0], "dog": [0, 1]})
    labels = [0, 1] * 5
    data = features(
        unit(np.eye(2)[labels] + 0.1 * np.arange(10)[:, None]), ["cat", "dog"], [[label] for label in labels]
    )
    found = []
    for seed in (0, 1):
        learnt, held = halves(data.dataset, seed)
        assert sorted(learnt.keys + held.keys) == sorted(data.dataset.keys)
        assert (len(learnt), len(held)) == (6, 4)  # of five of a class, two are held out
        assert not set(learnt.keys) & set(held.keys)
        settings = {"seed": seed}
        ((test, result),) = measured(model, data.dataset, [TASKS[task]], None, settings, lambda dataset: data)  # type: ignore[arg-type]
        assert result.keys == test.dataset.keys == held.keys
        assert result.settings["seed"] == seed
        assert any(f"6 images were learnt from, 4 others measured on: halves of each class, seed {seed}" in note
                   for note in result.notes)  # fmt: skip
        found.append(held.keys)
    assert found[0] != found[1]
