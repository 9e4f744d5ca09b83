"""Batch norm whose statistics are of fixed groups of pictures, whatever forward pass they come in.

With the layer that torch has, a picture's vector depends on who shares its forward pass: on the number of processes and
of micro-batches. Here the pictures of a batch are cut into groups of `norm_batch`, in order; each is normalised by its
own statistics; and the running statistics move once a step, by the mean over all groups of all processes. Shares and
micro-batches that end where groups end (`shares(..., multiple=norm_batch)`) then change nothing.

Knows layers and tensors; it knows no step and no model of ours.
Shapes: n pictures, c channels, H and W rows and columns.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tandem.train.parallel.process import Processes


class GroupedBatchNorm(nn.BatchNorm2d):
    """`nn.BatchNorm2d` in evaluation; in training, groups of pictures, and statistics kept for `update`."""

    norm_batch: int
    counting: bool
    sums: Tensor | None  # [2 c + 1]: means and variances, each times its pictures; the pictures

    def forward(self, x: Tensor) -> Tensor:
        """x [n c H W] -> [n c H W]."""
        if not self.training:
            return super().forward(x)
        groups = torch.split(x, self.norm_batch or max(1, len(x)))
        done = [self._normalise(group) for group in groups if len(group)]
        return torch.cat(done) if len(done) > 1 else done[0] if done else x

    def _normalise(self, x: Tensor) -> Tensor:
        assert self.running_mean is not None
        assert self.running_var is not None
        mean, variance = torch.zeros_like(self.running_mean), torch.zeros_like(self.running_var)
        # A momentum of 1 leaves the group's own mean and unbiased variance in them.
        y = F.batch_norm(x, mean, variance, self.weight, self.bias, True, 1.0, self.eps)
        if self.counting:
            found = torch.cat([mean * len(x), variance * len(x), mean.new_full((1,), len(x))])
            self.sums = found if self.sums is None else self.sums + found
        return y


def fix_groups(module: nn.Module, norm_batch: int) -> None:
    """Give every `nn.BatchNorm2d` below `module` groups of `norm_batch` pictures; 0: all of a forward pass are one.

    The layers stay the same objects, with the same parameters under the same names.
    """
    for layer in module.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.__class__ = GroupedBatchNorm
            assert isinstance(layer, GroupedBatchNorm)
            layer.norm_batch, layer.counting, layer.sums = norm_batch, False, None


@contextmanager
def counted(module: nn.Module) -> Iterator[None]:
    """Forward passes inside add their groups to the step's statistics: of two passes one must, recomputation not."""
    layers = _layers(module)
    for layer in layers:
        layer.counting = True
    try:
        yield
    finally:
        for layer in layers:
            layer.counting = False


@torch.no_grad()
def update(module: nn.Module, processes: Processes) -> None:
    """Move the running statistics by the momentum toward the mean of all that was counted since the last call.

    A group counts by its pictures. Every process must call it, and ends with the same statistics.
    """
    layers = [layer for layer in _layers(module) if layer.training]
    if not layers:
        return
    empty = [torch.cat([layer.running_mean, layer.running_var, layer.running_mean.new_zeros(1)]) for layer in layers]  # type: ignore[list-item,union-attr]
    found = [torch.zeros_like(e) if layer.sums is None else layer.sums for layer, e in zip(layers, empty, strict=True)]
    joined = processes.sum_over(torch.cat(found))
    start = 0
    for layer, own in zip(layers, found, strict=True):
        sums, start = joined[start : start + len(own)], start + len(own)
        layer.sums = None
        assert layer.running_mean is not None
        assert layer.running_var is not None
        assert layer.momentum is not None
        mean, variance = torch.split(sums[:-1] / sums[-1].clamp(min=1), layer.num_features)
        weight = layer.momentum * (sums[-1] > 0)  # nothing counted, nothing moved
        layer.running_mean.lerp_(mean, weight.to(mean.dtype))
        layer.running_var.lerp_(variance, weight.to(mean.dtype))
        if layer.num_batches_tracked is not None:
            layer.num_batches_tracked.add_(1)


def _layers(module: nn.Module) -> list[GroupedBatchNorm]:
    return [layer for layer in module.modules() if isinstance(layer, GroupedBatchNorm)]
