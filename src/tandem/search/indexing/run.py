"""One run of indexing: what has to be read, what is written down, and the report at its end.

The caller decides what happens between reading and recording, here or on other machines. Knows no model.
"""

import contextlib
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, cast

import numpy as np

from tandem.defaults import BATCH_SIZE
from tandem.errors import DataError, StoreError, TandemError
from tandem.image import DEFAULT_LIMITS, Limits
from tandem.search.indexing import films, reconciling, shards, sources
from tandem.search.indexing.entries import Entry, Excluded, FilmShard, Item, Shard, SkippedFile, UnreadFilm, inside
from tandem.search.indexing.ledger import BATCH, SHARD, FileRecord, Ledger
from tandem.search.indexing.preparing import InFlight, PreparedImage, described
from tandem.search.indexing.progress import IndexingProgress, ProgressMeter
from tandem.search.indexing.reconciling import chunks
from tandem.search.indexing.recording import Recorder, Tally
from tandem.search.indexing.sources import Sources
from tandem.search.stores import backends as stores
from tandem.search.stores.protocol import Store
from tandem.videos.choosing import COMPARED_S

LEAST_EVERY_S, MOST_EVERY_S = 0.2, COMPARED_S


@dataclass(frozen=True)
class IndexingOptions:
    """How a run is done, here or on other machines. Raises `TandemError` for what makes no sense."""

    prune: bool = False  # delete paths under the sources that are gone, and images without a path
    fast_decode: bool = False  # let large JPEGs shrink while they are decoded
    caption: str | None = None  # the key or column of captions; the usual names are tried if None
    exclude: tuple[str, ...] = ()  # patterns as in a .gitignore, beside those of `.tandemignore` files
    every_s: float | None = None  # between the moments of films that are kept; None for the default
    any_path: bool = False  # let Parquet name files outside of its own folder
    batch_size: int = BATCH_SIZE  # images encoded, and committed, at once
    standard_input: BinaryIO | None = None  # what `-` reads; the process' own if None
    on_progress: Callable[[IndexingProgress], None] | None = None  # called in the caller's thread, a few times a second
    limits: Limits = DEFAULT_LIMITS  # the model's: what they refused before is tried again where they have changed

    def __post_init__(self) -> None:
        check_arguments(self.batch_size, None, self.exclude, self.every_s)


def check_arguments(batch_size: object, workers: object, exclude: object, every_s: object = None) -> None:
    """Refuse what is no count, no list of patterns, and no time, in one line."""
    _check_count("batch_size", batch_size)
    if workers is not None:
        _check_count("workers", workers)
    several = isinstance(exclude, Sequence) and not isinstance(exclude, str)
    if not (several and all(isinstance(pattern, str) for pattern in cast(Sequence[object], exclude))):
        raise TandemError(f"exclude: expected a list of patterns, got {exclude!r:.60}")
    number = isinstance(every_s, int | float) and not isinstance(every_s, bool)
    if every_s is not None and not (number and LEAST_EVERY_S <= cast(float, every_s) <= MOST_EVERY_S):
        raise TandemError(f"every: expected {LEAST_EVERY_S:g} to {MOST_EVERY_S:g} seconds, got {every_s!r:.60}")


def _check_count(name: str, value: object) -> None:
    """Refuse what is no whole number of at least 1."""
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < 1:
        raise TandemError(f"{name}: expected at least 1, got {value!r:.60}")


@dataclass(frozen=True)
class IndexingReport:
    """Results of a run, counted in paths (files, members of tars, rows)."""

    added: int  # with an image that was not in the collection
    unchanged: int
    duplicates: int = 0  # further paths of images that are there
    moved: int = 0  # new paths of images whose old path is gone
    changed: int = 0  # they hold another image than before
    pruned: int = 0  # deleted, since they are gone
    gone: int = 0  # still in the collection, although their files are gone: `prune` deletes them
    excluded: int = 0  # files and folders that a rule leaves out
    failures: list[SkippedFile] = field(default_factory=list)
    total: int = 0  # images in the collection now
    moments: int = 0  # of these, pictures of films
    fast: int = 0  # of these, with vectors from images that shrank while they were decoded
    seconds: float = 0.0
    rate: float = 0.0  # files that were read, a second
    unread_films: films.UnreadFilms | None = None  # found, and left alone

    @property
    def not_retried(self) -> int:
        """The number of failures that were known before and have not changed since."""
        return sum(not failure.retried for failure in self.failures)


@dataclass(frozen=True)
class FinishedShard:
    """Marks the end of a shard; with a reason where the shard is damaged."""

    shard: Shard
    reason: str | None = None


def open_sources(named: Sequence[str | Path], options: IndexingOptions) -> Sources:
    """The named sources, checked. The caller closes them. `TandemError` for what cannot be indexed."""
    return sources.find(
        named,
        is_collection=stores.is_store_folder,
        caption=options.caption,
        exclude=options.exclude,
        every_s=options.every_s,
        standard_input=options.standard_input,
    )


def check_not_empty(found: Sources, caption: str | None = None) -> None:
    """That something is there to read, as far as the first image in tars and Parquet files. Raises `TandemError`."""
    empty: list[str] = []
    damaged: list[str] = []
    for item in found.items():
        if isinstance(item, Entry):
            return
        if isinstance(item, SkippedFile):
            damaged.append(f"{item.path}: {item.reason}")
        if isinstance(item, Shard):
            try:
                if not shards.is_empty(item, caption):
                    return
                empty.append(item.path)
            except DataError as error:
                damaged.append(str(error))
    if damaged:
        raise DataError(f"nothing to index: {damaged[0]}")
    names = ", ".join(empty[:3] or [str(found)]) + (", ..." if len(empty) > 3 else "")
    raise TandemError(f"nothing to index: no images in {names}")


class IndexingRun:
    """A run, as local and distributed indexing share it: `with run:`, `unread`, `record`, at the end `finish`.

    `unread` may be drawn from in another thread than the one that records.
    """

    def __init__(
        self,
        store: Store,
        sources: Sources,
        ledger: Ledger,
        options: IndexingOptions,
    ) -> None:
        self.store, self.ledger, self.options = store, ledger, options
        self.in_flight = InFlight()
        self._recorded, self._walked = Tally(), Tally()  # each of one thread
        self._read = 0  # files that had to be read
        self._finished: list[FinishedShard] = []
        self._missing: set[str] = set()
        self._began = time.perf_counter()
        self._resources = contextlib.ExitStack()
        self._sources = sources
        self._known = 0  # paths found that held an image before
        self._known_before = 0  # as many as there were under the sources
        self._excluded = 0
        self._films: list[str] = []  # that were not read
        was_moved = reconciling.was_moved_away(sources)
        self._recorder = Recorder(store, ledger, self.in_flight, was_moved, self._recorded)
        self._meter = ProgressMeter(self._counts, options.on_progress) if options.on_progress is not None else None

    def __enter__(self) -> "IndexingRun":
        with contextlib.ExitStack() as resources:
            # PIL would warn about damaged EXIF in every such file.
            resources.enter_context(warnings.catch_warnings())
            warnings.filterwarnings("ignore", category=UserWarning, module=r"PIL\.")
            reconciling.reconcile(self.store, self.ledger, self.options.limits)
            self._known_before = sum(self.ledger.counts_under(prefix)[0] for prefix in self._sources.prefixes())
            if self._meter is not None:
                self._meter.start()
                resources.callback(self._meter.stop)
            self._resources = resources.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._resources.close()
        if self._recorder.is_whole:  # whatever ended the run
            reconciling.mark_reconciled(self.ledger)

    # --- what has to be read -------------------------------------------------------------------------------------

    def unread(self) -> Iterator[Entry | FinishedShard]:
        """The entries that have to be read. The others are counted here."""
        for some in chunks(self._sources.items(), BATCH):
            yield from self._unread(some)

    def _unread(self, items: Sequence[Item]) -> Iterator[Entry | FinishedShard]:
        found = self.ledger.lookup([item.path for item in items])
        known = {record.path: record for record in self._still_there(found.values())}
        for item in items:
            earlier = known.get(item.path)
            self._known += earlier is not None and earlier.id is not None
            if isinstance(item, Excluded):
                self._excluded += 1
            elif isinstance(item, UnreadFilm) or (isinstance(item, FilmShard) and not self._keeps_times):
                self._films.append(item.path)
            elif isinstance(item, SkippedFile):
                if item.missing and earlier is not None and earlier.id is not None:
                    self._missing.add(item.path)
                self._add_failure(item)
            elif isinstance(item, Shard):
                yield from self._unread_of(item, earlier)
            elif earlier is not None and earlier.is_unchanged(item.signature):
                self._count_unchanged(earlier)
            else:
                self._read += 1
                yield item

    def _unread_of(self, shard: Shard, earlier: FileRecord | None) -> Iterator[Entry | FinishedShard]:
        """The entries of a shard; none of one that has not changed as a file, whose images are inside it."""
        try:
            unchanged = earlier is not None and earlier.is_unchanged(shard.signature)
            if earlier is not None and unchanged and not shards.holds_paths(shard) and self._has_all(shard):
                self._count_unchanged_shard(shard, earlier)
                return
            since_s, kept = shards.read_until(self.ledger, shard, earlier)
            found = shards.entries(
                shard,
                self.options.caption,
                every_s=self.options.every_s,
                since_s=since_s,
                earlier=kept,
                any_path=self.options.any_path,
            )
            with contextlib.closing(found):
                for some in chunks(found, shards.batch_of(shard)):
                    yield from self._unread(some)
        except DataError as error:
            yield FinishedShard(shard, str(error).removeprefix(f"{shard.path}: "))
        except (MemoryError, RecursionError) as error:
            yield FinishedShard(shard, f"cannot be read: {described(error)}")
        else:
            yield FinishedShard(shard)

    @property
    def _keeps_times(self) -> bool:
        """Whether the collection has a place for the times of moments; those of earlier versions do not."""
        return "time" in self.store.schema.columns

    def _still_there(self, records: Iterable[FileRecord]) -> Iterator[FileRecord]:
        return reconciling.without_removed(self.store, self.ledger, records)

    def _has_all(self, shard: Shard) -> bool:
        """Whether every image of a shard that was read is in the collection still."""
        images = sum(self.ledger.counts_under(prefix)[0] for prefix in inside(shard.path))
        known = (record for prefix in inside(shard.path) for record in self.ledger.under(prefix) if record.id)
        return sum(1 for _ in self._still_there(known)) == images

    def _count_unchanged(self, earlier: FileRecord) -> None:
        self._walked.unchanged += earlier.id is not None
        if earlier.reason is not None:
            failure = SkippedFile(earlier.path, earlier.reason, retried=False, added=earlier.id is not None)
            self._add_failure(failure, counted=earlier.id is not None)

    def _count_unchanged_shard(self, shard: Shard, earlier: FileRecord) -> None:
        for prefix in inside(shard.path):
            images, reasons = self.ledger.counts_under(prefix)
            self._walked.unchanged += images
            self._known += images
            for known in self.ledger.under(prefix) if reasons else ():
                if known.reason is not None:
                    there = known.id is not None
                    self._add_failure(SkippedFile(known.path, known.reason, retried=False, added=there), counted=there)
        if earlier.reason is not None:
            self._add_failure(SkippedFile(shard.path, earlier.reason, retried=False))

    def _add_failure(self, failure: SkippedFile, *, counted: bool = False) -> None:
        self._walked.failures.append(failure)
        self._walked.skipped += not counted

    def _counts(self) -> Iterator[int]:
        """How many files there are, in parts."""
        with contextlib.suppress(OSError, StoreError):  # it only informs
            for item in self._sources.items():
                if isinstance(item, Excluded | UnreadFilm):
                    continue
                if not isinstance(item, Shard):
                    yield 1
                    continue
                known = self.ledger.lookup([item.path]).get(item.path)
                with contextlib.suppress(DataError):
                    if known is not None and known.is_unchanged(item.signature) and not shards.holds_paths(item):
                        yield sum(sum(self.ledger.counts_under(prefix)) for prefix in inside(item.path))
                    else:
                        yield shards.length(item, self.options.every_s)

    # --- what is written down ------------------------------------------------------------------------------------

    def record(self, batch: Iterable[PreparedImage | FinishedShard]) -> None:
        """Record a batch, in the store first. Shards count as read when all before them is written."""
        items = list(batch)
        self._recorder.write([item for item in items if isinstance(item, PreparedImage)])
        self._finished += [item for item in items if isinstance(item, FinishedShard)]
        if self._recorder.is_complete and self._finished:
            for one in self._finished:
                if one.reason is not None:
                    self._recorded.skipped += 1
                    self._recorded.failures.append(SkippedFile(one.shard.path, one.reason))
            for one in self._finished:
                self._drop_outdated(one.shard)
            self.ledger.update(
                FileRecord(one.shard.path, one.shard.signature, SHARD, one.reason) for one in self._finished
            )
            self._finished = []
        self.report_progress()

    def _drop_outdated(self, shard: Shard) -> None:
        for some in chunks(shards.outdated(self.ledger, shard), BATCH):
            self.ledger.update(pending_removals=some, gone=[path for path, _ in some])
            self._recorded.pruned += len(some)

    def finish(self) -> IndexingReport:
        """Finish the run: deal with lost and missing files, and give the report."""
        recorded, skipped = self._recorded, self._walked
        self._recorder.give_up()
        if self.options.prune:
            kept = [one for one in skipped.failures if one.path not in self._missing]
            skipped.skipped -= len(skipped.failures) - len(kept)
            skipped.failures = kept
            recorded.pruned += reconciling.mark_gone(self.store, self.ledger, self._sources, self._missing)
        reconciling.apply_removals(self.store, self.ledger)
        gone = 0
        if not self.options.prune and not (self._sources.are_apart and self._known >= self._known_before):
            gone = reconciling.count_gone(self.store, self.ledger, self._sources)
        self.report_progress(at_once=True)
        seconds = time.perf_counter() - self._began
        return IndexingReport(
            added=recorded.added,
            unchanged=recorded.unchanged + skipped.unchanged,
            duplicates=recorded.duplicates,
            moved=recorded.moved,
            changed=recorded.changed,
            pruned=recorded.pruned,
            gone=gone,
            excluded=self._excluded,
            failures=[*skipped.failures, *recorded.failures],
            total=self.store.count(),
            moments=self.store.count("time is not null") if self._keeps_times else 0,
            fast=self.store.count("decoding = 'fast'"),
            seconds=seconds,
            rate=self._read / seconds if seconds > 0 else 0.0,
            unread_films=films.unread_films(self._films, keeps_times=self._keeps_times),
        )

    def report_progress(self, *, at_once: bool = False) -> None:
        """Report progress, if it is wanted. To be called in the caller's thread."""
        if self._meter is not None:
            done, skipped = (
                self._recorded.done + self._walked.done,
                self._recorded.skipped + self._walked.skipped,
            )
            self._meter.report(done, skipped, at_once=at_once)
