"""AdamW over both towers and the heads: which weights decay, and how fast each layer learns."""

import torch
from torch import nn

from tandem.train.recipe import Optimiser


def build_optimiser(towers: nn.Module, heads: nn.Module, chosen: Optimiser) -> torch.optim.Optimizer:
    """Fused AdamW over what learns. Each group has `lr_scale`, its share of the learning rate."""
    raise NotImplementedError


def set_learning_rate(optimiser: torch.optim.Optimizer, rate: float) -> None:
    """The rate of a step, for every group by its `lr_scale`."""
    for group in optimiser.param_groups:
        group["lr"] = rate * group["lr_scale"]
