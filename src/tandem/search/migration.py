"""Moves a collection to another model: the same images with new vectors, at the same address. Knows no command line.

The new vectors are computed by ordinary indexing into a staging collection beside the old one, so an interrupted
migration resumes. Once every image is in it, the staging collection replaces the old one.
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
from tandem.search.indexing.ledger import with_ledger
from tandem.search.indexing.local import index
from tandem.search.indexing.progress import IndexingProgress
from tandem.search.indexing.recording import read_records, to_records
from tandem.search.indexing.run import IndexingOptions, open_sources
from tandem.search.stores import backends as stores
from tandem.search.stores.protocol import Backend, Store
from tandem.videos.naming import moment_of, moment_path

IDS_BATCH = 1000
KEPT_NOTES = ("created", "roots")  # of the collection, whatever its model


@dataclass(frozen=True)
class Migration:
    """The result of a migration. Not `done`: some images could not be read, and the old collection is unchanged."""

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
    """Embed every image of a collection again with `model`, and switch over once all of them are done.

    `drop_missing` switches over even if some images can no longer be read, and drops them.

    Raises: `StoreError` where there is no collection, or it holds this model's vectors already.
    """
    address = stores.backend(url)
    old = address.open(write=True)  # nobody adds what the staging collection would miss
    try:
        before = old.notes.get("model_name", "an unknown model")
        if old.notes.get("model_fingerprint") == model.fingerprint:
            raise StoreError(f"{url} holds vectors of {model.name} already: there is nothing to move")
        new = _staging(address, model)
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
        address.promote()
    return Migration(done, images, missing, lost, before, model.name)


def _staging(address: Backend, model: Model) -> Store:
    """The staging collection of an interrupted migration to this model; else a new one."""
    with suppress(StoreNotFoundError):
        found = address.open(write=True, staging=True)
        try:
            check_model(address.url, found.notes, model, found.schema.dimensions)
            return found
        except StoreError:
            found.close()
    return address.create(schema_for(model), notes_for(model), staging=True)


def _embed(
    old: Store,
    new: Store,
    model: Model,
    batch_size: int,
    on_progress: Callable[[IndexingProgress], None] | None,
) -> list[SkippedFile]:
    """Index every path of the old collection into the new one, decoding as before."""
    with tempfile.TemporaryFile() as listed:
        for path in _paths(old):
            listed.write(path.encode("utf-8", "surrogateescape") + b"\0")
        listed.seek(0)
        options = IndexingOptions(
            fast_decode=old.count("decoding = 'fast'") > 0,
            any_path=True,  # the images are in the collection already
            batch_size=batch_size,
            standard_input=listed,
            on_progress=on_progress,
        )
        with open_sources(["-"], options) as sources:
            return with_ledger(
                ledger_path(new), lambda ledger: index(new, lambda: model, sources, ledger, options)
            ).failures


def _paths(store: Store) -> Iterator[str]:
    """Every path of every image; for images in tars and Parquet files, the path of the file, once.

    Those of a film's moments come together: it is read once, for these moments.
    """
    shards: set[str] = set()
    films: dict[str, list[float]] = {}
    for some in store.scan(columns=("path", "paths"), vectors=False):
        for row in range(len(some)):
            for path in paths_of(some.row(row)):
                shard = shard_of(path)
                if (moment := moment_of(path)) is not None:
                    films.setdefault(moment[0], []).append(moment[1])
                elif shard is None:
                    yield path
                elif shard not in shards:
                    shards.add(shard)
                    yield shard
    for film, times in films.items():
        yield from (moment_path(film, time_s) for time_s in sorted(times))


def _align(old: Store, new: Store) -> int:
    """Align the new collection with the old one: its images and their captions. Returns how many images it lacks.

    A tar may hold more images than were in the old collection. Captions are copied, since their key is not known.
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
            new.upsert(to_records(list(images.values()), new.schema))
    return old.count() - new.count()
