"""Decodes images from any source under limits; many of them in threads, ahead of the consumer.

Whatever is wrong with an image raises an `ImageError` that names it, and no other exception. Formats whose decoders
start other programs (EPS, WMF) are not read. `image_source.py` reads the bytes; `pixels.py` makes the square that a
model reads. Knows nothing of models.
"""

import contextlib
import importlib
import struct
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, BinaryIO

import numpy as np
from PIL import Image, features

from tandem.config import Preprocessing
from tandem.decoding import cost, decompression_bombs
from tandem.decoding.budget import in_flight
from tandem.decoding.metadata import apply_exif_orientation, orientation
from tandem.decoding.refusals import too_many_pixels, too_much_memory
from tandem.errors import ImageError
from tandem.image_source import (
    DEFAULT_LIMITS,
    FILMS,
    ImageSource,
    Limits,
    image_errors,
    is_several,
    many,
    opened,
    read_bytes,
    source_name,
)
from tandem.pixels import preprocess
from tandem.prefetch import in_order

__all__ = [
    "DEFAULT_LIMITS",
    "IMAGE_SUFFIXES",
    "DecodedImage",
    "ImageSource",
    "Limits",
    "apply_exif_orientation",
    "decode",
    "decode_in_budget",
    "decode_stream",
    "image_errors",
    "is_several",
    "load_image",
    "load_pixels",
    "many",
    "preprocess",
    "read_bytes",
    "return_memory_of_large_images",
    "source_name",
]

FORMATS = ("JPEG", "PNG", "GIF", "BMP", "PPM", "WEBP", "TIFF", "AVIF", "HEIF", "JPEG2000", "ICO", "QOI", "DIB")
# Suffixes that a folder is searched for. A file given by name may have any suffix.
_CAMERAS = ("jpg", "jpeg", "jpe", "jfif", "png", "webp", "heic", "heif", "avif")
_OTHERS = ("gif", "bmp", "tif", "tiff", "jp2", "ppm", "pgm", "pbm", "ico", "qoi")
IMAGE_SUFFIXES = frozenset(f".{suffix}" for suffix in (*_CAMERAS, *_OTHERS))
_HEIF_BRANDS = tuple(
    b"ftyp" + kind for kind in (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1")
)
_AVIF_BRANDS = (b"ftypavif", b"ftypavis")
_SIDEWAYS = (5, 6, 7, 8)  # EXIF orientations that swap width and height
_HEAD_BYTES = 512  # that tell a format
SIZE_MARGIN = 2  # how many times the model's size an image has to keep when it shrinks while it is decoded


@dataclass(frozen=True)
class DecodedImage:
    """A decoded image with its full upright size; `image` is smaller if it was shrunk while decoding."""

    image: Image.Image
    width: int
    height: int
    shrunk: bool = False


def load_image(
    source: ImageSource, *, limits: Limits = DEFAULT_LIMITS, orient: bool = True, at_least: int | None = None
) -> Image.Image:
    """The fully decoded image: its first frame if it has several, upright by its EXIF orientation if `orient`.

    Arrays are grey [h w] or [h w 1], RGB [h w 3] or RGBA [h w 4], of uint8, or of floats in 0..1.
    `at_least`: see `decode`. Raises `ImageError`, and no other exception.
    """
    return decode(source, limits=limits, orient=orient, at_least=at_least).image


def decode(
    source: ImageSource, *, limits: Limits = DEFAULT_LIMITS, orient: bool = True, at_least: int | None = None
) -> DecodedImage:
    """The image as `load_image` returns it, with its full size.

    `at_least` pixels on the shorter side are enough: a larger JPEG may shrink to 1/2, 1/4 or 1/8 while it is decoded,
    which takes a fraction of the time. Raises `ImageError`, and no other exception.
    """
    with contextlib.ExitStack() as until:
        return _decode_source(source, limits, orient, at_least, until)


@contextlib.contextmanager
def decode_in_budget(
    source: ImageSource, *, limits: Limits = DEFAULT_LIMITS, orient: bool = True, at_least: int | None = None
) -> Iterator[DecodedImage]:
    """`decode` for what is done with the image in the block: until then its memory counts as in flight.

    All threads of the process share one budget of bytes, and wait for each other. Raises `ImageError` before the block.
    """
    with contextlib.ExitStack() as until:
        yield _decode_source(source, limits, orient, at_least, until)


def _decode_source(
    source: ImageSource, limits: Limits, orient: bool, at_least: int | None, until: contextlib.ExitStack
) -> DecodedImage:
    name = source_name(source)
    with image_errors(name):
        if isinstance(source, np.ndarray):
            image = _from_array(source, name)
            return DecodedImage(image, image.width, image.height)
        if isinstance(source, Image.Image):
            return _decode_opened(source, name, limits, orient, None, until)
        with opened(source, name, limits) as file:
            if (too_much := decompression_bombs.detect(file, limits.max_pixels)) is not None:
                raise ImageError(name, too_much, "too_large")
            slow = cost.slow_format(file.read(_HEAD_BYTES))
            file.seek(0)
            image = _decode_in_process(file, name, *slow, limits) if slow else _open_header(file, name)
            if image.format == "WEBP":
                image._decoder = _FirstFrame(image._decoder)  # type: ignore[attr-defined]
            return _decode_opened(image, name, limits, orient, at_least, until)


def load_pixels(
    source: ImageSource,
    preprocessing: Preprocessing,
    *,
    limits: Limits = DEFAULT_LIMITS,
    orient: bool = True,
    at_least: int | None = None,
) -> np.ndarray:
    """The square that a model reads, uint8 [h w 3]. `at_least`: see `decode`. Raises `ImageError`, and nothing else."""
    with (
        decode_in_budget(source, limits=limits, orient=orient, at_least=at_least) as decoded,
        image_errors(source_name(source), "converted"),
    ):
        pixels = preprocess(decoded.image, preprocessing)
        del decoded  # its memory is free before another thread is told that there is room
        return pixels


def return_memory_of_large_images() -> None:
    """Let this process give the memory of large images back to the system as soon as they are gone.

    Pillow takes blocks of 16 MB, which the C library keeps in a heap of each thread: after five photos of 43 megapixels
    in two threads a process still held 605 MB. What is larger than 32 MB it maps by itself, and 44 MB were left.
    """
    Image.core.set_block_size(64 * 2**20)  # type: ignore[attr-defined]  # as PILLOW_BLOCK_SIZE does


# --- decoding ------------------------------------------------------------------------------------------------------


def _open_header(file: BinaryIO, name: str) -> Image.Image:
    """The image with its header read.

    PIL's own `open` would check a limit that is global to the process, and warn; here the caller's limit applies,
    checked in `_decode_opened`.
    """
    head = file.read(64)
    failure = ""
    Image.preinit()
    for everything in (False, True):
        if everything:
            Image.init()
            _bring_plugins(head[4:12])
        for identifier in FORMATS:
            factory, accept = Image.OPEN.get(identifier, (None, None))
            if factory is None or not _accepts(accept, head):
                continue
            file.seek(0)
            try:
                return factory(file, "")
            except (
                SyntaxError,
                IndexError,
                TypeError,
                KeyError,
                struct.error,
            ) as error:  # raised by plugins for files that are not theirs
                failure = f"a damaged {identifier} file: {error}"
    if failure:
        raise ImageError(name, failure, "damaged")
    raise ImageError(name, _unknown(head), "unsupported")


def _accepts(accept: Callable[[bytes], bool | str] | None, head: bytes) -> bool:
    try:
        return accept is None or accept(head[:16]) is True
    except (IndexError, struct.error):  # a file shorter than what the plugin reads
        return False


def _bring_plugins(brand: bytes) -> None:
    """Register optional packages for HEIC, and for AVIF where PIL was built without it."""
    with contextlib.suppress(ImportError):
        if brand in _HEIF_BRANDS and "HEIF" not in Image.OPEN:
            import pillow_heif

            pillow_heif.register_heif_opener()
        elif brand in _AVIF_BRANDS and not features.check("avif"):
            importlib.import_module("pillow_avif")


_FILM_BRANDS = frozenset(b"ftyp" + each for each in (b"qt ", b"iso", b"mp4", b"M4V", b"3gp", b"avc", b"das"))


def _unknown(head: bytes) -> str:
    if head[4:12] in _HEIF_BRANDS:
        return "a HEIC photo: reading it needs pillow-heif; install it with: pip install 'tandem-clip[heic]'"
    if head[4:12] in _AVIF_BRANDS:
        return "an AVIF image: install a newer Pillow, or pillow-avif-plugin, to read it"
    if head.startswith((b"%!PS", b"\xc5\xd0\xd3\xc6")):
        return "an EPS file: not read, since it is a program"
    if head[4:11] in _FILM_BRANDS or head.startswith(b"\x1aE\xdf\xa3") or head[8:12] == b"AVI ":
        return f"a film, not an image: {FILMS}"
    try:
        text = head[:48].decode()
    except UnicodeDecodeError as error:
        text = head[: error.start].decode() if error.start > 40 else ""
    if text and all(c.isprintable() or c.isspace() for c in text):
        return f"not an image: a text that begins {' '.join(text.split())[:32]!r}"
    return "not an image in a format that is read (JPEG, PNG, WebP, GIF, AVIF, HEIC, TIFF, BMP, JPEG 2000, ...)"


def _decode_in_process(file: BinaryIO, name: str, identifier: str, what: str, limits: Limits) -> Image.Image:
    """The decoded image of a format whose decoder has to be stoppable."""
    if not limits.slow_formats:
        raise ImageError(
            name, f"{what}: not read here, since decoding takes too long; send JPEG, PNG or WebP", "unsupported"
        )
    from tandem.decoding import process

    return process.decode(
        file.read(),
        identifier,
        name,
        max_pixels=limits.max_pixels,
        max_memory=limits.max_decoded_bytes,
        max_seconds=limits.decode_s,
    )


def _decode_opened(
    image: Image.Image, name: str, limits: Limits, orient: bool, at_least: int | None, until: contextlib.ExitStack
) -> DecodedImage:
    width, height = image.size
    if width * height > limits.max_pixels:
        raise ImageError(name, too_many_pixels(width, height, limits.max_pixels), "too_large")
    if width < 1 or height < 1:
        raise ImageError(name, f"{width} x {height} pixels: nothing to see", "damaged")
    if at_least is not None:
        image.draft(None, (at_least, at_least))  # None keeps the mode
    # A PNG may tell of its orientation behind its pixels: asking it would decode it
    is_told = image.format != "PNG" or "exif" in image.info
    memory = cost.memory(image, turned=orient and is_told and orientation(image) != 1)
    _check_memory(memory, image, name, limits)
    until.enter_context(in_flight().take(memory))
    image.load()
    if orient and not is_told and orientation(image) != 1:
        turning = cost.memory(image, turned=True)
        _check_memory(turning, image, name, limits)
        until.enter_context(in_flight().take(max(0, turning - memory)))
    shrunk = image.size != (width, height)
    # Asking a GIF whether it is animated reads all that lies before its second frame
    if image.format == "GIF" or getattr(image, "is_animated", False):
        first = image.copy()  # releases the decoder and the other frames
        first.format = image.format
        image = first
    if orientation(image) in _SIDEWAYS:
        width, height = height, width
    return DecodedImage(apply_exif_orientation(image) if orient else image, width, height, shrunk)


def _check_memory(memory: int, image: Image.Image, name: str, limits: Limits) -> None:
    if memory > limits.max_decoded_bytes:
        kind = f"{image.format or 'image'} ({image.mode})"
        reason = too_much_memory(image.width, image.height, kind, memory, limits.max_decoded_bytes)
        raise ImageError(name, reason, "too_large")


class _FirstFrame:
    """Pillow's decoder of WebP, let go with the canvases that it holds as soon as it has given the first frame."""

    def __init__(self, decoder: Any) -> None:
        self._decoder = decoder

    def get_next(self) -> tuple[bytes, int] | None:
        decoder, self._decoder = self._decoder, None
        frame: tuple[bytes, int] | None = decoder.get_next()
        return frame

    def reset(self) -> None:
        """Pillow does this where there is no first frame."""


def _from_array(array: np.ndarray, name: str) -> Image.Image:
    if array.ndim not in (2, 3) or (array.ndim == 3 and array.shape[2] not in (1, 3, 4)) or 0 in array.shape:
        raise ImageError(
            name, f"expected an array [h w], [h w 1], [h w 3] or [h w 4], got {list(array.shape)}", "invalid"
        )
    if array.dtype.kind == "f":
        low, high = float(array.min()), float(array.max())
        if not (low >= 0 and high <= 1):  # also true of NaN
            raise ImageError(name, f"expected floats in 0..1, got {low:g}..{high:g}; give uint8 for 0..255", "invalid")
        array = np.round(array * 255).astype(np.uint8)
    if array.dtype != np.uint8:
        raise ImageError(name, f"expected an array of uint8, or of floats in 0..1, got {array.dtype}", "invalid")
    if array.ndim == 3 and array.shape[2] == 1:
        array = array[:, :, 0]
    return Image.fromarray(np.ascontiguousarray(array))


# --- many ----------------------------------------------------------------------------------------------------------


def decode_stream(
    sources: Iterable[ImageSource],
    preprocessing: Preprocessing,
    *,
    limits: Limits = DEFAULT_LIMITS,
    orient: bool = True,
    threads: int | None = None,
    ahead: int = 128,
    at_least: int | None = None,
) -> Iterator[tuple[int, np.ndarray | ImageError]]:
    """Yield (index, pixels uint8 [h w 3]) for each source, in order, with an `ImageError` in place of failed ones.

    Decodes in `threads` (one per core if None), at most `ahead` images before the one consumed next; closing the
    generator ends the threads (see `tandem.prefetch`).
    """

    def pixels_or_error(source: ImageSource) -> np.ndarray | ImageError:
        try:
            return load_pixels(source, preprocessing, limits=limits, orient=orient, at_least=at_least)
        except ImageError as error:
            return error

    with contextlib.closing(in_order(pixels_or_error, sources, threads=threads, ahead=ahead)) as decoded:
        yield from enumerate(decoded)
