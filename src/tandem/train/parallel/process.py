"""The processes of a run and what they exchange: rows with gradient, sums, a word from the first one.

A single process needs no torch.distributed: everything here then returns what it was given. Under `torchrun`, whose
environment is read, it is NCCL between GPUs and Gloo between CPUs.

Shapes: n rows of this process, N rows of all of them, P processes.
"""

import os
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from tandem.errors import ConfigError


@dataclass(frozen=True)
class Processes:
    """This process among the others. Every method must be called by all of them, in the same order."""

    rank: int
    count: int
    local_rank: int  # on this machine
    device: torch.device

    @property
    def first(self) -> bool:
        """Whether this is the one that writes and speaks."""
        return self.rank == 0

    def gather(self, rows: Tensor) -> tuple[Tensor, int]:
        """Own rows [n ...] -> the rows of all processes in their order [N ...], and where the own ones begin.

        n may differ from process to process, 0 included. With gradient: the sum over all processes of what reaches
        the rows there.
        """
        if self.count == 1:
            return rows, 0
        counts = self._counts(len(rows))
        joined: Tensor = _Gather.apply(rows, counts, self.rank)  # type: ignore[no-untyped-call]
        return joined, sum(counts[: self.rank])

    def sum_over(self, values: Tensor) -> Tensor:
        """The sum of the processes' `values`, without gradient."""
        values = values.detach().clone()
        if self.count > 1:
            dist.all_reduce(values)
        return values

    def sum_gradients(self, parameters: Iterable[nn.Parameter]) -> None:
        """Make the gradients of parameters that nothing wraps the sums over all processes; in one message.

        A parameter without a gradient here takes part with zeros: another process may have one.
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
        """Whether any process says so: a signal that reached one of them stops all."""
        return bool(self.sum_over(torch.tensor(float(flag), device=self.device)) > 0)

    def broadcast(self, tensors: Iterable[Tensor]) -> None:
        """Overwrite `tensors` with those of the first process."""
        if self.count > 1:
            with torch.no_grad():
                for tensor in tensors:
                    dist.broadcast(tensor.detach(), 0)

    def tell(self, value: Any) -> Any:
        """The first process's `value`, any plain Python object of the run's own making."""
        if self.count == 1:
            return value
        told = [value]
        dist.broadcast_object_list(told, 0, device=self.device)
        return told[0]

    def barrier(self) -> None:
        """Wait for all."""
        if self.count > 1:
            self.sum_over(torch.zeros((), device=self.device)).item()

    def close(self) -> None:
        """Leave the others."""
        if dist.is_initialized():
            dist.destroy_process_group()

    def _counts(self, rows: int) -> list[int]:
        mine = torch.tensor([rows], device=self.device)
        counts = [torch.empty_like(mine) for _ in range(self.count)]
        dist.all_gather(counts, mine)
        return [int(count) for count in torch.cat(counts).tolist()]


def alone(device: torch.device | str = "cpu") -> Processes:
    """A single process."""
    return Processes(0, 1, 0, torch.device(device))


def start(device: str = "auto", timeout_s: float = 1800, init_method: str = "env://") -> Processes:
    """This process as its environment describes it; it waits here for the others.

    device: `auto` (CUDA where there is one), or a device's name; on CUDA a process takes the one of its local rank.
    timeout_s: how long a process waits for another before it gives up.
    Raises `ConfigError` when the device is not available or the environment is not that of `torchrun`.
    """
    count, local_rank = _number("WORLD_SIZE", 1), _number("LOCAL_RANK", 0)
    chosen = _device(device, local_rank)
    if count == 1:
        return alone(chosen)
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


def shares(total: int, parts: int, multiple: int = 1) -> list[slice]:
    """`total` slots in `parts` contiguous shares, as even as can be, the larger ones first.

    multiple: every share but the last one that holds any begins and ends at a multiple of this (groups of batch norm
    must not be cut). Shares can be empty where there are fewer groups than parts.
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
    """All rows forward; backward, the sum over processes of what reached the own ones."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor, counts: list[int], rank: int) -> Tensor:
        ctx.counts, ctx.rank = counts, rank
        longest = max(counts)
        padded = rows.new_zeros(longest, *rows.shape[1:])  # backends want equal shapes
        padded[: len(rows)] = rows
        parts = [torch.empty_like(padded) for _ in counts]
        dist.all_gather(parts, padded)
        return torch.cat([part[:count] for part, count in zip(parts, counts, strict=True)])

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        # Twice the bytes of a reduce-scatter, but of any shares and on every backend.
        gradient = gradient.contiguous().clone()
        dist.all_reduce(gradient)
        start = sum(ctx.counts[: ctx.rank])
        return gradient[start : start + ctx.counts[ctx.rank]], None, None
