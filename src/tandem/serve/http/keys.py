"""API keys from a file: one per line, `#` at the start of a line begins a comment. Changes take effect within a second,
without a restart; a file that goes bad closes the server rather than keep keys that may have been revoked.

Knows nothing of routes: the guard calls `find` with a request's headers.
"""

import hashlib
import hmac
import logging
import os
import stat
import time
from collections.abc import Callable
from pathlib import Path

from tandem.errors import TandemError
from tandem.files import user_path

CHECKED_EVERY_S = 0.5
SAID_EVERY_S = 60.0
MAX_FILE_BYTES = 2**20  # some ten thousand keys; a large file given by mistake is not read whole
MIN_KEY_LENGTH, MAX_KEY_LENGTH = 16, 512
_OTHERS_WRITE = stat.S_IWGRP | stat.S_IWOTH
_MAKE_ONE = "`openssl rand -hex 24`"

_log = logging.getLogger(__name__)
# mtime, ctime, size, inode, permissions: a file that was moved into place differs, and one whose time was set back.
_Signature = tuple[int, int, int, int, int]


class KeyFile:
    """The keys that a server accepts. Only their hashes are kept in memory."""

    def __init__(
        self, path: str | Path, *, allow_shared: bool = False, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """`allow_shared` takes a file that other users may write to: some file systems keep no permissions.

        Raises `TandemError` if the file cannot be read or has no key: a server must not start unprotected.
        """
        self.path = user_path(path)
        self.allow_shared = allow_shared
        self.problem: str | None = None  # why no key is accepted now, for the log
        self._clock = clock
        self._checked = clock()
        self._said = float("-inf")
        self._signature: _Signature | None
        self._signature, self._hashes = _read(self.path, allow_shared)

    def __len__(self) -> int:
        return len(self._hashes)

    @property
    def readable_by_others(self) -> bool:
        """Whether other users of this machine may read the keys, those of the file's group included."""
        return self._others_may(stat.S_IRGRP | stat.S_IROTH)

    @property
    def writable_by_others(self) -> bool:
        """Whether other users of this machine may put keys of their own into it, which `allow_shared` takes."""
        return self._others_may(_OTHERS_WRITE)

    def _others_may(self, bits: int) -> bool:
        return bool(self._signature and os.name == "posix" and self._signature[4] & bits)

    def find(self, *, authorization: str | None = None, x_api_key: str | None = None) -> str | None:
        """A name for the key of the file that the headers have, which tells nothing of it; None without any.

        Keys come as `Authorization: Bearer KEY` or `X-API-Key: KEY`.
        """
        self._check()
        for key in (bearer(authorization), x_api_key):
            if key and (found := self._found(key)) is not None:
                return found.hex()[:16]
        return None

    def names(self) -> tuple[str, ...]:
        """What `find` calls the keys of the file, as it is now."""
        self._check()
        return tuple(each.hex()[:16] for each in self._hashes)

    def is_broken(self) -> bool:
        """Whether the file has gone bad, so that no key is accepted until it is well again."""
        self._check()
        return self.problem is not None

    def reload(self) -> None:
        """Read the file now, whether or not it seems changed."""
        self._signature = None
        self._checked = float("-inf")
        self._check()

    def _found(self, key: str) -> bytes | None:
        """The hash of a key of the file, in constant time: the duration tells nothing about the keys."""
        digest = _hash(key.strip()[: MAX_KEY_LENGTH + 1])
        found = None
        for known in self._hashes:  # to the end, also after a match
            if hmac.compare_digest(known, digest):
                found = known
        return found

    def _check(self) -> None:
        now = self._clock()
        if now - self._checked < CHECKED_EVERY_S:
            return
        self._checked = now
        try:
            if _signature(os.stat(self.path)) != self._signature:
                self._signature, self._hashes = _read(self.path, self.allow_shared)
                _log.info("%s: %d API keys read", self.path, len(self._hashes))
            self.problem = None
        except (OSError, TandemError) as error:
            # Nobody can tell any more which keys are revoked. The signature is forgotten, so that it is read again.
            self._signature, self._hashes = None, ()
            self.problem = _reason(self.path, error)
            if now - self._said >= SAID_EVERY_S:  # not for each request
                self._said = now
                _log.error("%s; no key is accepted until the file is valid again", self.problem)
        else:
            self._said = float("-inf")


def bearer(authorization: str | None) -> str | None:
    """The key in `Bearer KEY`; None if there is none."""
    scheme, _, key = (authorization or "").strip().partition(" ")
    return key.strip() or None if scheme.lower() == "bearer" else None


def _read(path: Path, allow_shared: bool) -> tuple[_Signature, tuple[bytes, ...]]:
    try:
        # Without waiting: a named pipe would keep the server waiting for who writes to it.
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0))
        try:
            status = os.fstat(descriptor)  # before reading, so that a later change is noticed
            _check_file(path, status, allow_shared)
            with open(descriptor, "rb", closefd=False) as file:
                content = file.read(MAX_FILE_BYTES + 1)
        finally:
            os.close(descriptor)
    except OSError as error:
        raise TandemError(_reason(path, error)) from None
    if len(content) > MAX_FILE_BYTES:
        raise TandemError(
            f"{path}: expected a file of API keys, one per line; it has more than {MAX_FILE_BYTES:,} bytes"
        )
    return _signature(status), _parse(content, path)


def _check_file(path: Path, status: os.stat_result, allow_shared: bool) -> None:
    """Raises `TandemError` for what is no file, and for one that other users may write to: it is not ours alone."""
    if not stat.S_ISREG(status.st_mode):
        raise TandemError(f"{path}: the file of API keys cannot be read: it is no regular file")
    if os.name == "posix" and status.st_mode & _OTHERS_WRITE and not allow_shared:
        raise TandemError(
            f"{path}: other users may write to the file of API keys; run: chmod 600 {path}; or, where the file system "
            "keeps no permissions (vfat, CIFS, drives of Windows), move it to one that does, or give "
            "--allow-shared-key-file"
        )


def _parse(content: bytes, path: Path) -> tuple[bytes, ...]:
    hashes = []
    for number, line in enumerate(content.removeprefix(b"\xef\xbb\xbf").splitlines(), 1):
        key = line.strip()
        if not key or key.startswith(b"#"):
            continue
        if not (
            MIN_KEY_LENGTH <= len(key) <= MAX_KEY_LENGTH and all(33 <= character <= 126 for character in key)
        ):  # the number of the line and never its text: messages end up in logs
            raise TandemError(
                f"{path}, line {number}: expected an API key of {MIN_KEY_LENGTH} to {MAX_KEY_LENGTH} printable ASCII "
                f"characters without blanks, and nothing else; make one with {_MAKE_ONE}"
            )
        hashes.append(_hash(key.decode()))
    if not hashes:
        raise TandemError(f"{path}: no API key in it; write one per line, such as what {_MAKE_ONE} prints")
    return tuple(dict.fromkeys(hashes))


def _hash(key: str) -> bytes:
    """Of equal length for any key, so that comparing takes the same time."""
    return hashlib.sha256(key.encode("utf-8", "surrogateescape")).digest()


def _signature(status: os.stat_result) -> _Signature:
    return status.st_mtime_ns, status.st_ctime_ns, status.st_size, status.st_ino, status.st_mode


def _reason(path: Path, error: Exception) -> str:
    if isinstance(error, OSError):
        return f"{path}: the file of API keys cannot be read: {error.strerror or error}"
    return str(error)
