"""DDP and FSDP2 around a model; the code of the model knows nothing of them.

The caller names the blocks of the model and the parameters that its forward pass never uses. Knows no model of ours, no
objective and no data.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from functools import partial

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from tandem.errors import ConfigError
from tandem.train.parallel.process import Processes
from tandem.train.recipe import Parallel


def wrap(
    towers: nn.Module,
    blocks: Sequence[nn.Module],
    outside: Iterable[nn.Parameter],
    parallel: Parallel,
    processes: Processes,
) -> nn.Module:
    """Towers, on their device -> what is called in their place: DDP, FSDP2 (the same object, sharded), or themselves.

    blocks: modules below `towers` that are checkpointed, compiled and sharded one by one. outside: parameters below
    `towers` that losses use and its forward pass does not (`logit_scale`); they stay whole, and their gradients are
    summed explicitly (`Processes.sum_gradients`).
    Afterwards all processes have the weights and buffers of the main one. Under FSDP the parameters of `towers` become
    DTensors: build the optimiser after this. Names in `state_dict` stay the same, except that DDP adds `module.`: keep
    the bare towers for that.
    Gradients of wrapped parameters are **means** over the processes, as in both libraries.
    Raises `ConfigError` for several processes without a strategy.
    """
    if processes.count > 1 and parallel.strategy == "none":
        raise ConfigError(f"parallel.strategy: expected ddp or fsdp on {processes.count} processes, got none")
    processes.broadcast([*towers.parameters(), *towers.buffers()])
    if parallel.compile:
        # Blocks of a kind share one function, compiled once for each tower, for the last block, and for passes without
        # gradient; beyond the default limit of 8 the rest would run uncompiled.
        config = torch._dynamo.config
        limit = "recompile_limit" if hasattr(config, "recompile_limit") else "cache_size_limit"  # before torch 2.6
        setattr(config, limit, max(64, getattr(config, limit)))
    for block in blocks:
        if parallel.activation_checkpointing:
            block.forward = partial(checkpoint, block.forward, use_reentrant=False)
        if parallel.compile:
            block.compile()  # one block at a time: all of a kind share one compilation
    if processes.count == 1:
        return towers
    if parallel.strategy == "ddp":
        return _ddp(towers, outside, processes)
    return _fsdp(towers, blocks, outside, processes)


@contextmanager
def synchronised(towers: nn.Module, now: bool) -> Iterator[None]:
    """Whether the passes inside, forward and backward, end with the gradients reduced over the processes."""
    if isinstance(towers, nn.parallel.DistributedDataParallel):
        with nullcontext() if now else towers.no_sync():
            yield
        return
    switch: Callable[[bool], None] | None = getattr(towers, "set_requires_gradient_sync", None)
    if switch is not None:
        switch(now)
    yield


def _ddp(towers: nn.Module, outside: Iterable[nn.Parameter], processes: Processes) -> nn.Module:
    excluded = [parameter for parameter in outside if parameter.requires_grad]
    for parameter in excluded:
        parameter.requires_grad_(
            False
        )  # DDP waits for the gradient of every parameter that requires one when it is built
    try:
        if not any(parameter.requires_grad for parameter in towers.parameters()):
            return towers  # both towers are locked: nothing to reduce
        return nn.parallel.DistributedDataParallel(
            towers,
            device_ids=[processes.device] if processes.device.type == "cuda" else None,
            broadcast_buffers=False,  # batch norms synchronise their own statistics
            gradient_as_bucket_view=True,
        )
    finally:
        for parameter in excluded:
            parameter.requires_grad_(True)


def _fsdp(
    towers: nn.Module, blocks: Sequence[nn.Module], outside: Iterable[nn.Parameter], processes: Processes
) -> nn.Module:
    try:
        from torch.distributed.device_mesh import init_device_mesh
        from torch.distributed.fsdp import fully_shard
    except ImportError:
        raise ConfigError(
            f"parallel.strategy: fsdp needs torch 2.6 or later, this is {torch.__version__}; use ddp"
        ) from None
    mesh = init_device_mesh(processes.device.type, (processes.count,))
    for block in blocks:
        fully_shard(block, mesh=mesh)
    fully_shard(towers, mesh=mesh, ignored_params=set(outside))
    return towers
