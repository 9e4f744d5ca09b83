"""Batch norm whose statistics are of fixed groups of pictures, whatever forward pass they come in.

With the layer that torch has, a picture's vector depends on who shares its forward pass: on the number of processes and
of micro-batches. Here the pictures of a batch are cut into groups of `norm_batch`, in order; each is normalised by its
own statistics; and the running statistics move once a step, by the mean over all groups of all processes. Shares and
micro-batches that end where groups end then change nothing.

Knows layers and tensors; it knows no step and no model of ours.
"""

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn

from tandem.train.parallel.process import Processes


def fix_groups(module: nn.Module, norm_batch: int) -> None:
    """Give every `nn.BatchNorm2d` below `module` groups of `norm_batch` pictures; 0: all of a forward pass are one."""
    raise NotImplementedError


@contextmanager
def counted(module: nn.Module) -> Iterator[None]:
    """Forward passes inside add their groups to the step's statistics: of two passes one must, recomputation not."""
    yield


def update(module: nn.Module, processes: Processes) -> None:
    """Move the running statistics by what was counted since the last call, of all processes."""
    raise NotImplementedError
