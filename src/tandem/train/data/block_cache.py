"""A bounded folder of blocks of remote files, shared by all processes and runs of a machine. Knows no network.

A block is a file: its content and a checksum. It appears whole, under a lock in which the sum of all sizes is kept
below the limit: those that were used least recently go first. Whoever reads a block that goes finds none, and fetches
it again. A folder that keeps nothing (a full disk, no permission) costs time, and never ends a run.
"""

import contextlib
import hashlib
import mmap
import os
import re
import time
import warnings
import zlib
from pathlib import Path
from typing import Any

from tandem.files import open_regular, temporary_path
from tandem.train.data.remote import RemoteFile

BLOCK_BYTES = 2**20
_CHECKSUM_BYTES = 4
_KEPT = 0.95  # of the limit, after blocks were removed: not for each new block again
_TOUCH_S = 60.0  # a use within so many seconds of another is not noted
_FOLDER, _BLOCK = re.compile("[0-9a-f]{32}"), re.compile(r"\d+\.block|\.\d+\.block\..*part")  # our own names
_ABANDONED_S = 3600.0  # a temporary file of a process that died


class BlockCache:
    """The blocks of `BLOCK_BYTES` of remote files, in a folder of at most `limit_bytes`."""

    def __init__(self, folder: Path, limit_bytes: int, block_bytes: int = BLOCK_BYTES) -> None:
        self.folder, self.limit_bytes, self.block_bytes = folder, limit_bytes, block_bytes
        self._used: dict[str, float] = {}  # blocks that this process has found to be right, and when it noted a use
        self._folders: dict[RemoteFile, str] = {}
        self.keeps = limit_bytes > 0  # False from the first block on that could not be kept
        self._warned = mmap.mmap(-1, 1)  # one byte that forked workers share: they warn once, not each

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name != "_warned"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state, _warned=mmap.mmap(-1, 1))

    def blocks(self, start: int, stop: int) -> range:
        """The blocks in which bytes start..stop of a file are."""
        return range(start // self.block_bytes, -(-stop // self.block_bytes))

    def extent(self, file: RemoteFile, block: int) -> tuple[int, int]:
        """The first byte of a block, and that after its last."""
        return block * self.block_bytes, min(file.size, (block + 1) * self.block_bytes)

    def has(self, file: RemoteFile, block: int) -> bool:
        """Whether a block is there, as far as is known without looking twice."""
        path = self._path(file, block)
        return path in self._used or os.path.exists(path)

    def get(self, file: RemoteFile, block: int, start: int, stop: int) -> bytes | None:
        """Bytes start..stop of a block, counted from its own first; None if it is not there, or damaged."""
        path = self._path(file, block)
        noted, now = self._used.get(path), time.monotonic()
        try:
            opened = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0))  # a pipe might never answer
            try:
                if noted is None:  # a machine that went down may have left anything in it
                    content = self._checked(opened, path, file, block)[start:stop]
                else:
                    content = os.pread(opened, stop - start, start)
            finally:
                os.close(opened)
            if len(content) == stop - start and (noted is None or now - noted > _TOUCH_S):
                self._used[path] = now
                with contextlib.suppress(OSError):  # kept by another user, or removed meanwhile
                    os.utime(path)
        except OSError as error:
            self._used.pop(path, None)
            if not isinstance(error, FileNotFoundError):
                self._go_on_without(error)
            return None
        return content if len(content) == stop - start else None

    def _checked(self, opened: int, path: str, file: RemoteFile, block: int) -> bytes:
        """The content of a block; nothing, and no longer there, if it is damaged."""
        first, last = self.extent(file, block)
        whole = os.pread(opened, last - first + _CHECKSUM_BYTES + 1, 0)
        content, checksum = whole[:-_CHECKSUM_BYTES], int.from_bytes(whole[-_CHECKSUM_BYTES:], "little")
        if len(content) == last - first and zlib.crc32(content) == checksum:
            return content
        os.unlink(path)
        return b""

    def put(self, file: RemoteFile, block: int, content: bytes) -> None:
        """Keep a block, if the limit allows. Warns once where the folder takes none, and keeps no more from then on."""
        from filelock import FileLock

        path = Path(self._path(file, block))
        size = len(content) + _CHECKSUM_BYTES
        if size > self.limit_bytes or not self.keeps:
            return
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with FileLock(self.folder / "lock"):
                if path.exists():
                    return
                total = self._total()
                if total + size > self.limit_bytes:
                    total = self._clean(min(int(_KEPT * self.limit_bytes), self.limit_bytes - size))
                self._note(total + size)  # before it is there: a process that dies now leaves less than is noted
                path.parent.mkdir(exist_ok=True)  # after the cleaning, which removes folders that are empty
                temporary = temporary_path(path)
                try:
                    temporary.write_bytes(content + zlib.crc32(content).to_bytes(4, "little"))
                    os.replace(temporary, path)
                finally:
                    temporary.unlink(missing_ok=True)
        except (OSError, NotImplementedError) as error:  # the second: a file system that cannot lock
            self._go_on_without(error)

    def _path(self, file: RemoteFile, block: int) -> str:
        folder = self._folders.get(file)
        if folder is None:
            identity = f"{self.block_bytes}\n{file.url}\n{file.state}"
            digest = hashlib.sha256(identity.encode(errors="surrogateescape")).hexdigest()[:32]
            folder = self._folders[file] = str(self.folder / digest)
        return f"{folder}/{block}.block"

    def _total(self) -> int:
        """The sum of the sizes, as noted; counted where nothing is that could be it."""
        try:
            with open_regular(self.folder / "bytes") as file:
                noted = int(file.read(20))
            if noted < 0:
                raise ValueError
            return noted
        except (OSError, ValueError):
            return sum(size for _, _, size in self._all())

    def _note(self, total: int) -> None:
        temporary = temporary_path(self.folder / "bytes")
        temporary.write_text(str(total))
        os.replace(temporary, self.folder / "bytes")  # the name: what a link leads to is not ours

    def _all(self) -> list[tuple[float, str, int]]:
        """(time of its last use, path, bytes) of all blocks. What dead processes left is removed, nothing else."""
        found = []
        for folder, _, names in os.walk(self.folder):
            if not _FOLDER.fullmatch(os.path.basename(folder)):
                continue
            for name in names:
                if not _BLOCK.fullmatch(name):
                    continue
                path = os.path.join(folder, name)
                with contextlib.suppress(FileNotFoundError):
                    status = os.stat(path)
                    if name.endswith(".part") and time.time() - status.st_mtime > _ABANDONED_S:
                        os.unlink(path)
                    else:
                        found.append((status.st_mtime, path, status.st_size))
        return found

    def _clean(self, most: int) -> int:
        """Remove blocks, those used least recently first, until the rest is at most `most`; the sum of the rest."""
        found = sorted(self._all())
        total = sum(size for _, _, size in found)
        for _, path, size in found:
            if total <= most:
                break
            with contextlib.suppress(FileNotFoundError):
                os.unlink(path)
            total -= size
            with contextlib.suppress(OSError):  # the last of its file
                os.rmdir(os.path.dirname(path))
        return total

    def _go_on_without(self, error: Exception) -> None:
        """Keep no more blocks: what is there already is still read."""
        self.keeps = False
        if not self._warned[0]:
            self._warned[0] = 1
            reason = getattr(error, "strerror", None) or error
            warnings.warn(
                f"{self.folder}: parts of shards cannot be kept ({reason}): they are "
                "read from their server each time; to keep them, start again with another remote.cache_folder",
                stacklevel=3,
            )
