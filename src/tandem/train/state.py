"""The tensors of a live run, whole and by name, and back: modules, an optimiser's moments, an average.

Sharded tensors (FSDP2) are gathered on the way out and cut again on the way in, so that a checkpoint is the same file
whatever the run was spread over. Knows no files.
"""

from collections.abc import Iterable, Iterator, Mapping

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor, distribute_tensor

from tandem.errors import DataError
from tandem.train.ema import Average

# What wrappers put between a module and its name.
_WRAPPERS = ("_checkpoint_wrapped_module.", "_orig_mod.")


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
