"""The processes of a run and what they exchange: rows with gradient, sums, objects of the main one.

A single process needs no torch.distributed: every method then returns what it was given. Under `torchrun`, whose
environment is read, it is NCCL between GPUs and Gloo between CPUs.

Shapes: n rows of this process, N rows of all of them, P processes.
"""

import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from tandem.errors import ConfigError

# Own rows [n ...] -> the rows of all processes in their order [N ...], and where the own ones begin. With gradient: the
# sum over all processes of the gradients at the own rows.
Gather = Callable[[Tensor], tuple[Tensor, int]]


@dataclass(frozen=True)
class Processes:
    """This process among the others. Every method must be called by all of them, in the same order."""

    rank: int
    count: int
    local_rank: int  # on this machine
    device: torch.device

    @property
    def is_main(self) -> bool:
        """Whether this is the process that writes files and prints."""
        return self.rank == 0

    def gather(self, rows: Tensor) -> tuple[Tensor, int]:
        """A `Gather`; n may differ from process to process, 0 included."""
        if self.count == 1:
            return rows, 0
        counts = self._counts(len(rows))
        joined: Tensor = _Gather.apply(rows, counts, self.rank)  # type: ignore[no-untyped-call]
        return joined, sum(counts[: self.rank])

    def all_sum(self, values: Tensor) -> Tensor:
        """The sum over all processes, without gradient."""
        values = values.detach().clone()
        if self.count > 1:
            dist.all_reduce(values)
        return values

    def sum_gradients(self, parameters: Iterable[nn.Parameter]) -> None:
        """Sum the gradients of parameters that neither DDP nor FSDP wraps over all processes, in one message.

        A parameter without a gradient here counts as zeros: another process may have one.
        """
        if self.count == 1:
            return
        learnt = [parameter for parameter in parameters if parameter.requires_grad]
        for dtype in {parameter.dtype: None for parameter in learnt}:  # a dict: the same order everywhere
            mine = [parameter for parameter in learnt if parameter.dtype == dtype]
            flat = torch.cat([torch.zeros_like(p).flatten() if p.grad is None else p.grad.flatten() for p in mine])
            dist.all_reduce(flat)
            for parameter, part in zip(mine, torch.split(flat, [p.numel() for p in mine]), strict=True):
                parameter.grad = part.view_as(parameter).clone()

    def any(self, flag: bool) -> bool:
        """Whether any process has the flag set: a signal that reaches one of them stops all."""
        return bool(self.all_sum(torch.tensor(float(flag), device=self.device)) > 0)

    def broadcast(self, tensors: Iterable[Tensor]) -> None:
        """Overwrite `tensors` with those of the main process."""
        if self.count > 1:
            with torch.no_grad():
                for tensor in tensors:
                    dist.broadcast(tensor.detach(), 0)

    def broadcast_object(self, value: Any) -> Any:
        """The main process's `value`, any object that can be pickled."""
        if self.count == 1:
            return value
        objects = [value]
        dist.broadcast_object_list(objects, 0, device=self.device)
        return objects[0]

    def barrier(self) -> None:
        """Wait for all processes."""
        if self.count > 1:
            self.all_sum(torch.zeros((), device=self.device)).item()

    def close(self) -> None:
        """Leave the process group."""
        if dist.is_initialized():
            dist.destroy_process_group()

    def _counts(self, rows: int) -> list[int]:
        mine = torch.tensor([rows], device=self.device)
        counts = [torch.empty_like(mine) for _ in range(self.count)]
        dist.all_gather(counts, mine)
        return [int(count) for count in torch.cat(counts).tolist()]


def single_process(device: torch.device | str = "cpu") -> Processes:
    """The only process of a run."""
    return Processes(0, 1, 0, torch.device(device))


def start(device: str = "auto", timeout_s: float = 1800, init_method: str = "env://") -> Processes:
    """This process as its environment describes it; waits for the others.

    device: `auto` (CUDA where there is one), or a device's name; on CUDA a process takes the one of its local rank.
    timeout_s: how long a process waits for another before it gives up.
    Raises `ConfigError` when the device is not available or the environment is not that of `torchrun`.
    """
    count, local_rank = _number("WORLD_SIZE", 1), _number("LOCAL_RANK", 0)
    chosen = _device(device, local_rank)
    if count == 1:
        return single_process(chosen)
    rank = _number("RANK", -1)
    if not 0 <= rank < count:
        raise ConfigError(f"WORLD_SIZE is {count} but RANK is {os.environ.get('RANK')}; start with torchrun")
    backend = "cpu:gloo"
    if chosen.type == "cuda":
        torch.cuda.set_device(chosen)
        backend = "cpu:gloo,cuda:nccl"
    dist.init_process_group(
        backend, init_method=init_method, rank=rank, world_size=count, timeout=timedelta(seconds=timeout_s)
    )
    return Processes(rank, count, local_rank, chosen)


def split_ranges(total: int, parts: int, multiple: int = 1) -> list[slice]:
    """`total` items in `parts` contiguous ranges, as even as possible, the larger ones first.

    multiple: ranges begin and end at multiples of this, but for the end of the last (groups of batch norm must not be
    cut). Ranges are empty where there are fewer groups than parts.
    """
    groups = -(-total // multiple)
    each, more = divmod(groups, parts)
    ends = [min(total, multiple * (each * (i + 1) + min(i + 1, more))) for i in range(parts)]
    return [slice(start, end) for start, end in zip([0, *ends[:-1]], ends, strict=True)]


def _number(name: str, default: int) -> int:
    text = os.environ.get(name, str(default))
    try:
        return int(text)
    except ValueError:
        raise ConfigError(f"{name}: expected a number, as torchrun sets it, got {text!r}") from None


def _device(name: str, local_rank: int) -> torch.device:
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        found = torch.empty(0, device=f"cuda:{local_rank}" if name == "cuda" else name).device
    except (RuntimeError, AssertionError) as error:
        raise ConfigError(f"device: {name} is not available here: {str(error).splitlines()[0]}") from None
    return found


class _Gather(torch.autograd.Function):
    """Forward: the rows of all processes. Backward: the sum over processes of the gradients at the own rows."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor, counts: list[int], rank: int) -> Tensor:
        ctx.counts, ctx.rank = counts, rank
        longest = max(counts)
        padded = rows.new_zeros(longest, *rows.shape[1:])  # backends need equal shapes
        padded[: len(rows)] = rows
        parts = [torch.empty_like(padded) for _ in counts]
        dist.all_gather(parts, padded)
        return torch.cat([part[:count] for part, count in zip(parts, counts, strict=True)])

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        # Twice the bytes of a reduce-scatter, but with uneven rows and on every backend.
        gradient = gradient.contiguous().clone()
        dist.all_reduce(gradient)
        start = sum(ctx.counts[: ctx.rank])
        return gradient[start : start + ctx.counts[ctx.rank]], None, None
