"""How a loss gets the vectors of other processes, by a function it is given, and how vectors are met.

Letters: n rows of this process, N rows of all of them.
"""

from collections.abc import Callable

import torch
from torch import Tensor

# Own rows [n ...] -> the rows of all processes in their order [N ...], and at which of them the own ones begin. With
# gradient: what reaches the result on any process comes back, summed over the processes, to the own rows.
Gather = Callable[[Tensor], tuple[Tensor, int]]


def alone(rows: Tensor) -> tuple[Tensor, int]:
    """The `Gather` of a single process."""
    return rows, 0


def lifted(x: Tensor) -> Tensor:
    """Half precisions as float32; float32 and float64 as they are."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


def matched(images: Tensor, texts: Tensor) -> Tensor:
    """images [n d], texts [n d] -> the product [n] of each picture with its own sentence."""
    if len(images) != len(texts):
        raise ValueError(f"{len(images)} pictures and {len(texts)} sentences: without targets, expected one for each")
    return (images * texts).sum(1)
