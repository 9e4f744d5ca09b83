"""What a request brings as a picture (data URI, bytes, an address of an allowed host) -> the pixels the model reads.

Decoding runs in a few threads beside the event loop, behind a queue that is bounded: what does not fit is answered
503 at once. A string is never taken for a path. Knows no routes and no encoder.
"""

import asyncio
import base64
import binascii
import dataclasses
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar
from urllib.parse import unquote_to_bytes

import numpy as np
from numpy.typing import NDArray

from tandem.config import Preprocessing
from tandem.errors import ImageError
from tandem.image import Limits, load_pixels
from tandem.serve.encoding.fetching import Fetcher, RefusedError, TooLargeError, is_url
from tandem.serve.http.problems import ProblemError, full

Pixels = NDArray[np.uint8]
MAX_FETCHES = 16  # at a time

_Made = TypeVar("_Made")


class PictureReader:
    """Pictures of requests, a few decoded at a time. `pending` is how many are inside, waiting ones included.

    `name` in the methods is what an error calls the picture: the field it came in, such as `images[2]`.
    """

    def __init__(
        self,
        preprocessing: Preprocessing,
        *,
        limits: Limits,
        orient: bool = True,
        threads: int | None = None,
        queue: int = 256,
        fetcher: Fetcher | None = None,
    ) -> None:
        """`queue`: how many pictures may be inside. Without a `fetcher` no address is fetched."""
        self.preprocessing = preprocessing
        self.limits = dataclasses.replace(limits, allow_urls=False)
        self.orient = orient
        self.queue = queue
        self.pending = 0
        self._fetcher = fetcher
        self._fetching = asyncio.Semaphore(MAX_FETCHES)
        self._threads = ThreadPoolExecutor(threads or os.cpu_count() or 1, thread_name_prefix="tandem-decode")

    def close(self) -> None:
        """Those that wait are dropped; those being decoded are waited for."""
        self._threads.shutdown(cancel_futures=True)

    async def read_picture(self, value: str | bytes, name: str = "image") -> Pixels:
        """uint8 [h w 3] of the model's size. Raises `ProblemError`: 422 unreadable, 413 too large, 503 too busy."""
        read = (await self.read_pictures([value], [name]))[0]
        if isinstance(read, ProblemError):
            raise read
        return read

    async def read_pictures(
        self, values: Sequence[str | bytes], names: Sequence[str] | None = None
    ) -> list[Pixels | ProblemError]:
        """As `read_picture` for several, in order; what is wrong with one stands in its place.

        Raises `ProblemError` 503 where there is no room for all of them.
        """
        called = names or [f"images[{place}]" for place in range(len(values))]
        self._enter(len(values))
        try:
            each = [self._one(value, name, self._decoded) for value, name in zip(values, called, strict=True)]
            return await asyncio.gather(*each)
        finally:
            self.pending -= len(values)

    async def read_bytes(self, value: str | bytes, name: str = "image") -> bytes:
        """The picture still encoded, known to be one that can be decoded: to be kept. Raises as `read_picture`."""

        def checked(content: bytes, name: str) -> bytes:
            self._decoded(content, name)
            return content

        self._enter(1)
        try:
            read = await self._one(value, name, checked)
        finally:
            self.pending -= 1
        if isinstance(read, ProblemError):
            raise read
        return read

    def _decoded(self, content: bytes, name: str) -> Pixels:
        return decode(content, name, self.preprocessing, self.limits, self.orient)

    def _enter(self, count: int) -> None:
        if self.pending and self.pending + count > self.queue:  # a request that is alone is never too large
            raise full(f"{self.pending:,} pictures wait to be decoded")
        self.pending += count

    async def _one(self, value: str | bytes, name: str, make: Callable[[bytes, str], _Made]) -> _Made | ProblemError:
        try:
            if isinstance(value, str) and is_url(value):
                value = await self._fetched(value, name)
            loop = asyncio.get_running_loop()
            content = value

            def work() -> _Made:
                encoded = content if isinstance(content, bytes) else decode_data_uri(content, name, self.limits)
                return make(encoded, name)

            return await loop.run_in_executor(self._threads, work)
        except ProblemError as problem:
            return problem

    async def _fetched(self, url: str, name: str) -> bytes:
        if self._fetcher is None:
            raise unreadable(name, "addresses are not fetched here: send the picture itself, as a data URI or a file")
        try:
            async with self._fetching:
                return await self._fetcher.fetch(url)
        except TooLargeError as error:
            raise too_large(name, str(error)) from None
        except RefusedError as error:
            raise unreadable(name, str(error)) from None


def decode(content: bytes, name: str, preprocessing: Preprocessing, limits: Limits, orient: bool = True) -> Pixels:
    """Encoded bytes -> uint8 [h w 3]. Raises `ProblemError`."""
    try:
        return load_pixels(content, preprocessing, limits=limits, orient=orient)
    except ImageError as error:
        raise (too_large if error.kind == "too_large" else unreadable)(name, error.reason) from None


def decode_data_uri(text: str, name: str, limits: Limits) -> bytes:
    """`data:image/png;base64,...` -> bytes. What they hold is told from themselves, not from the type that is named.

    Raises `ProblemError`.
    """
    head, comma, data = text.partition(",")
    if not comma or head[:5].lower() != "data:":
        shown = text[:24] + ("..." if len(text) > 24 else "")
        raise unreadable(name, f"expected a data URI (data:image/jpeg;base64,...), got {shown!r}; paths are not read")
    in_base64 = head.lower().endswith(";base64")
    if len(data) * (3 if in_base64 else 1) > limits.max_bytes * (4 if in_base64 else 3) + 8:  # %41 is one byte
        raise too_large(name, f"more bytes than the limit of {limits.max_bytes:,}")
    if not in_base64:
        return unquote_to_bytes(data)
    try:
        letters = data.encode("ascii").translate(None, b" \t\r\n")
        return base64.b64decode(letters + b"=" * (-len(letters) % 4), validate=True)
    except (UnicodeEncodeError, binascii.Error):
        raise unreadable(name, "a data URI whose base64 is damaged") from None


def unreadable(name: str, reason: str) -> ProblemError:
    return ProblemError(422, "Picture cannot be read", f"{name}: {reason}")


def too_large(name: str, reason: str) -> ProblemError:
    return ProblemError(413, "Picture too large", f"{name}: {reason}")
