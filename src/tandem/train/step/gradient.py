"""One step's gradient: in one pass, or encoded twice so that a batch of any size fits into memory.

Encoding twice (Gao et al. 2021, GradCache): every micro-batch is encoded without gradient, the loss is taken of the
whole batch's vectors, and each micro-batch is encoded again, under the same random state, against the gradient that
reached its vectors. The result is the whole batch's gradient, whatever the number of micro-batches and processes.

Knows two towers, heads and tensors. It knows no optimiser, no data and no clock.
Shapes: n pictures and m sentences of this process, t tokens, s pixels a side, d the shared dimension.
"""

from collections.abc import Iterable
from contextlib import nullcontext
from typing import Protocol, TypeVar

import torch
from torch import Tensor, nn

from tandem.errors import ConfigError
from tandem.train.model import batch_norm
from tandem.train.objective.losses import Gather
from tandem.train.parallel.process import Processes, shares
from tandem.train.parallel.wrapping import synchronised
from tandem.train.recipe import Parallel


class Encodable(Protocol):
    """What the towers need of a batch; heads know the rest of it."""

    @property
    def pixels(self) -> Tensor: ...  # uint8 [n s s 3]

    @property
    def ids(self) -> Tensor: ...  # int [m t]: every sentence whose vector a loss needs, in the order heads expect

    @property
    def kept(self) -> Tensor | None: ...  # int64 [n k], patches kept; None: all


EncodableT_contra = TypeVar("EncodableT_contra", bound=Encodable, contravariant=True)
Batch = TypeVar("Batch", bound=Encodable)


class Heads(Protocol[EncodableT_contra]):
    """What turns vectors into losses. Its parameters are not wrapped: their gradients are summed by hand."""

    def losses(self, images: Tensor, texts: Tensor, batch: EncodableT_contra, gather: Gather) -> dict[str, Tensor]:
        """images [n d], texts [m d] -> this process's shares by name; `loss` is minimised."""
        ...

    def parameters(self) -> Iterable[nn.Parameter]: ...


def gradient(
    towers: nn.Module, heads: Heads[Batch], batch: Batch, parallel: Parallel, processes: Processes
) -> dict[str, Tensor]:
    """Add the gradient of the whole batch's loss to the `.grad` of every parameter, None before the call.

    towers: what `wrap` returned; called with (pixels, ids, kept), either of the first two None, it returns unit
    vectors [n d] and [m d]. Batch norm's statistics are counted once and wait for `batch_norm.update`. The random state
    afterwards is that of one pass. Returns the losses of the whole batch by name, without gradient, the same on every
    process.
    """
    parts = _micro_batches(batch, parallel, processes)
    states: list[list[Tensor]] = []
    encoded: list[tuple[Tensor, Tensor]] = []
    twice, learns = len(parts) > 1, [True, True]
    for pixels, ids, kept in parts:
        states.append(_random_state(processes.device))
        with torch.no_grad() if twice else nullcontext(), batch_norm.counted(towers), synchronised(towers, True):
            encoded.append(towers(pixels, ids, kept))
    images, texts = (torch.cat(vectors).detach().requires_grad_() for vectors in zip(*encoded, strict=True))

    losses = heads.losses(images, texts, batch, processes.gather)
    losses["loss"].backward()  # type: ignore[no-untyped-call]
    processes.sum_gradients(heads.parameters())
    # The shares' gradients are to be summed, and what wraps the towers takes their mean.
    image_gradients, text_gradients = (_gradient_of(vectors) * processes.count for vectors in (images, texts))

    last, at_image, at_text = len(parts) - 1, 0, 0
    for index, (pixels, ids, kept) in enumerate(parts):
        vectors: list[Tensor | None] = list(encoded[index])
        with synchronised(towers, index == last):
            if twice:
                _restore(states[index], processes.device)
                vectors = towers(pixels if learns[0] else None, ids if learns[1] else None, kept)
                learns = [x is not None and x.requires_grad for x in vectors]  # a locked tower is not run again
            next_image, next_text = at_image + len(pixels), at_text + len(ids)
            given = [image_gradients[at_image:next_image], text_gradients[at_text:next_text]]
            learnt = [(x, g) for x, g in zip(vectors, given, strict=True) if x is not None and x.requires_grad]
            if learnt:
                torch.autograd.backward([x for x, _ in learnt], [g for _, g in learnt])
            at_image, at_text = next_image, next_text
    names = list(losses)
    values = processes.sum_over(torch.stack([losses[name].detach() for name in names]))
    return dict(zip(names, values, strict=True))


def _micro_batches(
    batch: Encodable, parallel: Parallel, processes: Processes
) -> list[tuple[Tensor, Tensor, Tensor | None]]:
    """Pixels, ids and patches kept of each micro-batch; no group of batch norm is cut.

    Their number is the recipe's everywhere, since under FSDP every process must do as many passes. Raises `ConfigError`
    where one would be empty, or where a group of batch norm is cut between two processes.
    """
    count, group = parallel.micro_batches, max(1, parallel.norm_batch)
    if len(batch.pixels) % group and processes.rank < processes.count - 1:
        raise ConfigError(
            f"parallel.norm_batch: process {processes.rank} has {len(batch.pixels)} pictures, which groups of {group} "
            f"do not fill; take a batch_size that is a multiple of {group} x {processes.count} processes"
        )
    pictures, sentences = shares(len(batch.pixels), count, group), shares(len(batch.ids), count)
    if any(part.start == part.stop for part in pictures + sentences):
        raise ConfigError(
            f"parallel.micro_batches: {count} are more than a process's {len(batch.pixels)} pictures (in groups of "
            f"{group}) and {len(batch.ids)} sentences can fill; ask for fewer, or for a larger batch"
        )
    return [
        (batch.pixels[p], batch.ids[s], None if batch.kept is None else batch.kept[p])
        for p, s in zip(pictures, sentences, strict=True)
    ]


def _gradient_of(vectors: Tensor) -> Tensor:
    return torch.zeros_like(vectors) if vectors.grad is None else vectors.grad


def _random_state(device: torch.device) -> list[Tensor]:
    return [torch.get_rng_state(), *([torch.cuda.get_rng_state(device)] if device.type == "cuda" else [])]


def _restore(state: list[Tensor], device: torch.device) -> None:
    torch.set_rng_state(state[0])
    if device.type == "cuda":
        torch.cuda.set_rng_state(state[1], device)
