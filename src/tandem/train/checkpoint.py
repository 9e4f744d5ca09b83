"""A run's state on disk, and back. Each checkpoint is a folder that appears whole or not at all."""

import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from tandem.errors import DataError


@dataclass(frozen=True)
class Position:
    """Where a run stands: `step` is the next one to do."""

    step: int
    best_score: float


def save(folder: Path, position: Position, module: nn.Module, optimiser: torch.optim.Optimizer, recipe: Any) -> None:
    """Write `folder/step-N` with weights, optimiser state and position; older ones go once it stands."""
    folder.mkdir(parents=True, exist_ok=True)
    target = folder / f"step-{position.step:08d}"
    part = folder / f".{target.name}.part"
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir()
    save_file(_contiguous(module.state_dict()), part / "model.safetensors")
    save_file(_contiguous(_flatten(optimiser)), part / "trainer.safetensors")
    state = {"step": position.step, "best_score": position.best_score, "torch": torch.__version__, "recipe": recipe}
    (part / "trainer.json").write_text(json.dumps(state, indent=1))
    shutil.rmtree(target, ignore_errors=True)
    part.rename(target)
    for other in folder.glob("step-*"):
        if other != target:
            shutil.rmtree(other)


def resume(folder: Path, module: nn.Module, optimiser: torch.optim.Optimizer) -> Position | None:
    """Put the newest checkpoint of `folder` into module and optimiser; None when there is none.

    Raises `DataError` when it does not fit the recipe's model.
    """
    found = sorted(folder.glob("step-*"))
    if not found:
        return None
    try:
        module.load_state_dict(load_file(found[-1] / "model.safetensors"))
        _unflatten(optimiser, load_file(found[-1] / "trainer.safetensors"))
        state = json.loads((found[-1] / "trainer.json").read_text())
    except (OSError, RuntimeError, ValueError, KeyError, SafetensorError) as error:
        reason = str(error).strip().splitlines()[0]
        raise DataError(f"{found[-1]}: does not fit this recipe ({reason}); choose another folder=") from None
    return Position(state["step"], state["best_score"])


def _contiguous(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor.detach().contiguous().clone() for name, tensor in tensors.items()}


def _flatten(optimiser: torch.optim.Optimizer) -> dict[str, Tensor]:
    state = optimiser.state_dict()["state"]
    return {
        f"{index}.{key}": torch.as_tensor(value) for index, values in state.items() for key, value in values.items()
    }


def _unflatten(optimiser: torch.optim.Optimizer, tensors: Mapping[str, Tensor]) -> None:
    parameters = [parameter for group in optimiser.param_groups for parameter in group["params"]]
    state: dict[int, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        index, _, key = name.partition(".")
        # The fused optimiser walks a weight and its moments as flat memory: both must be laid out alike.
        laid_out = tensor if tensor.ndim == 0 else torch.empty_like(parameters[int(index)]).copy_(tensor)
        state.setdefault(int(index), {})[key] = laid_out
    optimiser.load_state_dict({"state": state, "param_groups": optimiser.state_dict()["param_groups"]})
