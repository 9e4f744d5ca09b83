"""Images that would cost far more than they seem to, made from a few bytes."""

import io
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

from PIL import Image

from tandem.image import Limits, load_image


def load(path: str, most: str) -> list[object]:
    """What the bounded process does with a file, under a limit of bytes."""
    image = load_image(Path(path), limits=Limits(max_decoded_bytes=int(most)))
    return [image.mode, *image.size]


def encoded(kind: str, size: tuple[int, int] = (40, 30), **options: object) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", size, (200, 30, 90)).save(file, kind, **options)
    return file.getvalue()


def chunk(kind: bytes, content: bytes = b"") -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def png(width: int, height: int, *parts: bytes, depth: int = 8, colour: int = 2) -> bytes:
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0))
    data = chunk(b"IDAT", zlib.compress(bytes(10_000_000), 9))
    return b"\x89PNG\r\n\x1a\n" + header + b"".join(parts) + data + chunk(b"IEND")


def dib(width: int, height: int, compression: int = 0) -> bytes:
    return struct.pack("<IiiHHIIiiII", 40, width, height, 1, 8 if compression else 24, compression, 0, 0, 0, 0, 0)


def bmp(width: int, height: int, compression: int, data: bytes = b"") -> bytes:
    palette = bytes(4) * 255 + b"\x01\x02\x03\0"
    return b"BM" + struct.pack("<IHHI", 0, 0, 0, 54 + len(palette)) + dib(width, height, compression) + palette + data


def icon(content: bytes, count: int = 1) -> bytes:
    entries = struct.pack("<BBBBHHII", 16, 16, 0, 0, 1, 32, len(content), 6 + 16 * count) * count
    return struct.pack("<HHH", 0, 1, count) + entries + content


def tiff(width: int, height: int, *entries: tuple[int, int, int, int], tail: bytes = b"") -> bytes:
    """Grey; entries are tag, type, count, value, of which the last may be an offset. Data begins at 1,000."""
    own = {256: (4, 1, width), 257: (4, 1, height), 258: (3, 1, 8), 259: (3, 1, 1), 262: (3, 1, 1), 277: (3, 1, 1)}
    own |= {tag: (kind, count, value) for tag, kind, count, value in entries}
    directory = struct.pack("<H", len(own))
    for tag, (kind, count, value) in sorted(own.items()):
        packed = struct.pack("<HH", value & 0xFFFF, 0) if kind == 3 and count == 1 else struct.pack("<I", value)
        directory += struct.pack("<HHI", tag, kind, count) + packed
    return (b"II*\0\x08\0\0\0" + directory + bytes(4)).ljust(1000, b"\0") + tail


def exif(kind: int, count: int, size: int) -> bytes:
    """One entry of so many values of a type, of `size` bytes each."""
    head = b"II*\0\x08\0\0\0" + struct.pack("<H", 2)
    head += struct.pack("<HHIHH", 0x0112, 3, 1, 6, 0) + struct.pack("<HHII", 0x9286, kind, count, 64)
    return head.ljust(64, b"\0") + b"\x01\0\0\0" * (count * size // 4)


def _jpeg_with_exif(*parts: bytes) -> bytes:
    jpeg = encoded("JPEG")
    segments = b"".join(b"\xff\xe1" + struct.pack(">H", len(part) + 8) + b"Exif\0\0" + part for part in parts)
    return jpeg[:2] + segments + jpeg[2:]


def _webp(width: int, height: int) -> bytes:
    body = b"VP8X" + struct.pack("<I", 10) + bytes(4)
    body += struct.pack("<I", width - 1)[:3] + struct.pack("<I", height - 1)[:3]
    return b"RIFF" + struct.pack("<I", len(body) + 4) + b"WEBP" + body


def _patched(content: bytes, box: bytes, width: int, height: int) -> bytes:
    at = content.index(box) + 8
    return content[:at] + struct.pack(">II", width, height) + content[at + 8 :]


def _avif_with_exif(content: bytes) -> bytes:
    """A small one's EXIF, moved to the end of the file and replaced."""
    whole = encoded("AVIF", exif=b"Exif\0\0" + exif(7, 8, 1))
    at = whole.index(b"\0\2\0\0\0\1", whole.index(b"iloc")) + 6  # item 2, one extent
    return whole[:at] + struct.pack(">II", len(whole), len(content) + 4) + whole[at + 8 :] + bytes(4) + content


def _codestream(size: int, markers: int) -> bytes:
    siz = struct.pack(">HHIIIIIIIIH", 41, 0, size, size, 0, 0, size, size, 0, 0, 1) + b"\7\1\1"
    return b"\xff\x4f\xff\x51" + siz + b"\xff\x64\0\2" * markers


def _gif_frame(left: int, top: int, width: int, height: int) -> bytes:
    return (
        b"GIF89a\x01\0\x01\0\x80\0\0"
        + bytes(6)
        + b","
        + struct.pack("<HHHHB", left, top, width, height, 0)
        + b"\2\1\0;"
    )


_GIF = encoded("GIF")

# Refused, each with words that its error has (a pattern)
REFUSED: dict[str, tuple[Callable[[], bytes], str]] = {
    "an icon that holds a huge PNG": (lambda: icon(png(20_000, 6_000)), "20,000 x 6,000"),
    "an icon that holds a huge BMP": (lambda: icon(dib(11_000, 11_000)), "11,000 x 11,000"),
    "an icon of a tall BMP": (lambda: icon(dib(11_000, -11_000)), "11,000 x 11,000"),
    "an icon that holds runs": (lambda: icon(dib(100, 100, 1)), "run-length"),
    "an icon of many images": (lambda: icon(png(16, 16), 65_535), "more than 64"),
    "a TIFF of floats": (lambda: tiff(11_000, 11_000, (258, 3, 1, 32), (339, 3, 1, 3), (273, 4, 1, 8)), "take 605 MB"),
    "a TIFF of whole numbers": (
        lambda: tiff(11_000, 11_000, (258, 3, 1, 32), (339, 3, 1, 2), (273, 4, 1, 8)),
        "take 605 MB",
    ),
    "a TIFF of 3 million strips": (
        lambda: tiff(1, 3_000_000, (273, 4, 3_000_000, 1000), (278, 3, 1, 1), tail=bytes(12_000_000)),
        "strips or tiles",
    ),
    "a TIFF of long numbers": (
        lambda: tiff(10, 10, (273, 4, 1, 8), (33_550, 5, 2_000_000, 1000), tail=b"\1" * 16_000_000),
        "more than 300,000 numbers",
    ),
    "a TIFF of huge tiles": (
        lambda: tiff(10, 10, (259, 3, 1, 8), (322, 4, 1, 2**20), (323, 4, 1, 2**12), (324, 4, 1, 8), (325, 4, 1, 99)),
        "far larger than the image",
    ),
    "a TIFF of many pixels": (lambda: tiff(2**31, 2**31, (273, 4, 1, 8)), "more than the limit"),
    "a QOI of many pixels": (
        lambda: b"qoif" + struct.pack(">II", 8_000, 8_000) + b"\4\0" + b"\xfd" * 1000,
        "to decode",
    ),
    "a QOI of four megapixels": (
        lambda: b"qoif" + struct.pack(">II", 2_000, 2_000) + b"\3\0" + b"\xfd" * 9,
        "to decode",
    ),
    "a plain PPM of many pixels": (lambda: b"P3 9000 9000 255\n" + b"1 " * 1_000_000, "to decode"),
    "a plain PPM of comments": (lambda: b"P3 900 900 255\n" + b"#\n" * 1_000_000, "1,000 comments"),
    "a plain bitmap of comments": (lambda: b"P1 900 900\n" + b"#\n" * 1_000_000, "1,000 comments"),
    "a PPM of an unusual largest value": (lambda: b"P6 9000 9000 99\n" + bytes(1_000_000), "to decode"),
    "a BMP of many runs": (lambda: bmp(11_000, 11_000, 1, b"\xff\1" * 1_000_000), "to decode"),
    "a BMP of empty runs": (lambda: bmp(1000, 100, 1, b"\1\1" + b"\xff\1" * 9_000_000), "was stopped"),
    "a BMP of jumps": (lambda: bmp(100_000_000, 1, 2, b"\0\2\xff\xff" * 100_000), "to decode"),
    # Its decoder keeps a list of them: it ends at the limit of memory or at that of time, whichever it meets first
    "a JPEG 2000 of many markers": (lambda: _codestream(10, 25_000_000), "was stopped|broken data stream"),
    "a JPEG 2000 of many pixels": (lambda: _codestream(11_000, 0) + b"\xff\x90", "take"),
    "a JPEG 2000 of many boxes": (
        lambda: b"\0\0\0\x0cjP  \r\n\x87\n" + b"\0\0\0\x08free" * 6_000_000,
        "was stopped",
    ),
    "a WebP canvas": (lambda: _webp(16_384, 16_384), "16,384 x 16,384"),
    "EXIF of rationals in an AVIF": (lambda: _avif_with_exif(exif(5, 1_000_000, 8)), "more than 1 MB of EXIF"),
    "EXIF of rationals in a small AVIF": (lambda: _avif_with_exif(exif(5, 100_000, 8)), "more numbers than photos"),
    "a PNG of many pixels": (lambda: png(30_000, 30_000), "more than the limit"),
    "a GIF whose frame is larger": (lambda: _gif_frame(65_535, 65_535, 65_535, 65_535), ""),
}

# Large, and read where there is so much memory; refused under limits such as a server's
LARGE: dict[str, tuple[Callable[[], bytes], str]] = {
    "a WebP of many pixels": (
        lambda: encoded("WEBP", (9_000, 6_000), lossless=True, quality=0, method=0),
        "take 658 MB",
    ),
    "a progressive JPEG": (
        lambda: _sized_jpeg(encoded("JPEG", progressive=True), 11_000, 11_000),
        "to decode",
    ),
    "an AVIF of many pixels": (lambda: _patched(encoded("AVIF"), b"ispe", 9_000, 9_000), "take 785 MB"),
}


def _sized_jpeg(content: bytes, width: int, height: int) -> bytes:
    at = next(i for mark in (b"\xff\xc0", b"\xff\xc2") if (i := content.find(mark)) > 0) + 5
    return content[:at] + struct.pack(">HH", height, width) + content[at + 4 :]


# Read like any other: what is unbounded in them is left aside
READ: dict[str, Callable[[], bytes]] = {
    "EXIF of rationals in a PNG": lambda: png(64, 48, chunk(b"eXIf", exif(5, 1_000_000, 8))),
    "EXIF of numbers in a PNG": lambda: png(64, 48, chunk(b"eXIf", exif(3, 4_000_000, 2))),
    "EXIF of many parts in a JPEG": lambda: _jpeg_with_exif(*[exif(5, 8_000, 8)] * 100),
    "EXIF larger than its file in a JPEG": lambda: _jpeg_with_exif(
        exif(7, 60_000, 1)[:-200].replace(b"\0\xea", b"\xff\xff")
    ),
    "EXIF of rationals in a WebP": lambda: encoded("WEBP", exif=b"Exif\0\0" + exif(5, 1_000_000, 8)),
    "comments behind a GIF's frame": lambda: _GIF[:-1] + b"\x21\xfe\x01a\0" * 3_000_000 + b";",
}


def index(images: str, model: str, collection: str) -> list[object]:
    """What the bounded process does with a folder: indexed, skipped, and the megabytes of the whole process."""
    import tandem

    with tandem.open(collection, model) as photos:
        report = photos.add(images, workers=2, progress=False)
    with open("/proc/self/status") as file:
        peak = next(int(line.split()[1]) / 1000 for line in file if line.startswith("VmHWM:"))
    return [report.added, len(report.failures), peak]
