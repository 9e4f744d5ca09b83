"""The files behind a record: read only while they are what was indexed under its id.

A path that leads elsewhere by now gives nothing. Knows no store, no server and no model.
"""

import io
import json
import os
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from tandem.errors import DataError, MissingExtraError
from tandem.search.indexing.image_record import image_id, paths_of
from tandem.search.stores.protocol import Value
from tandem.videos.digest import digest
from tandem.videos.naming import moment_id, moment_of


def content(identifier: str, values: Mapping[str, Value], max_bytes: int) -> bytes | None:
    """The bytes of an indexed photo; None if none of its files is as it was, or can be read by itself."""
    found = _first(identifier, values, max_bytes)
    return None if found is None else found[1]


def path(identifier: str, values: Mapping[str, Value], max_bytes: int) -> str | None:
    """One of the paths of an indexed photo, or moment, whose file is as it was; None without one."""
    for each in paths_of(values):
        moment = moment_of(each)
        if moment is not None and film(identifier, {"paths": json.dumps([each])}) is not None:
            return each
    found = _first(identifier, values, max_bytes)
    return None if found is None else found[0]


def _first(identifier: str, values: Mapping[str, Value], max_bytes: int) -> tuple[str, bytes] | None:
    for path in paths_of(values):
        read = _content(path, max_bytes)
        if read is not None and image_id(read) == identifier:
            return path, read
    return None


def film(identifier: str, values: Mapping[str, Value]) -> Path | None:
    """The film of a moment; None if none of its files is as it was."""
    for path in paths_of(values):
        found = moment_of(path)
        if found is None or not os.path.isfile(found[0]):
            continue
        with suppress(DataError):
            if moment_id(digest(found[0]), found[1]) == identifier:
                return Path(found[0])
    return None


def is_of_film(values: Mapping[str, Value]) -> bool:
    """Whether this is a moment of a film."""
    return any(moment_of(path) is not None for path in paths_of(values))


def still(identifier: str, values: Mapping[str, Value]) -> bytes | None:
    """The picture of a moment as a JPEG; None if its film is gone. `MissingExtraError` where films cannot be read."""
    from tandem.videos.moments import moment_at

    for path in paths_of(values):
        moment = moment_at(path, identifier) if os.path.isfile((moment_of(path) or ("",))[0]) else None
        if moment is not None:
            file = io.BytesIO()
            Image.fromarray(moment.pixels).save(file, "JPEG", quality=90)
            return file.getvalue()
    return None


@dataclass(frozen=True)
class IndexedImage:
    """What there is of an indexed image."""

    content: bytes
    of_thumbnail: bool  # its file is gone, has changed, is too large, or lies in an archive


def image(identifier: str, values: Mapping[str, Value], max_bytes: int) -> bytes | None:
    """The bytes of an indexed photo, or the frame of a moment; None if its file is gone or has changed.

    Raises `MissingExtraError` where films cannot be read.
    """
    return still(identifier, values) if is_of_film(values) else content(identifier, values, max_bytes)


def image_or_thumbnail(
    identifier: str, values: Mapping[str, Value], thumbnail: Callable[[str], bytes | None], max_bytes: int
) -> IndexedImage | None:
    """The image as `image` gives it, else what `thumbnail` knows of it; None with neither."""
    found = None
    with suppress(MissingExtraError):
        found = image(identifier, values, max_bytes)
    if found is not None:
        return IndexedImage(found, False)
    small = thumbnail(identifier)
    return None if small is None else IndexedImage(small, True)


def _content(path: str, max_bytes: int) -> bytes | None:
    """None for anything but a regular file: a member of an archive, a row of a table, a pipe, or nothing."""
    try:
        if not os.path.isfile(path) or os.path.getsize(path) > max_bytes:
            return None
        with open(path, "rb") as file:
            read = file.read(max_bytes + 1)
    except (OSError, ValueError):
        return None
    return read if len(read) <= max_bytes else None
