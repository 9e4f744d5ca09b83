"""Detects images with so many small parts that decoding would take hours or unbounded memory.

Decoders process the parts of a header one by one, and every scan of a JPEG visits all pixels again, so a file of a few
megabytes can do this. Knows the structure of JPEG, PNG, GIF and PPM, not the contents of the parts.
"""

import re
from typing import BinaryIO

MAX_SCANS = 100  # of a JPEG; cameras and programs write 1 to about 12. One costs 40 ms for 64 million pixels
MAX_PARTS = 10_000  # of a header, or beside a PNG's pixels; some 20 us each
MAX_PIXEL_PARTS = 100_000  # of a PNG; encoders write 8 KB or more at a time
MAX_HEADER_BYTES = 2**16  # of a PPM
_STANDALONE = range(0xD0, 0xD8)  # restart markers have no length


def detect(file: BinaryIO) -> str | None:
    """What the image has too much of, or None. Rewinds the file."""
    head = file.read(8)
    try:
        if head[:2] == b"\xff\xd8":
            return _jpeg(file)
        if head == b"\x89PNG\r\n\x1a\n":
            return _png(file)
        if head[:6] in (b"GIF87a", b"GIF89a"):
            return _gif(file)
        if head[:1] == b"P" and (head[2:3].isspace() or head[2:3] == b"#"):
            return _ppm(file)
        return None
    finally:
        file.seek(0)


def _jpeg(file: BinaryIO) -> str | None:
    scans, last = 0, b""
    file.seek(0)
    while block := file.read(2**20):
        scans += (last + block).count(b"\xff\xda")
        last = block[-1:]
    if scans > MAX_SCANS:
        return f"a JPEG of more than {MAX_SCANS} scans"
    file.seek(2)
    for _ in range(MAX_PARTS):
        mark = file.read(2)
        if len(mark) < 2 or mark[1] in (0xDA, 0xD9):
            return None
        if mark[0] != 0xFF or mark[1] in (0xFF, 0x00):  # fill bytes, or bytes that decoders skip one at a time
            file.seek(-1, 1)
        elif mark[1] not in _STANDALONE:
            length = int.from_bytes(file.read(2), "big")
            file.seek(max(length - 2, 0), 1)
    return f"a JPEG whose header has more than {MAX_PARTS:,} parts"


def _png(file: BinaryIO) -> str | None:
    others = pixels = 0
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


def _ppm(file: BinaryIO) -> str | None:
    """The header is read one character at a time, comments and blanks included."""
    file.seek(0)
    begins = file.read(MAX_HEADER_BYTES)
    words = re.sub(rb"#[^\r\n]*", b" ", begins).split(maxsplit=4)
    if len(begins) == MAX_HEADER_BYTES and len(words) < 4:  # magic number, width, height, largest value
        return f"a PPM whose header has more than {MAX_HEADER_BYTES:,} bytes"
    return None
