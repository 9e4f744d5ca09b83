"""A whole collection verified and repaired: its store, its ledger, and what can be made again from its images' files.

Knows no command line.
"""

import tempfile
import warnings
from collections.abc import Callable, Iterable, Mapping
from contextlib import closing, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

from tandem.errors import ImageError, StoreError, TandemError
from tandem.image import decode
from tandem.search import identity, indexed_files
from tandem.search.indexing import ledger as ledgers
from tandem.search.indexing.entries import SkippedFile
from tandem.search.indexing.image_record import describe, paths_of
from tandem.search.indexing.recording import read_records, to_records
from tandem.search.indexing.run import IndexingReport
from tandem.search.store_and_model import StoreAndModel
from tandem.search.stores.protocol import Finding, Store, Value

NAMES_BATCH = 500


@dataclass(frozen=True)
class Check:
    """The result of `check`: what was found, and after a repair what was embedded anew and what is lost."""

    url: str
    images: int  # in the collection now; -1 where it cannot be opened
    findings: list[Finding]
    names: Mapping[str, str] = field(default_factory=dict)  # of damaged images, by id: their paths, where known
    repaired: bool = False
    renewed: int = 0  # images that were read and embedded again
    lost: list[str] = field(default_factory=list)  # paths or ids of images that are not in the collection any more
    failures: list[SkippedFile] = field(default_factory=list)  # files that could not be read again

    @property
    def damage(self) -> list[Finding]:
        """The findings without those that say that nothing is wrong."""
        return [finding for finding in self.findings if finding.is_damage]


def check(
    collection: StoreAndModel, read_again: Callable[[BinaryIO], IndexingReport], *, repair: bool = False
) -> Check:
    """Verify all of a collection; with `repair`, keep what is sound, make again what is derived from it, and read the
    images again whose vectors or records are lost: `read_again` indexes a list of paths, with NUL after each.

    Raises: `StoreNotFoundError` where there is no collection, and `StoreError` where it cannot be repaired.
    """
    backend = collection.backend
    findings = backend.check()
    ledger = _ledger_of(collection)
    if ledger is not None and (problem := ledgers.problem_of(ledger)) is not None:
        findings.append(Finding("ledger", f"the list of files that were read is damaged ({problem})"))
    names = _names(collection, [id for finding in findings for id in finding.ids])
    if not repair or not findings:
        return Check(collection.url, _count(collection), findings, names)
    known = _known_paths(ledger, findings)
    collection.close()
    if ledger is not None and any(finding.part == "ledger" for finding in findings):
        ledgers.discard(ledger)
    salvage = backend.repair()
    wanted = {path: id for id, values in salvage.lost.items() for path in paths_of(values)}
    with closing(backend.open()) as store:
        gone = _not_there(store, known)
        before = store.count()
    wanted |= gone
    failures = _read_again(read_again, list(wanted))
    with closing(backend.open(write=True)) as store:
        _put_back(store, salvage.lost)
        dark = _make_thumbnails(store, salvage.without_blobs)
        count = store.count()
        left = _not_there(store, wanted)
        ids = [id for id in salvage.lost if not len(store.get([id], columns=[], vectors=False))]
    names = {**names, **{id: path for path, id in wanted.items()}}
    lost = sorted({names.get(id, id) for id in ids if salvage.lost[id]} | set(left))
    # Of a damaged record even the id may be wrong: images that only the list of files knew may be what it was.
    regained = len(set(gone.values()) - set(left.values()))
    unknown = sum(1 for id in ids if not salvage.lost[id]) + salvage.unreadable
    if unknown > regained:
        lost.append(f"{unknown - regained:,} images whose records cannot be read")
    failures += [SkippedFile(names.get(id, id), "its thumbnail cannot be made again") for id in dark]
    return Check(collection.url, count, findings, names, True, count - before, lost, failures)


def _count(collection: StoreAndModel) -> int:
    try:
        return collection.store.count()
    except StoreError:
        return -1


def _ledger_of(collection: StoreAndModel) -> Path | None:
    """The path of its ledger; None where the collection cannot be opened to say so."""
    try:
        return identity.ledger_path(collection.store)
    except StoreError:
        return None


def _names(collection: StoreAndModel, ids: list[str]) -> dict[str, str]:
    """The paths of images, as far as they can be read."""
    names: dict[str, str] = {}
    with suppress(StoreError), warnings.catch_warnings():  # it may not even open; what is damaged is known
        warnings.simplefilter("ignore")
        for start in range(0, len(ids), NAMES_BATCH):
            held = collection.store.get(ids[start : start + NAMES_BATCH], columns=["path"], vectors=False)
            names |= {id: str(held.row(row)["path"] or id) for row, id in enumerate(held.ids)}
    return names


def _known_paths(ledger: Path | None, findings: Iterable[Finding]) -> dict[str, str]:
    """Path -> id of what the ledger knows, where records are lost that may have been under any path."""
    blind = any(finding.part in ("database", "records") for finding in findings)
    if ledger is None or not blind or ledgers.problem_of(ledger) is not None or not ledger.is_file():
        return {}
    with ledgers.Ledger.open(ledger) as known:
        return {record.path: record.id for record in known.under("") if record.id}


def _not_there(store: Store, known: Mapping[str, str]) -> dict[str, str]:
    """Those of the paths whose images the store does not have."""
    ids, there = list(dict.fromkeys(known.values())), set[str]()
    for start in range(0, len(ids), NAMES_BATCH):
        there.update(store.get(ids[start : start + NAMES_BATCH], columns=[], vectors=False).ids)
    return {path: id for path, id in known.items() if id not in there}


def _read_again(index: Callable[[BinaryIO], IndexingReport], paths: list[str]) -> list[SkippedFile]:
    """Index these paths once more. Gives those that could not be read."""
    if not paths:
        return []
    with tempfile.TemporaryFile() as listed:
        listed.write(b"".join(path.encode("utf-8", "surrogateescape") + b"\0" for path in paths))
        listed.seek(0)
        return index(listed).failures


def _put_back(store: Store, lost: Mapping[str, Mapping[str, Value]]) -> None:
    """The captions of images that were read again: they may have been written by hand."""
    for id, image in read_records(store, [id for id, values in lost.items() if values.get("caption")]).items():
        if image.values.get("caption") != lost[id]["caption"]:
            image.values["caption"] = lost[id]["caption"]
            store.upsert(to_records([image], store.schema))


def _make_thumbnails(store: Store, ids: list[str]) -> list[str]:
    """Make the thumbnails of these images again. Gives those of which there is no file as it was."""
    dark = []
    for id, image in read_records(store, ids).items():
        try:
            content = indexed_files.image(id, image.values, 2**31)
            if content is None:
                dark.append(id)
                continue
            image.values["thumbnail"] = describe(decode(content).image, content)["thumbnail"]
        except (ImageError, TandemError):
            dark.append(id)
            continue
        store.upsert(to_records([image], store.schema))
    return dark
