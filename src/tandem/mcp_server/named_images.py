"""Which image an assistant means by a name, and how it is read. Knows collections; no folders and no protocol."""

import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

from PIL import Image

from tandem.defaults import MAX_IMAGE_BYTES
from tandem.errors import StoreError, TandemError
from tandem.image import Limits, load_image
from tandem.search import indexed_files
from tandem.search.collection import Collection
from tandem.search.indexing.image_record import paths_of
from tandem.search.stores.filter_parser import quoted
from tandem.search.stores.protocol import Value
from tandem.videos.naming import shown as shown_path

MAX_CHARACTERS = 2000  # of a name, as of a text
GIVE_THE_ID = "give the id that search returned"
_LIMITS = Limits(allow_urls=False)
_AT = " @ "  # film.mp4 @ 0:00:04, as moments are shown


@dataclass(frozen=True)
class NamedImage:
    """An image that was asked for: what is known of it, and how it is read."""

    name: str
    values: Mapping[str, Value] = field(default_factory=dict)
    content: bytes | None = None
    of_thumbnail: bool = False  # its file is gone, or in an archive

    def pixels(self) -> Image.Image:
        if self.content is None:
            raise TandemError(f"{self.name}: its file is gone, and there is no thumbnail of it")
        return load_image(self.content, limits=_LIMITS)


@dataclass(frozen=True)
class Found:
    """An image of a collection."""

    collection: Collection
    id: str
    values: Mapping[str, Value]


def find(chosen: Sequence[Collection], named: str, *, is_file: Callable[[str], bool]) -> Found | None:
    """An image by its id, by one of its paths, or by its file's name where only one image has it.

    is_file: whether a name is that of a file which the assistant may read; it stands for that file then, not for one
    in a collection that is called the same. Raises `TandemError` for a name of several images.
    """
    if not named or len(named) > MAX_CHARACTERS or "\0" in named:
        raise TandemError("image: expected the id or the path of an image")
    for collection in chosen:
        for identifier in (named, *_ids(collection, f"path = {quoted(named)}", lambda _: True)):
            found = collection.store.get([identifier], columns=_columns(collection), vectors=False)
            if len(found):
                return Found(collection, found.ids[0], found.row(0))
    if (os.path.isabs(named) and _AT not in named) or is_file(named):
        return None
    called = [(collection, each) for collection in chosen for each in _called(collection, named)]
    if len(called) > 1:
        raise TandemError(f"{named[:200]}: {len(called):,} images are called that; {GIVE_THE_ID}")
    for collection, identifier in called:
        found = collection.store.get([identifier], columns=_columns(collection), vectors=False)
        return Found(collection, identifier, found.row(0)) if len(found) else None
    return None


def read(found: Found) -> NamedImage:
    """Its file, while that is what was indexed, else its thumbnail."""

    def thumbnail(identifier: str) -> bytes | None:
        with suppress(StoreError):  # of a store without thumbnails
            return found.collection.thumbnail(identifier)
        return None

    paths = paths_of(found.values)
    name = paths[0] if paths else found.id
    content = indexed_files.image_or_thumbnail(found.id, found.values, thumbnail, MAX_IMAGE_BYTES)
    if content is None:
        return NamedImage(name, found.values)
    return NamedImage(name, found.values, content.content, content.of_thumbnail)


def _columns(collection: Collection) -> list[str]:
    return [column for column in collection.store.schema.columns if column != "thumbnail"]


def _called(collection: Collection, named: str) -> list[str]:
    """The ids of images with a path that ends with a name, as it is or as it is shown: film.mp4 @ 0:00:04.

    The store's filter finds the few whose path ends so; `_` and `%` of a name stand for any characters there.
    """
    film, at, _ = named.partition(_AT)
    ending = quoted(f"{film}#t=%" if at else named)[1:-1]
    where = f"path like '%/{ending}' or path like '{ending}'"

    def is_called(path: str) -> bool:
        return any(f"/{each}".endswith(f"/{named}") for each in (path, shown_path(path)))

    return _ids(collection, where, is_called)


def _ids(collection: Collection, where: str, holds: Callable[[str], bool]) -> list[str]:
    """The ids of what passes a filter and has a path for which something holds."""
    return [
        identifier
        for some in collection.store.scan(where=where, columns=["path", "paths"], vectors=False)
        for identifier, values in zip(some.ids, map(some.row, range(len(some))), strict=True)
        if any(map(holds, paths_of(values) or [str(values["path"])]))
    ]
