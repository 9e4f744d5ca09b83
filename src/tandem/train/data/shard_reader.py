"""Bytes of remote shards: through the cache where a shard fits into it, else read one by one, several at once.

A run draws from all its shards in random order. Shards that fit into the cache, in the order of the recipe, are fetched
in blocks as they are needed, and kept. Of others each image is read by itself: until a block would be used again,
others would have pushed it out. Knows no tar and no sample.
"""

import io
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import Any, TypeAlias

from tandem.errors import RemoteFileError
from tandem.train.data import remote
from tandem.train.data.block_cache import BlockCache
from tandem.train.data.remote import RemoteFile

# To read on costs less than another request, up to some hundred kilobytes; an index needs a few bytes between images.
_READ_ON_BYTES = 128 * 2**10
_AHEAD_BYTES = 64 * 2**20  # of what is fetched before it is read
_WINDOW_BYTES = (16 * 2**10, 2**20)  # read at once: after a gap, and the most where there is none

_Request: TypeAlias = tuple[RemoteFile, int, int]  # bytes from, to


class ShardReader:
    """Reads remote files for one run. Only `read` is for several threads at once, while nothing is prefetched."""

    def __init__(self, cache: BlockCache | None = None, patience_s: float = 120.0) -> None:
        """Without a cache nothing is kept."""
        self.cache, self.patience_s = cache or BlockCache(Path(), 0), patience_s
        self._room = self.cache.limit_bytes
        self._cached: set[RemoteFile] = set()
        self._wanted: Iterator[_Request] = iter(())  # what will be read, in this order
        self._started: dict[_Request, Future[bytes]] = {}
        self._started_bytes = 0
        self._stopped = False

    def __getstate__(self) -> dict[str, Any]:
        """Without what is under way: each process has its own connections."""
        return {**self.__dict__, "_wanted": iter(()), "_started": {}, "_started_bytes": 0}

    def stop(self) -> None:
        """From now on, reads in other threads raise: they are in vain."""
        self._stopped = True

    def find(self, urls: Sequence[str]) -> list[RemoteFile]:
        """As `remote.find`; decides which of the files will be kept in the cache."""
        files = remote.find(urls, self.patience_s)
        for file in files:
            if file not in self._cached and file.size <= self._room:
                self._cached.add(file)
                self._room -= file.size
        return files

    def is_cached(self, file: RemoteFile) -> bool:
        """Whether the file's blocks are kept."""
        return file in self._cached

    def prefetch(self, wanted: Iterable[tuple[RemoteFile, int, int]]) -> None:
        """Begin to fetch ranges (file, start, stop) that are read next, in this order, instead of others."""
        for future in self._started.values():
            future.cancel()
        self._started, self._started_bytes = {}, 0
        self._wanted = (request for each in wanted for request in self._requests(*each))
        self._start_more()

    def read(self, file: RemoteFile, start: int, stop: int) -> bytes:
        """Bytes start..stop of a file. Raises `RemoteFileError`."""
        if self._stopped:
            raise RemoteFileError(f"{file}: it was no longer read")
        if stop > file.size:
            raise RemoteFileError(f"{file}: byte {stop:,} was asked for of {file.size:,}")
        if not self.is_cached(file):
            return self._fetch(file, start, stop)
        parts = []
        for block in self.cache.blocks(start, stop):
            first, last = self.cache.extent(file, block)
            begin, end = max(start, first) - first, min(stop, last) - first
            content = self.cache.get(file, block, begin, end)
            if content is not None:
                self._taken((file, first, last))  # another process was faster
            elif self.cache.keeps or (file, first, last) in self._started:
                whole = self._fetch(file, first, last)
                self.cache.put(file, block, whole)
                content = whole[begin:end]
            else:
                content = self._fetch(file, first + begin, first + end)
            parts.append(content)
        return b"".join(parts)

    def _requests(self, file: RemoteFile, start: int, stop: int) -> Iterator[_Request]:
        """What has to be fetched for a range."""
        if not self.is_cached(file):
            yield file, start, stop
            return
        for block in self.cache.blocks(start, stop):
            if not self.cache.has(file, block):
                first, last = self.cache.extent(file, block)
                yield (file, first, last) if self.cache.keeps else (file, max(start, first), min(stop, last))

    def _start_more(self) -> None:
        while self._started_bytes < _AHEAD_BYTES and (request := next(self._wanted, None)) is not None:
            if request not in self._started:
                self._started[request] = remote.start_read(*request, self.patience_s)
                self._started_bytes += request[2] - request[1]

    def _taken(self, request: _Request) -> "Future[bytes] | None":
        """What was begun for a request, which makes room for others."""
        started = self._started.pop(request, None)
        if started is not None:
            self._started_bytes -= request[2] - request[1]
            self._start_more()
        return started

    def _fetch(self, file: RemoteFile, start: int, stop: int) -> bytes:
        started = self._taken((file, start, stop))
        if started is not None:
            return started.result()
        return remote.read(file, start, stop, self.patience_s)


class RemoteShard:
    """A remote file as `tar_files` opens one: like a `Path`."""

    def __init__(self, reader: ShardReader, file: RemoteFile) -> None:
        self._reader, self._file = reader, file

    def __str__(self) -> str:
        return str(self._file)

    @property
    def name(self) -> str:
        """The last part of its URL."""
        return self._file.name

    def open(self, mode: str = "rb") -> io.RawIOBase:
        """The file, to be read from its beginning."""
        return _Opened(self._reader, self._file)


class _Opened(io.RawIOBase):
    """A remote file with a place in it; of what nobody reads, what lies in a large gap is not fetched."""

    def __init__(self, reader: ShardReader, file: RemoteFile) -> None:
        self._reader, self._file = reader, file
        self._at = 0
        self._first, self._content = 0, b""  # what was fetched last
        self._window = _WINDOW_BYTES[0]

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, at: int, whence: int = io.SEEK_SET) -> int:
        self._at = at + {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._file.size}[whence]
        return self._at

    def read(self, size: int = -1) -> bytes:
        stop = self._file.size if size < 0 else min(self._file.size, self._at + size)
        parts = []
        while self._at < stop:
            if not self._first <= self._at < self._first + len(self._content):
                self._fill(stop)
            part = self._content[self._at - self._first : stop - self._first]
            self._at += len(part)
            parts.append(part)
        return b"".join(parts)

    def readinto(self, buffer: Any) -> int:
        content = self.read(len(buffer))
        buffer[: len(content)] = content
        return len(content)

    def _fill(self, stop: int) -> None:
        """Fetch what is read next, and more behind it."""
        cache = self._reader.cache
        if self._reader.is_cached(self._file) and cache.keeps:
            [block] = cache.blocks(self._at, self._at + 1)
            self._first, last = cache.extent(self._file, block)
        else:
            gap = self._at - (self._first + len(self._content))
            least, most = _WINDOW_BYTES
            self._window = min(2 * self._window, most) if 0 <= gap <= _READ_ON_BYTES else least
            self._first = self._at
            last = min(self._file.size, self._at + max(self._window, min(stop - self._at, most)))
        self._content = self._reader.read(self._file, self._first, last)
