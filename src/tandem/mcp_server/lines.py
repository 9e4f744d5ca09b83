"""Standard input as lines of bounded length. Knows bytes; no messages."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import BinaryIO

MAX_LINE_BYTES = 4 * 2**20  # what a message needs: no image comes by it, only names of images
SKIPPED_BYTES = 2**16  # at once, of a line that is too long
TOO_LONG = f"a line of more than {MAX_LINE_BYTES:,} bytes"


class BoundedLines:
    """A file of text as far as its lines are read: one that is too long is skipped, and reads as `TOO_LONG`."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file

    def readline(self) -> str:
        """The next line; nothing at the end."""
        line = self._file.readline(MAX_LINE_BYTES + 1)
        if len(line) <= MAX_LINE_BYTES:
            return line.decode("utf-8", "replace")
        while line and not line.endswith(b"\n"):
            line = self._file.readline(SKIPPED_BYTES)
        return TOO_LONG


@contextmanager
def standard_input() -> Iterator[BoundedLines]:
    """The lines of standard input. Meanwhile other readers of this process, and its children, find it at its end."""
    own = os.dup(sys.stdin.fileno())
    try:
        with open(os.devnull, "rb") as nothing:
            os.dup2(nothing.fileno(), sys.stdin.fileno())
        # Not closed: a thread may still wait for a line when everything else has ended.
        yield BoundedLines(os.fdopen(own, "rb", closefd=False))
    finally:
        os.dup2(own, sys.stdin.fileno())
