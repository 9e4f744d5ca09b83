"""What a resumed run knows of the steps before it, besides tensors: the best score, and the losses it is judged by."""

import json
from pathlib import Path
from typing import Any

import pytest
from support import run_toys

from tandem.train.recipe_file import read_recipe
from tandem.train.run import loop
from tandem.train.run.loop import train

pytestmark = pytest.mark.slow

SMALL = ("steps=4", "validation.every_steps=1", "checkpoints.every_steps=2", "guards.median_steps=8",
         "optimiser.warmup_steps=1")  # fmt: skip


def test_the_best_score_and_the_losses_outlive_a_stop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The best weights come from before the stop, and stay: what follows is worse."""
    run_toys.write_data(tmp_path)
    recipe = read_recipe(run_toys.write_recipe(tmp_path, tmp_path / "run"), SMALL)
    scores, losses, asked = iter([0.5, 0.9, 0.7, 0.8]), [], []
    check = loop.LossMonitor.check

    def noted(self: loop.LossMonitor, loss: float, gradient_norm: float) -> Any:
        losses.append(loss)
        return check(self, loss, gradient_norm)

    def stop() -> bool:
        asked.append(1)
        return len(asked) == 2

    monkeypatch.setattr(loop.LossMonitor, "check", noted)
    monkeypatch.setattr(loop, "validate", lambda *given: {"zero_shot_top1": next(scores)})
    written: list[float] = []
    monkeypatch.setattr(loop, "_write_best", lambda *given: written.append(len(losses)))
    first = train(recipe, stop)
    assert (first.model, first.step, first.saved_step) == (None, 2, 2)
    record = json.loads((tmp_path / "run/checkpoints/step-00000002/trainer.json").read_text())
    assert (record["best_score"], record["loss_monitor"]) == (0.9, {"bad_steps": 0, "losses": losses})
    assert train(recipe).step == 4
    record = json.loads((tmp_path / "run/checkpoints/step-00000004/trainer.json").read_text())
    assert len(losses) == 4
    assert (record["best_score"], record["loss_monitor"]) == (0.9, {"bad_steps": 0, "losses": losses})
    assert written == [1, 2]  # at 0.5 and at 0.9, and never again
