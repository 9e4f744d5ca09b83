"""The two ends of a run: a ledger brought in line with the store before it, and files that are gone after it.

Knows a store, a ledger, and which files there are.
"""

import contextlib
import os
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from importlib.metadata import PackageNotFoundError, version
from itertools import islice
from pathlib import Path
from typing import TypeVar

from tandem.image import DEFAULT_LIMITS, Limits
from tandem.search.indexing import entries
from tandem.search.indexing.image_record import paths_of
from tandem.search.indexing.ledger import BATCH, UNKNOWN, FileRecord, Ledger, with_ledger
from tandem.search.indexing.recording import read_records, to_records
from tandem.search.indexing.sources import Sources
from tandem.search.stores.protocol import Store

_T = TypeVar("_T")


def reconcile(store: Store, ledger: Ledger, limits: Limits = DEFAULT_LIMITS) -> None:
    """Let the ledger know what the store knows, where a run was cut short, or the ledger is new or was lost.

    Until `mark_reconciled`, a run counts as cut short.
    """
    if store.count() == 0:
        ledger.forget_images()  # the collection was emptied
    elif ledger.about("reconciled") != "yes":
        for chunk in chunks(_paths(store), BATCH):
            known = ledger.lookup([path for path, _ in chunk])
            # Two images that claim one path: what the ledger does not know yet came later. The file will be read.
            torn = [(path, str(known[path].id)) for path, id in chunk if path in known and known[path].id != id]
            fresh = [FileRecord(path, UNKNOWN, id) for path, id in chunk if path not in known or known[path].id != id]
            ledger.update(fresh, pending_removals=torn)
    decoders = _decoders(limits)
    if ledger.about("decoders") != decoders:
        ledger.forget_reasons()  # what could not be decoded before may be now
    ledger.set_about({"reconciled": "no", "decoders": decoders})


def mark_reconciled(ledger: Ledger) -> None:
    """Record that the ledger is up to date with the store."""
    ledger.set_about({"reconciled": "yes"})


def without_removed(store: Store, ledger: Ledger, records: Iterable[FileRecord]) -> Iterator[FileRecord]:
    """The records but those of images that were removed from the collection meanwhile, here or by another machine.

    Such a path is forgotten, and so it is read again: its file is there, and someone asks for it. So is one that its
    image does not have any more: it was removed, and came back with another path.
    """
    for some in chunks(records, BATCH):
        ids = list(dict.fromkeys(record.id for record in some if record.id))
        held = _paths_of(store, ids) if ids else {}
        lost = {record.path: record.id for record in some if record.id and record.path not in held.get(record.id, ())}
        if lost:
            ledger.forget(lost)
        yield from (record for record in some if record.path not in lost)


def forget_images(store: Store, ledger_path: Path, ids: Sequence[str]) -> None:
    """Let the ledger, if there is one, forget the paths of images that are about to be deleted from the store."""
    if not ledger_path.exists():
        return

    def forget(ledger: Ledger) -> None:
        for start in range(0, len(ids), BATCH):
            held = _paths_of(store, ids[start : start + BATCH])
            ledger.forget({path: id for id, paths in held.items() for path in paths})

    with_ledger(ledger_path, forget)


def count_gone(store: Store, ledger: Ledger, sources: Sources) -> int:
    """How many paths under the sources hold an image of the collection, as the ledger knows it, and are gone."""
    gone = (
        known
        for prefix in sources.prefixes()
        for known in ledger.under(prefix)
        if known.id and sources.covers(known.path) and _is_gone(known.path, ledger) and sources.is_there(known.path)
    )
    return sum(1 for _ in without_removed(store, ledger, gone))


def mark_gone(store: Store, ledger: Ledger, sources: Sources, missing: Collection[str]) -> int:
    """Write down the paths under the sources that are gone, and those `missing`; gives how many.

    `apply_removals` takes them from their images.
    """
    count = 0
    for chunk in chunks(_paths(store), BATCH):
        lost = [
            (path, id)
            for path, id in chunk
            if path in missing or (sources.covers(path) and _is_gone(path, ledger) and sources.is_there(path))
        ]
        if lost:
            count += len(lost)
            ledger.update(pending_removals=lost, gone=[path for path, _ in lost])
    return count


def apply_removals(store: Store, ledger: Ledger) -> None:
    """Take from images the paths that they lost, and delete those that have none left."""
    for pairs in ledger.pending_removals():
        now = ledger.lookup([path for path, _ in pairs])
        lost: dict[str, set[str]] = {}
        for path, id in pairs:
            if path not in now or now[path].id != id:  # else its old content is back
                lost.setdefault(id, set()).add(path)
        images = list(read_records(store, list(lost)).values())
        kept = [image for image in images if image.paths & lost[image.id]]
        for image in kept:
            image.paths -= lost[image.id]
        if some := [image for image in kept if image.paths]:
            store.upsert(to_records(some, store.schema))
        empty = [image.id for image in images if not image.paths]
        # Of images without vectors nothing is written again: they go when all of their files are gone.
        others = _paths_of(store, list(lost.keys() - {image.id for image in images}))
        empty += [id for id, paths in others.items() if not set(paths) - lost[id]]
        if empty:
            store.delete(empty)
        ledger.removals_done(pairs)


def was_moved_away(sources: Sources) -> Callable[[str], bool]:
    """Whether the file is gone while its disk is mounted."""
    return lambda path: entries.is_gone(path) and (sources.is_there(path) or os.path.isdir(os.path.dirname(path)))


def chunks(items: Iterable[_T], size: int) -> Iterator[list[_T]]:
    """The items in lists. An error while drawing one is raised after the items before it."""
    iterator = iter(items)
    broken: Exception | None = None
    while broken is None:
        some: list[_T] = []
        try:
            some.extend(islice(iterator, size))
        except Exception as error:
            broken = error
        if not some:
            break
        yield some
    if broken is not None:
        raise broken


def _paths_of(store: Store, ids: Sequence[str]) -> dict[str, list[str]]:
    """The paths of these images, those that are there."""
    held = store.get(ids, columns=["path", "paths"], vectors=False)
    return {id: paths_of(held.row(row)) for row, id in enumerate(held.ids)}


def _paths(store: Store) -> Iterator[tuple[str, str]]:
    """Every path and the image that claims it: (path, id)."""
    for some in store.scan(columns=["paths"], vectors=False):
        for index, id in enumerate(some.ids):
            for path in paths_of(some.row(index)):
                yield path, id


def _is_gone(path: str, ledger: Ledger) -> bool:
    if entries.is_gone(path):
        return True
    shard = entries.shard_of(path)
    if shard is None or not os.path.isfile(shard):
        return False
    known = ledger.lookup([shard, path])
    whole, mine = known.get(shard), known.get(path)
    # Read to its end as it is now, and this path was not in it
    return whole is not None and whole.reason is None and (mine is None or not mine.is_unchanged(whole.signature))


def _decoders(limits: Limits) -> str:
    """What decodes images here, and how large they may be where that is not the default."""
    found = []
    for package in ("pillow", "pillow-heif", "pillow-avif-plugin"):
        with contextlib.suppress(PackageNotFoundError):
            found.append(f"{package} {version(package)}")
    if limits != DEFAULT_LIMITS:
        found.append(str(limits))
    return ", ".join(found)
