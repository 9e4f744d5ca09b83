"""Fetches an http(s) URL into memory, or a large file to disk. Does not trust what the server says.

`fetch` is for images: within limits of size and time, and caches nothing. `download` is for weights: it resumes an
earlier attempt, and the file appears once its checksum is right. Knows no models and no formats.
"""

import contextlib
import functools
import hashlib
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, TYPE_CHECKING
from urllib.parse import urljoin

from tandem.errors import HubError, ImageError
from tandem.http_limits import ACCEPTED, BodyError, bounded, read_body, within
from tandem.plain_line import plain_line

if TYPE_CHECKING:
    import httpx

MAX_REDIRECTS = 5
_ATTEMPTS = 5

Progress = Callable[[int, int | None], None]  # bytes so far, total bytes


def is_url(source: str) -> bool:
    """Whether a string is an http(s) URL rather than a path."""
    return source[:8].lower().startswith(("http://", "https://"))


def fetch(url: str, *, max_bytes: int, timeout_s: float) -> bytes:
    """The body of `url`. Raises `ImageError`.

    `timeout_s` bounds the whole request, redirects included.
    """
    import httpx

    deadline = time.monotonic() + timeout_s
    try:
        address = url
        for _ in range(MAX_REDIRECTS + 1):
            left = max(0.0, deadline - time.monotonic())
            with within(left), _client().stream("GET", address, timeout=timeout_s / 3) as response:
                if not response.has_redirect_location:
                    return _body(response, url, max_bytes, deadline)
                address = urljoin(str(response.url), response.headers["location"])
            if not is_url(address):
                raise ImageError(url, f"redirected to {address[:80]!r}, which is no http(s) address", "invalid")
            _check_time(url, deadline)
    except httpx.TimeoutException:
        raise ImageError(url, f"no answer within {timeout_s:g} s", "timeout") from None
    except (httpx.HTTPError, httpx.InvalidURL, httpx.StreamError, ValueError) as error:
        reason = plain_line(f"cannot be fetched: {str(error) or type(error).__name__}")
        raise ImageError(url, reason, "not_found") from None
    raise ImageError(url, f"more than {MAX_REDIRECTS} redirects", "not_found")


def _body(response: "httpx.Response", url: str, max_bytes: int, deadline: float) -> bytes:
    if response.status_code != 200:
        said = plain_line(f"the server answered {response.status_code} {response.reason_phrase}".rstrip())
        raise ImageError(url, said, "forbidden" if response.status_code in (401, 403, 451) else "not_found")
    try:
        return read_body(response, max_bytes, lambda: _check_time(url, deadline))
    except BodyError as error:
        raise ImageError(url, plain_line(str(error)), "too_large" if error.too_large else "damaged") from None


def _check_time(url: str, deadline: float) -> None:
    if time.monotonic() > deadline:
        raise ImageError(url, "not received within the time limit", "timeout")


# --- large files ---------------------------------------------------------------------------------------------------


def download(
    url: str,
    path: Path,
    sha256: str,
    *,
    progress: Progress | None = None,
    pause_s: float = 1.0,
    timeout_s: float = 30.0,
) -> Path:
    """Fetch `url` to `path`, continuing where an earlier attempt stopped. Raises `HubError` in one line.

    Partial content is kept in a `.part` file beside `path`, which is renamed once its SHA-256 is right.
    """
    part = path.with_name(f"{path.name}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with part.open("ab") as file, _alone(file):
            if path.is_file():  # another process finished it while this one waited
                return path
            continued = part.stat().st_size > 0
            _fill(url, part, file, progress, pause_s, timeout_s)
            found = _sha256(part)
            if found != sha256 and continued:  # the earlier attempt's part may be wrong: start over once
                file.truncate(0)
                _fill(url, part, file, progress, pause_s, timeout_s)
                found = _sha256(part)
            if found != sha256:
                part.unlink()
                raise HubError(
                    f"{url}: wrong checksum: expected SHA-256 {sha256}, came {found}; it was thrown away, try again"
                )
            os.replace(part, path)
    except OSError as error:
        raise HubError(f"{path}: cannot be written: {error.strerror or error}") from None
    return path


def _fill(url: str, part: Path, file: IO[bytes], progress: Progress | None, pause_s: float, timeout_s: float) -> None:
    reason = ""
    for attempt in range(_ATTEMPTS):
        if attempt:
            time.sleep(pause_s * 2 ** (attempt - 1))
        try:
            _append(url, file, progress, timeout_s)
            return
        except _Failed as failed:
            if not failed.may_pass:
                raise HubError(f"{url}: {failed}") from None
            reason = str(failed)
    kept = file.seek(0, os.SEEK_END)
    what_next = f"{kept} bytes are kept in {part}; check the network and run again to continue"
    raise HubError(f"{url}: cannot be downloaded: {reason}; {what_next if kept else 'check the network and run again'}")


def _append(url: str, file: IO[bytes], progress: Progress | None, timeout_s: float) -> None:
    """Append what is missing. Raises `_Failed`, which says whether a retry may help."""
    import httpx

    have = file.seek(0, os.SEEK_END)
    try:
        wanted = {"range": f"bytes={have}-"} if have else {}
        with _client().stream("GET", url, headers=wanted, timeout=timeout_s, follow_redirects=True) as response:
            status = response.status_code
            if status == 416 and have:  # the range is past the end: the part is complete, or useless
                return
            if status not in (200, 206):
                raise _Failed(
                    f"the server says {status} {response.reason_phrase}".rstrip(), status >= 500 or status == 429
                )
            if have and status != 206:  # a server without range requests sends everything again
                file.truncate(0)
                have = 0
            length = response.headers.get("content-length", "")
            total = have + int(length) if length.isdigit() else None
            for chunk in response.iter_raw():
                file.write(chunk)
                have += len(chunk)
                if progress:
                    progress(have, total)
            file.flush()
    except httpx.RemoteProtocolError:  # also a body shorter than announced
        file.flush()
        raise _Failed(f"the connection closed after {file.tell()} bytes", True) from None
    except (httpx.InvalidURL, httpx.UnsupportedProtocol, httpx.TooManyRedirects) as error:
        raise _Failed(str(error), False) from None
    except httpx.TimeoutException as error:
        raise _Failed(f"no answer within {timeout_s:g} s ({type(error).__name__})", True) from None
    except httpx.HTTPError as error:
        raise _Failed(str(error) or type(error).__name__, True) from None


class _Failed(Exception):
    """An attempt that did not complete the file."""

    def __init__(self, reason: str, may_pass: bool) -> None:
        super().__init__(plain_line(reason))  # a server's words may be in it
        self.may_pass = may_pass


@contextlib.contextmanager
def _alone(file: IO[bytes]) -> Iterator[None]:
    """One process downloads while others wait; without file locks, all download."""
    try:
        import fcntl
    except ImportError:
        yield
        return
    fcntl.flock(file, fcntl.LOCK_EX)
    try:
        yield
    finally:
        fcntl.flock(file, fcntl.LOCK_UN)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@functools.cache
def _client() -> "httpx.Client":
    """The HTTP client of this process, which keeps connections. Thread-safe."""
    import httpx

    # `fetch` follows redirects itself, to check each URL and to count it against the timeout
    headers = {"user-agent": "tandem-clip", "accept-encoding": ACCEPTED}
    return bounded(httpx.Client(follow_redirects=False, headers=headers))
