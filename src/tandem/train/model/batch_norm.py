"""Batch norm with statistics of fixed groups of images, however these are spread over forward passes.

With torch's layer, the vector of an image depends on what shares its forward pass: on the number of processes and of
micro-batches. Here the images of a batch are cut, in order, into groups of `norm_batch`; each group is normalised by
its own statistics, and the running statistics move once a step, by the mean over all groups of all processes. Ranges
that end where groups end (`split_ranges(..., multiple=norm_batch)`) then change nothing.

Knows layers and tensors; no step and no model of ours.
Shapes: n images, c channels, H and W rows and columns.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tandem.train.parallel.process import Processes


class GroupedBatchNorm(nn.BatchNorm2d):
    """`nn.BatchNorm2d` in evaluation; groups of images in training, with statistics for `update_running_stats`."""

    norm_batch: int
    collecting: bool
    sums: Tensor | None  # [2 c + 1]: means and variances, weighted by images; the number of images

    def forward(self, x: Tensor) -> Tensor:
        """x [n c H W] -> [n c H W]."""
        if not self.training:
            return super().forward(x)
        groups = torch.split(x, self.norm_batch or max(1, len(x)))
        done = [self._normalise_group(group) for group in groups if len(group)]
        return torch.cat(done) if len(done) > 1 else done[0] if done else x

    def _normalise_group(self, x: Tensor) -> Tensor:
        assert self.running_mean is not None
        assert self.running_var is not None
        mean, variance = torch.zeros_like(self.running_mean), torch.zeros_like(self.running_var)
        # A momentum of 1 leaves the mean and the unbiased variance of the group in them.
        y = F.batch_norm(x, mean, variance, self.weight, self.bias, True, 1.0, self.eps)
        if self.collecting:
            found = torch.cat([mean * len(x), variance * len(x), mean.new_full((1,), len(x))])
            self.sums = found if self.sums is None else self.sums + found
        return y


def set_groups(module: nn.Module, norm_batch: int) -> None:
    """Give every `nn.BatchNorm2d` below `module` groups of `norm_batch` images; 0: those of a forward pass.

    The layers stay the same objects, with the same parameters and names.
    """
    for layer in module.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.__class__ = GroupedBatchNorm
            assert isinstance(layer, GroupedBatchNorm)
            layer.norm_batch, layer.collecting, layer.sums = norm_batch, False, None


@contextmanager
def collect_statistics(module: nn.Module) -> Iterator[None]:
    """Forward passes inside add their groups to the statistics of the step; a recomputed pass must not."""
    layers = _layers(module)
    for layer in layers:
        layer.collecting = True
    try:
        yield
    finally:
        for layer in layers:
            layer.collecting = False


@torch.no_grad()
def update_running_stats(module: nn.Module, processes: Processes) -> None:
    """Move the running statistics by the momentum toward the mean of all groups collected since the last call.

    Groups are weighted by their images. All processes must call this, and all end with the same statistics.
    """
    layers = [layer for layer in _layers(module) if layer.training]
    if not layers:
        return
    empty = [torch.cat([layer.running_mean, layer.running_var, layer.running_mean.new_zeros(1)]) for layer in layers]  # type: ignore[list-item,union-attr]
    found = [torch.zeros_like(e) if layer.sums is None else layer.sums for layer, e in zip(layers, empty, strict=True)]
    joined = processes.all_sum(torch.cat(found))
    start = 0
    for layer, own in zip(layers, found, strict=True):
        sums, start = joined[start : start + len(own)], start + len(own)
        layer.sums = None
        assert layer.running_mean is not None
        assert layer.running_var is not None
        assert layer.momentum is not None
        mean, variance = torch.split(sums[:-1] / sums[-1].clamp(min=1), layer.num_features)
        weight = layer.momentum * (sums[-1] > 0)  # nothing collected: nothing moves
        layer.running_mean.lerp_(mean, weight.to(mean.dtype))
        layer.running_var.lerp_(variance, weight.to(mean.dtype))
        if layer.num_batches_tracked is not None:
            layer.num_batches_tracked.add_(1)


def _layers(module: nn.Module) -> list[GroupedBatchNorm]:
    return [layer for layer in module.modules() if isinstance(layer, GroupedBatchNorm)]
