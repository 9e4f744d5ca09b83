"""An exponential moving average of weights and statistics, for evaluation and for the final model.

Knows the state of a module by name; no optimiser. Sharded state (FSDP2) is averaged shard by shard, in place.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor


class ModelEma:
    """The average of a module's floating-point state. Its own state is saved and loaded beside that of the module."""

    def __init__(self, module: nn.Module, decay: float) -> None:
        """Starts at the present state of the module; `decay` is the share of the average that a step keeps."""
        self.decay = decay
        self._live = _floating(module)
        self._averages = {name: tensor.detach().clone() for name, tensor in self._live.items()}

    @torch.no_grad()
    def update(self, step: int) -> None:
        """After the optimiser's step `step`, counted from 0.

        The decay is smaller at first: otherwise the first weights would stay in the average for the whole run.
        """
        kept = min(self.decay, (1 + step) / (10 + step))
        averages, live = (list(map(_local, tensors.values())) for tensors in (self._averages, self._live))
        torch._foreach_lerp_(averages, live, 1 - kept)

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """Inside, the module has the averaged weights; its own are restored whatever happens. No copy is made."""
        self._exchange()
        try:
            yield
        finally:
            self._exchange()

    def state_dict(self) -> dict[str, Tensor]:
        """By the names of the module."""
        return dict(self._averages)

    @torch.no_grad()
    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """The inverse of `state_dict`. Raises `KeyError` that names what is missing."""
        for name, tensor in self._averages.items():
            tensor.copy_(state[name])

    @torch.no_grad()
    def _exchange(self) -> None:
        for name, average in self._averages.items():
            live = self._live[name]
            kept = live.detach().clone()
            live.copy_(average)
            average.copy_(kept)


def _local(tensor: Tensor) -> Tensor:
    """This process's part of it: sharded and whole tensors are averaged in one call."""
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


def _floating(module: nn.Module) -> dict[str, Tensor]:
    """Parameters and saved buffers, detached: sharing memory with the module's."""
    state = module.state_dict()
    return {name: tensor.detach() for name, tensor in state.items() if tensor.is_floating_point()}
