"""One step's gradient: in one pass, or encoded twice so that a batch of any size fits into memory.

Encoding twice (Gao et al. 2021, GradCache): every micro-batch is encoded without gradient, the loss is taken of the
whole batch's vectors, and each micro-batch is encoded again, under the same random state, against the gradient that
reached its vectors. The result is the whole batch's gradient, whatever the number of micro-batches and processes.

Knows two towers, heads and tensors. It knows no optimiser, no data and no clock.
Letters: n pictures and m sentences of this process, t tokens, s pixels a side, d the shared dimension.
"""

from typing import Protocol, TypeVar

from torch import Tensor, nn

from tandem.train.losses import Gather
from tandem.train.parallel.process import Processes
from tandem.train.recipe import Parallel


class Encodable(Protocol):
    """What the towers need of a batch; heads know the rest of it."""

    @property
    def pixels(self) -> Tensor: ...  # uint8 [n s s 3]

    @property
    def ids(self) -> Tensor: ...  # int [m t]: every sentence whose vector a loss needs, in the order heads expect

    @property
    def kept(self) -> Tensor | None: ...  # int64 [n k], patches kept; None: all


Batch = TypeVar("Batch", bound=Encodable, contravariant=True)


class Heads(Protocol[Batch]):
    """What turns vectors into losses. Its parameters are not wrapped: their gradients are summed by hand."""

    def losses(self, images: Tensor, texts: Tensor, batch: Batch, gather: Gather) -> dict[str, Tensor]:
        """images [n d], texts [m d] -> this process's shares by name; `loss` is minimised."""
        ...


def gradient(
    towers: nn.Module, heads: Heads[Batch], batch: Batch, parallel: Parallel, processes: Processes
) -> dict[str, Tensor]:
    """Add the gradient of the whole batch's loss to every parameter's `.grad`, the same on every process.

    towers: what `wrap` returned; called with (pixels, ids, kept), either of the first two None, it returns unit
    vectors [n d] and [m d]. Returns the losses of the whole batch by name, without gradient, the same everywhere.
    """
    raise NotImplementedError
