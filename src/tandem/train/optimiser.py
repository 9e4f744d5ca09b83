"""AdamW over both towers and the heads: which weights decay, and how fast each layer learns.

Weights and moments are float32 (see `towers.py`). Knows the original's parameter names; no loss, no schedule.
"""

import re
from collections.abc import Iterator

import torch
from torch import nn

from tandem.train.recipe import Optimiser

_BLOCK = re.compile(r"resblocks\.(\d+)\.")
_STAGE = re.compile(r"visual\.layer(\d)\.")
_ABOVE = ("attnpool", "ln_post", "visual.proj", "ln_final", "text_projection")  # what reads the last block


def build_optimiser(towers: nn.Module, heads: nn.Module, chosen: Optimiser) -> torch.optim.Optimizer:
    """Fused AdamW over what learns. Each group has `lr_scale`, its share of the learning rate.

    Gains, biases, embeddings of one dimension and the scale are not decayed. With `layer_decay` a block learns at that
    share of the rate of the block above it; heads and what reads the last block at the whole rate.
    """
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    for parameter, scale in _learning(towers, heads, chosen.layer_decay):
        decay = chosen.weight_decay if parameter.ndim >= 2 else 0.0
        groups.setdefault((decay, scale), []).append(parameter)
    tables = [
        {"params": parameters, "weight_decay": decay, "lr_scale": scale, "lr": chosen.learning_rate * scale}
        for (decay, scale), parameters in groups.items()
    ]
    return torch.optim.AdamW(
        tables, lr=chosen.learning_rate, betas=(chosen.beta1, chosen.beta2), eps=chosen.epsilon, fused=True
    )


def set_learning_rate(optimiser: torch.optim.Optimizer, rate: float) -> None:
    """The rate of a step, for every group by its `lr_scale`."""
    for group in optimiser.param_groups:
        group["lr"] = rate * group["lr_scale"]


def depths(names: list[str]) -> dict[str, tuple[int, int]]:
    """For each parameter of the towers: at which depth of its tower it is, and the depth of what reads the last block.

    0 is what is before the blocks. A block of a transformer or a stage of a ResNet is a step.
    """
    found = {name: ("visual." in name, _depth(name)) for name in names}
    top = {side: 1 + max((depth for at, depth in found.values() if at == side), default=0) for side in (True, False)}
    return {name: (depth if depth >= 0 else top[side], top[side]) for name, (side, depth) in found.items()}


def _depth(name: str) -> int:
    """-1 above the blocks, 0 below them, 1 for the first one."""
    if any(part in name for part in _ABOVE) or name.endswith("logit_scale"):
        return -1
    if found := _BLOCK.search(name):
        return int(found[1]) + 1
    found = _STAGE.search(name)
    return int(found[1]) if found else 0


def _learning(towers: nn.Module, heads: nn.Module, layer_decay: float) -> Iterator[tuple[nn.Parameter, float]]:
    named = dict(towers.named_parameters())
    at = depths(list(named))
    seen = set()
    for name, parameter in named.items():
        if parameter.requires_grad:
            depth, top = at[name]
            seen.add(id(parameter))
            yield parameter, layer_decay ** (top - depth)
    for parameter in heads.parameters():
        if parameter.requires_grad and id(parameter) not in seen:  # the scale is the model's too
            yield parameter, 1.0
