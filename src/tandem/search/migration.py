"""A collection -> the same images with another model's vectors, in the same place. Knows no command line.

The new vectors are made beside the old ones, in a staging collection, by the ordinary indexing: stopped
half-way, it goes on. Only when every image is there does the staging one take the collection's place.
"""

import tempfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass

from tandem.defaults import BATCH_SIZE
from tandem.errors import StoreError, StoreNotFoundError
from tandem.model import Model
from tandem.search.identity import check_model, ledger_path, notes_for, schema_for
from tandem.search.indexing.entries import SkippedFile, shard_of
from tandem.search.indexing.image_record import paths_of
from tandem.search.indexing.ledger import Ledger
from tandem.search.indexing.local import index
from tandem.search.indexing.progress import IndexingProgress
from tandem.search.indexing.recording import read_records, to_records
from tandem.search.indexing.run import IndexingOptions, open_sources
from tandem.search.stores import backends as stores
from tandem.search.stores.protocol import Backend, Store

IDS_BATCH = 1000
KEPT_NOTES = ("created", "roots")  # of the collection, whatever its model


@dataclass(frozen=True)
class Migration:
    """What a migration came to. Not `done`: some images could not be read, and the old collection is as it was."""

    done: bool
    images: int  # with new vectors
    missing: list[SkippedFile]  # places that could not be read any more
    lost: int  # images that have no readable place
    before: str
    after: str


def migrate(
    url: str,
    model: Model,
    *,
    drop_missing: bool = False,
    batch_size: int = BATCH_SIZE,
    on_progress: Callable[[IndexingProgress], None] | None = None,
) -> Migration:
    """Embed every image of a collection again with `model`, and switch over once all of them are there.

    `drop_missing` switches over although some images can no longer be read: they are then left out.

    Raises: `StoreError` where there is no collection, or it holds this model's vectors already.
    """
    place = stores.backend(url)
    old = place.open(write=True)  # nobody adds what the staging collection would miss
    try:
        before = old.notes.get("model_name", "an unknown model")
        if old.notes.get("model_fingerprint") == model.fingerprint:
            raise StoreError(f"{url} holds vectors of {model.name} already: there is nothing to move")
        new = _staging(place, model)
        try:
            missing = _embed(old, new, model, batch_size, on_progress)
            lost = _align(old, new)
            new.annotate({name: old.notes.get(name, "") for name in KEPT_NOTES})
            images = new.count()
        finally:
            new.close()
    finally:
        old.close()
    done = not lost or drop_missing
    if done:
        place.promote()
    return Migration(done, images, missing, lost, before, model.name)


def _staging(place: Backend, model: Model) -> Store:
    """The staging collection that an earlier attempt left, if it was meant for this model; else a new one."""
    with suppress(StoreNotFoundError):
        found = place.open(write=True, staging=True)
        try:
            check_model(place.url, found.notes, model)
            return found
        except StoreError:
            found.close()
    return place.create(schema_for(model), notes_for(model), staging=True)


def _embed(
    old: Store,
    new: Store,
    model: Model,
    batch_size: int,
    on_progress: Callable[[IndexingProgress], None] | None,
) -> list[SkippedFile]:
    """Index every place of the old collection into the new one; its way of decoding is kept."""
    with tempfile.TemporaryFile() as listed, Ledger.open(ledger_path(new)) as ledger:
        for place in _places(old):
            listed.write(place.encode("utf-8", "surrogateescape") + b"\0")
        listed.seek(0)
        options = IndexingOptions(
            fast_decode=old.count("decoding = 'fast'") > 0,
            batch_size=batch_size,
            standard_input=listed,
            on_progress=on_progress,
        )
        with open_sources(["-"], options) as sources:
            return index(new, lambda: model, sources, ledger, options).failures


def _places(store: Store) -> Iterator[str]:
    """Every place of every image; of tars and Parquet files, the file, once."""
    shards: set[str] = set()
    for some in store.scan(columns=("path", "paths"), vectors=False):
        for row in range(len(some)):
            for place in paths_of(some.row(row)):
                shard = shard_of(place)
                if shard is None:
                    yield place
                elif shard not in shards:
                    shards.add(shard)
                    yield shard


def _align(old: Store, new: Store) -> int:
    """Let the new collection say of its images what the old one says. Gives how many it lacks.

    A tar may hold more images than were kept. Captions are the old ones, whatever was their key when they were read.
    """
    for found in new.scan(columns=("caption",), vectors=False, batch_size=IDS_BATCH):
        held = old.get(found.ids, columns=("caption",), vectors=False)
        captions = dict(zip(held.ids, held.columns["caption"], strict=True))
        if surplus := [name for name in found.ids if name not in captions]:
            new.delete(surplus)
        now = dict(zip(found.ids, found.columns["caption"], strict=True))
        images = read_records(new, [name for name, caption in captions.items() if caption != now[name]])
        for image in images.values():
            image.values["caption"] = captions[image.id]
        if images:
            new.upsert(to_records(list(images.values())))
    return old.count() - new.count()
