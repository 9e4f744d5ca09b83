"""Sources -> a collection: walked, read and decoded in threads, encoded, recorded, all at the same time.

Three threads' worth of stages behind bounded queues: the decoders (`preparing`), the encoder, and the caller's own
thread, which alone writes (`recording`). Memory does not grow with the number of files. Knows no command line.
"""

import contextlib
import os
import queue
import sqlite3
import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from importlib.metadata import PackageNotFoundError, version
from itertools import islice
from pathlib import Path
from typing import BinaryIO, TypeAlias, TypeVar

import numpy as np

from tandem.ahead import in_order
from tandem.errors import DataError, EngineError
from tandem.model import Model
from tandem.search import shards, sources
from tandem.search import store as stores
from tandem.search.ledger import AT_ONCE, SHARD, UNKNOWN, Ledger, Seen
from tandem.search.preparing import Claims, Outcome, Recipe, prepare
from tandem.search.recording import Recorder, Tally, paths_of
from tandem.search.sources import Entry, SetAside, Shard
from tandem.search.store import Store

SHARD_ENTRIES_AT_ONCE = 64  # they may carry pictures
BATCHES_WAITING = 2  # between the encoder and the writer
PROGRESS_EVERY_S = 0.1
RATE_OVER_S = 20.0

_T = TypeVar("_T")
ModelOrLoader: TypeAlias = Model | Callable[[], Model]


@dataclass(frozen=True)
class Progress:
    """How far a run is. `total` is None until the sources have been walked to their end."""

    done: int
    found: int  # until now, by the walk that runs ahead
    total: int | None
    set_aside: int
    seconds: float
    rate: float  # places a second, of those that had to be read
    seconds_left: float | None


@dataclass(frozen=True)
class Report:
    """What a run came to, counted in places (files, members of tars, rows)."""

    added: int  # with a picture that was not in the collection
    unchanged: int
    duplicates: int  # further places of pictures that are there
    moved: int  # new places of pictures whose old place is gone
    changed: int  # they hold another picture than before
    pruned: int  # taken out, since they are gone
    failures: list[SetAside]
    total: int  # pictures in the collection now
    fast: int  # of these, with vectors from pictures that shrank while they were decoded
    seconds: float
    rate: float  # places that were read, a second

    @property
    def not_retried(self) -> int:
        """Of the failures: files that failed before and have not changed since."""
        return sum(not failure.retried for failure in self.failures)


@dataclass(frozen=True)
class _Finished:
    """Behind the last entry of a shard: with its own reason where it was damaged."""

    shard: Shard
    reason: str | None = None


def index(
    store: Store,
    model: ModelOrLoader,
    sources: Sequence[str | Path],
    *,
    ledger: Ledger,
    prune: bool = False,
    fast_decode: bool = False,
    caption: str | None = None,
    batch_size: int = 32,
    standard_input: BinaryIO | None = None,
    on_progress: Callable[[Progress], None] | None = None,
) -> Report:
    """Put the pictures of the sources into a collection; what is there and has not changed is not read.

    Args:
        store: open for writing, with the columns of `picture.COLUMNS`. Written to in the caller's thread only.
        model: a model, or what loads one: it is called when there is something to read.
        sources: folders, globs, files, tars, Parquet, `-` for a list of paths on standard input.
        ledger: the collection's own.
        prune: take out places under the sources that are gone, and pictures without a place.
        fast_decode: let large JPEGs shrink while they are decoded.
        caption: the key or column of captions; the usual names are tried if None.
        batch_size: pictures encoded, and committed, at once.
        on_progress: called in the caller's thread, a few times a second.

    Raises: `TandemError` for sources that cannot be used, before anything is done; `EngineError`, `StoreError`. What
    is wrong with single pictures is in the report. Stopped at any moment, what was committed stays, and running again
    ends in the same collection.
    """
    run = Run(store, sources, ledger, caption=caption, standard_input=standard_input, on_progress=on_progress)
    with run:

        def made() -> Iterator[list[Outcome | _Finished]]:
            yield from _batches(run, model, fast_decode, batch_size)

        with contextlib.closing(_in_thread(made())) as batches:
            for batch in batches:
                run.record(batch)
        return run.finish(prune)


class Run:
    """What local and distributed indexing share: what has to be read, what is written down, and the report."""

    def __init__(
        self,
        store: Store,
        named: Sequence[str | Path],
        ledger: Ledger,
        *,
        caption: str | None = None,
        standard_input: BinaryIO | None = None,
        on_progress: Callable[[Progress], None] | None = None,
    ) -> None:
        self.sources = sources.find(
            named,
            is_collection=stores.exists,
            caption=caption,
            standard_input=standard_input,
        )
        self.store, self.ledger = store, ledger
        self.caption = caption
        self.tally, self.skipped, self.claims = Tally(), Tally(), Claims()  # of the writing and of the walking thread
        self.recorder = Recorder(store, ledger, self.claims, self._left, self.tally)
        self._finished: list[_Finished] = []
        self._missing: list[str] = []
        self._clock = _Clock(self, on_progress) if on_progress is not None else None
        self._began = time.perf_counter()
        self.read = 0  # places that had to be read

    def __enter__(self) -> "Run":
        try:
            _make_good(self.store, self.ledger)
        except BaseException:
            self.sources.__exit__()
            raise
        if self._clock is not None:
            self._clock.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._clock is not None:
            self._clock.stop()
        self.sources.__exit__()
        if self.recorder.is_whole:  # whatever ended the run
            self.ledger.write_down({"settled": "yes"})

    def unread(self) -> Iterator[Entry | _Finished]:
        """The entries that have to be read. The others are counted here."""
        for some in _chunks(self.sources.items(), AT_ONCE):
            yield from self._unread(some)

    def _unread(self, items: Sequence[sources.Item]) -> Iterator[Entry | _Finished]:
        seen = self.ledger.lookup([item.path for item in items])
        for item in items:
            earlier = seen.get(item.path)
            if isinstance(item, SetAside):
                self._could_not_look(item, earlier)
            elif isinstance(item, Shard):
                yield from self._unread_of(item, earlier)
            elif earlier is not None and earlier.is_as(item.stamp):
                self._skip(earlier)
            else:
                self.read += 1
                yield item

    def _unread_of(self, shard: Shard, earlier: Seen | None) -> Iterator[Entry | _Finished]:
        """The entries of a shard; none of one that has not changed as a file."""
        inside = _inside(shard)
        try:
            if earlier is not None and earlier.is_as(shard.stamp) and not shards.holds_paths(shard):
                for prefix in inside:
                    pictures, reasons = self.ledger.counts_under(prefix)
                    self.skipped.unchanged += pictures
                    if reasons:
                        for known in self.ledger.under(prefix):
                            if known.reason is not None:
                                self._remembered(known)
                if earlier.reason is not None:
                    self._remembered(earlier)
                return
            for some in _chunks(shards.entries(shard, self.caption), SHARD_ENTRIES_AT_ONCE):
                yield from self._unread(some)
        except DataError as error:
            yield _Finished(shard, str(error).removeprefix(f"{shard.path}: "))
        else:
            yield _Finished(shard)

    def record(self, batch: Iterable[Outcome | _Finished]) -> None:
        """Write a batch down, in the store first."""
        items = list(batch)
        self.recorder.write([item for item in items if isinstance(item, Outcome)])
        self._finished += [item for item in items if isinstance(item, _Finished)]
        if self.recorder.is_settled and self._finished:
            for finished in self._finished:
                if finished.reason is not None:
                    self.tally.set_aside += 1
                    self.tally.failures.append(SetAside(finished.shard.path, finished.reason))
            self.ledger.note(Seen(one.shard.path, one.shard.stamp, SHARD, one.reason) for one in self._finished)
            self._finished = []
        self.tick()

    def finish(self, prune: bool) -> Report:
        """What has to wait for the end: what was lost, what is gone. Gives the report."""
        if prune:
            self._prune()
        self.recorder.finish()
        seconds = time.perf_counter() - self._began
        self.tick(last=True)
        done, skipped = self.tally, self.skipped
        return Report(
            added=done.added,
            unchanged=done.unchanged + skipped.unchanged,
            duplicates=done.duplicates,
            moved=done.moved,
            changed=done.changed,
            pruned=done.pruned,
            failures=[*skipped.failures, *done.failures],
            total=self.store.count(),
            fast=self.store.count("decoding = 'fast'"),
            seconds=seconds,
            rate=self.read / seconds if seconds > 0 else 0.0,
        )

    def tick(self, *, last: bool = False) -> None:
        """Show how far it is. To be called in the caller's thread."""
        if self._clock is not None:
            self._clock.show(at_once=last)

    # --- what is not read ----------------------------------------------------------------------------------------

    def _skip(self, earlier: Seen) -> None:
        if earlier.reason is None or earlier.id is not None:
            self.skipped.unchanged += 1
        if earlier.reason is not None:
            self._remembered(earlier)

    def _remembered(self, earlier: Seen) -> None:
        self.skipped.failures.append(SetAside(earlier.path, earlier.reason or "", retried=False))
        self.skipped.set_aside += earlier.id in (None, SHARD)

    def _could_not_look(self, item: SetAside, earlier: Seen | None) -> None:
        if item.missing and earlier is not None and earlier.id is not None:
            self._missing.append(item.path)
        self.skipped.failures.append(item)
        self.skipped.set_aside += 1

    # --- what is gone --------------------------------------------------------------------------------------------

    def _left(self, path: str) -> bool:
        """Whether the file at a place was moved away: it is gone, and its disk is there as far as can be seen."""
        return sources.is_gone(path) and (self.sources.is_there(path) or os.path.isdir(os.path.dirname(path)))

    def _prune(self) -> None:
        """Find the places that are gone from the sources, and let the pictures lose them."""
        missing = set(self._missing)
        known = [one for one in self.skipped.failures if one.path not in missing]
        self.skipped.set_aside -= len(self.skipped.failures) - len(known)
        self.skipped.failures = known
        for some in self.store.scan(columns=["paths"], vectors=False):
            lost: list[tuple[str, str]] = []
            for index, id in enumerate(some.ids):
                for path in paths_of(some.row(index)):
                    if path in missing or (
                        self.sources.covers(path) and self._is_gone(path) and self.sources.is_there(path)
                    ):
                        lost.append((path, id))
            if lost:
                self.tally.pruned += len(lost)
                self.ledger.note(leaving=lost, gone=[path for path, _ in lost])

    def _is_gone(self, path: str) -> bool:
        if sources.is_gone(path):
            return True
        shard = sources.shard_of(path)
        if shard is None or not os.path.isfile(shard):
            return False
        seen = self.ledger.lookup([shard, path])
        whole, mine = seen.get(shard), seen.get(path)
        # Read to its end as it is now, and this place was not in it
        return whole is not None and whole.reason is None and (mine is None or not mine.is_as(whole.stamp))


class _Clock:
    """Tells how far a run is. Walks the sources in a thread of its own, ahead of the run, to know how much there is."""

    def __init__(self, run: Run, on_progress: Callable[[Progress], None]) -> None:
        self._run, self._on_progress = run, on_progress
        self._found, self._total, self._stopped = 0, False, False
        self._shown = 0.0
        self._past: deque[tuple[float, int]] = deque()  # (when, done): what the rate is taken from

    def start(self) -> None:
        self._began = time.perf_counter()
        self._past.append((self._began, 0))
        threading.Thread(target=self._count, name="counter", daemon=True).start()

    def stop(self) -> None:
        self._stopped = True

    def show(self, *, at_once: bool = False) -> None:
        now = time.perf_counter()
        if not at_once and now - self._shown < PROGRESS_EVERY_S:
            return
        self._shown = now
        run = self._run
        done = run.tally.done + run.skipped.done
        self._past.append((now, done))
        while len(self._past) > 2 and now - self._past[0][0] > RATE_OVER_S:
            self._past.popleft()
        (then, before), total = self._past[0], max(self._found, done) if self._total else None
        rate = (done - before) / (now - then) if now > then else 0.0
        self._on_progress(
            Progress(
                done=done,
                found=max(self._found, done),
                total=total,
                set_aside=run.tally.set_aside + run.skipped.set_aside,
                seconds=now - self._began,
                rate=rate,
                seconds_left=(total - done) / rate if total is not None and rate > 0 else None,
            )
        )

    def _count(self) -> None:
        ledger = self._run.ledger
        with contextlib.suppress(DataError, OSError, sqlite3.ProgrammingError):  # it only ever informs
            for item in self._run.sources.items():
                if self._stopped:
                    return
                if not isinstance(item, Shard):
                    self._found += 1
                    continue
                known = ledger.lookup([item.path]).get(item.path)
                if known is not None and known.is_as(item.stamp):
                    self._found += sum(ledger.counts_under(prefix)[0] for prefix in _inside(item))
                else:
                    with contextlib.suppress(DataError):
                        self._found += shards.length(item)
            self._total = True


# --- decoding and encoding -----------------------------------------------------------------------------------------


def _batches(run: Run, model: ModelOrLoader, fast_decode: bool, batch_size: int) -> Iterator[list[Outcome | _Finished]]:
    """What has to be read, prepared in threads and encoded."""
    unread = run.unread()
    first = next(unread, None)
    if first is None:
        return
    loaded = model if isinstance(model, Model) else model()
    recipe = Recipe.of(loaded, fast_decode=fast_decode, caption=run.caption)

    def known(id: str) -> bool:
        return len(run.store.get([id], columns=[], vectors=False)) > 0

    def prepared(item: Entry | _Finished) -> Outcome | _Finished:
        return item if isinstance(item, _Finished) else prepare(item, recipe, known, run.claims)

    def everything() -> Iterator[Entry | _Finished]:
        yield first
        yield from unread

    with contextlib.closing(in_order(prepared, everything(), ahead=2 * batch_size)) as outcomes:
        batch: list[Outcome | _Finished] = []
        fresh = 0
        for outcome in outcomes:
            batch.append(outcome)
            fresh += isinstance(outcome, Outcome) and outcome.pixels is not None
            if fresh == batch_size or len(batch) >= 8 * batch_size:
                yield encoded(batch, loaded)
                batch, fresh = [], 0
        if batch:
            yield encoded(batch, loaded)


def encoded(batch: Sequence[Outcome | _Finished], model: Model) -> list[Outcome | _Finished]:
    """The same, with vectors in the place of pixels. Raises `EngineError` for vectors that are not finite."""
    pixels = [item.pixels for item in batch if isinstance(item, Outcome) and item.pixels is not None]
    if not pixels:
        return list(batch)
    vectors = model.engine.encode_images(np.stack(pixels))  # [n h w 3] -> [n d]
    if not np.isfinite(vectors).all():
        raise EngineError(
            f"{model.name}: its vectors are not finite; the weights are damaged, or overflow in "
            f"{model.engine.precision}: try precision float32"
        )
    rows = iter(vectors)
    return [
        replace(item, pixels=None, vector=next(rows)) if isinstance(item, Outcome) and item.pixels is not None else item
        for item in batch
    ]


def _in_thread(
    batches: Iterator[list[Outcome | _Finished]],
) -> Generator[list[Outcome | _Finished], None, None]:
    """Batches made in a thread of their own, a few ahead. Closing it ends the thread at its next batch."""
    ready: queue.Queue[list[Outcome | _Finished] | BaseException | None] = queue.Queue(BATCHES_WAITING)
    stopped = threading.Event()

    def put(item: list[Outcome | _Finished] | BaseException | None) -> None:
        while not stopped.is_set():
            with contextlib.suppress(queue.Full):
                ready.put(item, timeout=0.1)
                return

    def work() -> None:
        try:
            for batch in batches:
                put(batch)
                if stopped.is_set():
                    break
            put(None)
        except BaseException as error:  # raised again where the batches are used
            put(error)
        finally:
            close = getattr(batches, "close", None)
            if close is not None:
                close()

    thread = threading.Thread(target=work, name="encoder", daemon=True)
    thread.start()
    try:
        while (item := ready.get()) is not None:
            if isinstance(item, BaseException):
                raise item
            yield item
    finally:
        stopped.set()
        thread.join()


# --- the ledger beside the store -----------------------------------------------------------------------------------


def _make_good(store: Store, ledger: Ledger) -> None:
    """Let the ledger know what the store knows, where a run was cut short, or the ledger is new or was lost.

    Until the run has ended, it counts as cut short.
    """
    if store.count() == 0:
        ledger.forget_pictures()  # someone emptied the collection
    elif ledger.about("settled") != "yes":
        for some in store.scan(columns=["paths"], vectors=False):
            places = [(path, id) for index, id in enumerate(some.ids) for path in paths_of(some.row(index))]
            for chunk in _chunks(places, AT_ONCE):
                known = ledger.lookup([path for path, _ in chunk])
                # Two pictures that claim one place: the file will be read, and the one that it is not loses it.
                torn = [(path, id) for path, id in chunk if path in known and known[path].id not in (None, id)]
                torn += [(path, str(known[path].id)) for path, _ in torn]
                unknown = [Seen(path, UNKNOWN, id) for path, id in chunk if path not in known or (path, id) in torn]
                ledger.note(unknown, leaving=torn)
    readers = _readers()
    if ledger.about("readers") != readers:
        ledger.forget_reasons()  # what could not be decoded before may be now
    ledger.write_down({"settled": "no", "readers": readers})


def _readers() -> str:
    """What decodes pictures here."""
    found = []
    for package in ("pillow", "pillow-heif", "pillow-avif-plugin"):
        with contextlib.suppress(PackageNotFoundError):
            found.append(f"{package} {version(package)}")
    return ", ".join(found)


def _inside(shard: Shard) -> tuple[str, ...]:
    return (f"{shard.path}/", f"{shard.path}#")


def _chunks(items: Iterable[_T], size: int) -> Iterator[list[_T]]:
    iterator = iter(items)
    while some := list(islice(iterator, size)):
        yield some
