"""Checkpoints on disk and the state in them, without a run: what is kept, what is restored, what is damaged."""

from pathlib import Path

import pytest
import torch
from torch import nn

from tandem.errors import DataError
from tandem.train.run import checkpoint
from tandem.train.run.checkpoint import Record


def record(step: int) -> Record:
    return Record(step, 0.5, {"name": "toy"}, {"processes": 1}, {"torch": "2"}, {"losses": [1.0]}, [7])


def saved(folder: Path, step: int, keep_last: int = 2) -> Path:
    tensors = {"towers.weight": torch.full((2, 3), float(step))}
    return checkpoint.save(folder, record(step), tensors, lambda path: (path / "config.json").touch(), keep_last)


@pytest.mark.parametrize(("keep_last", "kept"), [(1, [9]), (2, [9, 6]), (3, [9, 6, 3]), (0, [9])])
def test_so_many_are_kept(tmp_path: Path, keep_last: int, kept: list[int]) -> None:
    for step in (3, 6, 9):
        saved(tmp_path, step, keep_last)
    assert [path.name for path in checkpoint.list_checkpoints(tmp_path)] == [f"step-{step:08d}" for step in kept]
    assert len(list(tmp_path.iterdir())) == len(kept)


def test_the_newest_that_can_be_read_counts(tmp_path: Path) -> None:
    saved(tmp_path, 3), saved(tmp_path, 6)
    said: list[str] = []
    found = checkpoint.newest_checkpoint(tmp_path, said.append)
    assert found is not None
    assert (found[0].name, found[1], said) == ("step-00000006", record(6), [])
    assert found[2]["towers.weight"].tolist() == [[6.0] * 3] * 2
    (tmp_path / "step-00000006/trainer.safetensors").write_bytes(b"cut")
    found = checkpoint.newest_checkpoint(tmp_path, said.append)
    assert found is not None
    assert found[1].step == 3
    assert len(said) == 1
    assert "a damaged checkpoint" in said[0]
    assert said[0].endswith("resuming from the one before it")
    (tmp_path / "step-00000003/trainer.json").write_text("{")
    with pytest.raises(DataError, match=r"step-00000003: a damaged checkpoint"):
        checkpoint.newest_checkpoint(tmp_path, said.append)
    assert checkpoint.newest_checkpoint(tmp_path / "none", said.append) is None


def stepped(seed: int) -> tuple[dict[str, nn.Module], torch.optim.Optimizer]:
    """A layer and its optimiser after a step, and so with moments."""
    torch.manual_seed(seed)
    layer = nn.Linear(3, 2)
    optimiser = torch.optim.AdamW(layer.parameters(), lr=0.1)
    layer(torch.randn(4, 3)).square().sum().backward()
    optimiser.step()
    return {"towers": layer}, optimiser


def test_weights_and_moments_are_what_they_were() -> None:
    modules, optimiser = stepped(1)
    before = checkpoint.collect_state(modules, optimiser, None)
    assert sorted(before) == sorted(
        f"{start}towers.{name}{end}" for name in ("weight", "bias")
        for start, end in (("", ""), *(("optimiser.", f"/{key}") for key in ("exp_avg", "exp_avg_sq", "step")))
    )  # fmt: skip
    others, other = stepped(2)
    checkpoint.restore_state(before, others, other, None)
    after = checkpoint.collect_state(others, other, None)
    assert all(torch.equal(after[name], before[name]) for name in before)
    assert checkpoint.collect_state(modules, optimiser, None, keep=False) == {}


@pytest.mark.parametrize("name", ["towers.weight", "optimiser.towers.bias/exp_avg"])
def test_a_tensor_of_another_shape_is_named(name: str) -> None:
    modules, optimiser = stepped(1)
    state = checkpoint.collect_state(modules, optimiser, None)
    state[name] = torch.zeros(7)
    with pytest.raises(DataError, match=f"its {name} has the shape"):
        checkpoint.restore_state(state, modules, optimiser, None)
    if not name.startswith("optimiser"):
        del state[name]
        with pytest.raises(DataError, match=f"the checkpoint has no {name}"):
            checkpoint.restore_state(state, modules, optimiser, None)
