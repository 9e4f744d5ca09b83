"""Steps that are not to be trusted: checked by numbers, skipped in a real run, and named with their samples."""

import json
import math
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from support import run_toys

from tandem.errors import DataError
from tandem.train.recipe import Guards, Recipe
from tandem.train.recipe_file import read_recipe
from tandem.train.run import loop
from tandem.train.step.loss_monitor import MIN_LOSSES, LossMonitor


def _recipe(root: Path, *overrides: str) -> Recipe:
    run_toys.write_data(root)
    return read_recipe(run_toys.write_recipe(root, root / "run"), ["validation.every_steps=100", *overrides])


def _poison(monkeypatch: pytest.MonkeyPatch, *steps: int, value: float = math.nan, of: str = "gradient") -> None:
    """At these steps the gradient (or the loss alone) is `value`, and batch norm has collected it."""
    original = loop.gradient

    def poisoned(towers, objective, batch, parallel, processes):  # type: ignore[no-untyped-def]
        losses = original(towers, objective, batch, parallel, processes)
        if poisoned.step in steps:
            if of == "gradient":
                next(towers.parameters()).grad.fill_(value)
                for layer in towers.modules():
                    if getattr(layer, "sums", None) is not None:
                        layer.sums.fill_(value)
            else:
                losses["loss"] = torch.tensor(value)
        poisoned.step += 1
        return losses

    poisoned.step = 0
    monkeypatch.setattr(loop, "gradient", poisoned)


@pytest.mark.parametrize(("loss", "norm"), [(math.nan, 1.0), (math.inf, 1.0), (1.0, math.nan), (1.0, math.inf)])
def test_what_is_no_number_is_not_applied_and_stops_after_so_many_in_a_row(loss: float, norm: float) -> None:
    monitor = LossMonitor(Guards(max_bad=3))
    for _ in range(2):
        assert not monitor.check(loss, norm).apply
        assert not monitor.check(loss, norm).stop
        assert monitor.check(1.0, 1.0).apply
    assert [monitor.check(loss, norm).stop for _ in range(3)] == [False, False, True]


def test_a_spike_is_named_but_applied() -> None:
    monitor = LossMonitor(Guards(spike_factor=2.0, median_steps=20))
    assert not any(monitor.check(3.0, 1.0).reason for _ in range(MIN_LOSSES))
    verdict = monitor.check(6.1, 1.0)
    assert verdict.apply
    assert "2.0 times its running median of 3" in verdict.reason
    assert not monitor.check(5.9, 1.0).reason
    assert not LossMonitor(Guards(spike_factor=0)).check(1e9, 1.0).reason
    for _ in range(20):  # a new level is the median after a while
        monitor.check(9.0, 1.0)
    assert not monitor.check(9.0, 1.0).reason


def test_the_median_is_of_the_last_steps_alone_and_zero_is_no_level() -> None:
    monitor = LossMonitor(Guards(spike_factor=2.0, median_steps=20))
    for loss in [1.0] * 60 + [4.0] * 11:
        monitor.check(loss, 1.0)
    assert not monitor.check(7.9, 1.0).reason
    assert len(monitor.state_dict()["losses"]) == 20
    monitor = LossMonitor(Guards(spike_factor=2.0))
    assert not any(monitor.check(loss, 1.0).reason for loss in [0.0] * MIN_LOSSES + [1.0])


def test_it_goes_on_from_what_it_remembers() -> None:
    monitor = LossMonitor(Guards(max_bad=2))
    for loss in [2.0] * MIN_LOSSES + [math.nan]:
        monitor.check(loss, 1.0)
    again = LossMonitor(Guards(max_bad=2), json.loads(json.dumps(monitor.state_dict())))
    assert again.check(math.nan, 1.0).stop
    assert LossMonitor(Guards(), monitor.state_dict()).check(5.0, 1.0).reason


@pytest.mark.slow
def test_a_bad_step_changes_nothing_and_its_samples_are_written_down(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    torch.set_num_threads(1)
    recipe = _recipe(tmp_path, "steps=6", "checkpoints.every_steps=1", "checkpoints.keep_last=10")
    _poison(monkeypatch, 3)
    assert loop.train(recipe).model is not None
    saved = {path.name: path / "trainer.safetensors" for path in (tmp_path / "run" / "checkpoints").iterdir()}
    # What follows a bad step is saved again only once a good one has followed it.
    assert sorted(saved) == [f"step-{step:08d}" for step in (1, 2, 3, 5, 6)]
    last = load_file(saved["step-00000006"])
    assert all(torch.isfinite(tensor).all() for tensor in last.values())
    # One step fewer was taken than there are.
    assert last["optimiser.towers.clip.visual.conv1.weight/step"] == 5
    note = json.loads((tmp_path / "run" / "suspect" / "step-00000003-process-0.json").read_text())
    assert note["reason"] == "the gradient's norm is nan"
    assert len(note["keys"]) == 15
    assert any(key.startswith("captions.tar") for key in note["keys"])
    said = [line for line in capfd.readouterr().err.splitlines() if line.startswith("step 3: ")]
    assert len(said) == 1
    assert "skipped" in said[0]
    assert "step-00000003-process-0.json" in said[0]


@pytest.mark.slow
def test_too_many_stop_the_run_and_keep_the_checkpoint_before_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = _recipe(tmp_path, "checkpoints.every_steps=1", "checkpoints.keep_last=1", "guards.max_bad=3")
    _poison(monkeypatch, 4, 5, 6, value=math.inf, of="loss")
    with pytest.raises(DataError, match=r"step 6: 3 steps in a row.*learning_rate"):
        loop.train(recipe)
    assert [path.name for path in (tmp_path / "run" / "checkpoints").iterdir()] == ["step-00000004"]


@pytest.mark.parametrize("stopped_after", [3, 5])
@pytest.mark.slow
def test_a_run_stopped_amid_bad_steps_says_what_is_saved(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stopped_after: int
) -> None:
    """Steps 4 and 5 are bad: a run that is stopped after them has not been saved, and must not say so."""
    from tandem.cli.commands import train as command

    recipe = _recipe(tmp_path, "checkpoints.every_steps=2")
    _poison(monkeypatch, 3, 4)
    answers = iter([*[False] * (stopped_after - 1), True])
    result = loop.train(recipe, stop_requested=lambda: next(answers))
    saved = [path.name for path in (tmp_path / "run" / "checkpoints").iterdir()]
    assert (result.model, result.step) == (None, stopped_after)
    said = command._stopped(result, recipe.folder)
    if stopped_after == 3:
        assert result.saved_step == 3
        assert "stopped and saved at step 3" in said
    else:
        assert result.saved_step == 2
        assert "stopped at step 5, not saved" in said
        assert "resumes at step 2" in said
    assert f"step-{result.saved_step:08d}" in saved


def test_a_run_stopped_before_any_checkpoint_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from tandem.cli.commands import train as command

    recipe = _recipe(tmp_path)
    _poison(monkeypatch, 0)
    result = loop.train(recipe, stop_requested=lambda: True)
    assert (result.model, result.step, result.saved_step) == (None, 1, None)
    assert "no checkpoint exists yet" in command._stopped(result, recipe.folder)
    assert not list((tmp_path / "run").glob("checkpoints/step-*"))
