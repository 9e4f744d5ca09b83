"""Which files an assistant may name: those under folders that the user named. Reads no file."""

import os
from collections.abc import Sequence
from pathlib import Path

from tandem.errors import TandemError
from tandem.files import user_path

MAX_PATH_CHARACTERS = 4096


def folders(named: Sequence[str | Path]) -> tuple[Path, ...]:
    """The folders that were named, as they really are. `TandemError` for what is no folder."""
    found = []
    for name in named:
        path = user_path(name)
        if not path.is_dir():
            raise TandemError(f"--files {name}: expected a folder")
        found.append(path.resolve())
    return tuple(found)


def permitted(path: str, allowed: Sequence[Path]) -> Path:
    """The path without links, if it lies in an allowed folder. `TandemError`, which tells nothing of other files."""
    if not path or len(path) > MAX_PATH_CHARACTERS or "\0" in path:
        raise TandemError("expected the path of a file")
    real = Path(os.path.realpath(path if os.path.isabs(path) or not allowed else allowed[0] / path))
    if not any(real.is_relative_to(folder) for folder in allowed):
        where = f"under {', '.join(map(str, allowed))}" if allowed else "and no folder was opened with --files"
        raise TandemError(f"{path[:200]}: not an image of the collections, {'nor ' if allowed else ''}{where}")
    return real
