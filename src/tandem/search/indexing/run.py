"""One run of indexing: what has to be read, what is written down, and the report at its end.

What happens between the two, here or on other machines, is its caller's business. Knows no model.
"""

import contextlib
import sqlite3
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from tandem.errors import DataError, TandemError
from tandem.search.indexing import settling, shards, sources
from tandem.search.indexing.ledger import AT_ONCE, SHARD, Ledger, Seen
from tandem.search.indexing.places import Entry, Item, SetAside, Shard
from tandem.search.indexing.preparing import Claims, Outcome
from tandem.search.indexing.progress import Clock, Progress
from tandem.search.indexing.recording import Recorder, Tally
from tandem.search.indexing.settling import chunks
from tandem.search.stores import backends as stores
from tandem.search.stores.protocol import Store

SHARD_ENTRIES_AT_ONCE = 64  # they may carry pictures


@dataclass(frozen=True)
class Options:
    """How a run is done, here or on other machines. Raises `TandemError` for what makes no sense."""

    prune: bool = False  # take out places under the sources that are gone, and pictures without a place
    fast_decode: bool = False  # let large JPEGs shrink while they are decoded
    caption: str | None = None  # the key or column of captions; the usual names are tried if None
    batch_size: int = 32  # pictures encoded, and committed, at once
    standard_input: BinaryIO | None = None  # what `-` reads; the process' own if None
    on_progress: Callable[[Progress], None] | None = None  # called in the caller's thread, a few times a second

    def __post_init__(self) -> None:
        if self.batch_size < 1:
            raise TandemError(f"batch_size: expected at least 1, got {self.batch_size}")


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
        """Of the failures: what failed before and has not changed since."""
        return sum(not failure.retried for failure in self.failures)


@dataclass(frozen=True)
class Finished:
    """Behind the last entry of a shard; with a reason where the shard is damaged."""

    shard: Shard
    reason: str | None = None


def check_not_empty(named: Sequence[str | Path], caption: str | None = None) -> None:
    """That something is there to read, as far as the first picture in tars and Parquet files. Raises `TandemError`."""
    empty, damaged = [], []
    with sources.find(named, is_collection=stores.exists, caption=caption) as found:
        for item in found.items():
            if not isinstance(item, Shard):
                return
            try:
                if next(shards.entries(item, caption), None) is not None:
                    return
                empty.append(item.path)
            except DataError as error:
                damaged.append(str(error))
    if damaged:
        raise DataError(damaged[0])
    names = ", ".join(empty[:3] or map(str, named)) + (", ..." if len(empty) > 3 else "")
    raise TandemError(f"nothing to index: no pictures in {names}")


class Run:
    """A run, as local and distributed indexing share it: `with run:`, `unread`, `record`, at the end `finish`.

    `unread` may be drawn from in another thread than the one that records.
    """

    def __init__(
        self,
        store: Store,
        named: Sequence[str | Path],
        ledger: Ledger,
        options: Options,
    ) -> None:
        self.store, self.ledger, self.options = store, ledger, options
        self.claims = Claims()
        self._recorded, self._skipped = Tally(), Tally()  # each of one thread
        self._read = 0  # places that had to be read
        self._finished: list[Finished] = []
        self._missing: set[str] = set()
        self._began = time.perf_counter()
        self._resources = contextlib.ExitStack()
        self._sources = sources.find(
            named, is_collection=stores.exists, caption=options.caption, standard_input=options.standard_input
        )
        self._recorder = Recorder(store, ledger, self.claims, settling.was_left(self._sources), self._recorded)
        self._clock = Clock(self._counts, options.on_progress) if options.on_progress is not None else None

    def __enter__(self) -> "Run":
        with contextlib.ExitStack() as resources:
            resources.enter_context(self._sources)
            # Damaged EXIF is no news to users: PIL would say so once for every such file.
            resources.enter_context(warnings.catch_warnings())
            warnings.filterwarnings("ignore", category=UserWarning, module=r"PIL\.")
            settling.begin(self.store, self.ledger)
            if self._clock is not None:
                self._clock.start()
                resources.callback(self._clock.stop)
            self._resources = resources.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._resources.close()
        if self._recorder.is_whole:  # whatever ended the run
            settling.end(self.ledger)

    # --- what has to be read -------------------------------------------------------------------------------------

    def unread(self) -> Iterator[Entry | Finished]:
        """The entries that have to be read. The others are counted here."""
        for some in chunks(self._sources.items(), AT_ONCE):
            yield from self._unread(some)

    def _unread(self, items: Sequence[Item]) -> Iterator[Entry | Finished]:
        seen = self.ledger.lookup([item.path for item in items])
        for item in items:
            earlier = seen.get(item.path)
            if isinstance(item, SetAside):
                if item.missing and earlier is not None and earlier.id is not None:
                    self._missing.add(item.path)
                self._set_aside(item)
            elif isinstance(item, Shard):
                yield from self._unread_of(item, earlier)
            elif earlier is not None and earlier.is_as(item.stamp):
                self._skip(earlier)
            else:
                self._read += 1
                yield item

    def _unread_of(self, shard: Shard, earlier: Seen | None) -> Iterator[Entry | Finished]:
        """The entries of a shard; none of one that has not changed as a file, whose pictures are inside it."""
        try:
            if earlier is not None and earlier.is_as(shard.stamp) and not shards.holds_paths(shard):
                self._skip_whole(shard, earlier)
                return
            for some in chunks(shards.entries(shard, self.options.caption), SHARD_ENTRIES_AT_ONCE):
                yield from self._unread(some)
        except DataError as error:
            yield Finished(shard, str(error).removeprefix(f"{shard.path}: "))
        else:
            yield Finished(shard)

    def _skip(self, earlier: Seen) -> None:
        self._skipped.unchanged += earlier.id is not None
        if earlier.reason is not None:
            failure = SetAside(earlier.path, earlier.reason, retried=False)
            self._set_aside(failure, counted=earlier.id is not None)

    def _skip_whole(self, shard: Shard, earlier: Seen) -> None:
        for prefix in _inside(shard):
            pictures, reasons = self.ledger.counts_under(prefix)
            self._skipped.unchanged += pictures
            for known in self.ledger.under(prefix) if reasons else ():
                if known.reason is not None:
                    self._set_aside(SetAside(known.path, known.reason, retried=False), counted=known.id is not None)
        if earlier.reason is not None:
            self._set_aside(SetAside(shard.path, earlier.reason, retried=False))

    def _set_aside(self, failure: SetAside, *, counted: bool = False) -> None:
        self._skipped.failures.append(failure)
        self._skipped.set_aside += not counted

    def _counts(self) -> Iterator[int]:
        """How many places there are, in parts."""
        with contextlib.suppress(OSError, sqlite3.Error):  # it only informs
            for item in self._sources.items():
                if not isinstance(item, Shard):
                    yield 1
                    continue
                known = self.ledger.lookup([item.path]).get(item.path)
                with contextlib.suppress(DataError):
                    if known is not None and known.is_as(item.stamp) and not shards.holds_paths(item):
                        yield sum(sum(self.ledger.counts_under(prefix)) for prefix in _inside(item))
                    else:
                        yield shards.length(item)

    # --- what is written down ------------------------------------------------------------------------------------

    def record(self, batch: Iterable[Outcome | Finished]) -> None:
        """Write a batch down, in the store first. Shards count as read when all before them is written."""
        items = list(batch)
        self._recorder.write([item for item in items if isinstance(item, Outcome)])
        self._finished += [item for item in items if isinstance(item, Finished)]
        if self._recorder.is_settled and self._finished:
            for one in self._finished:
                if one.reason is not None:
                    self._recorded.set_aside += 1
                    self._recorded.failures.append(SetAside(one.shard.path, one.reason))
            self.ledger.note(Seen(one.shard.path, one.shard.stamp, SHARD, one.reason) for one in self._finished)
            self._finished = []
        self.tell()

    def finish(self) -> Report:
        """What has to wait for the end: what was lost, what is gone. Gives the report."""
        recorded, skipped = self._recorded, self._skipped
        self._recorder.give_up()
        if self.options.prune:
            kept = [one for one in skipped.failures if one.path not in self._missing]
            skipped.set_aside -= len(skipped.failures) - len(kept)
            skipped.failures = kept
            recorded.pruned = settling.mark_gone(self.store, self.ledger, self._sources, self._missing)
        settling.let_go(self.store, self.ledger)
        self.tell(at_once=True)
        seconds = time.perf_counter() - self._began
        return Report(
            added=recorded.added,
            unchanged=recorded.unchanged + skipped.unchanged,
            duplicates=recorded.duplicates,
            moved=recorded.moved,
            changed=recorded.changed,
            pruned=recorded.pruned,
            failures=[*skipped.failures, *recorded.failures],
            total=self.store.count(),
            fast=self.store.count("decoding = 'fast'"),
            seconds=seconds,
            rate=self._read / seconds if seconds > 0 else 0.0,
        )

    def tell(self, *, at_once: bool = False) -> None:
        """Say how far it is, if someone listens. To be called in the caller's thread."""
        if self._clock is not None:
            done, set_aside = (
                self._recorded.done + self._skipped.done,
                self._recorded.set_aside + self._skipped.set_aside,
            )
            self._clock.tell(done, set_aside, at_once=at_once)


def _inside(shard: Shard) -> tuple[str, str]:
    """What the names of places in it begin with."""
    return f"{shard.path}/", f"{shard.path}#"
