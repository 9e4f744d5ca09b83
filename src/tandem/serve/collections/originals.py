"""The files behind a collection's images: uploaded ones are stored, and indexed ones are read by id; films in parts.

A file is served only while its bytes are those that were indexed under the id (`search.indexed_files`). Knows files and
stores; no HTTP.
"""

import os
from collections.abc import Mapping
from pathlib import Path

from tandem.files import write_bytes
from tandem.search import indexed_files
from tandem.search.indexing.image_record import image_id
from tandem.search.stores.backends import backend
from tandem.search.stores.protocol import Value

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
    content = indexed_files.content(identifier, values, max_bytes)
    return None if content is None else (content, TYPES.get(str(values.get("format")), "application/octet-stream"))


def film(identifier: str, values: Mapping[str, Value]) -> tuple[Path, str] | None:
    """The film of a moment and its media type; None if none of its files is as it was."""
    path = indexed_files.film(identifier, values)
    return None if path is None else (path, FILM_TYPES.get(str(values.get("format")), "application/octet-stream"))


def remove_kept(paths: list[str], folder: Path) -> bool:
    """Remove those of the files that `keep` wrote. Whether there were any."""
    kept = [file for file in map(Path, paths) if file.parent.parent == folder and not file.is_symlink()]
    for file in kept:
        file.unlink(missing_ok=True)
    return bool(kept)
