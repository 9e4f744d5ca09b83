"""EXIF of a decoded image, under limits: its tags, and which way up it is.

Metadata of megabytes becomes hundreds of megabytes of Python's numbers; photos have some kilobytes. Damaged or
unbounded metadata counts as none, since the image itself can be decoded.
"""

from collections.abc import Mapping
from typing import Any

from PIL import Image, ImageOps

from tandem.decoding import tiff

_MAX_BYTES = 2**20  # a JPEG's has at most 64 KB in each of its parts
_ORIENTATION = 0x0112


def tags(image: Image.Image, part: int | None = None) -> Mapping[int, Any]:
    """The tags of an image, or of a part of them; empty where there are none that can be read."""
    try:
        if not _is_bounded(image):
            return {}
        exif = image.getexif()
        return exif if part is None or not exif else exif.get_ifd(part)
    except Exception:  # damaged in any way there is
        return {}


def orientation(image: Image.Image) -> int:
    """EXIF's orientation, 1 to 8; 1 where there is none."""
    try:
        value = tags(image).get(_ORIENTATION, 1)
    except Exception:  # tags are converted when they are asked for
        return 1
    return value if isinstance(value, int) else 1


def apply_exif_orientation(image: Image.Image) -> Image.Image:
    """The image turned upright by its EXIF orientation; the same object if there is nothing to turn."""
    if orientation(image) == 1:
        return image
    try:
        turned = ImageOps.exif_transpose(image)
    except Exception:  # as above
        return image
    turned.format = image.format
    return turned


def _is_bounded(image: Image.Image) -> bool:
    exif = image.info.get("exif")
    if exif is None:
        return True  # hexadecimal in a PNG's text, which Pillow bounds; of a TIFF, looked at before it was opened
    return isinstance(exif, bytes) and len(exif) <= _MAX_BYTES and tiff.is_bounded_metadata(exif)
