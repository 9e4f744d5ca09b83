"""Images as requests bring them, and the reader that is tested with them."""

import asyncio
import base64
import contextlib
import io
from collections.abc import Iterator

import numpy as np
import pytest
from PIL import Image

from support.toy import SIZE
from tandem.config import Preprocessing
from tandem.errors import ImageError
from tandem.image import Limits
from tandem.serve.encoding.images import ImageReader

LIMITS = Limits(max_pixels=1_000_000, max_bytes=100_000)


def encoded(image: Image.Image, kind: str = "PNG") -> bytes:
    file = io.BytesIO()
    image.save(file, kind)
    return file.getvalue()


def data_uri(content: bytes, kind: str = "image/png") -> str:
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"


@contextlib.contextmanager
def reader(**changes: object) -> Iterator[ImageReader]:
    made = ImageReader(Preprocessing(SIZE), **{"limits": LIMITS, "threads": 2, "queue": 256, **changes})  # type: ignore[arg-type]
    try:
        yield made
    finally:
        made.close()


def read(value: str | bytes, **changes: object) -> np.ndarray:
    with reader(**changes) as images:
        return asyncio.run(images.read_image(value))


def refused(value: str | bytes, **changes: object) -> ImageError:
    with pytest.raises(ImageError) as caught:
        read(value, **changes)
    return caught.value
