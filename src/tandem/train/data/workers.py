"""Worker processes: steps in, their batches out, in order. Their number changes no batch.

Torch's loader moves the batches; signals and deaths are handled here. Of a batch it knows only the
pixels, which go through shared memory.
"""

import atexit
import contextlib
import ctypes
import functools
import multiprocessing
import os
import signal
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from multiprocessing.process import BaseProcess
from types import FrameType
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from tandem.errors import DataError, TandemError
from tandem.train.data.assemble import Assembler
from tandem.train.data.batch import Batch

# A fork starts at once and needs no `if __name__` in the caller's script. Children use no device and no OpenMP, so
# locks held by the parent's threads do not matter. On other systems, system libraries do not survive a fork.
START_METHOD = "fork" if sys.platform == "linux" else "spawn"
_PREFETCHED = 2  # batches that wait in each worker
_DIE_WITH_PARENT = 1  # PR_SET_PDEATHSIG of Linux


@dataclass(frozen=True)
class PackedBatch:
    """The wire form of a batch between a worker and its parent: pixels go through shared memory, not through a pipe.

    Nothing else uses it: the parent unpacks it into a `Batch`, and a step makes a `DeviceBatch` of that.
    """

    batch: Batch  # without pixels
    pixels: torch.Tensor

    @staticmethod
    def pack(batch: Batch) -> "PackedBatch":
        """The inverse of `unpack`."""
        return PackedBatch(replace(batch, pixels=np.empty(0, np.uint8)), torch.from_numpy(batch.pixels))

    def unpack(self) -> Batch:
        """The batch; its pixels stay in the shared memory."""
        return replace(self.batch, pixels=self.pixels.numpy())


def batches_from_workers(assembler: Assembler, steps: range, count: int) -> Iterator[Batch]:
    """The batches of the steps, from `count` processes, which end with this generator or the thread that runs it.

    Raises what a worker raised, and `DataError` if one died.
    """
    batches, workers = _start(assembler, steps, count)
    stop = functools.partial(_stop, batches, workers)
    atexit.register(stop)  # runs before multiprocessing's own exit handler, which asks once and waits
    try:
        while True:
            try:
                packed = next(batches, None)
            except (RuntimeError, OSError, EOFError) as error:
                raise _dead_worker_error(workers) or error from None
            if packed is None:
                return
            if isinstance(packed, TandemError):
                raise packed
            yield packed.unpack()
    finally:
        stop()
        atexit.unregister(stop)


def _start(
    assembler: Assembler, steps: range, count: int
) -> tuple[Iterator[PackedBatch | TandemError], list[BaseProcess]]:
    before = signal.getsignal(signal.SIGCHLD) if hasattr(signal, "SIGCHLD") else None
    others = set(multiprocessing.active_children())
    loader = DataLoader(
        _Steps(assembler),
        batch_size=None,
        sampler=steps,
        num_workers=count,
        prefetch_factor=_PREFETCHED,
        collate_fn=_unchanged,
        worker_init_fn=_WorkerInit(os.getpid()),
        multiprocessing_context=START_METHOD,
    )
    batches = iter(loader)
    workers: list[BaseProcess] = [child for child in multiprocessing.active_children() if child not in others]
    if before is not None:
        with contextlib.suppress(ValueError):  # not in the main thread: then torch has set none either
            signal.signal(signal.SIGCHLD, before)  # torch's would raise anywhere, during a checkpoint too
    return batches, workers


def _stop(batches: Any, workers: list[BaseProcess]) -> None:
    """End all workers, even where a traceback still holds torch's iterator, which otherwise ends them when it goes.

    Torch's own way comes first: a process killed while it holds one of its locks would leave that locked. The method is
    private; a torch without it costs the clean end, not the end.
    """
    if (shutdown := getattr(batches, "_shutdown_workers", None)) is not None:
        shutdown()
    for worker in workers:
        worker.kill()
        worker.join()


def _dead_worker_error(workers: list[BaseProcess]) -> DataError | None:
    """The error for a dead worker, which torch reports by one of several exceptions; None if all live."""
    for worker in workers:
        worker.join(1)  # its end may be seen a little after its connection broke
        if worker.exitcode:
            how = f"signal {-worker.exitcode}" if worker.exitcode < 0 else f"code {worker.exitcode}"
            return DataError(
                f"a process that prepares batches died with {how}: too little memory, or room in /dev/shm? "
                "Fewer workers= need less; the same command resumes"
            )
    return None


class _Steps(Dataset["PackedBatch | TandemError"]):
    """Steps as torch's loader sees them. Our errors are returned: torch would wrap them in a traceback."""

    def __init__(self, assembler: Assembler) -> None:
        self.assembler = assembler

    def __getitem__(self, step: int) -> "PackedBatch | TandemError":
        try:
            return PackedBatch.pack(self.assembler.batch(step))
        except TandemError as error:
            return error


def _unchanged(item: object) -> object:
    return item


class _WorkerInit:
    """Set up a worker: it stops when the parent asks it to, not when Ctrl-C or a signal reaches the group."""

    def __init__(self, parent: int) -> None:
        self.parent = parent

    def __call__(self, _: int) -> None:
        os.environ["TOKENIZERS_PARALLELISM"] = "false"  # workers share the cores among themselves
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, _exit_on_second)
        if sys.platform == "linux":
            ctypes.CDLL(None).prctl(_DIE_WITH_PARENT, signal.SIGKILL)
            if os.getppid() != self.parent:
                os._exit(1)


_signals: list[int] = []


def _exit_on_second(number: int, _: FrameType | None) -> None:
    """A scheduler's SIGTERM reaches the whole group while the parent saves; the parent's own SIGTERM comes later."""
    if _signals:
        os._exit(128 + number)
    _signals.append(number)
