"""Reads the bytes of image sources (paths, URLs, bytes, file objects, PIL images, arrays), under limits.

Whatever is wrong with a source raises an `ImageError` that names it. Knows no formats: `image.py` decodes.
"""

import contextlib
import errno
import io
import os
import re
import stat
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import Image

from tandem import fetch
from tandem.defaults import MAX_IMAGE_BYTES, MAX_PIXELS
from tandem.errors import ImageError, ImageErrorKind, TandemError
from tandem.files import user_path

ImageSource = str | Path | bytes | BinaryIO | Image.Image | np.ndarray


_PIECE_BYTES = 16 * 2**20


@dataclass(frozen=True)
class Limits:
    """Limits on the size of an image, checked from its header before decoding, and on fetching it.

    Photos take 4 to 8 bytes of memory for each pixel; progressive JPEG, WebP, TIFF and most AVIF and HEIC 7 to 12.5.
    What takes more (AVIF and HEIC of many bits or with transparency, JPEG 2000) may have fewer pixels.
    """

    max_pixels: int = MAX_PIXELS
    max_decoded_bytes: int = 1_600_000_000  # of memory while one is decoded: 12.5 for each of `max_pixels`
    max_bytes: int = MAX_IMAGE_BYTES  # of the file
    timeout_s: float = 30.0  # of an http(s) address, all in all
    decode_s: float = 10.0  # of formats that are decoded slowly, in a process that is then killed
    slow_formats: bool = True  # QOI, JPEG 2000, plain PPM, run-length encoded BMP; servers turn them off
    allow_urls: bool = True  # servers turn this off: their clients would choose what they fetch


DEFAULT_LIMITS = Limits()


def source_name(source: object) -> str:
    """The name of an image in errors and answers: its path or URL, or `<bytes>`, `<file>`, `<image>`, `<array>`."""
    if isinstance(source, (str, os.PathLike)):
        return os.fspath(source) if isinstance(source, str) else str(source)
    if isinstance(source, (bytes, bytearray, memoryview)):
        return "<bytes>"
    if isinstance(source, np.ndarray):
        return "<array>"
    if isinstance(source, Image.Image):
        return str(getattr(source, "filename", "") or "<image>")
    name = getattr(source, "name", None)
    if isinstance(name, str) and name:
        return name
    return "<file>" if hasattr(source, "read") else f"<{type(source).__name__}>"


def many(sources: ImageSource | Iterable[ImageSource]) -> Iterable[ImageSource]:
    """Normalise one image or several to an iterable. Raises `TandemError` for anything else."""
    if not is_several(sources):
        return [sources]  # type: ignore[list-item]
    if not isinstance(sources, Iterable):
        raise TandemError(f"images: expected an image or several, got {type(sources).__name__}")
    return sources  # type: ignore[return-value]


def is_several(sources: object) -> bool:
    """Whether this is an iterable of sources; a path, bytes, an open file or an array [h w 3] is a single one."""
    single = isinstance(sources, str | bytes | bytearray | memoryview | os.PathLike | Image.Image)
    return not (single or hasattr(sources, "read") or (isinstance(sources, np.ndarray) and sources.ndim <= 3))


def read_bytes(source: ImageSource, *, limits: Limits = DEFAULT_LIMITS, at: int = 0, count: int | None = None) -> bytes:
    """The encoded bytes of an image, at most `max_bytes`; or of the part of a file that holds it.

    Raises `ImageError`, and no other exception.
    """
    name = source_name(source)
    with image_errors(name):
        if count is not None and isinstance(source, (str, os.PathLike)):
            _check_bytes(count, name, limits)
            with open(source, "rb") as whole:
                whole.seek(at)
                content = whole.read(count)
            if len(content) < count:
                raise ImageError(name, f"ends in the middle of an image, at byte {at + len(content):,}", "damaged")
            return content
        with opened(source, name, limits) as file:
            content = b"".join(_pieces(file, limits.max_bytes + 1))
        _check_bytes(len(content), name, limits)
        return content


def _pieces(file: BinaryIO, most: int) -> Iterator[bytes]:
    """What a file holds, up to so many bytes. Reading them at once would take the memory of all that it may hold."""
    while most and (piece := file.read(min(most, _PIECE_BYTES))):
        most -= len(piece)
        yield piece


def opened(source: object, name: str, limits: Limits) -> BinaryIO:
    """Open a source as a file to decode from, at its start and within the size limit."""
    if isinstance(source, str) and fetch.is_url(source):
        if not limits.allow_urls:
            raise ImageError(name, "addresses are not fetched here: send the image itself", "forbidden")
        return _in_memory(fetch.fetch(source, max_bytes=limits.max_bytes, timeout_s=limits.timeout_s), name, limits)
    if isinstance(source, (str, os.PathLike)):
        return _opened_path(user_path(source, strict=False), name, limits)
    if isinstance(source, (bytes, bytearray, memoryview)):
        return _in_memory(source, name, limits)
    if not hasattr(source, "read"):
        raise ImageError(
            name, f"expected a path, bytes, a file, a PIL image or an array, got {type(source).__name__}", "invalid"
        )
    content = source.read(limits.max_bytes + 1)
    if not isinstance(content, bytes):
        raise ImageError(name, "a file opened as text: open it with mode 'rb'", "invalid")
    return _in_memory(content, name, limits)


FILMS = "tandem index takes films, tandem search finds their moments"
_MOMENT = re.compile(r"\.\w+#t=[\d.:]+$")  # what collections call moments, and what people type like it


def _opened_path(path: Path, name: str, limits: Limits) -> BinaryIO:
    try:
        status = path.stat()
    except FileNotFoundError:
        if _MOMENT.search(name):
            raise ImageError(name, f"a moment of a film, not an image: {FILMS}", "unsupported") from None
        raise
    if stat.S_ISDIR(status.st_mode):
        raise ImageError(name, "a folder, not an image", "invalid")
    if not stat.S_ISREG(status.st_mode):
        raise ImageError(name, "not a regular file", "invalid")  # reading a pipe or a device may never end
    _check_bytes(status.st_size, name, limits)
    return path.open("rb")


def _in_memory(content: bytes | bytearray | memoryview, name: str, limits: Limits) -> BinaryIO:
    _check_bytes(memoryview(content).nbytes, name, limits)
    return io.BytesIO(content)


def _check_bytes(count: int, name: str, limits: Limits) -> None:
    if count == 0:
        raise ImageError(name, "empty: it has no bytes", "damaged")
    if count > limits.max_bytes:
        raise ImageError(name, f"more bytes than the limit of {limits.max_bytes:,}", "too_large")


_OS_REASONS: dict[int, tuple[str, ImageErrorKind]] = {
    errno.ENOENT: ("no such file or folder", "not_found"),
    errno.ENOTDIR: ("no such file or folder", "not_found"),
    errno.ENAMETOOLONG: ("no such file: the name is too long", "not_found"),
    errno.EACCES: ("permission denied", "forbidden"),
    errno.EPERM: ("permission denied", "forbidden"),
}


def _os_reason(error: OSError) -> tuple[str, ImageErrorKind]:
    if error.errno is None:  # Pillow's own
        return f"damaged or truncated: {error}", "damaged"
    return _OS_REASONS.get(error.errno, (error.strerror or str(error), "damaged"))


@contextlib.contextmanager
def image_errors(name: str, done: str = "decoded") -> Iterator[None]:
    """Convert any exception in the block to an `ImageError` that names the image."""
    try:
        yield
    except ImageError:
        raise
    except MemoryError:
        raise ImageError(name, "too large for the memory that is free", "too_large") from None
    except OSError as error:
        raise ImageError(name, *_os_reason(error)) from None
    except (
        Exception
    ) as error:  # decoders of damaged files, and conversions of unusual modes, raise all kinds of exceptions
        raise ImageError(name, f"cannot be {done}: {str(error) or type(error).__name__}", "damaged") from None
