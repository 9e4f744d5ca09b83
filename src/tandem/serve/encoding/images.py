"""Decodes the images of requests (data URIs, bytes, URLs of allowed hosts) to the pixels that the model reads.

Images are decoded in a few threads beside the event loop, behind a bounded queue: what does not fit is refused at
once. A string is never taken for a path. Knows no routes and no encoder.
"""

import asyncio
import base64
import binascii
import dataclasses
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar
from urllib.parse import unquote_to_bytes

import numpy as np
from numpy.typing import NDArray

from tandem.config import Preprocessing
from tandem.errors import ImageError
from tandem.fetch import is_url
from tandem.image import Limits, load_image, load_pixels, return_memory_of_large_images
from tandem.processor import cores
from tandem.serve.encoding.batching import QueueFullError
from tandem.serve.encoding.fetching import Fetcher

Pixels = NDArray[np.uint8]
MAX_FETCHES = 16  # at a time
MAX_PERCENT_ENCODED = 2**20  # characters of a data URI without base64: decoding it takes a hundred times their memory

_Result = TypeVar("_Result")


class ImageReader:
    """Images of requests, a few decoded at a time. `pending` counts them, waiting ones included.

    `name` in the methods is what an error calls the image: the field it came in, such as `images[2]`.
    """

    def __init__(
        self,
        preprocessing: Preprocessing,
        *,
        limits: Limits,
        orient: bool = True,
        queue: int,
        threads: int | None = None,
        fetcher: Fetcher | None = None,
    ) -> None:
        """`queue`: how many images may be pending. Without a `fetcher` no address is fetched."""
        return_memory_of_large_images()
        self.preprocessing = preprocessing
        self.limits = dataclasses.replace(limits, allow_urls=False)
        self.orient = orient
        self.queue = queue
        self.pending = 0
        self._fetcher = fetcher
        self._fetching = asyncio.Semaphore(MAX_FETCHES)
        self._count = threads or cores()  # of those that this process may use
        self._threads = ThreadPoolExecutor(self._count, thread_name_prefix="tandem-decode")

    def close(self) -> None:
        """Drop waiting images, and wait for those being decoded."""
        self._threads.shutdown(cancel_futures=True)

    async def read_image(self, value: str | bytes, name: str = "image") -> Pixels:
        """uint8 [h w 3] of the model's size. Raises `ImageError`, whose source is `name`, and `QueueFullError`."""
        read = (await self.read_images([value], [name]))[0]
        if isinstance(read, ImageError):
            raise read
        return read

    async def read_images(
        self, values: Sequence[str | bytes], names: Sequence[str] | None = None
    ) -> list[Pixels | ImageError]:
        """As `read_image` for several, in order; an image that cannot be read has its error in its place.

        Raises `QueueFullError` where there is no room for all of them.
        """
        names = names or [f"images[{index}]" for index in range(len(values))]
        self._enter(len(values))
        turns = asyncio.Semaphore(self._count)  # of one request at a time: others come between

        async def one(value: str | bytes, name: str) -> Pixels | ImageError:
            async with turns:
                return await self._one(value, name, self._decoded)

        try:
            return await asyncio.gather(*[one(value, name) for value, name in zip(values, names, strict=True)])
        finally:
            self.pending -= len(values)

    async def read_encoded(self, value: str | bytes, name: str = "image") -> tuple[bytes, str]:
        """The image still encoded, and its format, after it was decoded as a check. Raises as `read_image`."""

        def checked(content: bytes) -> tuple[bytes, str]:
            return content, load_image(content, limits=self.limits, orient=False).format or ""

        self._enter(1)
        try:
            read = await self._one(value, name, checked)
        finally:
            self.pending -= 1
        if isinstance(read, ImageError):
            raise read
        return read

    def _decoded(self, content: bytes) -> Pixels:
        return load_pixels(content, self.preprocessing, limits=self.limits, orient=self.orient)

    def _enter(self, count: int) -> None:
        if self.pending and self.pending + count > self.queue:  # a request that is alone is never too large
            raise QueueFullError(f"{self.pending:,} images wait to be decoded")
        self.pending += count

    async def _one(self, value: str | bytes, name: str, make: Callable[[bytes], _Result]) -> _Result | ImageError:
        try:
            if isinstance(value, str) and is_url(value):
                value = await self._fetched(value, name)
            loop = asyncio.get_running_loop()
            content = value

            def work() -> _Result:
                encoded = content if isinstance(content, bytes) else decode_data_uri(content, name, self.limits)
                return make(encoded)

            return await loop.run_in_executor(self._threads, work)
        except ImageError as error:
            return error.renewed(name)

    async def _fetched(self, url: str, name: str) -> bytes:
        if self._fetcher is None:
            reason = "addresses are not fetched here: send the image itself, as a data URI or a file"
            raise ImageError(name, reason, "forbidden")
        async with self._fetching:
            return await self._fetcher.fetch(url)


def decode_data_uri(text: str, name: str, limits: Limits) -> bytes:
    """`data:image/png;base64,...` -> bytes. Their format is detected from the bytes, not from the type that is named.

    Raises `ImageError`.
    """
    prefix, comma, data = text.partition(",")
    if not comma or prefix[:5].lower() != "data:":
        shown = text[:24] + ("..." if len(text) > 24 else "")
        reason = f"expected a data URI (data:image/jpeg;base64,...), got {shown!r}; paths are not read"
        raise ImageError(name, reason, "invalid")
    in_base64 = prefix.lower().endswith(";base64")
    if len(data) * (3 if in_base64 else 1) > limits.max_bytes * (4 if in_base64 else 3) + 8:  # %41 is one byte
        raise ImageError(name, f"more bytes than the limit of {limits.max_bytes:,}", "too_large")
    if not in_base64:
        if len(data) > MAX_PERCENT_ENCODED:
            reason = f"a data URI in percent-encoding, of more than {MAX_PERCENT_ENCODED:,} characters: send base64"
            raise ImageError(name, reason, "too_large")
        return unquote_to_bytes(data)
    try:
        characters = data.encode("ascii").translate(None, b" \t\r\n")
        return base64.b64decode(characters + b"=" * (-len(characters) % 4), validate=True)
    except (UnicodeEncodeError, binascii.Error):
        raise ImageError(name, "a data URI whose base64 is damaged", "damaged") from None
