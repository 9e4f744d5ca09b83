"""A run's checkpoints on disk: folders that appear whole or not at all, each of them a model that `tandem.load` reads.

    checkpoints/step-00001200/
      config.json  model.safetensors  tokenizer.json  README.md     the model, as any other
      trainer.safetensors                                           weights, optimiser and average, every bit
      trainer.json                                                  step, scores, recipe, layout, versions

The step is the data's position: a batch is a function of (recipe, step), and so are the random numbers of a step.
Sharded tensors (FSDP2) are gathered on the way out and cut again on the way in, so that a checkpoint is the same file
whatever the run was spread over. Knows files, and tensors by name; nothing of what they mean.
"""

import json
import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.distributed.tensor import DTensor, distribute_tensor

from tandem.errors import DataError
from tandem.train.step.ema import Average

FORMAT = 2  # 1: its steps drew other batches
# What wrappers put between a module and its name.
_WRAPPERS = ("_checkpoint_wrapped_module.", "_orig_mod.")


@dataclass(frozen=True)
class Record:
    """What a checkpoint knows beside tensors."""

    step: int  # the next one to do
    best_score: float | None  # of the measure that chooses; None before any
    recipe: dict[str, Any]
    layout: dict[str, Any]  # what sums are rounded by: processes, device, ...
    versions: dict[str, str]
    guard: dict[str, Any] = field(default_factory=dict)  # what `loss_monitor.Guard` remembers
    samples: list[int] = field(default_factory=list)  # of each training set
    format: int = FORMAT


def save(
    folder: Path, record: Record, tensors: Mapping[str, Tensor], write_model: Callable[[Path], None], keep_last: int = 1
) -> Path:
    """Write `folder/step-N`; beyond the newest `keep_last` ones, older ones go once it stands.

    `write_model` is given a path and makes the model folder there.
    """
    folder.mkdir(parents=True, exist_ok=True)
    clean(folder)
    target = folder / f"step-{record.step:08d}"
    part = folder / f".{target.name}.part"
    write_model(part)
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, part / "trainer.safetensors")
    (part / "trainer.json").write_text(json.dumps(asdict(record), indent=1), encoding="utf-8")
    for file in (*part.iterdir(), part):
        _to_disk(file)  # a machine that loses power must not keep the name and lose the bytes
    _remove(target)
    part.rename(target)
    _to_disk(folder)
    for old in found(folder)[max(keep_last, 1) :]:
        _remove(old)
    return target


def found(folder: Path) -> list[Path]:
    """The checkpoints of a run, the newest first."""
    return sorted(folder.glob("step-*"), reverse=True)


def read(path: Path) -> tuple[Record, dict[str, Tensor]]:
    """One checkpoint. Raises `DataError` that names the file when it is damaged or of another format."""
    try:
        plain = json.loads((path / "trainer.json").read_text(encoding="utf-8"))
        if plain.get("format", 1) != FORMAT:
            raise DataError(
                f"{path}: this run was begun by another version of Tandem (format {plain.get('format', 1)}, here "
                f"{FORMAT}), whose steps drew other batches; choose another folder=, with init.model={path} to go on "
                "from its weights"
            )
        return Record(**plain), load_file(path / "trainer.safetensors")
    except (OSError, ValueError, TypeError, SafetensorError) as error:
        raise DataError(f"{path}: a damaged checkpoint ({str(error).strip().splitlines()[0]})") from None


def newest(folder: Path, say: Callable[[str], None]) -> tuple[Path, Record, dict[str, Tensor]] | None:
    """The newest checkpoint that can be read; None where there is none.

    One that is damaged is named, and the one before it is taken. Raises `DataError` when all are damaged: whoever
    would begin again must say so by another folder.
    """
    paths = found(folder)
    for path in paths:
        try:
            return path, *read(path)
        except DataError as error:
            if path == paths[-1]:
                raise
            say(f"{error}; going on from the one before it")
    return None


def clean(folder: Path) -> None:
    """Remove what a killed process left half written or half removed."""
    for left in (*folder.glob(".step-*.part"), *folder.glob(".step-*.gone"), *folder.glob("..step-*")):
        shutil.rmtree(left, ignore_errors=True)


def collect(
    modules: Mapping[str, nn.Module], optimiser: torch.optim.Optimizer, average: Average | None, keep: bool = True
) -> dict[str, Tensor]:
    """Every tensor of the run on the CPU: copies, so that the run may go on while they are written.

    All processes must call it; those that do not `keep` get an empty dictionary.
    """
    return _whole(_tensors(modules, optimiser, average), keep)


def whole(module: nn.Module, keep: bool = True) -> dict[str, Tensor]:
    """A module's state, whole and on the CPU. All processes must call it."""
    return _whole(((_plain(name), tensor) for name, tensor in module.state_dict().items()), keep)


def restore(
    tensors: Mapping[str, Tensor],
    modules: Mapping[str, nn.Module],
    optimiser: torch.optim.Optimizer,
    average: Average | None,
) -> None:
    """The inverse of `collect`. Raises `DataError` that names the first tensor that is missing or misshapen."""
    for name, place in _module_tensors(modules):
        _put(place, _of(tensors, name, place))
    for name, parameter, fused in _parameters(modules, optimiser):
        kept = [key for key in tensors if key.startswith(f"optimiser.{name}/")]
        state = {}
        for key in kept:
            value = tensors[key]
            # The fused optimiser walks a weight and its moments as flat memory: both must be laid out alike.
            state[key.rpartition("/")[2]] = (
                value.to(parameter.device if fused else "cpu").clone() if value.ndim == 0 and parameter.ndim else
                _put(torch.empty_like(parameter), _of(tensors, key, parameter))
            )  # fmt: skip
        if state:
            optimiser.state[parameter] = state
    if average is not None:
        own = average.state_dict()
        # An average that is new in the recipe begins at the weights.
        weights = dict(_module_tensors(modules))
        average.load_state_dict(
            {
                name: _put(
                    torch.empty_like(place), tensors.get(f"average.{name}", weights.get(f"towers.{name}", place))
                )
                for name, place in own.items()
            }
        )


def _remove(path: Path) -> None:
    """By a name that nobody takes for a checkpoint while half of it is there."""
    if path.exists():
        gone = path.with_name(f".{path.name}.gone")
        path.rename(gone)
        shutil.rmtree(gone)


def _to_disk(path: Path) -> None:
    if os.name == "nt" and path.is_dir():
        return  # Windows opens no folders
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _whole(tensors: Iterable[tuple[str, Tensor]], keep: bool) -> dict[str, Tensor]:
    out = {}
    for name, tensor in tensors:
        full = tensor.full_tensor() if isinstance(tensor, DTensor) else tensor
        if keep:
            out[name] = torch.empty(full.shape, dtype=full.dtype).copy_(full.detach())
    return out


def _tensors(
    modules: Mapping[str, nn.Module], optimiser: torch.optim.Optimizer, average: Average | None
) -> Iterator[tuple[str, Tensor]]:
    yield from _module_tensors(modules)
    for name, parameter, _ in _parameters(modules, optimiser):
        for key, value in optimiser.state.get(parameter, {}).items():
            yield f"optimiser.{name}/{key}", torch.as_tensor(value)
    if average is not None:
        for name, value in average.state_dict().items():
            yield f"average.{name}", value


def _module_tensors(modules: Mapping[str, nn.Module]) -> Iterator[tuple[str, Tensor]]:
    """Parameters and buffers; what two modules share comes once."""
    seen = set()
    for prefix, module in modules.items():
        for name, tensor in module.state_dict(keep_vars=True).items():
            if id(tensor) not in seen:
                seen.add(id(tensor))
                yield f"{prefix}.{_plain(name)}", tensor


def _parameters(
    modules: Mapping[str, nn.Module], optimiser: torch.optim.Optimizer
) -> Iterator[tuple[str, nn.Parameter, bool]]:
    """(name, parameter, whether the fused step has it) of all that the optimiser steps, in the modules' order."""
    fused = {id(p): bool(group.get("fused")) for group in optimiser.param_groups for p in group["params"]}
    for name, tensor in _module_tensors(modules):
        if id(tensor) in fused:
            assert isinstance(tensor, nn.Parameter)
            yield name, tensor, fused[id(tensor)]


def _of(tensors: Mapping[str, Tensor], name: str, place: Tensor) -> Tensor:
    if name not in tensors:
        raise DataError(f"the checkpoint has no {name}: it does not fit this recipe; choose another folder=")
    if tensors[name].shape != place.shape:
        shapes = f"{tuple(tensors[name].shape)}, this recipe's has {tuple(place.shape)}"
        raise DataError(f"the checkpoint does not fit this recipe: its {name} has the shape {shapes}")
    return tensors[name]


@torch.no_grad()
def _put(place: Tensor, value: Tensor) -> Tensor:
    """Overwrite `place` by a whole tensor, or by this process's part of it."""
    if isinstance(place, DTensor) and not isinstance(value, DTensor):
        moved = value.to(place.to_local().device, place.dtype)
        value = distribute_tensor(moved, place.device_mesh, place.placements, src_data_rank=None)
    place.copy_(value)
    return place


def _plain(name: str) -> str:
    for wrapper in _WRAPPERS:
        name = name.replace(wrapper, "")
    return name
