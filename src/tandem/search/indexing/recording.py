"""Writes prepared images to the store, then to the ledger: one image for each content, with all its paths.

A batch is one commit of the store, and after it one of the ledger. Killed in between, the files are read again and
nothing is put in twice. An image that loses a path (the file there changed, or is gone) is recorded first in
the ledger, and processed at the end of the run, when its content may have been found elsewhere.
"""

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from tandem.search.indexing.entries import SkippedFile
from tandem.search.indexing.image_record import COLUMNS, paths_of
from tandem.search.indexing.ledger import BATCH, FileRecord, Ledger
from tandem.search.indexing.preparing import InFlight, PreparedImage
from tandem.search.stores.protocol import Records, Schema, Store, Value, are_unit


@dataclass
class Tally:
    """Counts of a run, in files, members of tars and rows."""

    added: int = 0  # with an image that was not there
    unchanged: int = 0
    duplicates: int = 0  # another path of an image that was there
    moved: int = 0  # the new path of an image whose old one is gone
    changed: int = 0  # they hold another image than before
    pruned: int = 0  # deleted: gone
    skipped: int = 0
    failures: list[SkippedFile] = field(default_factory=list)  # captions that cannot be read included

    @property
    def done(self) -> int:
        """Files that were looked at."""
        return self.added + self.unchanged + self.duplicates + self.moved + self.changed + self.skipped


@dataclass
class ImageRecord:
    """A record of the store that will be written again."""

    id: str
    vector: np.ndarray
    values: dict[str, Value]
    is_new: bool
    paths: set[str]
    is_touched: bool = False


class Recorder:
    """Writes prepared images down. One thread uses it."""

    def __init__(
        self, store: Store, ledger: Ledger, in_flight: InFlight, was_moved: Callable[[str], bool], tally: Tally
    ) -> None:
        """`was_moved`: whether the file of a path is gone while its disk is mounted."""
        self.store, self.ledger, self.in_flight, self.tally = store, ledger, in_flight, tally
        self._was_moved = was_moved
        self.is_whole = True  # whether the ledger stands where the store stands
        self._waiting: dict[str, list[PreparedImage]] = {}  # duplicates of what is in flight

    @property
    def is_complete(self) -> bool:
        """Whether no duplicate waits for an image that is still in flight."""
        return not self._waiting

    def write(self, prepared: Iterable[PreparedImage]) -> None:
        """Put a batch into the store, all or none, and then into the ledger."""
        batch = list(prepared)
        batch += [late for one in batch if one.id for late in self._waiting.pop(one.id, [])]
        failed = {one.id: one for one in batch if one.id and one.reason is not None}
        before = self.ledger.lookup([one.entry.path for one in batch])
        images = self._records(batch)
        records: list[FileRecord] = []
        pending_removals: list[tuple[str, str]] = []
        gone: list[str] = []
        for one in batch:
            path, signature = one.entry.path, one.entry.signature
            earlier = before.get(path)
            previous = earlier.id if earlier is not None else None
            if one.id is None or one.reason is not None:
                self._skip(one, previous, records, pending_removals)
                continue
            image = images.get(one.id)
            if image is None:
                twin, reason = failed.get(one.id), self.in_flight.failed(one.id)
                if twin is not None:
                    self._skip(replace(twin, entry=one.entry), previous, records, pending_removals)
                elif reason is not None:
                    self._skip(PreparedImage(one.entry, one.id, reason), previous, records, pending_removals)
                else:
                    self._waiting.setdefault(one.id, []).append(one)
                continue
            self._add_path(image, one, previous, gone)
            if previous not in (None, one.id):
                pending_removals.append((path, str(previous)))
            if one.caption_reason is not None:
                self.tally.failures.append(SkippedFile(path, one.caption_reason, added=True))
            records.append(FileRecord(path, signature, one.id, one.caption_reason))
        touched = [image for image in images.values() if image.is_touched]
        self.is_whole = False
        if touched:
            self.store.upsert(to_records(touched, self.store.schema))
        self.ledger.update(records, pending_removals=pending_removals, gone=gone)
        self.is_whole = True
        self.in_flight.release([image.id for image in images.values()])

    def give_up(self) -> None:
        """Skip what still waits at the end: another process deleted its image meanwhile."""
        late = [one for waiting in self._waiting.values() for one in waiting]
        self._waiting = {}
        reason = "its image was deleted from the collection meanwhile: index it again"
        self.write(replace(one, reason=reason, transient=True) for one in late)

    def _records(self, batch: Sequence[PreparedImage]) -> dict[str, ImageRecord]:
        """The records that the batch is about: those in the store as they are there, the others as they were made."""
        wanted = list(dict.fromkeys(one.id for one in batch if one.id and one.reason is None))
        images = read_records(self.store, wanted)
        for one in batch:
            if one.id and one.values is not None and one.vector is not None and one.id not in images:
                images[one.id] = ImageRecord(one.id, one.vector, dict(one.values), True, set())
        self._renew(images)
        return images

    def _renew(self, images: dict[str, ImageRecord]) -> None:
        """What is known of images whose vectors were lost: their captions may have been written by hand."""
        held = self.store.get([id for id, image in images.items() if image.is_new], vectors=False)
        for row, id in enumerate(held.ids):
            values = held.row(row)
            if values.get("caption") is not None:
                images[id].values["caption"] = values["caption"]
            images[id].paths = set(paths_of(values))
            images[id].is_touched = True

    def _add_path(self, image: ImageRecord, prepared: PreparedImage, previous: str | None, gone: list[str]) -> None:
        """Add a path to an image, and count it."""
        path = prepared.entry.path
        if path in image.paths:
            self.tally.unchanged += 1
        else:
            left = [other for other in image.paths if self._was_moved(other)]
            if previous not in (None, image.id):
                self.tally.changed += 1
            elif left:
                self.tally.moved += 1
            elif image.is_new and not image.paths:
                self.tally.added += 1
            else:
                self.tally.duplicates += 1
            image.paths = (image.paths - set(left)) | {path}
            image.is_touched = True
            gone += left
        if prepared.caption is not None:
            caption = prepared.caption
            if len(image.paths) > 1:  # which line came from which path is not known: none is taken away
                lines = [*str(image.values.get("caption") or "").splitlines(), *caption.splitlines()]
                caption = "\n".join(dict.fromkeys(filter(None, lines)))
            if caption != image.values.get("caption"):
                image.values["caption"] = caption
                image.is_touched = True

    def _skip(
        self,
        prepared: PreparedImage,
        previous: str | None,
        records: list[FileRecord],
        pending_removals: list[tuple[str, str]],
    ) -> None:
        path, reason = prepared.entry.path, prepared.reason or "unknown"
        self.tally.failures.append(SkippedFile(path, reason))
        self.tally.skipped += 1
        if prepared.transient:
            return  # what is known of the path stays, and it is tried again
        unread = prepared.id is None and reason == "permission denied"
        if previous is not None and not unread:
            pending_removals.append((path, previous))
        records.append(FileRecord(path, prepared.entry.signature, previous if unread else None, reason))


def with_vectors(store: Store, ids: Sequence[str]) -> set[str]:
    """Those of the images whose vectors are there, and are finite and of unit length."""
    held = store.get(ids, columns=[])
    assert held.vectors is not None
    return {held.ids[row] for row in np.flatnonzero(are_unit(held.vectors)).tolist()}


def read_records(store: Store, ids: Sequence[str]) -> dict[str, ImageRecord]:
    """Complete records, as writing them again needs them; none of an image without its vector."""
    images: dict[str, ImageRecord] = {}
    for start in range(0, len(ids), BATCH):
        held = store.get(ids[start : start + BATCH], columns=columns_of(store.schema))
        for index, id in enumerate(held.ids):
            values = held.row(index)
            assert held.vectors is not None
            if not are_unit(held.vectors[index : index + 1])[0]:
                continue
            images[id] = ImageRecord(id, held.vectors[index], values, False, set(paths_of(values)))
    return images


def columns_of(schema: Schema) -> list[str]:
    """The columns of images that a store has: one that was made earlier may have fewer."""
    return [name for name in COLUMNS if name in schema.columns]


def to_records(images: Sequence[ImageRecord], schema: Schema) -> Records:
    """Records as a store takes them, each with its paths. An image that was added from memory has none."""
    for image in images:
        paths = sorted(image.paths)
        image.values |= {"path": paths[0] if paths else None, "paths": json.dumps(paths, ensure_ascii=False)}
    columns = {name: [image.values.get(name) for image in images] for name in columns_of(schema)}
    return Records([image.id for image in images], np.stack([image.vector for image in images]), columns)
