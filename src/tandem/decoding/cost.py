"""What decoding takes, from an image's header: memory by format and mode, seconds by decoder.

The figures were measured at 10 million pixels (docs/log.md); a test compares them with what is taken. Knows Pillow's
formats; decodes nothing.
"""

import re
from typing import BinaryIO, cast

from PIL import Image, TiffImagePlugin

from tandem.decoding import heif, jpeg, tiff

_MODES = {"1": 1, "L": 1, "P": 1, "I;16": 2, "I;16L": 2, "I;16B": 2, "I;16N": 2}  # all others take 4
# Bytes a pixel that are taken after decoding: RGB of 8 bits while the image becomes smaller, with its transparency
_CONVERTED = {"L": 0, "RGB": 0, "RGBX": 0, "F": 1, "I": 1, "I;16": 1, "I;16L": 1, "I;16B": 1, "I;16N": 1}  # others 4
# What a decoder holds beside the image: canvases and a frame, a copy
_BESIDE = {"WEBP": 8.2, "JPEG2000": 16.0, "QOI": 12.0, "GIF": 1.0}

# Seconds for a million pixels. All but JPEG 2000 are decoded by Python code, one pixel at a time
_SECONDS = {"qoi": 3.0, "ppm": 3.0, "ppm_plain": 3.0, "bmp_rle": 1.0, "jpeg2k": 0.3}
_PLAIN_PPM = re.compile(rb"P[123][\s#]")
_SCALED_PPM = re.compile(
    rb"P[56]\s(?:\s|#[^\r\n]*[\r\n])*\d+\s(?:\s|#[^\r\n]*[\r\n])*\d+\s(?:\s|#[^\r\n]*[\r\n])*(\d+)\s"
)
_DIB_HEADS = tuple(bytes((size, 0, 0, 0)) for size in (40, 52, 56, 64, 108, 124))
RUN_LENGTH = (1, 2)  # a BMP's compression: of 8 and of 4 bits


def memory(image: Image.Image, *, turned: bool = False) -> int:
    """Bytes that an image takes at its peak, itself included: decoding it, turning it upright, making it smaller.

    The image is opened, not loaded.
    """
    pixels, each = image.width * image.height, _MODES.get(image.mode, 4)
    decoded = pixels * (each + _beside(image)) + _coefficients(image)
    return int(max(decoded, pixels * (each + max(each if turned else 0, _CONVERTED.get(image.mode, 4)))))


def _beside(image: Image.Image) -> float:
    """Bytes a pixel that its decoder holds beside the image."""
    match image.format:
        case "TIFF" if isinstance(image, TiffImagePlugin.TiffImageFile):
            return tiff.held_by_strip(image.tag_v2, image.width, image.height)
        case "AVIF":
            return heif.held_by_avif(_file(image), alpha=image.mode == "RGBA")
        case "HEIF":
            return heif.held_by_heic(_file(image), channels=len(image.getbands()))
    return _BESIDE.get(image.format or "", 0.0)


def _coefficients(image: Image.Image) -> int:
    file = _file(image)
    return jpeg.held_coefficients(file) if image.format in ("JPEG", "MPO") and file is not None else 0


def _file(image: Image.Image) -> BinaryIO | None:
    """What the image is decoded from; None where it is decoded."""
    return cast(BinaryIO | None, getattr(image, "fp", None))


def seconds(image: Image.Image) -> float:
    """How long a slow decoder takes for the image, in CPU time of a present machine; 0 for any other decoder."""
    tile = getattr(image, "tile", None)  # empty where there is nothing to decode
    codec = tile[0].codec_name if tile else ""
    return _SECONDS.get(codec, 0.0) * image.width * image.height / 1e6


def slow_format(head: bytes) -> tuple[str, str] | None:
    """Pillow's identifier and people's name of a slow format, from the first bytes of a file; None for any other."""
    if head.startswith(b"qoif"):
        return "QOI", "a QOI image"
    if head.startswith((b"\xff\x4f\xff\x51", b"\0\0\0\x0cjP  ")):
        return "JPEG2000", "a JPEG 2000 image"
    if _PLAIN_PPM.match(head):
        return "PPM", "a plain PPM image"
    if (scaled := _SCALED_PPM.match(head)) and int(scaled[1][:6]) not in (255, 65535):
        return "PPM", "a PPM image of an unusual largest value"
    if head.startswith(b"BM") and head[14:15] != b"\x0c" and int.from_bytes(head[30:34], "little") in RUN_LENGTH:
        return "BMP", "a run-length encoded BMP image"
    if head[:4] in _DIB_HEADS and int.from_bytes(head[16:20], "little") in RUN_LENGTH:
        return "DIB", "a run-length encoded BMP image"
    return None
