"""The files behind a collection's images: uploaded ones are stored, and indexed ones are read by id; films in parts.

A file is served only while its bytes are those that were indexed under the id: a path that leads elsewhere by now
gives nothing. Knows files and stores; no HTTP.
"""

import io
import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from PIL import Image

from tandem.errors import DataError
from tandem.files import write_bytes
from tandem.search.indexing.image_record import image_id, paths_of
from tandem.search.stores.backends import backend
from tandem.search.stores.protocol import Value
from tandem.videos.digest import digest
from tandem.videos.naming import moment_id, moment_of

# What browsers show; everything else is sent as a download.
TYPES = {
    "JPEG": "image/jpeg",
    "PNG": "image/png",
    "GIF": "image/gif",
    "WEBP": "image/webp",
    "AVIF": "image/avif",
    "BMP": "image/bmp",
}
FILM_TYPES = {
    "MP4": "video/mp4",
    "M4V": "video/mp4",
    "MOV": "video/mp4",  # the same boxes: browsers refuse QuickTime by its name
    "MKV": "video/x-matroska",
    "WEBM": "video/webm",
    "OGV": "video/ogg",
    "3GP": "video/3gpp",
}
_SUFFIXES = {"JPEG": ".jpg", "MPO": ".jpg", "JPEG2000": ".jp2", "TIFF": ".tif"}


def folder_for(url: str, chosen: Path | None, name: str) -> Path | None:
    """Where originals of a collection are stored; None if no folder was chosen and the collection has none."""
    if chosen is not None:
        return chosen / name
    return backend(url).uploads


def keep(content: bytes, kind: str, folder: Path) -> tuple[str, Path, bool]:
    """Store an image durably, equal bytes once: its id, its file, and whether the file is new."""
    identifier = image_id(content)
    path = folder / identifier[:2] / file_name(identifier, kind)
    if path.is_file() and path.stat().st_size == len(content):
        os.utime(path)  # deleted by another server, it would pass for a file that was indexed already
        return identifier, path, False
    path.parent.mkdir(parents=True, exist_ok=True)
    write_bytes(path, content, fsync=True)
    return identifier, path, True


def file_name(identifier: str, kind: str) -> str:
    """The name of the file of an image, by its id and its format."""
    return f"{identifier}{_SUFFIXES.get(kind, f'.{kind.lower()}')}"


def read(identifier: str, values: Mapping[str, Value], max_bytes: int) -> tuple[bytes, str] | None:
    """The bytes of an indexed image and their media type; None if none of its files is as it was."""
    for path in paths_of(values):
        content = _content(path, max_bytes)
        if content is not None and image_id(content) == identifier:
            return content, TYPES.get(str(values.get("format")), "application/octet-stream")
    return None


def film(identifier: str, values: Mapping[str, Value]) -> tuple[Path, str] | None:
    """The film of a moment and its media type; None if none of its files is as it was."""
    for path in paths_of(values):
        found = moment_of(path)
        if found is None or not os.path.isfile(found[0]):
            continue
        with suppress(DataError):
            if moment_id(digest(found[0]), found[1]) == identifier:
                return Path(found[0]), FILM_TYPES.get(str(values.get("format")), "application/octet-stream")
    return None


def is_of_film(values: Mapping[str, Value]) -> bool:
    """Whether this is a moment of a film."""
    return any(moment_of(path) is not None for path in paths_of(values))


def still(identifier: str, values: Mapping[str, Value]) -> bytes | None:
    """The picture of a moment as a JPEG; None if its film is gone. `MissingExtraError` where films cannot be read."""
    from tandem.videos.moments import moment_at

    for path in paths_of(values):
        moment = moment_at(path, identifier)
        if moment is not None:
            file = io.BytesIO()
            Image.fromarray(moment.pixels).save(file, "JPEG", quality=90)
            return file.getvalue()
    return None


def _content(path: str, max_bytes: int) -> bytes | None:
    """None for anything but a regular file: a member of an archive, a row of a table, a pipe, or nothing."""
    try:
        if not os.path.isfile(path) or os.path.getsize(path) > max_bytes:
            return None
        with open(path, "rb") as file:
            content = file.read(max_bytes + 1)
    except (OSError, ValueError):
        return None
    return content if len(content) <= max_bytes else None


def remove_kept(paths: list[str], folder: Path) -> None:
    """Remove those of the files that `keep` wrote."""
    for path in paths:
        file = Path(path)
        if file.parent.parent == folder and not file.is_symlink():
            file.unlink(missing_ok=True)
