"""The files behind a collection's pictures: those that requests bring are kept, and those asked for by id are read.

A file is only given out while its bytes are the very picture that was indexed under the id: a path that leads
elsewhere by now gives nothing. Knows files and stores; no HTTP.
"""

import io
import os
import uuid
from collections.abc import Mapping
from pathlib import Path

from PIL import Image

from tandem.search.indexing.picture import paths_of, picture_id
from tandem.search.stores.backends import backend
from tandem.search.stores.protocol import Value

# What browsers show; everything else is given as a file to keep.
TYPES = {
    "JPEG": "image/jpeg",
    "PNG": "image/png",
    "GIF": "image/gif",
    "WEBP": "image/webp",
    "AVIF": "image/avif",
    "BMP": "image/bmp",
}
_ENDINGS = {"JPEG": ".jpg", "MPO": ".jpg", "JPEG2000": ".jp2", "TIFF": ".tif"}


def folder_for(url: str, chosen: Path | None, name: str) -> Path | None:
    """Where originals of a collection are kept; None where none was chosen and the collection has no place for them."""
    if chosen is not None:
        return chosen / name
    return backend(url).uploads


def keep(content: bytes, folder: Path) -> tuple[str, Path, bool]:
    """Write a picture down, durably: its id, its file, and whether it is new. The same bytes are kept once."""
    identifier = picture_id(content)
    place = folder / identifier[:2]
    with Image.open(io.BytesIO(content)) as image:
        kind = image.format or ""
    path = place / f"{identifier}{_ENDINGS.get(kind, f'.{kind.lower()}')}"
    if path.is_file() and path.stat().st_size == len(content):
        os.utime(path)  # taken out elsewhere, it would pass for a file that was read already
        return identifier, path, False
    place.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{uuid.uuid4().hex}.draft")
    try:
        with draft.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(draft, path)
    except BaseException:
        draft.unlink(missing_ok=True)
        raise
    return identifier, path, True


def read(identifier: str, values: Mapping[str, Value], max_bytes: int) -> tuple[bytes, str] | None:
    """The bytes of an indexed picture and their type; None where no file of it is left as it was."""
    for path in paths_of(values):
        content = _content(path, max_bytes)
        if content is not None and picture_id(content) == identifier:
            return content, TYPES.get(str(values.get("format")), "application/octet-stream")
    return None


def _content(path: str, max_bytes: int) -> bytes | None:
    """None for what is no plain file: a member of an archive, a row of a table, a pipe, or gone."""
    try:
        if not os.path.isfile(path) or os.path.getsize(path) > max_bytes:
            return None
        with open(path, "rb") as file:
            content = file.read(max_bytes + 1)
    except (OSError, ValueError):
        return None
    return content if len(content) <= max_bytes else None


def remove_kept(paths: list[str], folder: Path) -> None:
    """Remove files that `keep` wrote."""
    for path in paths:
        place = Path(path)
        if place.parent.parent == folder and not place.is_symlink():
            place.unlink(missing_ok=True)
