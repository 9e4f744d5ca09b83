"""Pictures from anywhere (paths, addresses, bytes, file objects, PIL images, arrays), decoded under limits.

Whatever is wrong with a picture is an `ImageError` that names it, and nothing else escapes. Formats whose decoders
start other programs (EPS, WMF) are not read. Knows nothing of models; `pixels.py` makes the square a model reads.
"""

import contextlib
import errno
import importlib
import io
import os
import stat
import struct
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import Image, ImageOps, features

from tandem import decompression_bombs, fetch
from tandem.config import Preprocessing
from tandem.errors import ImageError, ImageErrorKind
from tandem.pixels import preprocess
from tandem.prefetch import in_order

__all__ = [
    "IMAGE_SUFFIXES",
    "Decoded",
    "ImageSource",
    "Limits",
    "apply_exif_orientation",
    "decode",
    "decode_stream",
    "image_errors",
    "load_image",
    "load_pixels",
    "preprocess",
    "read_bytes",
    "source_name",
]

ImageSource = str | Path | bytes | BinaryIO | Image.Image | np.ndarray

FORMATS = ("JPEG", "PNG", "GIF", "BMP", "PPM", "WEBP", "TIFF", "AVIF", "HEIF", "JPEG2000", "ICO", "QOI", "DIB")
# What a folder is searched for. A file that is named may have any suffix.
_CAMERAS = ("jpg", "jpeg", "jpe", "jfif", "png", "webp", "heic", "heif", "avif")
_OTHERS = ("gif", "bmp", "tif", "tiff", "jp2", "ppm", "pgm", "pbm", "ico", "qoi")
IMAGE_SUFFIXES = frozenset(f".{suffix}" for suffix in (*_CAMERAS, *_OTHERS))
_HEIF_BRANDS = tuple(
    b"ftyp" + kind for kind in (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1")
)
_AVIF_BRANDS = (b"ftypavif", b"ftypavis")
_ORIENTATION = 0x0112  # the EXIF tag
_SIDEWAYS = (5, 6, 7, 8)  # its values that swap width and height


@dataclass(frozen=True)
class Limits:
    """What a picture may cost. Checked from the header, before it is decoded."""

    max_pixels: int = 128_000_000  # 512 MB decoded; phones take up to 200 million
    max_bytes: int = 128 * 2**20  # of the file
    timeout_s: float = 30.0  # of an http(s) address, all in all
    allow_urls: bool = True  # a server says no: others would choose what it fetches


DEFAULT_LIMITS = Limits()


@dataclass(frozen=True)
class Decoded:
    """A picture, and what it measures upright; `image` is smaller where it shrank while it was decoded."""

    image: Image.Image
    width: int
    height: int
    shrunk: bool = False


def source_name(source: object) -> str:
    """What errors and answers call a picture: its path or address, or `<bytes>`, `<file>`, `<image>`, `<array>`."""
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


def load_image(
    source: ImageSource, *, limits: Limits = DEFAULT_LIMITS, orient: bool = True, at_least: int | None = None
) -> Image.Image:
    """The picture, fully decoded, its first frame if it has several; upright by its EXIF orientation if `orient`.

    Arrays are grey [h w] or [h w 1], RGB [h w 3] or RGBA [h w 4], of uint8, or of floats in 0..1.
    `at_least`: see `decode`. Raises `ImageError`, and nothing else, whatever is wrong with it.
    """
    return decode(source, limits=limits, orient=orient, at_least=at_least).image


def decode(
    source: ImageSource, *, limits: Limits = DEFAULT_LIMITS, orient: bool = True, at_least: int | None = None
) -> Decoded:
    """The picture as `load_image` gives it, with its whole size.

    `at_least` pixels on the shorter side are enough: a larger JPEG may shrink to 1/2, 1/4 or 1/8 while it is decoded,
    which takes a fraction of the time. Raises `ImageError`, and nothing else.
    """
    name = source_name(source)
    with image_errors(name):
        if isinstance(source, np.ndarray):
            made = _from_array(source, name)
            return Decoded(made, made.width, made.height)
        if isinstance(source, Image.Image):
            return _decoded(source, name, limits, orient, None)
        with _opened(source, name, limits) as file:
            if (too_much := decompression_bombs.found(file)) is not None:
                raise ImageError(name, too_much, "too_large")
            return _decoded(_identified(file, name), name, limits, orient, at_least)


def load_pixels(
    source: ImageSource, preprocessing: Preprocessing, *, limits: Limits = DEFAULT_LIMITS, orient: bool = True
) -> np.ndarray:
    """The square that a model reads, uint8 [h w 3]. Raises `ImageError`, and nothing else."""
    image = load_image(source, limits=limits, orient=orient)
    with image_errors(source_name(source), "converted"):
        return preprocess(image, preprocessing)


def read_bytes(source: ImageSource, *, limits: Limits = DEFAULT_LIMITS, at: int = 0, count: int | None = None) -> bytes:
    """The bytes of a picture, still encoded, within `max_bytes`; or the part of a file that holds it.

    Raises `ImageError`, and nothing else.
    """
    name = source_name(source)
    with image_errors(name):
        if count is not None and isinstance(source, (str, os.PathLike)):
            _check_bytes(count, name, limits)
            with open(source, "rb") as whole:
                whole.seek(at)
                content = whole.read(count)
            if len(content) < count:
                raise ImageError(name, f"ends in the middle of a picture, at byte {at + len(content):,}", "damaged")
            return content
        with _opened(source, name, limits) as file:
            content = file.read(limits.max_bytes + 1)
        _check_bytes(len(content), name, limits)
        return content


@contextlib.contextmanager
def image_errors(name: str, done: str = "decoded") -> Iterator[None]:
    """Whatever goes wrong inside becomes an `ImageError` that names the picture."""
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
    ) as error:  # decoders meet damaged files, and conversions strange modes, with any exception there is
        raise ImageError(name, f"cannot be {done}: {str(error) or type(error).__name__}", "damaged") from None


# --- bytes ---------------------------------------------------------------------------------------------------------


def _opened(source: object, name: str, limits: Limits) -> BinaryIO:
    """A file to decode from, at its start, known not to be longer than allowed."""
    if isinstance(source, str) and fetch.is_url(source):
        if not limits.allow_urls:
            raise ImageError(name, "addresses are not fetched here: send the picture itself", "forbidden")
        return _in_memory(fetch.fetch(source, max_bytes=limits.max_bytes, timeout_s=limits.timeout_s), name, limits)
    if isinstance(source, (str, os.PathLike)):
        return _opened_path(Path(source).expanduser(), name, limits)
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


def _opened_path(path: Path, name: str, limits: Limits) -> BinaryIO:
    status = path.stat()
    if stat.S_ISDIR(status.st_mode):
        raise ImageError(name, "a folder, not a picture", "invalid")
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
    errno.ENOENT: ("no such file", "not_found"),
    errno.ENOTDIR: ("no such file", "not_found"),
    errno.ENAMETOOLONG: ("no such file: the name is too long", "not_found"),
    errno.EACCES: ("permission denied", "forbidden"),
    errno.EPERM: ("permission denied", "forbidden"),
}


def _os_reason(error: OSError) -> tuple[str, ImageErrorKind]:
    if error.errno is None:  # Pillow's own
        return f"damaged or truncated: {error}", "damaged"
    return _OS_REASONS.get(error.errno, (error.strerror or str(error), "damaged"))


# --- decoding ------------------------------------------------------------------------------------------------------


def _identified(file: BinaryIO, name: str) -> Image.Image:
    """The picture with its header read.

    PIL's own `open` would measure it against a limit that is global to the process, and warn; the limit here is the
    caller's, checked in `_decoded`.
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
            ) as error:  # how plugins say: not mine after all
                failure = f"a damaged {identifier} file: {error}"
    if failure:
        raise ImageError(name, failure, "damaged")
    raise ImageError(name, _unknown(head), "unsupported")


def _accepts(accept: Callable[[bytes], bool | str] | None, head: bytes) -> bool:
    try:
        return accept is None or accept(head[:16]) is True
    except (IndexError, struct.error):  # a file of fewer bytes than the plugin looks at
        return False


def _bring_plugins(brand: bytes) -> None:
    """HEIC, and AVIF for a PIL built without it, come from packages that may be installed."""
    with contextlib.suppress(ImportError):
        if brand in _HEIF_BRANDS and "HEIF" not in Image.OPEN:
            import pillow_heif

            pillow_heif.register_heif_opener()
        elif brand in _AVIF_BRANDS and not features.check("avif"):
            importlib.import_module("pillow_avif")


def _unknown(head: bytes) -> str:
    if head[4:12] in _HEIF_BRANDS:
        return "a HEIC photo: reading it needs pillow-heif; install it with: pip install 'tandem-clip[heic]'"
    if head[4:12] in _AVIF_BRANDS:
        return "an AVIF image: install a newer Pillow, or pillow-avif-plugin, to read it"
    if head.startswith((b"%!PS", b"\xc5\xd0\xd3\xc6")):
        return "an EPS file: not read, since it is a program"
    try:
        text = head[:48].decode()
    except UnicodeDecodeError as error:
        text = head[: error.start].decode() if error.start > 40 else ""
    if text and all(c.isprintable() or c.isspace() for c in text):
        return f"not a picture: a text that begins {' '.join(text.split())[:32]!r}"
    return "not a picture in a format that is read (JPEG, PNG, WebP, GIF, AVIF, HEIC, TIFF, BMP, JPEG 2000, ...)"


def _decoded(image: Image.Image, name: str, limits: Limits, orient: bool, at_least: int | None) -> Decoded:
    width, height = image.size
    if width * height > limits.max_pixels:
        raise ImageError(
            name, f"{width:,} x {height:,} pixels, more than the limit of {limits.max_pixels:,}", "too_large"
        )
    if width < 1 or height < 1:
        raise ImageError(name, f"{width} x {height} pixels: nothing to see", "damaged")
    if at_least is not None:
        image.draft(None, (at_least, at_least))  # None keeps the mode
    image.load()
    shrunk = image.size != (width, height)
    if getattr(image, "is_animated", False):
        first = image.copy()  # lets go of the decoder and of the other frames
        first.format = image.format
        image = first
    if _orientation(image) in _SIDEWAYS:
        width, height = height, width
    return Decoded(apply_exif_orientation(image) if orient else image, width, height, shrunk)


def _orientation(image: Image.Image) -> int:
    try:
        value = image.getexif().get(_ORIENTATION, 1)
    except Exception:  # damaged metadata does not spoil a picture that could be decoded
        return 1
    return value if isinstance(value, int) else 1


def apply_exif_orientation(image: Image.Image) -> Image.Image:
    """The picture turned as its EXIF orientation says; itself where there is nothing to turn."""
    if _orientation(image) == 1:
        return image
    try:
        turned = ImageOps.exif_transpose(image)
    except Exception:  # as above
        return image
    turned.format = image.format
    return turned


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
) -> Iterator[tuple[int, np.ndarray | ImageError]]:
    """(index, pixels uint8 [h w 3]) of each source, in order; an `ImageError` in the place of one that failed.

    Decoded in `threads` (one for each core if None), at most `ahead` before the one that is consumed next; closing
    the generator ends them (see `tandem.prefetch`).
    """

    def pixels_or_error(source: ImageSource) -> np.ndarray | ImageError:
        try:
            return load_pixels(source, preprocessing, limits=limits, orient=orient)
        except ImageError as error:
            return error

    with contextlib.closing(in_order(pixels_or_error, sources, threads=threads, ahead=ahead)) as decoded:
        yield from enumerate(decoded)
