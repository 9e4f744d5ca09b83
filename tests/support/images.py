"""Images to test with: drawn, and encoded in any format."""

import io
import struct
import zlib

import numpy as np
from PIL import Image

from tandem.config import Preprocessing

SQUARE = Preprocessing(32)


def scene(width: int = 60, height: int = 40, mode: str = "RGB") -> Image.Image:
    """An image that is neither flat nor symmetric."""
    y, x = np.mgrid[0:height, 0:width]
    array = (
        np.stack([x * 255 // width, y * 255 // height, np.hypot(x - width / 3, y - height / 3) * 3], axis=2)
        .clip(0, 255)
        .astype(np.uint8)
    )
    return Image.fromarray(array).convert(mode)


def encoded(image: Image.Image, kind: str, **options: object) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def announcing(width: int, height: int) -> bytes:
    """A PNG that says it is so large. What it holds is one pixel."""
    out = io.BytesIO()
    Image.new("1", (1, 1)).save(out, "PNG")
    content = out.getvalue()
    head = b"IHDR" + struct.pack(">II", width, height) + content[24:29]
    return content[:12] + head + struct.pack(">I", zlib.crc32(head)) + content[33:]
