"""The directories of a TIFF file, and of EXIF, which is one: how many values they promise, before any is read.

Decoders turn every value into an object and every strip into a job, so a file of a few megabytes can ask for
gigabytes. Knows the structure of directories, not what is in an image.
"""

import io
import struct
from collections.abc import Iterator, Mapping
from typing import Any, BinaryIO

from tandem.decoding.refusals import too_many_pixels

MAX_ENTRIES = 4_096  # of a directory
MAX_STRIPS = 100_000  # or tiles
MAX_VALUES = 300_000  # numbers in all entries of a directory beside the strips
_MAX_METADATA_VALUES = 20_000  # of EXIF, all directories together
_MAX_TILE = 2**22  # pixels of a tile that is larger than its image
_AS_BYTES = (1, 2, 6, 7)  # types whose values stay bytes or text
_STRIPS = (273, 279, 324, 325)  # offsets and lengths of strips and tiles
_WIDTH, _HEIGHT, _TILE_WIDTH, _TILE_HEIGHT = 256, 257, 322, 323
_BITS, _COMPRESSION, _SAMPLES, _ROWS = 258, 259, 277, 278
_PARTS = (0x8769, 0x8825, 0xA005)  # directories inside: EXIF's own, the place, interoperability
HEADS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")


def detect(file: BinaryIO, max_pixels: int) -> str | None:
    """What the first image of a TIFF has too much of, or None; the latter also for what is no TIFF."""
    file.seek(0)
    head = file.read(16)
    if head[:4] not in HEADS:
        return None
    found = dict.fromkeys((_WIDTH, _HEIGHT, _TILE_WIDTH, _TILE_HEIGHT), 0)
    numbers = 0
    parts: list[int | None] = []
    for entry, (tag, kind, count, value) in enumerate(_entries(file, head)):
        if entry >= MAX_ENTRIES:
            return f"a TIFF of more than {MAX_ENTRIES:,} entries"
        if tag in _PARTS:
            parts.append(value)
        if tag in _STRIPS:
            if count > MAX_STRIPS:
                return f"a TIFF of more than {MAX_STRIPS:,} strips or tiles"
        elif kind not in _AS_BYTES:
            numbers += count
        if tag in found:
            found[tag] = max(found[tag], value)
    if numbers > MAX_VALUES or not _are_bounded(file, head, parts):
        return f"a TIFF whose header has more than {MAX_VALUES:,} numbers"
    width, height = found[_WIDTH], found[_HEIGHT]
    if width * height > max_pixels:
        return too_many_pixels(width, height, max_pixels)
    if found[_TILE_WIDTH] * found[_TILE_HEIGHT] > max(_MAX_TILE, 4 * width * height):
        return f"a TIFF of tiles that are far larger than the image of {width:,} x {height:,} pixels"
    return None


def held_by_strip(tags: Mapping[int, Any], width: int, height: int) -> float:
    """Bytes a pixel of the image that its decoder holds beside it: a strip or a tile; 0 where nothing is packed."""
    try:
        if int(tags.get(_COMPRESSION, 1)) == 1:
            return 0.0
        bits = tags.get(_BITS, (8,))
        samples = int(tags.get(_SAMPLES, 1))
        each = max(4.0 if samples > 1 else 1.0, samples * max(bits if isinstance(bits, tuple) else (bits,)) / 8)
        rows = min(height, int(tags.get(_ROWS, height)))
        pixels = int(tags.get(_TILE_WIDTH, 0)) * int(tags.get(_TILE_HEIGHT, 0)) or width * rows
    except (TypeError, ValueError):  # damaged: its decoder says so
        return 4.0
    return float(each * pixels / max(1, width * height))


def is_bounded_metadata(exif: bytes) -> bool:
    """Whether EXIF promises no more numbers than photos have. Of damaged EXIF, that which can be read counts."""
    while exif.startswith(b"Exif\0\0"):
        exif = exif[6:]
    if exif[:4] not in HEADS:
        return True  # not read as EXIF by anything
    return _are_bounded(io.BytesIO(exif), exif[:16], [None])


def _are_bounded(file: BinaryIO, head: bytes, directories: list[int | None]) -> bool:
    """Whether the directories at these offsets, and those inside them, promise few numbers. None: the first one."""
    waiting, seen = list(directories), 0
    numbers = entries = 0
    while waiting:
        at = waiting.pop()
        seen += 1
        for tag, kind, count, value in _entries(file, head, at):
            entries += 1
            numbers += 0 if kind in _AS_BYTES else count
            if entries > MAX_ENTRIES or numbers > _MAX_METADATA_VALUES or seen > len(_PARTS) + 1:
                return False
            if tag in _PARTS:
                waiting.append(value)
    return True


def _entries(file: BinaryIO, head: bytes, at: int | None = None) -> Iterator[tuple[int, int, int, int]]:
    """Tag, type, number of values and the first of them, as far as the file goes; of the directory at an offset."""
    order = "<" if head[:1] == b"I" else ">"
    big = head[2:4] in (b"+\0", b"\0+")
    if at is None:
        if len(head) < (16 if big else 8):
            return
        (at,) = struct.unpack_from(order + ("Q" if big else "L"), head, 8 if big else 4)
    if at >= 2**63:
        return
    file.seek(at)
    width = 8 if big else 2
    content = file.read(width)
    if len(content) < width:
        return
    (count,) = struct.unpack(order + ("Q" if big else "H"), content)
    layout = struct.Struct(order + ("HHQ8s" if big else "HHL4s"))
    for _ in range(count):
        entry = file.read(layout.size)
        if len(entry) < layout.size:
            return
        tag, kind, values, inline = layout.unpack(entry)
        yield tag, kind, values, _first(order, kind, inline)


def _first(order: str, kind: int, inline: bytes) -> int:
    code = {1: "B", 3: "H", 4: "L", 13: "L", 16: "Q", 18: "Q"}.get(kind)
    if code is None or struct.calcsize(order + code) > len(inline):
        return 0
    return int(struct.unpack_from(order + code, inline)[0])
