"""The gradient of one step: in one pass, or encoded twice so that a batch of any size fits into memory.

Encoding twice (GradCache, Gao et al. 2021): every micro-batch is encoded without gradient, the loss is taken of the
vectors of the whole batch, and each micro-batch is encoded again, under the same random state, against the gradient at
its vectors. The result is the gradient of the whole batch, whatever the number of micro-batches and processes.

Knows two towers, an objective and tensors; no optimiser, no data and no clock.
Shapes: n images and m texts of this process, t tokens, s pixels a side, d the shared dimension.
"""

from collections.abc import Iterable
from contextlib import nullcontext
from typing import NamedTuple, Protocol, TypeVar

import torch
from torch import Tensor, nn

from tandem.errors import ConfigError
from tandem.train.model import batch_norm
from tandem.train.parallel.process import Gather, Processes, split_ranges
from tandem.train.parallel.wrapping import synchronised
from tandem.train.recipe import Parallel


class Encodable(Protocol):
    """The part of a batch that the towers need; the objective knows the rest."""

    @property
    def pixels(self) -> Tensor: ...  # uint8 [n s s 3]

    @property
    def ids(self) -> Tensor | None:
        """int [m t]: the texts whose vectors the losses need, in the objective's order. None: no process has any."""
        ...

    @property
    def kept(self) -> Tensor | None: ...  # int64 [n k], patches kept; None: all


EncodableT_contra = TypeVar("EncodableT_contra", bound=Encodable, contravariant=True)
BatchT = TypeVar("BatchT", bound=Encodable)


class Objective(Protocol[EncodableT_contra]):
    """Turns vectors into losses. Its parameters are not wrapped: their gradients are summed explicitly."""

    def losses(self, images: Tensor, texts: Tensor, batch: EncodableT_contra, gather: Gather) -> dict[str, Tensor]:
        """images [n d], texts [m d] -> this process's shares by name; `loss` is minimised."""
        ...

    def parameters(self) -> Iterable[nn.Parameter]: ...


class _MicroBatch(NamedTuple):
    pixels: Tensor  # [b s s 3]
    ids: Tensor | None  # [c t], or one row that stands for none; None: no process has a text
    kept: Tensor | None
    texts: int  # c; 0 where a process has fewer texts than micro-batches

    def encode(self, towers: nn.Module, images: bool = True, texts: bool = True) -> tuple[Tensor | None, Tensor | None]:
        """Unit vectors [b d] and [c d]; None for a tower that is not asked for."""
        image_vectors, text_vectors = towers(self.pixels if images else None, self.ids if texts else None, self.kept)
        return image_vectors, None if text_vectors is None else text_vectors[: self.texts]


def gradient(
    towers: nn.Module, objective: Objective[BatchT], batch: BatchT, parallel: Parallel, processes: Processes
) -> dict[str, Tensor]:
    """Add the gradient of the whole batch's loss to the `.grad` of every parameter, None before the call.

    towers: what `wrap` returned; called with (pixels, ids, kept), either of the first two None, it returns unit
    vectors [n d] and [m d]. Statistics of batch norm are collected once and wait for `update_running_stats`. The random
    state afterwards is that of one pass. Returns the losses of the whole batch by name, without gradient, the same on
    every process.
    """
    parts = _micro_batches(batch, parallel, processes)
    states: list[list[Tensor]] = []
    encoded: list[tuple[Tensor | None, Tensor | None]] = []
    two_passes, needs_gradient = len(parts) > 1, [True, True]
    for part in parts:
        states.append(_random_state(processes.device))
        no_grad = torch.no_grad() if two_passes else nullcontext()
        with no_grad, batch_norm.collect_statistics(towers), synchronised(towers, True):
            encoded.append(part.encode(towers))
    images = torch.cat([vectors for vectors, _ in encoded if vectors is not None]).detach().requires_grad_()
    of_texts = [vectors for _, vectors in encoded if vectors is not None] or [images.new_zeros(0, images.shape[1])]
    texts = torch.cat(of_texts).detach().requires_grad_()

    losses = objective.losses(images, texts, batch, processes.gather)
    losses["loss"].backward()  # type: ignore[no-untyped-call]
    processes.sum_gradients(objective.parameters())
    # The gradients of the shares must be summed, and the wrapper of the towers takes their mean.
    image_gradients, text_gradients = (_gradient_of(vectors) * processes.count for vectors in (images, texts))

    last, at_image, at_text = len(parts) - 1, 0, 0
    for index, part in enumerate(parts):
        vectors = encoded[index]
        with synchronised(towers, index == last):
            if two_passes:
                _restore(states[index], processes.device)
                vectors = part.encode(towers, *needs_gradient)
                needs_gradient = [
                    x is not None and x.requires_grad for x in vectors
                ]  # a locked tower is not encoded again
            next_image, next_text = at_image + len(part.pixels), at_text + part.texts
            upstream = [image_gradients[at_image:next_image], text_gradients[at_text:next_text]]
            pairs = [(x, g) for x, g in zip(vectors, upstream, strict=True) if x is not None and x.requires_grad]
            if pairs:
                torch.autograd.backward([x for x, _ in pairs], [g for _, g in pairs])
            at_image, at_text = next_image, next_text
    names = list(losses)
    values = processes.all_sum(torch.stack([losses[name].detach() for name in names]))
    return dict(zip(names, values, strict=True))


def _micro_batches(batch: Encodable, parallel: Parallel, processes: Processes) -> list[_MicroBatch]:
    """The micro-batches of this process; no group of batch norm is cut.

    Every process has as many, since under FSDP all must do the same passes. One without texts encodes a row that no
    loss sees. Raises `ConfigError` if one would have no image, or if two processes would share a group of batch norm.
    """
    count, group = parallel.micro_batches, max(1, parallel.norm_batch)
    if len(batch.pixels) % group and processes.rank < processes.count - 1:
        raise ConfigError(
            f"parallel.norm_batch: process {processes.rank} has {len(batch.pixels)} images, which groups of {group} "
            f"do not fill; take a batch_size that is a multiple of {group} x {processes.count} processes"
        )
    ids = batch.ids
    images, texts = split_ranges(len(batch.pixels), count, group), split_ranges(0 if ids is None else len(ids), count)
    if any(part.start == part.stop for part in images):
        raise ConfigError(
            f"parallel.micro_batches: {count} are more than the {len(batch.pixels)} images of a process (in groups of "
            f"{group}) can fill; ask for fewer, or for a larger batch"
        )
    # Without an end token a row counts as one token.
    no_text = None if ids is None else ids[:1] if len(ids) else ids.new_zeros(1, 1)
    return [
        _MicroBatch(
            batch.pixels[i],
            ids[t] if ids is not None and t.stop > t.start else no_text,
            None if batch.kept is None else batch.kept[i],
            t.stop - t.start,
        )
        for i, t in zip(images, texts, strict=True)
    ]


def _gradient_of(vectors: Tensor) -> Tensor:
    return torch.zeros_like(vectors) if vectors.grad is None else vectors.grad


def _random_state(device: torch.device) -> list[Tensor]:
    return [torch.get_rng_state(), *([torch.cuda.get_rng_state(device)] if device.type == "cuda" else [])]


def _restore(state: list[Tensor], device: torch.device) -> None:
    torch.set_rng_state(state[0])
    if device.type == "cuda":
        torch.cuda.set_rng_state(state[1], device)
