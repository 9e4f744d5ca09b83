"""A picture -> the text in which the interface takes it. Knows pictures and nothing of servers."""

import base64
import io

import numpy as np
from PIL import Image

from tandem.image import ImageSource, load_image, read_bytes


def data_uri(source: ImageSource) -> str:
    """A picture as the interface takes it: the very bytes of a file; pictures in memory are packed without loss.

    Raises `ImageError`.
    """
    if isinstance(source, Image.Image | np.ndarray):
        content = _packed(load_image(source))
    else:
        content = read_bytes(source)
    # What a picture is, is told from its bytes; the type is named because a data URI has one.
    return f"data:image/*;base64,{base64.b64encode(content).decode('ascii')}"


def _packed(image: Image.Image) -> bytes:
    file = io.BytesIO()
    try:
        image.save(file, "TIFF" if image.mode in ("CMYK", "YCbCr", "LAB", "I", "F") else "PNG")
    except (OSError, KeyError, ValueError):  # a mode that no format of files has
        file = io.BytesIO()
        image.convert("RGB").save(file, "PNG")
    return file.getvalue()
