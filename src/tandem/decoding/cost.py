"""What decoding takes, from an image's header: memory by format and mode, seconds by decoder.

The figures were measured at 16 million pixels (docs/log.md). Knows Pillow's formats; decodes nothing.
"""

import re

from PIL import Image

BYTES_PER_PIXEL = 5.5  # that a limit on pixels stands for: an ordinary photo takes 4 to 5
_MODES = {"1": 1, "L": 1, "P": 1, "I;16": 2, "I;16L": 2, "I;16B": 2, "I;16N": 2}  # all others take 4
_CONVERTED = 4  # more, while grey images of 32 bits become 8 bits
# What a decoder holds beside the image: whole canvases, planes, coefficients
_BESIDE = {"WEBP": 13.0, "AVIF": 8.5, "HEIF": 4.0, "JPEG2000": 16.0, "QOI": 12.0, "TIFF": 4.0}
_COEFFICIENTS = 3.0  # of a progressive JPEG

# Seconds for a million pixels. All but JPEG 2000 are decoded by Python code, one pixel at a time
_SECONDS = {"qoi": 3.0, "ppm": 3.0, "ppm_plain": 3.0, "bmp_rle": 1.0, "jpeg2k": 0.3}
_PLAIN_PPM = re.compile(rb"P[123][\s#]")
_SCALED_PPM = re.compile(
    rb"P[56]\s(?:\s|#[^\r\n]*[\r\n])*\d+\s(?:\s|#[^\r\n]*[\r\n])*\d+\s(?:\s|#[^\r\n]*[\r\n])*(\d+)\s"
)
_DIB_HEADS = tuple(bytes((size, 0, 0, 0)) for size in (40, 52, 56, 64, 108, 124))
_RUN_LENGTH = (1, 2)  # a BMP's compression: of 8 and of 4 bits


def memory(image: Image.Image) -> int:
    """Bytes that decoding takes at its peak, the image included. The image is opened, not loaded."""
    each = float(_MODES.get(image.mode, 4))
    kind = image.format or ""
    if image.mode in ("F", "I"):
        each += _CONVERTED
    if kind == "JPEG" and "progressive" in image.info:
        each += _COEFFICIENTS
    elif kind != "TIFF" or image.info.get("compression") != "raw":
        each += _BESIDE.get(kind, 0.0)
    return int(image.width * image.height * each)


def copies(image: Image.Image, *, turned: bool) -> int:
    """Bytes beside `memory` that may be taken afterwards: to turn the image upright, to resize it with transparency."""
    blended = image.mode in ("RGBA", "LA", "PA")
    return 4 * image.width * image.height * (turned + blended)


def too_much(width: int, height: int, kind: str, taken: int, most: int) -> str:
    """How an image is refused that would take more memory than it may."""
    return (
        f"{width:,} x {height:,} pixels of {kind} take {taken // 10**6:,} MB to decode, more than the limit of "
        f"{most // 10**6:,} MB"
    )


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
    if head.startswith(b"BM") and head[14:15] != b"\x0c" and int.from_bytes(head[30:34], "little") in _RUN_LENGTH:
        return "BMP", "a run-length encoded BMP image"
    if head[:4] in _DIB_HEADS and int.from_bytes(head[16:20], "little") in _RUN_LENGTH:
        return "DIB", "a run-length encoded BMP image"
    return None
