"""Tasks that learn: from what, and on what they are measured."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from support.task_toys import GivenModel, features, unit

from tandem.datasets.dataset import Dataset
from tandem.errors import DataError, TandemError
from tandem.evaluate import evaluating
from tandem.evaluate.evaluating import halves, measured
from tandem.evaluate.features import Features
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


def test_what_is_learnt_from_is_encoded_once(monkeypatch: pytest.MonkeyPatch) -> None:
    model = GivenModel({"cat": [1, 0], "dog": [0, 1]})
    labels = [0, 1] * 5
    sets = {
        name: features(
            unit(np.eye(2)[labels] + 0.1 * (np.arange(10)[:, None] + at)), ["cat", "dog"], [[x] for x in labels]
        )
        for at, name in enumerate(("train", "a", "b"))
    }
    named = {name: replace(each.dataset, name=name) for name, each in sets.items()}
    named["train"] = replace(named["train"], digests=tuple(bytes([9, at] * 16) for at in range(10)))
    encoded = []

    def embed(model: object, dataset: Dataset, **options: object) -> Features:
        encoded.append(dataset.name)
        return replace(sets[dataset.name], dataset=dataset)

    monkeypatch.setattr(evaluating, "embed_dataset", embed)
    monkeypatch.setattr(evaluating, "Model", GivenModel)
    monkeypatch.setattr(evaluating, "ModelRecord", SimpleNamespace(of=lambda model: None))
    report = evaluating.evaluate(model, [named["a"], named["b"]], task="few-shot", train=named["train"])  # type: ignore[arg-type]
    assert encoded == ["train", "a", "b"]
    assert [result.dataset.name for result in report.results] == ["a", "b"]
    with pytest.raises(TandemError, match="fine-tune: expected a folder"):
        evaluating.evaluate(None, named["a"], task="fine-tune")
    with pytest.raises(TandemError, match="the folder or the name of a model"):
        evaluating.evaluate(model, named["a"], task="fine-tune", folder="run")  # type: ignore[arg-type]
    several = replace(named["b"], multi_label=True)
    with pytest.raises(DataError, match="they have several"):
        evaluating.evaluate(None, [named["a"], several], task="fine-tune", folder="run")
