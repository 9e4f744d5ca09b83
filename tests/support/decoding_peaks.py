"""What decoding an image takes at its peak, measured in a process for each, beside what its header said."""

import ctypes
import io
import json
import os
from collections.abc import Callable
from functools import partial

import numpy as np
from PIL import Image

from support.bounded import _status

_MMAP_THRESHOLD = -3  # of glibc
SIZE = (1600, 1200)
_TURNED = Image.Exif()
_TURNED[0x0112] = 6

# Format, mode and options of what is saved
SAVED: dict[str, tuple[str, str, dict[str, object]]] = {
    "JPEG": ("JPEG", "RGB", {}),
    "JPEG, turned": ("JPEG", "RGB", {"exif": _TURNED}),
    "JPEG, grey": ("JPEG", "L", {}),
    "JPEG, progressive": ("JPEG", "RGB", {"progressive": True, "subsampling": 2}),
    "JPEG, progressive 4:4:4": ("JPEG", "RGB", {"progressive": True, "subsampling": 0}),
    "JPEG, progressive 4:2:2": ("JPEG", "RGB", {"progressive": True, "subsampling": 1}),
    "JPEG, progressive CMYK": ("JPEG", "CMYK", {"progressive": True}),
    "JPEG, progressive grey": ("JPEG", "L", {"progressive": True}),
    "PNG": ("PNG", "RGB", {"compress_level": 1}),
    "PNG, turned": ("PNG", "RGBA", {"compress_level": 1, "exif": _TURNED}),
    "PNG of 16 bits": ("PNG", "I;16", {"compress_level": 1}),
    "GIF": ("GIF", "P", {}),
    "BMP": ("BMP", "RGB", {}),
    "TIFF": ("TIFF", "RGB", {}),
    "TIFF of floats": ("TIFF", "F", {}),
    "TIFF, LZW in strips": ("TIFF", "RGB", {"compression": "tiff_lzw"}),
    "TIFF, LZW in one strip": ("TIFF", "RGB", {"compression": "tiff_lzw", "tiffinfo": {278: SIZE[1]}}),
    "TIFF of 16 bits, deflated": ("TIFF", "I;16", {"compression": "tiff_deflate"}),
    "TIFF of 16 bits, one strip": ("TIFF", "I;16", {"compression": "tiff_deflate", "tiffinfo": {278: SIZE[1]}}),
    "WebP": ("WEBP", "RGB", {"method": 0}),
    "WebP, lossless": ("WEBP", "RGBA", {"method": 0, "lossless": True}),
    "WebP, turned": ("WEBP", "RGB", {"method": 0, "exif": _TURNED}),
    "AVIF": ("AVIF", "RGB", {"speed": 10}),
    "AVIF 4:4:4": ("AVIF", "RGB", {"speed": 10, "subsampling": "4:4:4"}),
    "AVIF, transparent": ("AVIF", "RGBA", {"speed": 10}),
    "HEIC": ("HEIF", "RGB", {"quality": 30}),
    "HEIC 4:4:4": ("HEIF", "RGB", {"quality": 30, "chroma": 444}),
    "HEIC, transparent": ("HEIF", "RGBA", {"quality": 30}),
}


def made(name: str, size: tuple[int, int] = SIZE) -> bytes:
    """The file of a case: gradients, which are small in every format."""
    kind, mode, options = SAVED[name]
    width, height = size
    grey = np.broadcast_to(np.linspace(0, 255, width).astype(np.uint8), (height, width))
    if mode == "I;16":
        image = Image.fromarray(grey.astype(np.uint16) * 200)
    else:
        image = Image.fromarray(np.stack([grey, grey[:, ::-1], np.flipud(grey)], 2)).convert(mode)
    if kind == "HEIF":
        import pillow_heif

        pillow_heif.register_heif_opener()
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def measured(*names: str) -> dict[str, tuple[float, float]]:
    """Megabytes that were taken and that were counted, of each case."""
    ctypes.CDLL(None).mallopt(_MMAP_THRESHOLD, 2**18)  # no large part comes from what was freed before
    found = {}
    for name in names:
        files = [_in_fork(partial(made, name, size)) for size in (SIZE, (64, 48))]
        found[name] = json.loads(_in_fork(partial(_peak, *files)))
    return found


def _peak(content: bytes, small: bytes) -> bytes:
    from tandem.decoding import cost
    from tandem.image import load_image

    counted: list[int] = []
    count = cost.memory

    def counting(image: Image.Image, *, turned: bool = False) -> int:
        counted.append(count(image, turned=turned))
        return counted[-1]

    cost.memory = counting
    load_image(small)  # the decoder's own code and tables
    with open("/proc/self/clear_refs", "w") as file:
        file.write("5")
    before = _status("VmRSS")
    load_image(content)
    return json.dumps([(_status("VmHWM") - before) / 1e6, max(counted) / 1e6]).encode()


def _in_fork(work: Callable[[], bytes]) -> bytes:
    """What the work gives, in a process of its own: what it frees is not there for the next one."""
    reading, writing = os.pipe()
    if not (child := os.fork()):
        with os.fdopen(writing, "wb") as pipe:
            pipe.write(work())
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        given = pipe.read()
    assert os.waitpid(child, 0)[1] == 0
    return given
