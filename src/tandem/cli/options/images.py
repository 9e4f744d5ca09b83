"""Photos that are named on the command line."""

import glob
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from tandem.cli.arguments import Parser
from tandem.cli.inputs import read_images
from tandem.errors import ImageError, TandemError

if TYPE_CHECKING:
    from tandem.image import ImageSource


def add_images(parser: Parser, nargs: str) -> None:
    """PHOTO."""
    parser.add_argument(
        "images",
        nargs=nargs,
        metavar="PHOTO",
        help="a file, a folder (searched through), a glob in quotes, an http(s) URL, or - for an image or a list of "
        "paths on standard input",
    )


@dataclass
class FoundImages:
    """The images that were named, and the folders that could not be read."""

    images: "list[ImageSource]" = field(default_factory=list)
    skipped: list[ImageError] = field(default_factory=list)


def find_images(arguments: Sequence[str]) -> FoundImages:
    """Files, folders (searched through, hidden ones left out), globs, URLs, and `-` for standard input.

    A file that is not there stays in the list: it is skipped later, by name, like any other bad image.
    """
    found = FoundImages()
    for argument in arguments:
        found.images += _images(argument, found.skipped)
    found.images = list(dict.fromkeys(found.images))
    return found


def _images(argument: str, skipped: list[ImageError]) -> "Iterator[ImageSource]":
    from tandem.image import IMAGE_SUFFIXES

    if argument == "-":
        yield from read_images()
        return
    if argument.startswith(("http://", "https://")):
        yield argument
        return
    path = os.path.expanduser(argument)
    if os.path.isdir(path):
        before = len(skipped)
        found = sorted(_walk(path, skipped))
        if not found and len(skipped) > before:
            raise TandemError(str(skipped[before]))
        if not found:
            raise TandemError(f"{argument}: no images in this folder (looked for {', '.join(sorted(IMAGE_SUFFIXES))})")
        yield from found
    elif not os.path.exists(path) and glob.has_magic(path):
        matches = sorted(match for match in glob.iglob(path, recursive=True) if os.path.isfile(match))
        if not matches:
            raise TandemError(f"{argument}: no file matches")
        yield from matches
    else:
        yield path


def _walk(folder: str, skipped: list[ImageError]) -> Iterator[str]:
    from tandem.image import IMAGE_SUFFIXES

    def skip(error: OSError) -> None:
        skipped.append(ImageError(str(error.filename), (error.strerror or str(error)).lower(), "forbidden"))

    for parent, folders, files in os.walk(folder, onerror=skip):
        folders[:] = [name for name in folders if not name.startswith(".")]
        for name in files:
            if not name.startswith(".") and os.path.splitext(name)[1].lower() in IMAGE_SUFFIXES:
                yield os.path.join(parent, name)
