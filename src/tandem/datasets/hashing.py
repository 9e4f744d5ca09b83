"""SHA-256 of images, remembered for files that have not changed (see `memory`)."""

import contextlib
import hashlib
import itertools
import os
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TypeAlias

import numpy as np

from tandem.datasets.memory import FileMemory, Status, is_settled, status_from, status_of
from tandem.errors import DataError
from tandem.prefetch import batched, in_order

SIZE = 32  # bytes of a digest
_UNKNOWN = bytes(SIZE)
_AT_ONCE = 32  # files that a thread reads one after the other: small ones take less than handing them over
_WRITE = 4096  # files after which what was read is written down

ReadImages: TypeAlias = Callable[[Sequence[int]], Iterator[bytes]]  # of a shard, at these rows, which ascend


def digest(content: bytes) -> bytes:
    """SHA-256 of an image's bytes."""
    return hashlib.sha256(content).digest()


def file_digests(paths: Sequence[str]) -> list[bytes]:
    """SHA-256 of whole files, in their order. Raises `DataError` that names a file that cannot be read."""
    full = [path if os.path.isabs(path) else os.path.abspath(path) for path in paths]
    with FileMemory.open() as memory:
        known = memory.lookup(full)
        found: list[bytes | None] = []
        for path in full:
            entry = known.get(path)
            found.append(entry[1] if entry is not None and entry[0] == status_of(path) else None)
        del known
        missing = [row for row, content in enumerate(found) if content is None]
        fresh: list[tuple[str, Status, bytes]] = []
        with contextlib.closing(in_order(_read_files, batched((full[row] for row in missing), _AT_ONCE))) as read:
            for row, (content, status) in zip(missing, itertools.chain.from_iterable(read), strict=True):
                found[row] = content
                if status is not None:
                    fresh.append((full[row], status, content))
                if len(fresh) >= _WRITE:
                    memory.remember("", fresh)
                    fresh.clear()
        memory.remember("", fresh)
    return [content for content in found if content is not None]


def shard_digests(path: Path, part: str, rows: Sequence[int], read: ReadImages) -> list[bytes]:
    """SHA-256 of the images at `rows`, which ascend, of a file that holds many; `part` says which, such as a column."""
    full = os.path.abspath(path)
    before, begun = status_of(full), time.time_ns()
    with FileMemory.open() as memory:
        entry = memory.lookup([full], part).get(full)
        known = entry[1] if entry is not None and entry[0] == before else b""
        missing = [row for row in rows if known[row * SIZE : (row + 1) * SIZE] in (b"", _UNKNOWN)]
        if missing:
            table = np.zeros((max(len(known) // SIZE, missing[-1] + 1), SIZE), np.uint8)
            table[: len(known) // SIZE] = np.frombuffer(known, np.uint8).reshape(-1, SIZE)
            for row, content in zip(missing, in_order(digest, read(missing), ahead=32), strict=True):
                table[row] = np.frombuffer(content, np.uint8)
            known = table.tobytes()
            if is_settled(before, begun) and status_of(full) == before:
                memory.remember(part, [(full, before, known)])
    return [known[row * SIZE : (row + 1) * SIZE] for row in rows]


def _read_files(paths: Sequence[str]) -> list[tuple[bytes, Status | None]]:
    return [_read_file(path) for path in paths]


def _read_file(path: str) -> tuple[bytes, Status | None]:
    """The digest of a file, and its status where that may be remembered."""
    begun = time.time_ns()
    try:
        with open(path, "rb") as file:
            before = os.fstat(file.fileno())
            found = hashlib.file_digest(file, "sha256").digest()
            same = status_from(os.fstat(file.fileno())) == status_from(before)
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror or error}") from None
    status = status_from(before)
    return found, status if same and is_settled(status, begun) else None
