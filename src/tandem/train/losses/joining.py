"""How a loss gets the vectors of other processes: by a function it is given.

Letters: n rows of this process, N rows of all of them.
"""

from collections.abc import Callable

from torch import Tensor

# Own rows [n ...] -> the rows of all processes in their order [N ...], and at which of them the own ones begin. With
# gradient: what reaches the result on any process comes back, summed over the processes, to the own rows.
Gather = Callable[[Tensor], tuple[Tensor, int]]


def alone(rows: Tensor) -> tuple[Tensor, int]:
    """The `Gather` of a single process."""
    return rows, 0
