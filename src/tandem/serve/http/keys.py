"""API keys from a file: one per line, `#` begins a comment. Changes take effect within a second, without a restart.

Knows nothing of routes: the guard calls `accepts` with a request's headers.
"""

import hashlib
import hmac
import logging
import os
import time
from collections.abc import Callable
from pathlib import Path

from tandem.errors import TandemError
from tandem.files import user_path

CHECKED_EVERY_S = 1.0
MAX_FILE_BYTES = 2**20  # some ten thousand keys; a large file given by mistake is not read whole
MAX_KEY_LENGTH = 512

_log = logging.getLogger(__name__)
_Signature = tuple[int, int, int]  # mtime, size, inode: a file that was moved into place differs


class KeyFile:
    """The keys that a server accepts. Only their hashes are kept in memory."""

    def __init__(self, path: str | Path, *, clock: Callable[[], float] = time.monotonic) -> None:
        """Raises `TandemError` if the file cannot be read or has no key: a server must not start unprotected."""
        self.path = user_path(path)
        self._clock = clock
        self._checked = clock()
        self._complained = False
        self._signature, self._hashes = _read(self.path)

    def __len__(self) -> int:
        return len(self._hashes)

    def accepts(self, *, authorization: str | None = None, x_api_key: str | None = None) -> bool:
        """Whether the headers have a key of the file: `Authorization: Bearer KEY`, or `X-API-Key: KEY`."""
        brought = (bearer(authorization), x_api_key)
        return any(self.allows(key) for key in brought if key)

    def allows(self, key: str) -> bool:
        """Whether the key is one of the file's, in constant time: the duration tells nothing about the keys."""
        self._reload()
        digest = _hash(key.strip()[: MAX_KEY_LENGTH + 1])
        found = False
        for known in self._hashes:  # to the end, also after a match
            found |= hmac.compare_digest(known, digest)
        return found

    def _reload(self) -> None:
        now = self._clock()
        if now - self._checked < CHECKED_EVERY_S:
            return
        self._checked = now
        try:
            if _signature(os.stat(self.path)) != self._signature:
                self._signature, self._hashes = _read(self.path)
                _log.info("%s: %d API keys read", self.path, len(self._hashes))
            self._complained = False
        except (OSError, TandemError) as error:
            if not self._complained:  # once, not for each request
                _log.error("%s; the keys read before stay in force", _reason(self.path, error))
            self._complained = True


def bearer(authorization: str | None) -> str | None:
    """The key in `Bearer KEY`; None if there is none."""
    scheme, _, key = (authorization or "").strip().partition(" ")
    return key.strip() or None if scheme.lower() == "bearer" else None


def _read(path: Path) -> tuple[_Signature, tuple[bytes, ...]]:
    try:
        with path.open("rb") as file:
            signature = _signature(os.fstat(file.fileno()))  # before reading, so that a later change is noticed
            content = file.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        raise TandemError(_reason(path, error)) from None
    if len(content) > MAX_FILE_BYTES:
        raise TandemError(
            f"{path}: expected a file of API keys, one per line; it has more than {MAX_FILE_BYTES:,} bytes"
        )
    return signature, _parse(content, path)


def _parse(content: bytes, path: Path) -> tuple[bytes, ...]:
    hashes = []
    for number, line in enumerate(content.removeprefix(b"\xef\xbb\xbf").splitlines(), 1):
        key = line.split(b"#")[0].strip()
        if not key:
            continue
        if len(key) > MAX_KEY_LENGTH or not all(33 <= character <= 126 for character in key):
            # the number of the line and never its text: messages end up in logs
            raise TandemError(
                f"{path}, line {number}: expected an API key of at most {MAX_KEY_LENGTH} printable ASCII characters "
                "without blanks; one key per line"
            )
        hashes.append(_hash(key.decode()))
    if not hashes:
        raise TandemError(f"{path}: no API key in it; write one per line, such as what `openssl rand -hex 24` prints")
    return tuple(hashes)


def _hash(key: str) -> bytes:
    """Of equal length for any key, so that comparing takes the same time."""
    return hashlib.sha256(key.encode("utf-8", "surrogateescape")).digest()


def _signature(status: os.stat_result) -> _Signature:
    return status.st_mtime_ns, status.st_size, status.st_ino


def _reason(path: Path, error: Exception) -> str:
    if isinstance(error, OSError):
        return f"{path}: the file of API keys cannot be read: {error.strerror or error}"
    return str(error)
