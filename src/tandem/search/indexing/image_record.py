"""What a collection stores for each image, and how it is read from the image. Knows no store and no model."""

import hashlib
import io
import json
import math
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from PIL import Image

from tandem.decoding.metadata import apply_exif_orientation, tags
from tandem.pixels import thumbnail
from tandem.search.stores.protocol import Kind, Value

COLUMNS: Mapping[str, Kind] = {
    "path": "text",  # one of the files that hold the image
    "paths": "text",  # all of them, sorted: a JSON list
    "width": "integer",  # upright, of the whole image
    "height": "integer",
    "bytes": "integer",
    "format": "text",
    "taken": "text",  # ISO 8601, from EXIF; with an offset where the camera wrote one
    "latitude": "real",  # degrees, north and east positive
    "longitude": "real",
    "caption": "text",  # one a line
    "time": "real",  # of a moment of a film: seconds from its beginning
    "decoding": "text",  # "fast" if the vector comes from an image that shrank while it was decoded, else "full"
    "indexed": "text",  # ISO 8601, UTC
    "thumbnail": "bytes",  # JPEG
}
ID_DIGITS = 32
THUMBNAIL_SIDE = 256
_THUMBNAIL_QUALITY = 80
_EXIF, _GPS = 0x8769, 0x8825
_DATE_TIME, _ORIGINAL, _ORIGINAL_OFFSET, _OFFSET = 0x0132, 0x9003, 0x9011, 0x9010
_FORMATS = {"MPO": "JPEG"}  # a JPEG with more images behind the first, as phones write them


def image_id(content: bytes) -> str:
    """The id of an image: 32 hexadecimal digits of the SHA-256 of its file."""
    return id_of_digest(hashlib.sha256(content).hexdigest())


def id_of_digest(sha256: str) -> str:
    """The id of an image by the hexadecimal SHA-256 of its file; of an id, itself."""
    return sha256[:ID_DIGITS]


def digest_of_id(identifier: str) -> bytes:
    """What stands for the digest of an image of which only the id is known."""
    return hashlib.sha256(identifier.encode()).digest()


def paths_of(values: Mapping[str, Value]) -> list[str]:
    """All paths of a record."""
    listed = json.loads(str(values.get("paths") or "[]"))
    return [str(path) for path in listed]


def describe(image: Image.Image, content: bytes, size: tuple[int, int] | None = None) -> dict[str, Value]:
    """The values of an image that lie in it: size, format, when and where it was taken, a thumbnail.

    `size` is its width and height upright, where `image` is smaller than that. Damaged metadata gives None.
    """
    width, height = size or image.size
    latitude, longitude = _location(image)
    kind = image.format or ""
    return {
        "width": width,
        "height": height,
        "bytes": len(content),
        "format": _FORMATS.get(kind, kind),
        "taken": _taken(image),
        "latitude": latitude,
        "longitude": longitude,
        "thumbnail": _thumbnail(image),
    }


def _thumbnail(image: Image.Image) -> bytes:
    file = io.BytesIO()
    thumbnail(apply_exif_orientation(image), THUMBNAIL_SIDE).save(file, "JPEG", quality=_THUMBNAIL_QUALITY)
    return file.getvalue()


def _taken(image: Image.Image) -> str | None:
    inner = tags(image, _EXIF)
    offset = inner.get(_ORIGINAL_OFFSET) or inner.get(_OFFSET)
    for written in (inner.get(_ORIGINAL), tags(image).get(_DATE_TIME)):
        if not isinstance(written, str):
            continue
        try:
            taken = datetime.strptime(written.strip("\0 ")[:19], "%Y:%m:%d %H:%M:%S").isoformat()
        except ValueError:  # cameras without a clock write zeros or blanks
            continue
        if isinstance(offset, str):
            try:
                return datetime.fromisoformat(taken + offset.strip("\0 ")).isoformat()
            except ValueError:
                pass
        return taken
    return None


def _location(image: Image.Image) -> tuple[float | None, float | None]:
    gps = tags(image, _GPS)
    latitude, longitude = _degrees(gps.get(2), gps.get(1), "S", 90), _degrees(gps.get(4), gps.get(3), "W", 180)
    return (None, None) if latitude is None or longitude is None else (latitude, longitude)


def _degrees(parts: Any, reference: Any, negative: str, most: int) -> float | None:
    """Degrees, minutes and seconds as one number; None where they are none."""
    try:
        degrees, minutes, seconds = (float(part) for part in parts)
    except (TypeError, ValueError, ZeroDivisionError):
        return None
    value = degrees + minutes / 60 + seconds / 3600
    if not math.isfinite(value) or not 0 <= value <= most:
        return None
    sign = -1 if isinstance(reference, str) and reference.strip("\0 ").upper() == negative else 1
    return round(sign * value, 7)
