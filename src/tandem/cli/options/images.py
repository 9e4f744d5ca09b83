"""Photos that are named on the command line."""

import glob
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from tandem.cli import terminal
from tandem.cli.arguments import Group, Parser, positive
from tandem.cli.inputs import read_images
from tandem.defaults import MAX_PIXELS
from tandem.errors import ImageError, TandemError
from tandem.files import user_path

if TYPE_CHECKING:
    from tandem.image import ImageSource, Limits

MEGAPIXEL = 1_000_000


def add_images(parser: Parser, nargs: str) -> None:
    """PHOTO."""
    parser.add_argument(
        "images",
        nargs=nargs,
        metavar="PHOTO",
        help="a file, a folder (searched through), a glob in quotes, an http(s) URL, or - for an image or a list of "
        "paths on standard input",
    )
    add_exclude(parser)
    add_limits(parser)


def add_limits(parser: Parser) -> None:
    """`--max-megapixels`, which `options.model.loading` reads."""
    parser.add_argument(
        "--max-megapixels",
        dest="image_megapixels",
        type=positive,
        metavar="N",
        help=f"of a photo; larger ones are skipped ({MAX_PIXELS // MEGAPIXEL}); decoding one may take "
        "12.5 MB of memory a megapixel",
    )


def limits_of(megapixels: int) -> "Limits":
    """The limits where photos may have so many megapixels: in memory, as much for each pixel as by default."""
    from tandem.image import DEFAULT_LIMITS, Limits

    more = megapixels * MEGAPIXEL / DEFAULT_LIMITS.max_pixels
    return Limits(
        max_pixels=megapixels * MEGAPIXEL,
        max_decoded_bytes=int(more * DEFAULT_LIMITS.max_decoded_bytes),
        max_bytes=max(DEFAULT_LIMITS.max_bytes, int(more * DEFAULT_LIMITS.max_bytes)),
    )


def add_exclude(parser: Parser | Group) -> None:
    """`--exclude`."""
    parser.add_argument(
        "--exclude",
        action="append",
        default=[],
        metavar="PATTERN",
        help="leave out what matches in folders: a pattern as in a .gitignore, such as 'thumbs/'; .tandemignore files "
        "in folders hold such patterns, too",
    )


@dataclass
class FoundImages:
    """The images that were named, the folders that could not be read, and how much a rule leaves out."""

    images: "list[ImageSource]" = field(default_factory=list)
    skipped: list[ImageError] = field(default_factory=list)
    excluded: int = 0


def find_images(arguments: Sequence[str], exclude: Sequence[str] = ()) -> FoundImages:
    """Files, folders (searched through, hidden ones left out), globs, URLs, and `-` for standard input.

    A file that is not there stays in the list: it is skipped later, by name, like any other bad image. `exclude` and
    `.tandemignore` files leave out of folders what their patterns match.
    """
    found = FoundImages()
    for argument in arguments:
        found.images += _images(argument, exclude, found)
    found.images = list(dict.fromkeys(found.images))
    if found.excluded:
        terminal.echo(f"{terminal.count_of(found.excluded, 'file or folder', 'files and folders')} excluded by rule")
    return found


def _images(argument: str, exclude: Sequence[str], found: FoundImages) -> "Iterator[ImageSource]":
    from tandem.image import IMAGE_SUFFIXES

    if argument == "-":
        yield from read_images()
        return
    if argument.startswith(("http://", "https://")):
        yield argument
        return
    path = os.fspath(user_path(argument, strict=False))
    if os.path.isdir(path):
        before, excluded = len(found.skipped), found.excluded
        inside = sorted(_walk(path, exclude, found))
        if not inside and len(found.skipped) > before:
            raise TandemError(str(found.skipped[before]))
        if not inside:
            looked = f"looked for {', '.join(sorted(IMAGE_SUFFIXES))}"
            if found.excluded > excluded:
                looked = f"{found.excluded - excluded:,} excluded by rule"
            raise TandemError(f"{argument}: no images in this folder ({looked})")
        yield from inside
    elif not os.path.exists(path) and glob.has_magic(path):
        matches = sorted(match for match in glob.iglob(path, recursive=True) if os.path.isfile(match))
        if not matches:
            raise TandemError(f"{argument}: no file matches")
        yield from matches
    else:
        yield path


def _walk(root: str, exclude: Sequence[str], found: FoundImages) -> Iterator[str]:
    from tandem.image import IMAGE_SUFFIXES
    from tandem.search.indexing.ignoring import IGNORE_FILE, IgnoreRules

    folders = [(root, list[str](), IgnoreRules.of(exclude))]
    while folders:
        folder, above, rules = folders.pop()
        try:
            with os.scandir(folder) as entries:
                inside = {entry.name: entry for entry in entries}
        except OSError as error:
            found.skipped.append(ImageError(folder, (error.strerror or str(error)).lower(), "forbidden"))
            continue
        if IGNORE_FILE in inside:
            rules = rules.inside(len(above), inside[IGNORE_FILE].path)
        for name, entry in inside.items():
            is_folder = entry.is_dir(follow_symlinks=False)
            is_image = not is_folder and os.path.splitext(name)[1].lower() in IMAGE_SUFFIXES
            if name.startswith(".") or not (is_folder or is_image):
                continue
            names = [*above, name]
            if rules.excludes(names, is_folder=is_folder):
                found.excluded += 1
            elif is_folder:
                folders.append((entry.path, names, rules))
            else:
                yield entry.path
