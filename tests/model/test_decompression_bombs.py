"""Images of a few megabytes that would keep a decoder busy for minutes are refused from their bytes; others not."""

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from tandem.decoding import decompression_bombs
from tandem.errors import ImageError
from tandem.image import load_image

MANY = 11_000


def encoded(kind: str, **options: object) -> bytes:
    chance = np.random.default_rng(0)
    frames = [Image.fromarray(chance.integers(0, 256, (40, 60, 3), dtype=np.uint8)) for _ in range(5)]
    file = io.BytesIO()
    frames[0].save(file, kind, **({"save_all": True, "append_images": frames[1:]} if kind != "JPEG" else {}), **options)
    return file.getvalue()


def chunk(kind: bytes, content: bytes = b"") -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


JPEG, PNG, GIF = (encoded(kind) for kind in ("JPEG", "PNG", "GIF"))
_FIRST = 13 + (3 << ((GIF[10] & 7) + 1))  # behind the palette

ENDLESS = {
    "segments": JPEG[:2] + b"\xff\xec\x00\x02" * MANY + JPEG[2:],
    "comments of a JPEG": JPEG[:2] + b"\xff\xfe\x00\x03a" * MANY + JPEG[2:],
    "filling": JPEG[:2] + b"\xff" * MANY + JPEG[2:],
    "nothing to skip": JPEG[:2] + b"\xff\x00" * MANY + JPEG[2:],
    "scans": JPEG[:-2] + b"\xff\xda\0\2" * 200 + JPEG[-2:],
    "chunks": PNG[:33] + chunk(b"abCd") * MANY + PNG[33:],
    "texts": PNG[:33] + chunk(b"zTXt", b"a\0\0" + zlib.compress(bytes(600))) * MANY + PNG[33:],
    "chunks at the end": PNG[:-12] + chunk(b"abCd") * MANY + PNG[-12:],
    "empty pixels": PNG[:33] + chunk(b"IDAT") * 101_000 + PNG[33:],
    "a comment of a PPM": b"P6 #" + b"c" * 100_000 + b"\n60 40 255\n" + bytes(7200),
    "blanks of a PPM": b"P6 60 40" + b" " * 100_000 + b"255\n" + bytes(7200),
    "comments": GIF[:_FIRST] + b"\x21\xfe\x01a\x00" * MANY + GIF[_FIRST:],
    "a long comment": GIF[:_FIRST] + b"\x21\xfe" + b"\x01a" * MANY + b"\x00" + GIF[_FIRST:],
}


@pytest.mark.parametrize("name", ENDLESS)
def test_what_has_parts_without_end_is_refused(name: str) -> None:
    with pytest.raises(ImageError, match="more than"):
        load_image(ENDLESS[name])


@pytest.mark.parametrize(
    "content",
    [JPEG, PNG, GIF, b"P6 #a\n60 40 255\n" + bytes(100_000), encoded("WEBP"), encoded("JPEG", progressive=True)],
)
def test_others_are_read(content: bytes) -> None:
    assert decompression_bombs.detect(io.BytesIO(content)) is None
    assert load_image(content).size == (60, 40)


def test_a_file_that_breaks_off_is_left_to_its_decoder() -> None:
    for content in (JPEG, PNG, GIF):
        for length in range(0, len(content), 7):
            file = io.BytesIO(content[:length])
            assert decompression_bombs.detect(file) is None
            assert file.tell() == 0


@pytest.mark.parametrize(("kind", "head"), [(b"zTXt", b"a\0\0"), (b"iTXt", b"a\0\1\0\0\0"), (b"iCCP", b"a\0\0")])
@pytest.mark.slow
def test_metadata_that_unpacks_to_much_is_not_unpacked(kind: bytes, head: bytes) -> None:
    much = head + zlib.compress(bytes(100_000_000))
    with pytest.raises(ImageError, match="too large"):
        load_image(PNG[:33] + chunk(kind, much) + PNG[33:])
