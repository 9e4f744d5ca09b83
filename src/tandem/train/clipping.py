"""The norm of the whole gradient, and the gradient scaled down to it; of sharded and whole tensors together."""

from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor


@torch.no_grad()
def clip(parameters: Iterable[nn.Parameter], max_norm: float) -> Tensor:
    """The Euclidean norm of all gradients, before they are scaled so that it is `max_norm` at most (0: never).

    The same on every process: gradients are summed over them before, or are parts of one sharded tensor.
    """
    learnt = [parameter for parameter in parameters if parameter.grad is not None]
    gradients = [p.grad for p in learnt if p.grad is not None]
    parts = []
    for kind in (True, False):
        if mine := [gradient for gradient in gradients if isinstance(gradient, DTensor) == kind]:
            norm = nn.utils.get_total_norm(mine)
            parts.append(norm.full_tensor() if isinstance(norm, DTensor) else norm)
    total = parts[0] if len(parts) == 1 else torch.linalg.vector_norm(torch.stack(parts))
    if max_norm:
        nn.utils.clip_grads_with_norm_(learnt, max_norm, total)
    return total
