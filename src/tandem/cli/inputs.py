"""What a user names on the command line -> pictures, lines and a model. Knows files and standard input."""

import argparse
import glob
import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from tandem.errors import TandemError
from tandem.image import IMAGE_SUFFIXES
from tandem.model import Model, load


def load_model(arguments: argparse.Namespace) -> Model:
    """The model that --model, --engine, --device, --precision and --activation ask for."""
    return load(arguments.model, **loading(arguments))


def loading(arguments: argparse.Namespace) -> dict[str, Any]:
    """What `tandem.load` takes beside the model itself."""
    return {name: getattr(arguments, name) for name in ("engine", "device", "precision", "activation")}


def find_pictures(arguments: Sequence[str]) -> list[str]:
    """Files, folders (searched through, hidden ones left out), globs, URLs, and `-` for a list on standard input.

    A file that is not there stays in the list: it is set aside later, by name, like any other bad picture.
    """
    return list(dict.fromkeys(path for argument in arguments for path in _pictures(argument)))


def _pictures(argument: str) -> Iterator[str]:
    if argument == "-":
        yield from read_lines("-")
        return
    if argument.startswith(("http://", "https://")):
        yield argument
        return
    path = os.path.expanduser(argument)
    if os.path.isdir(path):
        found = sorted(_walk(path))
        if not found:
            raise TandemError(
                f"{argument}: no pictures in this folder (looked for {', '.join(sorted(IMAGE_SUFFIXES))})"
            )
        yield from found
    elif not os.path.exists(path) and glob.has_magic(path):
        matches = sorted(match for match in glob.iglob(path, recursive=True) if os.path.isfile(match))
        if not matches:
            raise TandemError(f"{argument}: no file matches")
        yield from matches
    else:
        yield path


def _walk(folder: str) -> Iterator[str]:
    for parent, folders, files in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        for name in files:
            if not name.startswith(".") and os.path.splitext(name)[1].lower() in IMAGE_SUFFIXES:
                yield os.path.join(parent, name)


def read_lines(source: str) -> list[str]:
    """The lines of a text file, or of standard input for `-`, without empty ones."""
    try:
        if source == "-":
            text = sys.stdin.read()
        else:
            text = Path(source).expanduser().read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise TandemError(f"{source}: expected text in UTF-8, got a byte that is none at {error.start}") from None
    return [line.strip() for line in text.splitlines() if line.strip()]
