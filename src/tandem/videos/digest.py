"""What tells a film's file from others, without reading gigabytes. Knows no films."""

import hashlib
import os

from tandem.errors import DataError

_BLOCK, _BLOCKS = 2**18, 16  # bytes of each part that is read, and how many: 4 MiB in all


def digest(path: str) -> str:
    """A hash of a file's size and of parts spread over it, the first and the last bytes among them.

    Raises `DataError`.
    """
    try:
        with open(path, "rb") as file:
            size = os.fstat(file.fileno()).st_size
            made = hashlib.sha256(b"film %d" % size)
            last = max(0, size - _BLOCK)
            for place in range(_BLOCKS):
                file.seek(last * place // (_BLOCKS - 1))
                made.update(file.read(_BLOCK))
    except OSError as error:
        known = {"PermissionError": "permission denied", "FileNotFoundError": "no such file"}
        raise DataError(f"{path}: {known.get(type(error).__name__, error.strerror)}") from None
    return made.hexdigest()
