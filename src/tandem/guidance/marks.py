"""The mark by which a picture of guidance is known as one: it may be replaced by the next. Knows files."""

import os
from pathlib import Path

from PIL import Image

MARK = "tandem guide"
SVG_MARK = f"<!-- {MARK} -->\n"
_SOFTWARE = 0x0131  # of EXIF, which PNG, JPEG and WebP hold as it is
_ENDS = 4096  # bytes at either end of a file, where each of those formats has it


def exif() -> Image.Exif:
    """The metadata of a picture that guidance writes."""
    made = Image.Exif()
    made[_SOFTWARE] = MARK
    return made


def is_marked(path: Path) -> bool:
    """Whether guidance wrote a picture; False for what is no file."""
    if not path.is_file():
        return False
    with path.open("rb") as file:
        found = file.read(_ENDS)
        file.seek(max(0, file.seek(0, os.SEEK_END) - _ENDS))
        found += file.read()
    return SVG_MARK.encode() in found or MARK.encode() + b"\0" in found
