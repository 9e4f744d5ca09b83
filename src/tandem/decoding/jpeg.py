"""The parts of a JPEG: how many there are, and what its decoder holds of all scans until the last one is read.

Every scan of a progressive JPEG visits all pixels again, and scans are small, so a file of a few megabytes can ask for
minutes. Knows markers and their lengths; decodes nothing.
"""

import re
from dataclasses import dataclass
from typing import BinaryIO

MAX_PARTS = 10_000  # of a header; some 20 us each
MAX_SCANS = 100  # cameras and programs write 1 to about 12
MAX_SCANNED_PIXELS = 1_600_000_000  # of all scans; 0.6 s for each thousand million, even where the scans are empty
_STANDALONE = range(0xD0, 0xD8)  # restart markers have no length
_SOF = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_PROGRESSIVE = (0xC2, 0xC6, 0xCA, 0xCE)
_MARK = re.compile(rb"\xff[^\x00\xff\xd0-\xd7]")  # that ends the data of a scan
_BLOCK = 2**20


@dataclass(frozen=True)
class _Frame:
    width: int
    height: int
    sampling: tuple[tuple[int, int], ...]  # of each component: across, down
    progressive: bool

    @property
    def coefficients(self) -> int:
        """Bytes of all coefficients, in whole blocks."""
        across, down = (max([1, *(each[axis] for each in self.sampling)]) for axis in (0, 1))
        blocks = -(-self.width // (8 * across)) * -(-self.height // (8 * down))
        return 128 * blocks * sum(h * v for h, v in self.sampling)


def detect(file: BinaryIO) -> str | None:
    """What the JPEG has too much of, or None."""
    found = _header(file)
    if isinstance(found, str):
        return found
    frame, start, _ = found
    pixels = frame.width * frame.height if frame else 0
    most = min(MAX_SCANS, MAX_SCANNED_PIXELS // max(1, pixels))
    if _marks(file) > most and (scans := _scans(file, start, most)) > most:
        return f"a JPEG of more than {most} scans" + f" of {pixels:,} pixels" * (scans <= MAX_SCANS)
    return None


def held_coefficients(file: BinaryIO) -> int:
    """Bytes that its decoder holds beside the image: of a JPEG of several scans, all coefficients; otherwise 0."""
    at = file.tell()
    try:
        found = _header(file)
    finally:
        file.seek(at)
    if isinstance(found, str):
        return 0
    frame, _, components = found
    if frame is None:
        return 0
    return frame.coefficients if frame.progressive or components < len(frame.sampling) else 0


def _header(file: BinaryIO) -> tuple[_Frame | None, int, int] | str:
    """The frame, where its first scan begins, and the components in that scan; or what there is too much of."""
    frame = None
    file.seek(2)
    for _ in range(MAX_PARTS):
        mark = file.read(2)
        if len(mark) < 2 or mark[1] == 0xD9:
            return frame, file.tell(), 0
        if mark[0] != 0xFF or mark[1] in (0xFF, 0x00):  # fill bytes, or bytes that decoders skip one at a time
            file.seek(-1, 1)
        elif mark[1] not in _STANDALONE:
            at = file.tell()
            length = int.from_bytes(file.read(2), "big")
            if mark[1] == 0xDA:
                return frame, at - 2, (file.read(1) or b"\0")[0]
            if mark[1] in _SOF:
                frame = _frame(mark[1], file.read(max(length - 2, 0)))
            file.seek(at + max(length, 2))
    return f"a JPEG whose header has more than {MAX_PARTS:,} parts"


def _frame(mark: int, content: bytes) -> _Frame:
    height, width = (int.from_bytes(content[at : at + 2], "big") for at in (1, 3))
    sampling = tuple((each >> 4, each & 15) for each in content[7::3])
    return _Frame(width, height, sampling, mark in _PROGRESSIVE)


def _marks(file: BinaryIO) -> int:
    """At most so many scans: the marks of one anywhere, also in metadata and in what lies behind the image."""
    count, last = 0, b""
    file.seek(0)
    while block := file.read(_BLOCK):
        count += (last + block).count(b"\xff\xda")
        last = block[-1:]
    return count


def _scans(file: BinaryIO, at: int, most: int) -> int:
    """The scans of the first image, from where the first one begins; `most` and one more where there are as many."""
    scans = parts = 0
    while scans <= most and parts < MAX_PARTS:
        file.seek(at)
        block = file.read(_BLOCK)
        found = _MARK.search(block)
        if found is None:
            if len(block) < _BLOCK:
                break
            at += _BLOCK - 1
            continue
        parts += 1
        at += found.end()
        kind = block[found.end() - 1]
        if kind == 0xD9:
            break
        scans += kind == 0xDA
        file.seek(at)
        at += max(2, int.from_bytes(file.read(2), "big"))
    return scans if parts < MAX_PARTS else most + 1
