"""Words on the command line: which arguments are photos and which are words, and what words without quotes mean.

Knows arguments; no commands.
"""

import glob
import os
import shlex
from collections.abc import Sequence

from tandem.cli import terminal
from tandem.errors import TandemError
from tandem.files import user_path

# Nobody looks for these alone: as an argument of its own, one says that quotes were forgotten.
PARTS_OF_TEXTS = frozenset(("a", "an", "the", "my", "your", "his", "her", "of", "on", "in", "with", "at", "and", "or"))


def is_photo(argument: str) -> bool:
    """Whether an argument names a photo and is no text: a file, a path, a URL, or a name with an image's suffix."""
    from tandem.image import IMAGE_SUFFIXES

    if argument == "-" or argument.startswith(("http://", "https://")):
        return True
    path = user_path(argument, strict=False)
    return os.path.isfile(path) or path.suffix.lower() in IMAGE_SUFFIXES or os.sep in argument


def names_photos(argument: str) -> bool:
    """Whether an argument stands for photos: one, a folder or file that is there, or a glob."""
    return is_photo(argument) or os.path.exists(user_path(argument, strict=False)) or glob.has_magic(argument)


def photos_and_words(
    arguments: Sequence[str], command: str, *, kind: str, expected: str, example: str, late: str
) -> tuple[list[str], list[str]]:
    """Photos, and the words after them: photos are the first argument, and what follows and names photos.

    Raises `TandemError` where either is missing, and for a photo after words. For its messages: `kind` is what the
    words are, `expected` how to ask for them, `example` some of them, and `late` what is wrong with a photo after them.
    """
    first = arguments[0]
    if len(arguments) < 2 and not names_photos(first):
        raise TandemError(f'no photo: expected a photo and {expected}: tandem {command} PHOTO "{first}"')
    if len(arguments) < 2 or all(is_photo(each) for each in arguments):
        photos = " ".join(shlex.quote(each) for each in arguments[:2]) + (" ..." if len(arguments) > 2 else "")
        raise TandemError(f'no {kind}: expected a photo and {expected}: tandem {command} {photos} "{example}"')
    last = 1  # the last argument is a word
    while last < len(arguments) - 1 and (is_photo(arguments[last]) or os.path.isdir(arguments[last])):
        last += 1
    misplaced = next((each for each in arguments[last:] if is_photo(each)), None)
    if misplaced is not None:
        raise TandemError(f"{misplaced} is a photo {late}")
    return list(arguments[:last]), list(arguments[last:])


def texts_of(words: Sequence[str], doing: str, thing: str) -> list[str]:
    """The texts that arguments mean: those among which an article stands alone are one text without its quotes.

    Says how several words are read where they may be meant otherwise, as "looking for (`doing`) 2 things (`thing`)".
    """
    if len(words) < 2 or any(" " in word for word in words):
        return list(words)
    if PARTS_OF_TEXTS & {word.lower() for word in words}:
        terminal.echo(f'{doing} one {thing}: "{" ".join(words)}"; quotes keep several apart')
        return [" ".join(words)]
    terminal.echo(f"{doing} {len(words)} {thing}s: {', '.join(words)}; words in quotes are one")
    return list(words)
