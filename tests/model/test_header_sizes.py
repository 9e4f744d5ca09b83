"""The size that a header says inside, of WebPs and icons, to the pixel; and files that only look like them."""

import io
import struct

import numpy as np
import pytest
from PIL import Image

from tandem.decoding import decompression_bombs
from tandem.image import load_image

WIDTH, HEIGHT = 300, 77


def webp(**options: object) -> bytes:
    noise = np.random.default_rng(0).integers(0, 256, (HEIGHT, WIDTH, 3), np.uint8)
    file = io.BytesIO()
    Image.fromarray(noise).save(file, "WEBP", **options)
    return file.getvalue()


WEBPS = {
    "VP8 ": webp(quality=10),
    "VP8L": webp(lossless=True),
    "VP8X": webp(quality=10, exif=b"Exif\0\0MM\0*\0\0\0\x08\0\0"),
}


def found(content: bytes, max_pixels: int = 2**62) -> str | None:
    return decompression_bombs.detect(io.BytesIO(content), max_pixels)


@pytest.mark.parametrize("kind", WEBPS)
def test_a_webp_has_the_size_that_it_says(kind: str) -> None:
    content = WEBPS[kind]
    assert content[12:16] == kind.encode()
    assert found(content, WIDTH * HEIGHT) is None
    assert found(content, WIDTH * HEIGHT - 1) == "300 x 77 pixels, more than the limit of 23,099 (max_pixels)"
    assert load_image(content).size == (WIDTH, HEIGHT)


@pytest.mark.parametrize("kind", WEBPS)
def test_what_is_half_a_webp_is_none(kind: str) -> None:
    content = WEBPS[kind]
    assert found(b"RIFF" + content[4:8] + b"WAVE" + content[12:], 1) is None
    assert found(b"FORM" + content[4:], 1) is None
    assert found(content[:20], 1) is None


def icon(*images: bytes) -> bytes:
    """An icon of these images, whole files each, at the places that its directory names."""
    at = 6 + 16 * len(images)
    directory, places = b"", at
    for image in images:
        directory += struct.pack("<BBBBHHII", 16, 16, 0, 0, 1, 32, len(image), places)
        places += len(image)
    return struct.pack("<HHH", 0, 1, len(images)) + directory + b"".join(images)


def png(width: int, height: int) -> bytes:
    return b"\x89PNG\r\n\x1a\n" + struct.pack(">I4sII5BI", 13, b"IHDR", width, height, 8, 6, 0, 0, 0, 0)


def bmp(width: int, height: int, compression: int = 0) -> bytes:
    return struct.pack("<IiiHHI", 40, width, height, 1, 32, compression)


def old_bmp(width: int, height: int) -> bytes:
    return struct.pack("<IHHHH", 12, width, height, 1, 24)


LARGEST = decompression_bombs.MAX_ICON_PIXELS
SIDE = 2048
assert SIDE * (LARGEST // SIDE) == LARGEST


@pytest.mark.parametrize("make", [png, bmp, old_bmp])
def test_images_in_an_icon_are_as_large_as_they_say(make) -> None:  # type: ignore[no-untyped-def]
    largest, larger = make(SIDE, LARGEST // SIDE), make(SIDE + 1, LARGEST // SIDE)
    assert found(icon(make(16, 16), largest)) is None
    said = "an icon that holds an image of 2,049 x 1,024 pixels"
    assert found(icon(larger)) == found(icon(make(16, 16), larger)) == said


def test_heights_in_an_icon_may_be_upside_down() -> None:
    assert found(icon(bmp(16, -32))) is None
    assert found(icon(bmp(SIDE + 1, -(LARGEST // SIDE)))) == "an icon that holds an image of 2,049 x 1,024 pixels"


@pytest.mark.parametrize(("compression", "refused"), [(0, False), (1, True), (2, True), (3, False)])
def test_run_length_encoding_in_an_icon_is_refused(compression: int, refused: bool) -> None:
    assert (found(icon(bmp(16, 32, compression))) == "an icon that holds a run-length encoded BMP") is refused


def test_a_png_in_an_icon_is_looked_into() -> None:
    parts = (struct.pack(">I", 0) + b"abCd" + bytes(4)) * (decompression_bombs.MAX_PARTS + 1)
    assert "more than" in str(found(icon(png(16, 16)[:33] + parts)))
    assert found(icon(png(16, 16)[:33] + parts[: 12 * 100])) is None


def test_icons_hold_so_many_images() -> None:
    most = decompression_bombs.MAX_ICONS
    assert found(icon(*[png(16, 16)] * most)) is None
    assert found(icon(*[png(16, 16)] * (most + 1))) == f"an icon of more than {most} images"
