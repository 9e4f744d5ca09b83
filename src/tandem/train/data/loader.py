"""The batches of a run, by step, prepared in worker processes.

A worker takes a step's number and gives its batch; which worker does, and how many there are, changes nothing.
"""

import contextlib
import ctypes
import os
import signal
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from types import FrameType

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from tandem.errors import ConfigError, DataError, TandemError
from tandem.tokenizer import Tokenizer
from tandem.train.data.assemble import Assembler, Parcel, check
from tandem.train.data.batch import Batch
from tandem.train.data.decoding import sound
from tandem.train.data.samples import Samples
from tandem.train.data.sentences import Names, is_paired
from tandem.train.recipe import Recipe

_AHEAD = 2  # batches that wait in each worker
_DIE_WITH_PARENT = 1  # PR_SET_PDEATHSIG of Linux


class Loader:
    """This process's share of every step's batch. Raises `DataError` where the training sets cannot be read."""

    def __init__(self, recipe: Recipe, tokenizer: Tokenizer, *, rank: int = 0, processes: int = 1) -> None:
        check(recipe)
        if recipe.batch_size < processes:
            raise ConfigError(f"batch_size: {recipe.batch_size} pictures cannot be shared by {processes} processes")
        self.recipe = recipe
        self.samples = open_sources(recipe, rank, processes)
        known: list[np.ndarray | None] = [None] * len(self.samples)
        if processes > 1:  # others' pictures matter here where they share sentences, or have several
            known = [None if is_paired(each.source) else sound(each) for each in self.samples]
        self._assembler = Assembler(recipe, tokenizer, self.samples, known, rank, processes)

    def batch(self, step: int) -> Batch:
        """The batch of one step, made here."""
        return self._assembler.parcel(step).open()

    def stream(self, start: int, stop: int) -> Iterator[Batch]:
        """The batches of the steps, in order; made ahead of their use in `recipe.workers` processes (0: here).

        Closing it ends the workers; they end with the thread that began it, whatever ends that. Raises `DataError`
        where a source has nothing to show, or a worker dies.
        """
        if self.recipe.workers == 0 or stop <= start:
            yield from map(self.batch, range(start, stop))
            return
        parcels = _parcels(self._assembler, range(start, stop), self.recipe.workers)
        try:
            while True:
                try:
                    parcel = next(parcels, None)
                except RuntimeError as error:
                    if "exited unexpectedly" not in str(error):
                        raise
                    raise DataError(
                        f"a process that prepares batches died ({str(error).splitlines()[0]}): was there too little "
                        "memory, or room in /dev/shm? Fewer workers= need less; the same command goes on"
                    ) from None
                if parcel is None:
                    return
                if isinstance(parcel, TandemError):
                    raise parcel
                yield parcel.open()
        finally:
            del parcels  # ends the workers

    def all_sentences(self) -> list[str]:
        """Every distinct sentence that any batch can hold, in a fixed order: for vocabularies and teachers."""
        return _sentences(self.samples)

    def left_out(self) -> list[tuple[str, str]]:
        """(key, reason) of what the files hold that can never be drawn: no words, or behind a tar's damage."""
        return [each for samples in self.samples for each in samples.left_out()]


def open_sources(recipe: Recipe, rank: int = 0, processes: int = 1) -> list[Samples]:
    """The samples of each source, indexed where they were not. Raises `DataError`."""
    root = Path(recipe.data_root).expanduser()
    cache = Path(recipe.cache_folder or Path(recipe.folder) / "indexes").expanduser()
    return [Samples(source, root, cache, rank=rank, processes=processes) for source in recipe.data]


def sentences_of(recipe: Recipe) -> list[str]:
    """What `Loader.all_sentences` gives, before there is a tokenizer."""
    return _sentences(open_sources(recipe))


def _sentences(sources: list[Samples]) -> list[str]:
    found: dict[str, None] = {}
    for samples in sources:
        if samples.source.kind == "names":
            found.update(dict.fromkeys(Names(samples.source, tuple(samples.names)).all_sentences()))
        else:
            for texts in samples.all_words():
                found.update(dict.fromkeys(texts))
    return list(found)


# --- workers -------------------------------------------------------------------------------------------------------


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


def _parcels(assembler: Assembler, steps: range, workers: int) -> "Iterator[_Sent | TandemError]":
    before = signal.getsignal(signal.SIGCHLD) if hasattr(signal, "SIGCHLD") else None
    loader = DataLoader(
        _Steps(assembler),
        batch_size=None,
        sampler=steps,
        num_workers=workers,
        prefetch_factor=_AHEAD,
        collate_fn=_as_it_is,
        worker_init_fn=_Beginning(os.getpid()),
        # A fork begins at once and needs no `if __name__` in a caller's script. Children touch no device and no
        # OpenMP, so that what the parent's threads hold does not matter to them.
        multiprocessing_context="fork" if sys.platform == "linux" else "spawn",
    )
    iterator = iter(loader)
    if before is not None:
        with contextlib.suppress(ValueError):  # not in the main thread: then torch has set none either
            signal.signal(signal.SIGCHLD, before)  # torch's would raise anywhere, amid a checkpoint too
    return iterator


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
