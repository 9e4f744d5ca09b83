"""Bounds on answers over HTTP: seconds for a whole exchange, bytes of a body once it is unfolded. Knows httpx.

httpx bounds single reads: a server that sends a header's letters one by one, each in time, keeps a caller for days. And
it decodes what it reads at once: 13 KB of gzip in gzip unfold to gigabytes.
"""

import contextlib
import threading
import time
import zlib
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import httpx

KNOWN_HTTPX = "httpx>=0.27,<0.29"  # as in pyproject.toml; see `bounded`
ACCEPTED = "identity"  # what is asked for; a single gzip is read, too
_ENCODINGS = {"", "identity", "gzip", "x-gzip"}


class BodyError(Exception):
    """A body that is too large, or encoded in a way that nobody asked for."""

    def __init__(self, reason: str, *, too_large: bool = False) -> None:
        super().__init__(reason)
        self.too_large = too_large


def read_body(response: "httpx.Response", max_bytes: int, check: Callable[[], None] = lambda: None) -> bytes:
    """The body of a streamed response, unfolded, at most `max_bytes`. `check` is called between pieces.

    Raises: `BodyError`, and httpx's errors.
    """
    if response.is_stream_consumed:  # it never was on a network
        if len(response.content) > max_bytes:
            raise BodyError(f"more bytes than the limit of {max_bytes:,}", too_large=True)
        return response.content
    encoding = response.headers.get("content-encoding", "").strip().lower()
    if encoding not in _ENCODINGS:
        raise BodyError(f"the body came as {encoding[:40]!r}, which was not asked for")
    announced = response.headers.get("content-length", "")
    if announced.isdigit() and (len(announced) > 18 or int(announced) > max_bytes):
        shown = f"{int(announced):,}" if len(announced) <= 18 else announced[:18] + "..."
        raise BodyError(f"{shown} bytes, more than the limit of {max_bytes:,}", too_large=True)
    unfold = zlib.decompressobj(31) if "gzip" in encoding else None
    body = bytearray()
    try:
        for chunk in response.iter_raw():
            body += chunk if unfold is None else unfold.decompress(chunk, max_bytes + 1 - len(body))
            if len(body) > max_bytes:
                raise BodyError(f"more bytes than the limit of {max_bytes:,}", too_large=True)
            check()
    except zlib.error as error:
        raise BodyError(f"the body is no gzip: {error}") from None
    if unfold is not None and not unfold.eof:
        raise BodyError("the body ends in the middle of its gzip")
    return bytes(body)


# --- seconds ---------------------------------------------------------------------------------------------------------


class _Until(threading.local):
    """When the exchange of this thread has to be over, on the clock of time.monotonic."""

    at: float | None = None


_until = _Until()


@contextlib.contextmanager
def within(seconds: float) -> Iterator[None]:
    """Whatever clients of `bounded` do in this block and thread is over after so many seconds: httpx's timeouts."""
    before = _until.at
    _until.at = time.monotonic() + seconds
    try:
        yield
    finally:
        _until.at = before


def bounded(client: "httpx.Client") -> "httpx.Client":
    """The same client, which keeps to `within`.

    httpx has no public way to say how connections are made beside the proxies of the environment; its private names are
    used, and pyproject.toml admits the versions that have them. Raises `RuntimeError` for another one: exchanges that
    nothing ends must not pass for bounded ones.
    """
    import httpx

    for transport in (client._transport, *client._mounts.values()):
        if isinstance(transport, httpx.HTTPTransport):  # others, of tests, connect to nothing; None: no proxy
            pool: Any = getattr(transport, "_pool", None)
            if not hasattr(pool, "_network_backend"):
                raise RuntimeError(f"httpx {httpx.__version__} is not one that Tandem knows: install {KNOWN_HTTPX}")
            pool._network_backend = _backend(pool._network_backend)
    return client


def _left(timeout: float | None, error: type[Exception]) -> float | None:
    """The seconds that one step may take."""
    if _until.at is None:
        return timeout
    left = _until.at - time.monotonic()
    if left <= 0:
        raise error("the time for the whole exchange is over")
    return left if timeout is None else min(timeout, left)


def _backend(inner: Any) -> Any:
    import httpcore

    class Stream(httpcore.NetworkStream):
        """A connection of which every step ends in time."""

        def __init__(self, stream: httpcore.NetworkStream) -> None:
            self._stream = stream

        def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
            return self._stream.read(max_bytes, _left(timeout, httpcore.ReadTimeout))

        def write(self, buffer: bytes, timeout: float | None = None) -> None:
            self._stream.write(buffer, _left(timeout, httpcore.WriteTimeout))

        def close(self) -> None:
            self._stream.close()

        def start_tls(self, ssl_context: Any, server_hostname: Any = None, timeout: float | None = None) -> "Stream":
            left = _left(timeout, httpcore.ConnectTimeout)
            return Stream(self._stream.start_tls(ssl_context, server_hostname, left))

        def get_extra_info(self, info: str) -> Any:
            return self._stream.get_extra_info(info)

    class Backend(httpcore.NetworkBackend):
        def connect_tcp(
            self,
            host: str,
            port: int,
            timeout: float | None = None,
            local_address: str | None = None,
            socket_options: Any = None,
        ) -> Stream:
            left = _left(timeout, httpcore.ConnectTimeout)
            return Stream(inner.connect_tcp(host, port, left, local_address, socket_options))

        def connect_unix_socket(self, path: str, timeout: float | None = None, socket_options: Any = None) -> Stream:
            return Stream(inner.connect_unix_socket(path, _left(timeout, httpcore.ConnectTimeout), socket_options))

        def sleep(self, seconds: float) -> None:
            inner.sleep(seconds)

    return Backend()
