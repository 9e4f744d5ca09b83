"""An http(s) address -> its bytes, within limits of size and time. Trusts nothing of what the other side says."""

import functools
import time
from typing import TYPE_CHECKING
from urllib.parse import urljoin

from tandem.errors import ImageError

if TYPE_CHECKING:
    import httpx

MAX_REDIRECTS = 5


def is_url(source: str) -> bool:
    """Whether a string is an address, not a path."""
    return source[:8].lower().startswith(("http://", "https://"))


def fetch(url: str, *, max_bytes: int, timeout_s: float) -> bytes:
    """The body of `url`. Raises `ImageError` that says why there is none.

    `timeout_s` is the time for all of it, redirects included; a silent connection may add a third of it.
    """
    import httpx

    deadline = time.monotonic() + timeout_s
    try:
        address = url
        for _ in range(MAX_REDIRECTS + 1):
            with _client().stream("GET", address, timeout=timeout_s / 3) as response:
                if not response.has_redirect_location:
                    return _body(response, url, max_bytes, deadline)
                address = urljoin(str(response.url), response.headers["location"])
            if not is_url(address):
                raise ImageError(url, f"redirected to {address[:80]!r}, which is no http(s) address", "invalid")
            _check_time(url, deadline)
    except httpx.TimeoutException:
        raise ImageError(url, f"no answer within {timeout_s:g} s", "timeout") from None
    except (httpx.HTTPError, httpx.InvalidURL, httpx.StreamError, ValueError) as error:
        raise ImageError(url, f"cannot be fetched: {str(error) or type(error).__name__}", "not_found") from None
    raise ImageError(url, f"more than {MAX_REDIRECTS} redirects", "not_found")


def _body(response: "httpx.Response", url: str, max_bytes: int, deadline: float) -> bytes:
    if response.status_code != 200:
        said = f"the server answered {response.status_code} {response.reason_phrase}".rstrip()
        raise ImageError(url, said, "forbidden" if response.status_code in (401, 403, 451) else "not_found")
    announced = response.headers.get("content-length", "")
    if announced.isdigit() and int(announced) > max_bytes:
        raise ImageError(url, f"{int(announced):,} bytes, more than the limit of {max_bytes:,}", "too_large")
    body = bytearray()
    for chunk in response.iter_bytes():
        body += chunk
        if len(body) > max_bytes:
            raise ImageError(url, f"more bytes than the limit of {max_bytes:,}", "too_large")
        _check_time(url, deadline)
    return bytes(body)


def _check_time(url: str, deadline: float) -> None:
    if time.monotonic() > deadline:
        raise ImageError(url, "not received within the time limit", "timeout")


@functools.cache
def _client() -> "httpx.Client":
    """One for the process: connections are kept. Thread-safe."""
    import httpx

    # redirects are followed by hand, so that each is counted against the time and its address looked at
    return httpx.Client(follow_redirects=False, headers={"user-agent": "tandem-clip", "accept-encoding": "identity"})
