"""Images to test with: drawn, and encoded in any format."""

import io

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
