"""An exponential moving average of weights and statistics, for evaluation and for the final model."""

from collections.abc import Iterator
from contextlib import contextmanager

from torch import Tensor, nn


class Average:
    """The average of a module's floating-point state. Its own state is saved and loaded beside the module's."""

    def __init__(self, module: nn.Module, decay: float) -> None:
        raise NotImplementedError

    def update(self, step: int) -> None:
        """After the optimiser's step `step` (counted from 0)."""
        raise NotImplementedError

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """Within it, the module has the averaged weights."""
        raise NotImplementedError
        yield

    def state_dict(self) -> dict[str, Tensor]:
        """By the module's own names."""
        raise NotImplementedError

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """The inverse of `state_dict`."""
        raise NotImplementedError
