"""Reads lines, paths or an image from standard input and text files. Knows no model."""

import io
import os
import sys
from typing import BinaryIO

from tandem.errors import TandemError
from tandem.files import user_path

MOST_BYTES = 2**28  # of a list of texts: some millions of sentences
# Magic numbers of image files. A list of paths begins with none of them.
_SIGNATURES = (b"\xff\xd8\xff", b"\x89PNG\r\n", b"GIF8", b"II*\0", b"MM\0*", b"\0\0\0\x0cjP", b"\xff\x0a", b"8BPS")


class ImageOnStandardInput(io.BytesIO):
    """An image that was piped in; its name appears in answers and errors."""

    name = "<stdin>"


def looks_like_image(head: bytes) -> bool:
    """Whether bytes begin with the magic number of an image format."""
    return (
        head.startswith(_SIGNATURES)
        or (head[:4] == b"RIFF" and head[8:12] == b"WEBP")
        or (head[:2] == b"BM" and head[6:10] == bytes(4))
        or head[4:8] == b"ftyp"
    )


def standard_input() -> BinaryIO:
    """The bytes of standard input."""
    if sys.stdin is None:
        raise TandemError("standard input is closed")
    return sys.stdin.buffer


def read_images() -> list[str | BinaryIO]:
    """The meaning of `-`: the image on standard input, or a list of paths separated by line ends or NULs."""
    content = standard_input().read()
    if looks_like_image(content):
        return [ImageOnStandardInput(content)]
    paths = split_list(content)
    if not paths:
        raise TandemError("standard input is empty: expected paths of photos, one per line, or an image")
    return list(paths)


def read_image(argument: str | None) -> str | BinaryIO | None:
    """An image's path or address as it is; for `-` the image on standard input."""
    if argument != "-":
        return argument
    content = standard_input().read()
    if not content:
        raise TandemError("standard input is empty: expected an image")
    return ImageOnStandardInput(content)


def check_list() -> None:
    """Refuse standard input that is not a list of paths, before reading it."""
    stream = standard_input()
    peek = getattr(stream, "peek", None)
    if peek is None:
        return
    head = peek(16)
    if not head:
        raise TandemError("standard input is empty: expected paths of photos, one per line")
    if looks_like_image(head):
        raise TandemError("standard input is an image: expected paths of photos, one per line")


def split_list(content: bytes) -> list[str]:
    """Split a list of paths as `find` or `find -print0` prints it. Names that are not UTF-8 are preserved."""
    separated = content.split(b"\0") if b"\0" in content else content.splitlines()
    return [os.fsdecode(each) for each in separated if each.strip()]


def read_lines(source: str) -> list[str]:
    """The lines of a text file, or of standard input for `-`, without empty ones; a NUL ends a line, too.

    Raises `TandemError` for more than `MOST_BYTES`, such as a device that never ends.
    """
    if source == "-":
        content = standard_input().read(MOST_BYTES + 1)
    else:
        with user_path(source).open("rb") as file:
            content = file.read(MOST_BYTES + 1)
    if len(content) > MOST_BYTES:
        raise TandemError(f"{source}: expected texts of at most {MOST_BYTES:,} bytes in all, found more")
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise TandemError(f"{source}: expected text in UTF-8, got an invalid byte at offset {error.start}") from None
    return [line.strip() for line in text.replace("\0", "\n").splitlines() if line.strip()]
