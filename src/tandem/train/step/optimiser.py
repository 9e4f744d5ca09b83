"""AdamW over the towers and the objective: weight decay, learning rates by layer, the schedule, gradient clipping.

Weights and moments are float32 (see `model/towers.py`). Knows the original's parameter names; no loss.
"""

import math
import re
from collections.abc import Iterable, Iterator

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor

from tandem.train.recipe import Optimiser

_BLOCK = re.compile(r"(?:resblocks|encoder\.layer)\.(\d+)\.")
_STAGE = re.compile(r"visual\.layer(\d)\.")  # from 1
_STAGE_FROM_0 = re.compile(r"visual\.stages\.(\d)\.")
_ABOVE = (
    "attnpool",
    "visual.pool.",
    "ln_post",
    "visual.proj",
    "visual.pool",
    "visual.final_conv",
    "visual.head",
    "ln_final",
    "text_projection",
    "text.proj.",
    "text.transformer.pooler",
)  # layers after the last block


def build_optimiser(towers: nn.Module, objective: nn.Module, chosen: Optimiser) -> torch.optim.Optimizer:
    """Fused AdamW over what learns. Each parameter group has `lr_scale`, its share of the learning rate.

    Gains, biases, embeddings of one dimension and the scale are not decayed. With `layer_decay` a block learns at that
    share of the rate of the block above it; the objective and what follows the last block at the full rate.
    """
    groups: dict[tuple[float, float, bool], list[nn.Parameter]] = {}
    for parameter, scale in _learning(towers, objective, chosen.layer_decay):
        decay = chosen.weight_decay if sum(size > 1 for size in parameter.shape) >= 2 else 0.0
        # Sharded and whole parameters apart: no fused step takes both.
        groups.setdefault((decay, scale, isinstance(parameter, DTensor)), []).append(parameter)
    tables = [
        {"params": parameters, "weight_decay": decay, "lr_scale": scale, "lr": chosen.learning_rate * scale}
        for (decay, scale, _), parameters in groups.items()
    ]
    return torch.optim.AdamW(
        tables, lr=chosen.learning_rate, betas=(chosen.beta1, chosen.beta2), eps=chosen.epsilon, fused=True
    )


def set_learning_rate(optimiser: torch.optim.Optimizer, rate: float) -> None:
    """Set the rate of a step in every parameter group, times its `lr_scale`."""
    for group in optimiser.param_groups:
        group["lr"] = rate * group["lr_scale"]


def learning_rate(step: int, steps: int, warmup_steps: int, peak: float) -> float:
    """Linear from 0 to `peak` over the warm-up, then a cosine down to 0 at `steps`."""
    if step < warmup_steps:
        return peak * (step + 1) / warmup_steps
    progress = min(1.0, (step - warmup_steps) / max(1, steps - warmup_steps))
    return peak * 0.5 * (1 + math.cos(math.pi * progress))


@torch.no_grad()
def clip_gradients(parameters: Iterable[nn.Parameter], max_norm: float) -> Tensor:
    """The Euclidean norm of all gradients, before they are scaled down to `max_norm` (0: never).

    The same on every process: gradients are summed over processes before, or are parts of one sharded tensor.
    """
    learnt = [parameter for parameter in parameters if parameter.grad is not None]
    # Sharded and whole gradients apart: no operation takes both.
    kinds = [mine for kind in (True, False) if (mine := [p for p in learnt if isinstance(p.grad, DTensor) == kind])]
    parts = []
    for mine in kinds:
        norm = nn.utils.get_total_norm([p.grad for p in mine if p.grad is not None])
        parts.append(norm.full_tensor() if isinstance(norm, DTensor) else norm)
    total = parts[0] if len(parts) == 1 else torch.linalg.vector_norm(torch.stack(parts))
    if max_norm:
        for mine in kinds:
            nn.utils.clip_grads_with_norm_(mine, max_norm, total)
    return total


def depths(names: list[str]) -> dict[str, tuple[int, int]]:
    """For each parameter of the towers: its depth in its tower, and the depth of what follows the last block.

    0 is what comes before the blocks. A block of a transformer or a stage of a convolutional tower counts as one.
    """
    found = {name: ("visual." in name, _depth(name)) for name in names}
    top = {side: 1 + max((depth for at, depth in found.values() if at == side), default=0) for side in (True, False)}
    return {name: (depth if depth >= 0 else top[side], top[side]) for name, (side, depth) in found.items()}


def _depth(name: str) -> int:
    """-1 after the blocks, 0 before them, 1 for the first one."""
    if any(part in name for part in _ABOVE) or name.endswith(("logit_scale", "logit_bias")):
        return -1
    if found := _BLOCK.search(name):
        return int(found[1]) + 1
    if found := _STAGE_FROM_0.search(name):
        return int(found[1]) + 1
    found = _STAGE.search(name)
    return int(found[1]) if found else 0


def _learning(towers: nn.Module, objective: nn.Module, layer_decay: float) -> Iterator[tuple[nn.Parameter, float]]:
    named = dict(towers.named_parameters())
    at = depths(list(named))
    seen = set()
    for name, parameter in named.items():
        if parameter.requires_grad:
            depth, top = at[name]
            seen.add(id(parameter))
            yield parameter, layer_decay ** (top - depth)
    for parameter in objective.parameters():
        if parameter.requires_grad and id(parameter) not in seen:  # the scale is also a parameter of the model
            yield parameter, 1.0
