"""Encodes images as data URIs, in batches that fit one request. Knows nothing of servers."""

import base64
import io
from collections.abc import Iterable, Iterator, Sized
from typing import TypeVar

import numpy as np
from PIL import Image

from tandem.errors import TandemError
from tandem.image import ImageSource, load_image, read_bytes

BODY_CHARACTERS = 16 * 2**20  # of the images of one request: half of what a server takes by default

_Item = TypeVar("_Item", bound=Sized)


def data_uri(source: ImageSource) -> str:
    """An image as a data URI: the bytes of a file as they are; images in memory are encoded without loss.

    Raises `ImageError`.
    """
    if isinstance(source, Image.Image | np.ndarray):
        content = _packed(load_image(source))
    else:
        content = read_bytes(source)
    # The server detects the format from the bytes; a data URI has to name a type.
    return f"data:image/*;base64,{base64.b64encode(content).decode('ascii')}"


def _packed(image: Image.Image) -> bytes:
    file = io.BytesIO()
    try:
        image.save(file, "TIFF" if image.mode in ("CMYK", "YCbCr", "LAB", "I", "F") else "PNG")
    except (OSError, KeyError, ValueError):  # a mode that no file format has
        file = io.BytesIO()
        image.convert("RGB").save(file, "PNG")
    return file.getvalue()


def batched(items: Iterable[_Item], size: int) -> Iterator[list[_Item]]:
    """Batches of at most `size` items that fit into one body; an item that does not fit goes alone."""
    if size < 1:
        raise TandemError(f"batch_size: expected at least 1, got {size}")
    batch: list[_Item] = []
    characters = 0
    for item in items:
        if batch and (len(batch) == size or characters + len(item) > BODY_CHARACTERS):
            yield batch
            batch, characters = [], 0
        batch.append(item)
        characters += len(item)
    if batch:
        yield batch
