"""A model spread over processes, from outside: the model's own code knows nothing of it.

Letters: P processes.
"""

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn

from tandem.train.parallel.process import Processes
from tandem.train.recipe import Parallel


def wrap(towers: nn.Module, parallel: Parallel, processes: Processes) -> nn.Module:
    """Towers -> what is called in their place: DDP, FSDP2 (the same object, sharded), or the towers themselves."""
    raise NotImplementedError


@contextmanager
def synchronised(towers: nn.Module, now: bool) -> Iterator[None]:
    """Whether a backward pass inside sums the weights' gradients over the processes."""
    yield
