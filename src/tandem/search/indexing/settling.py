"""The two ends of a run: a ledger made good from the store before it, and what is gone taken out after it.

Knows a store, a ledger, and which places there are.
"""

import contextlib
import os
from collections.abc import Callable, Collection, Iterable, Iterator
from importlib.metadata import PackageNotFoundError, version
from itertools import islice
from typing import TypeVar

from tandem.search.indexing import places
from tandem.search.indexing.ledger import AT_ONCE, UNKNOWN, Ledger, Seen
from tandem.search.indexing.picture import paths_of
from tandem.search.indexing.recording import read, records
from tandem.search.indexing.sources import Sources
from tandem.search.stores.protocol import Store

_T = TypeVar("_T")


def begin(store: Store, ledger: Ledger) -> None:
    """Let the ledger know what the store knows, where a run was cut short, or the ledger is new or was lost.

    Until `end`, a run counts as cut short.
    """
    if store.count() == 0:
        ledger.forget_pictures()  # someone emptied the collection
    elif ledger.about("settled") != "yes":
        for chunk in chunks(_places(store), AT_ONCE):
            known = ledger.lookup([path for path, _ in chunk])
            # Two pictures that claim one place: what the ledger does not know yet came later. The file will be read.
            torn = [(path, str(known[path].id)) for path, id in chunk if path in known and known[path].id != id]
            seen = [Seen(path, UNKNOWN, id) for path, id in chunk if path not in known or known[path].id != id]
            ledger.note(seen, leaving=torn)
    readers = _readers()
    if ledger.about("readers") != readers:
        ledger.forget_reasons()  # what could not be decoded before may be now
    ledger.write_down({"settled": "no", "readers": readers})


def end(ledger: Ledger) -> None:
    """The ledger stands where the store stands."""
    ledger.write_down({"settled": "yes"})


def mark_gone(store: Store, ledger: Ledger, sources: Sources, missing: Collection[str]) -> int:
    """Write down the places under the sources that are gone, and those `missing`; gives how many. See `let_go`."""
    count = 0
    for chunk in chunks(_places(store), AT_ONCE):
        lost = [
            (path, id)
            for path, id in chunk
            if path in missing or (sources.covers(path) and _is_gone(path, ledger) and sources.is_there(path))
        ]
        if lost:
            count += len(lost)
            ledger.note(leaving=lost, gone=[path for path, _ in lost])
    return count


def let_go(store: Store, ledger: Ledger) -> None:
    """Take from pictures the places that they lost, and take out those that have none left."""
    for pairs in ledger.leaving():
        now = ledger.lookup([path for path, _ in pairs])
        lost: dict[str, set[str]] = {}
        for path, id in pairs:
            if path not in now or now[path].id != id:  # else its old content is back
                lost.setdefault(id, set()).add(path)
        pictures = list(read(store, list(lost)).values())
        kept = [picture for picture in pictures if picture.paths & lost[picture.id]]
        for picture in kept:
            picture.paths -= lost[picture.id]
        if some := [picture for picture in kept if picture.paths]:
            store.upsert(records(some))
        if empty := [picture.id for picture in pictures if not picture.paths]:
            store.delete(empty)
        ledger.let_go(pairs)


def was_left(sources: Sources) -> Callable[[str], bool]:
    """Says of a place whether its file was moved away: it is gone, and its disk is there as far as can be seen."""
    return lambda path: places.is_gone(path) and (sources.is_there(path) or os.path.isdir(os.path.dirname(path)))


def chunks(items: Iterable[_T], size: int) -> Iterator[list[_T]]:
    """The items, some at a time. What drawing them raises is raised after those that came before it."""
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


def _places(store: Store) -> Iterator[tuple[str, str]]:
    """Every place and the picture that claims it: (path, id)."""
    for some in store.scan(columns=["paths"], vectors=False):
        for index, id in enumerate(some.ids):
            for path in paths_of(some.row(index)):
                yield path, id


def _is_gone(path: str, ledger: Ledger) -> bool:
    if places.is_gone(path):
        return True
    shard = places.shard_of(path)
    if shard is None or not os.path.isfile(shard):
        return False
    seen = ledger.lookup([shard, path])
    whole, mine = seen.get(shard), seen.get(path)
    # Read to its end as it is now, and this place was not in it
    return whole is not None and whole.reason is None and (mine is None or not mine.is_as(whole.stamp))


def _readers() -> str:
    """What decodes pictures here."""
    found = []
    for package in ("pillow", "pillow-heif", "pillow-avif-plugin"):
        with contextlib.suppress(PackageNotFoundError):
            found.append(f"{package} {version(package)}")
    return ", ".join(found)
