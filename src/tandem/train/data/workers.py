"""Worker processes: steps in, their batches out, in order. How many there are changes no batch.

Torch's loader moves them; what it does about signals and deaths is not left to it. Knows nothing of what is in a batch
but its pixels, which travel in shared memory.
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
from tandem.train.data.assemble import Assembler, Parcel
from tandem.train.data.batch import Batch

# A fork begins at once and needs no `if __name__` in a caller's script. Children touch no device and no OpenMP, so that
# what the parent's threads hold does not matter to them. Elsewhere system libraries do not survive a fork.
START = "fork" if sys.platform == "linux" else "spawn"
_AHEAD = 2  # batches that wait in each worker
_DIE_WITH_PARENT = 1  # PR_SET_PDEATHSIG of Linux


def batches_of(assembler: Assembler, steps: range, count: int) -> Iterator[Batch]:
    """The batches of the steps, from `count` processes, which end with this generator or the thread that runs it.

    Raises what a worker raised, and `DataError` where one died.
    """
    parcels, workers = _begin(assembler, steps, count)
    ending = functools.partial(_end, parcels, workers)
    atexit.register(ending)  # comes before multiprocessing's own end, which asks once and waits
    try:
        while True:
            try:
                parcel = next(parcels, None)
            except (RuntimeError, OSError, EOFError) as error:
                raise _death(workers) or error from None
            if parcel is None:
                return
            if isinstance(parcel, TandemError):
                raise parcel
            yield parcel.open()
    finally:
        ending()
        atexit.unregister(ending)


def _begin(assembler: Assembler, steps: range, count: int) -> "tuple[Iterator[_Sent | TandemError], list[BaseProcess]]":
    before = signal.getsignal(signal.SIGCHLD) if hasattr(signal, "SIGCHLD") else None
    others = set(multiprocessing.active_children())
    loader = DataLoader(
        _Steps(assembler),
        batch_size=None,
        sampler=steps,
        num_workers=count,
        prefetch_factor=_AHEAD,
        collate_fn=_as_it_is,
        worker_init_fn=_Beginning(os.getpid()),
        multiprocessing_context=START,
    )
    parcels = iter(loader)
    workers: list[BaseProcess] = [child for child in multiprocessing.active_children() if child not in others]
    if before is not None:
        with contextlib.suppress(ValueError):  # not in the main thread: then torch has set none either
            signal.signal(signal.SIGCHLD, before)  # torch's would raise anywhere, amid a checkpoint too
    return parcels, workers


def _end(parcels: Any, workers: list[BaseProcess]) -> None:
    """No worker is left, even where a traceback still holds on to torch's iterator, which else ends them when it goes.

    First as torch does it: a process killed while it holds a lock of theirs would leave that locked.
    """
    parcels._shutdown_workers()
    for worker in workers:
        worker.kill()
        worker.join()


def _death(workers: list[BaseProcess]) -> DataError | None:
    """The line for workers of which one is dead: torch meets that with one of several exceptions."""
    for worker in workers:
        worker.join(1)  # its end may be seen a little after its connection broke
        if worker.exitcode:
            how = f"signal {-worker.exitcode}" if worker.exitcode < 0 else f"code {worker.exitcode}"
            return DataError(
                f"a process that prepares batches died with {how}: was there too little memory, or room in /dev/shm? "
                "Fewer workers= need less; the same command goes on"
            )
    return None


@dataclass(frozen=True)
class _Sent:
    """A parcel whose pixels travel in shared memory, not through a pipe."""

    parcel: Parcel
    pixels: torch.Tensor

    def open(self) -> Batch:
        return replace(self.parcel.open(), pixels=self.pixels.numpy())


class _Steps(Dataset["_Sent | TandemError"]):
    """Steps as torch's loader sees them. Errors of ours come back as they are: it would wrap them in a trace."""

    def __init__(self, assembler: Assembler) -> None:
        self.assembler = assembler

    def __getitem__(self, step: int) -> "_Sent | TandemError":
        try:
            parcel = self.assembler.parcel(step)
        except TandemError as error:
            return error
        batch = replace(parcel.batch, pixels=np.empty(0, np.uint8))
        return _Sent(replace(parcel, batch=batch), torch.from_numpy(parcel.batch.pixels))


def _as_it_is(item: object) -> object:
    return item


class _Beginning:
    """What a worker does first: the parent says when it stops, not whoever presses Ctrl-C or ends the whole group."""

    def __init__(self, parent: int) -> None:
        self.parent = parent

    def __call__(self, _: int) -> None:
        os.environ["TOKENIZERS_PARALLELISM"] = "false"  # workers share the cores among themselves
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, _leave_when_asked_twice)
        if sys.platform == "linux":
            ctypes.CDLL(None).prctl(_DIE_WITH_PARENT, signal.SIGKILL)
            if os.getppid() != self.parent:
                os._exit(1)


_asked: list[int] = []


def _leave_when_asked_twice(number: int, _: FrameType | None) -> None:
    """A scheduler's SIGTERM goes to the whole group, and the parent saves first; the parent's own comes after that."""
    if _asked:
        os._exit(128 + number)
    _asked.append(number)
