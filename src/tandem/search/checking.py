"""A whole collection verified and repaired: its store, its ledger, and what can be made again from its images' files.

Knows no command line.
"""

import json
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
from tandem.search.indexing.entries import SkippedFile, shard_of
from tandem.search.indexing.image_record import describe, paths_of
from tandem.search.indexing.recording import read_records, to_records, with_vectors
from tandem.search.indexing.run import IndexingReport
from tandem.search.store_and_model import StoreAndModel
from tandem.search.stores.protocol import Backend, Finding, Store, Value

NAMES_BATCH = 500
LARGEST_FILE = 2**31  # bytes of an image that is read again


@dataclass(frozen=True)
class Check:
    """The result of `check`: what was found, and after a repair what was embedded anew, is missing, and is lost."""

    url: str
    images: int  # in the collection now; -1 where it cannot be opened
    findings: list[Finding]
    names: Mapping[str, str] = field(default_factory=dict)  # of damaged images, by id: their paths, where known
    repaired: bool = False
    renewed: int = 0  # images that were read and embedded again
    # Paths or ids of images that are kept without their vectors, and left out of answers: their files cannot be read
    missing: list[str] = field(default_factory=list)
    lost: list[str] = field(default_factory=list)  # paths or ids of images that are not in the collection any more
    failures: list[SkippedFile] = field(default_factory=list)  # files that could not be read again
    read_again: list[str] = field(default_factory=list)  # paths of the renewed
    moments: int = 0  # of the images, pictures of films

    @property
    def damage(self) -> list[Finding]:
        """The findings without those that say that nothing is wrong."""
        return [finding for finding in self.findings if finding.is_damage]


def check(
    collection: StoreAndModel,
    read_again: Callable[[BinaryIO], IndexingReport],
    *,
    repair: bool = False,
    remove_missing: bool = False,
) -> Check:
    """Verify all of a collection; with `repair`, keep what is sound, make again what is derived from it, and read the
    images again whose vectors or records are lost: `read_again` indexes a list of paths, with NUL after each.

    Images whose files cannot be read now, or are not what they were, are kept without their vectors: a disk may only
    be away. With `remove_missing` they are removed.

    Raises: `StoreNotFoundError` where there is no collection, and `StoreError` where it cannot be repaired.
    """
    backend = collection.backend
    findings = backend.check()
    ledger = _ledger_of(collection)
    if ledger is not None and (problem := ledgers.problem_of(ledger)) is not None:
        findings.append(Finding("ledger", f"the list of files that were read is damaged ({problem})"))
    names = _names(collection, [id for finding in findings for id in finding.ids])
    if not repair or not findings:
        count, moments = _counts(collection)
        return Check(collection.url, count, findings, names, moments=moments)
    known = _known_images(ledger, findings)
    collection.close()
    if ledger is not None and any(finding.part == "ledger" for finding in findings):
        ledgers.discard(ledger)
    salvage = backend.repair(known)
    incomplete = salvage.without_vectors
    for id, values in incomplete.items():
        names[id] = next(iter(paths_of(values)), id)
    failures = _embed_again(backend, read_again, incomplete)
    lost: list[str] = []
    with closing(backend.open(write=True)) as store:
        without_thumbnail = _make_thumbnails(store, salvage.without_blobs)
        missing = _without_vectors(store, list(incomplete))
        renewed = sorted(names[id] for id in incomplete.keys() - set(missing))
        if remove_missing and missing:
            store.delete(missing)
            missing, lost = [], [names[id] for id in missing]
        count, moments = store.count(), identity.moments_in(store)
    if salvage.unreadable:
        lost.append(f"{salvage.unreadable:,} images whose records cannot be read")
    failures += [SkippedFile(names.get(id, id), "its thumbnail cannot be made again") for id in without_thumbnail]
    missing = sorted(names[id] for id in missing)
    return Check(
        collection.url,
        count,
        findings,
        names,
        repaired=True,
        renewed=len(renewed),
        missing=missing,
        lost=sorted(lost),
        failures=failures,
        read_again=renewed,
        moments=moments,
    )


def _counts(collection: StoreAndModel) -> tuple[int, int]:
    """How many images there are, -1 where it cannot be opened; and how many of them are of films."""
    try:
        return collection.store.count(), identity.moments_in(collection.store)
    except StoreError:
        return -1, 0


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


def _known_images(ledger: Path | None, findings: Iterable[Finding]) -> dict[str, Mapping[str, Value]]:
    """The paths of what the ledger knows by id, where records are lost that may have been of any image."""
    unknown_ids = any(finding.part in ("database", "records") for finding in findings)
    if ledger is None or not unknown_ids or ledgers.problem_of(ledger) is not None or not ledger.is_file():
        return {}
    paths: dict[str, list[str]] = {}
    with ledgers.Ledger.open(ledger) as known:
        for record in known.under(""):
            if record.id:
                paths.setdefault(record.id, []).append(record.path)
    return {id: {"path": some[0], "paths": json.dumps(some, ensure_ascii=False)} for id, some in paths.items()}


def _embed_again(
    backend: Backend, index: Callable[[BinaryIO], IndexingReport], images: Mapping[str, Mapping[str, Value]]
) -> list[SkippedFile]:
    """Index these images once more, of which there is a file as it was. Gives those that could not be decoded."""
    with closing(backend.open()) as store:
        ledger = identity.ledger_path(store)
    if images and ledger.is_file():  # else what has not changed is not read, now and when it is there again
        read = {path: id for id, values in images.items() for path in paths_of(values)}
        shards = {shard: ledgers.SHARD for path in read if (shard := shard_of(path)) is not None}
        ledgers.with_ledger(ledger, lambda known: known.forget({**read, **shards}))
    paths = [path for id, values in images.items() if (path := indexed_files.path(id, values, LARGEST_FILE))]
    if not paths:
        return []
    with tempfile.TemporaryFile() as listed:
        listed.write(b"".join(path.encode("utf-8", "surrogateescape") + b"\0" for path in paths))
        listed.seek(0)
        return index(listed).failures


def _without_vectors(store: Store, ids: list[str]) -> list[str]:
    """Those of the images that have no vector."""
    there = set[str]()
    for start in range(0, len(ids), NAMES_BATCH):
        there |= with_vectors(store, ids[start : start + NAMES_BATCH])
    return [id for id in ids if id not in there]


def _make_thumbnails(store: Store, ids: list[str]) -> list[str]:
    """Make the thumbnails of these images again. Gives those of which there is no file as it was."""
    missing = []
    for id, image in read_records(store, ids).items():
        try:
            content = indexed_files.image(id, image.values, LARGEST_FILE)
            if content is None:
                missing.append(id)
                continue
            image.values["thumbnail"] = describe(decode(content).image, content)["thumbnail"]
        except (ImageError, TandemError):
            missing.append(id)
            continue
        store.upsert(to_records([image], store.schema))
    return missing
