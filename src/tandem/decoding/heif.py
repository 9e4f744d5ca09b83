"""What AVIF and HEIC files say of themselves: the EXIF inside them, whose openers read all of it at once, and how their
pixels are coded, which is what their decoders hold.

Knows the boxes of ISO 14496-12 and 23008-12 that say where an item lies; nothing of images.
"""

import itertools
import struct
from collections.abc import Iterator
from typing import BinaryIO

from tandem.decoding import tiff

_MAX_META = 8 * 2**20  # bytes of the boxes about items; those of a photo have some hundreds
_MAX_ITEMS = 20_000
_MAX_EXIF = 2**20
_MAX_CONFIGURATIONS = 2**18  # bytes that they lie in; those of photos lie in the first 8 KB
_MAX_HEADS = 16  # places in EXIF that look like its beginning
_BRANDS = (b"avif", b"avis", b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1")


def detect(file: BinaryIO) -> str | None:
    """What the metadata has too much of, or None; the latter also for any other format."""
    file.seek(0)
    head = file.read(12)
    if head[4:8] != b"ftyp" or head[8:12] not in _BRANDS:
        return None
    for at, end, kind in itertools.islice(_boxes(file, 0, None), _MAX_ITEMS):
        if kind == b"meta":
            if end - at > _MAX_META:
                return "an image whose boxes about its parts have more than 8 MB"
            return _exif_of(file, at + 4, end)
    return None


def held_by_avif(file: BinaryIO | None, *, alpha: bool) -> float:
    """Bytes a pixel that its decoder holds beside the image: planes of 8 or 16 bits, and the interleaved frame."""
    boxes = _configurations(file, b"av1C", 3)
    chroma = {0b11: 1.5, 0b10: 2.0}
    planes = max((1.0 if each[2] & 0x10 else chroma.get(each[2] >> 2 & 3, 3.0) for each in boxes), default=3.0)
    size = 2.0 if not boxes or any(each[2] & 0x40 for each in boxes) else 1.0
    return 3 + alpha + size * (1.2 + planes + 1.5 * alpha)


def held_by_heic(file: BinaryIO | None, *, channels: int) -> float:
    """Bytes a pixel that its decoder holds beside the image: planes, and the interleaved frame of all their bits."""
    if channels < 3:
        return 2.2
    boxes = _configurations(file, b"hvcC", 18)
    deep = not boxes or any(each[17] & 7 for each in boxes)
    sampled = boxes and all(each[16] & 3 <= 1 for each in boxes)  # 4:2:0
    base = (4.4 if sampled else 12.2) if deep else (3.8 if sampled else 6.2)
    return base + (channels > 3) * (5.0 if deep else 1.2)


def _configurations(file: BinaryIO | None, kind: bytes, length: int) -> list[bytes]:
    """The beginnings of all boxes of a kind that say how pixels are coded."""
    if file is None:
        return []
    at = file.tell()
    file.seek(0)
    content = file.read(_MAX_CONFIGURATIONS)
    file.seek(at)
    parts = content.split(kind, _MAX_ITEMS)[1:]
    return [part[:length] for part in parts if len(part) >= length]


def _exif_of(file: BinaryIO, at: int, end: int) -> str | None:
    exif: set[int] = set()
    locations: dict[int, list[tuple[int, int]]] = {}
    idat = 0
    for start, stop, kind in itertools.islice(_boxes(file, at, end), _MAX_ITEMS):
        file.seek(start)
        content = file.read(stop - start) if kind in (b"iinf", b"iloc") else b""
        try:
            if kind == b"iinf":
                exif = _exif_items(content)
            elif kind == b"iloc":
                locations = _locations(content)
            elif kind == b"idat":
                idat = start
        except (struct.error, IndexError):
            return None  # broken off: its decoder says so
    for item in exif:
        length = 0
        for method_and_offset, size in locations.get(item, ()):
            length += size
            if length > _MAX_EXIF:
                return "an image with more than 1 MB of EXIF"
            inside, offset = method_and_offset & 1, method_and_offset >> 1
            file.seek(offset + (idat if inside else 0))
            if not _is_bounded(file.read(size)):
                return "an image whose EXIF has more numbers than photos have"
    return None


def _is_bounded(content: bytes) -> bool:
    places = [at for head in tiff.HEADS for at in _all(content, head)]
    return len(places) <= _MAX_HEADS and all(tiff.is_bounded_metadata(content[at:]) for at in places)


def _all(content: bytes, what: bytes) -> Iterator[int]:
    at = content.find(what)
    for _ in range(_MAX_HEADS + 1):
        if at < 0:
            return
        yield at
        at = content.find(what, at + 1)


def _boxes(file: BinaryIO, at: int, end: int | None) -> Iterator[tuple[int, int, bytes]]:
    """Start and end of each box's contents, and its type."""
    while end is None or at + 8 <= end:
        file.seek(at)
        head = file.read(16)
        if len(head) < 8:
            return
        size, start = int.from_bytes(head[:4], "big"), at + 8
        if size == 1 and len(head) == 16:
            size, start = int.from_bytes(head[8:16], "big"), at + 16
        stop = at + size if size else file.seek(0, 2)
        if stop <= at or stop >= 2**62:
            return
        yield start, stop, head[4:8]
        at = stop


def _exif_items(content: bytes) -> set[int]:
    """Ids of the items that are EXIF, from an `iinf` box."""
    wide = content[0] > 0
    at, found = (8 if wide else 6), set()
    for _ in range(_MAX_ITEMS):
        if at + 12 > len(content):
            break
        (size,) = struct.unpack_from(">I", content, at)
        version = content[at + 8]
        id_size = 4 if version == 3 else 2
        kind = content[at + 12 + id_size + 2 : at + 12 + id_size + 6]
        if content[at + 4 : at + 8] == b"infe" and kind == b"Exif":
            found.add(int.from_bytes(content[at + 12 : at + 12 + id_size], "big"))
        if size < 8:
            break
        at += size
    return found


def _locations(content: bytes) -> dict[int, list[tuple[int, int]]]:
    """Of each item: offsets, doubled and odd where they count inside `idat`, and sizes; from an `iloc` box."""
    version = content[0]
    offset_size, length_size = content[4] >> 4, content[4] & 15
    base_size, index_size = content[5] >> 4, (content[5] & 15 if version in (1, 2) else 0)
    wide = 4 if version == 2 else 2
    at = 6
    found: dict[int, list[tuple[int, int]]] = {}

    def number(size: int) -> int:
        nonlocal at
        if at + size > len(content):
            raise IndexError
        at += size
        return int.from_bytes(content[at - size : at], "big")

    left = _MAX_ITEMS
    for _ in range(min(number(wide), _MAX_ITEMS)):
        item = number(wide)
        inside = number(2) & 1 if version in (1, 2) else 0
        number(2)  # which file it is in
        base = number(base_size)
        extents = found.setdefault(item, [])
        for _ in range(number(2)):
            left -= 1
            if left < 0:
                return found
            number(index_size)
            offset, size = number(offset_size), number(length_size)
            extents.append(((base + offset) << 1 | inside, size))
    return found
