"""Files that a command is about to write: never one that it reads, nor a picture of someone else's.

Knows paths; what a picture is made by, the caller says.
"""

import os
from collections.abc import Callable, Iterable
from pathlib import Path

from tandem.errors import TandemError
from tandem.files import user_path


def check_no_input(target: Path, inputs: Iterable[object]) -> None:
    """Raise `TandemError` where `target` is one of the files that are read; inputs that are no paths count not."""
    if not target.exists():
        return
    for each in inputs:
        if not isinstance(each, str | os.PathLike):
            continue
        source = user_path(each, strict=False)
        if source.is_file() and source.samefile(target):
            raise TandemError(f"{target}: it is an input, and would be lost; write to another file")


def check_new(target: Path, *, overwrite: bool) -> None:
    """Raise `TandemError` where there is a file, unless it is to be overwritten."""
    if not overwrite and target.exists():
        raise TandemError(f"{target}: there is a file already; say --overwrite to replace it")


def check_replaceable(target: Path, is_own: Callable[[Path], bool], *, overwrite: bool) -> None:
    """Raise `TandemError` where there is a file that this command did not make, unless it was told to overwrite it."""
    if not overwrite and target.exists() and not is_own(target):
        raise TandemError(f"{target}: there is a file already, not made by this command; say --overwrite to replace it")
