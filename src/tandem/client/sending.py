"""Pictures -> the texts in which the interface takes them, as many as fit one request. Knows nothing of servers."""

import base64
import io
from collections.abc import Iterable, Iterator, Sized
from typing import TypeVar

import numpy as np
from PIL import Image

from tandem.errors import TandemError
from tandem.image import ImageSource, load_image, read_bytes

BODY_LETTERS = 16 * 2**20  # of the pictures of one request: half of what a server takes unless told otherwise

_Item = TypeVar("_Item", bound=Sized)


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


def batched(items: Iterable[_Item], size: int) -> Iterator[list[_Item]]:
    """At most `size` together, and no more than a server takes in one body (one that is larger goes alone)."""
    if size < 1:
        raise TandemError(f"batch_size: expected at least 1, got {size}")
    batch: list[_Item] = []
    letters = 0
    for item in items:
        if batch and (len(batch) == size or letters + len(item) > BODY_LETTERS):
            yield batch
            batch, letters = [], 0
        batch.append(item)
        letters += len(item)
    if batch:
        yield batch
