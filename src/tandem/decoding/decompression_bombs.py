"""Detects images with so many small parts that decoding would take hours or unbounded memory.

Decoders process the parts of a header one by one, so a file of a few megabytes can do this; others say one size outside
and have another inside. Knows the structure of files, not the contents of their parts.
"""

import re
from typing import BinaryIO

from tandem.decoding import cost, heif, jpeg, tiff
from tandem.decoding.jpeg import MAX_PARTS  # of other headers, and beside a PNG's pixels
from tandem.decoding.refusals import too_many_pixels

MAX_PIXEL_PARTS = 100_000  # of a PNG; encoders write 8 KB or more at a time
MAX_HEADER_BYTES = 2**16  # of a PPM
MAX_COMMENTS = 1_000  # of a plain PPM, among its numbers: each moves those that follow
MAX_ICONS = 64  # images of an icon
MAX_ICON_PIXELS = 2**21  # eight times the largest that an icon's own header can name
_PNG = b"\x89PNG\r\n\x1a\n"


def detect(file: BinaryIO, max_pixels: int = 2**62) -> str | None:
    """What the image has too much of, or None. Rewinds the file."""
    head = file.read(16)
    try:
        if head[:2] == b"\xff\xd8":
            return jpeg.detect(file)
        if head[:8] == _PNG:
            return _png(file, 8)
        if head[:6] in (b"GIF87a", b"GIF89a"):
            return _gif(file)
        if head[:1] == b"P" and (head[2:3].isspace() or head[2:3] == b"#"):
            return _ppm(file, head[1:2])
        if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
            return _webp(file, max_pixels)
        if head[:4] == b"\0\0\1\0":
            return _icon(file, int.from_bytes(head[4:6], "little"))
        return heif.detect(file) or tiff.detect(file, max_pixels)
    finally:
        file.seek(0)


def _png(file: BinaryIO, start: int) -> str | None:
    others = pixels = 0
    file.seek(start)
    while len(head := file.read(8)) == 8:
        if head[4:] == b"IDAT":
            pixels += 1
        else:
            others += 1
        if others > MAX_PARTS or pixels > MAX_PIXEL_PARTS:
            return f"a PNG of more than {MAX_PARTS:,} parts beside its pixels, or {MAX_PIXEL_PARTS:,} with them"
        if head[4:] == b"IEND":
            break
        file.seek(int.from_bytes(head[:4], "big") + 4, 1)
    return None


def _gif(file: BinaryIO) -> str | None:
    """Checks up to the first frame, since only that is decoded."""
    file.seek(10)
    flags = (file.read(3) or b"\0")[0]
    if flags & 0x80:
        file.seek(3 << ((flags & 7) + 1), 1)
    left = MAX_PARTS
    while left:
        left -= 1
        kind = file.read(1)
        if kind == b"!":
            file.seek(1, 1)
            while left and (length := file.read(1)) not in (b"", b"\0"):
                left -= 1
                file.seek(length[0], 1)
        elif kind in (b"", b",", b";"):
            return None
    return f"a GIF with more than {MAX_PARTS:,} parts before its first frame"


def _ppm(file: BinaryIO, kind: bytes) -> str | None:
    """The header is read one character at a time, comments and blanks included; so are plain pixels."""
    file.seek(0)
    begins = file.read(MAX_HEADER_BYTES)
    if kind in (b"1", b"2", b"3"):
        comments, block = 0, begins
        while block:
            comments += block.count(b"#")
            if comments > MAX_COMMENTS:
                return f"a plain PPM of more than {MAX_COMMENTS:,} comments"
            block = file.read(2**20)
    words = re.sub(rb"#[^\r\n]*", b" ", begins).split(maxsplit=4)
    if len(begins) == MAX_HEADER_BYTES and len(words) < 4:  # magic number, width, height, largest value
        return f"a PPM whose header has more than {MAX_HEADER_BYTES:,} bytes"
    return None


def _webp(file: BinaryIO, max_pixels: int) -> str | None:
    """Its decoder takes memory for the canvas before anyone can ask for the size."""
    file.seek(0)
    head = file.read(30)
    width = height = 0
    if head[12:16] == b"VP8X" and len(head) == 30:
        width, height = (int.from_bytes(head[at : at + 3], "little") + 1 for at in (24, 27))
    elif head[12:16] == b"VP8L" and head[20:21] == b"\x2f":
        bits = int.from_bytes(head[21:25], "little")
        width, height = (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    elif head[23:26] == b"\x9d\x01\x2a":
        width, height = (int.from_bytes(head[at : at + 2], "little") & 0x3FFF for at in (26, 28))
    if width * height > max_pixels:
        return too_many_pixels(width, height, max_pixels)
    return None


def _icon(file: BinaryIO, count: int) -> str | None:
    """The images inside an icon are whole PNG and BMP files, and are decoded when the icon is opened."""
    if count > MAX_ICONS:
        return f"an icon of more than {MAX_ICONS} images"
    file.seek(6)
    directory = file.read(16 * count)
    for at in {int.from_bytes(directory[i + 12 : i + 16], "little") for i in range(0, len(directory) - 15, 16)}:
        file.seek(at)
        head = file.read(24)
        if head[:8] == _PNG:
            width, height = (int.from_bytes(head[i : i + 4], "big") for i in (16, 20))
            if (too_much := _png(file, at + 8)) is not None:
                return too_much
        elif head[:4] == b"\x0c\0\0\0":
            width, height = (int.from_bytes(head[i : i + 2], "little") for i in (4, 6))
        else:
            width, height = (abs(int.from_bytes(head[i : i + 4], "little", signed=True)) for i in (4, 8))
            if int.from_bytes(head[16:20], "little") in cost.RUN_LENGTH:
                return "an icon that holds a run-length encoded BMP"
        if width * height > MAX_ICON_PIXELS:
            return f"an icon that holds an image of {width:,} x {height:,} pixels"
    return None
