"""Connections with limits, on top of uvicorn's protocols.

Headers must arrive in time and within their size; responses that the client does not read are aborted; and if there are
too many connections, the longest idle one of the address that has the most is closed. Bytes that are not HTTP are
answered by a problem document. Knows bytes and connections; requests are checked by the guard.

This relies on uvicorn's internals (`_USED_METHODS`, `USED_ATTRIBUTES`). If some are missing, the server does not start,
and tests/serve/test_serve_connections.py fails.
"""

import asyncio
import json
import time
from collections import Counter
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from tandem.errors import ConfigError
from tandem.serve.http.clients import address_of
from tandem.serve.http.problems import MEDIA_TYPE, ProblemError, full
from tandem.serve.settings import Settings

if TYPE_CHECKING:
    # One base for type checkers; both of uvicorn's are the same to us.
    from uvicorn.protocols.http.h11_impl import H11Protocol as _Protocol
else:
    _Protocol = object

_USED_METHODS = (
    "connection_made",
    "connection_lost",
    "data_received",
    "on_response_complete",
    "pause_writing",
    "resume_writing",
    "send_400_response",
)
USED_ATTRIBUTES = ("connections", "cycle", "flow", "loop", "transport")  # of an open connection

LEAST_READ = 16 * 2**10  # bytes per second that a client must read of its answer
CHECK_READ_S = 10.0
MOST_UNREAD = 512 * 2**20  # bytes of answers that clients have not read yet, all together
MAX_PIPELINED = 100  # requests sent before the first of them is answered
# A body may come in this many parts, or in larger ones: each costs a step of Python, however small it is.
SMALL_PARTS, SMALL_PART_BYTES = 4096, 32


def protocol(settings: Settings) -> type[asyncio.Protocol]:
    """uvicorn's protocol for HTTP/1.1 with limits. Raises `ConfigError` where uvicorn is not as it is expected."""
    import uvicorn

    base: Any
    if settings.http == "httptools" or (settings.http == "auto" and find_spec("httptools") is not None):
        from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol as base
    else:
        from uvicorn.protocols.http.h11_impl import H11Protocol as base
    missing = [name for name in _USED_METHODS if not hasattr(base, name)]
    if missing:
        raise ConfigError(f"uvicorn {uvicorn.__version__} has no {missing[0]}: install another version of it")
    protocol_class: type[asyncio.Protocol] = type("Limited", (Limited, base), {"settings": settings})
    return protocol_class


class Limited(_Protocol):
    """A connection. It waits for headers from when it is opened, or from the first byte after an answer."""

    settings: Settings
    _waiting: asyncio.TimerHandle | None = None
    _reading: asyncio.TimerHandle | None = None
    _header_bytes = 0  # received while no request was there
    _in_headers = True
    _parts = _body_bytes = 0  # of the request that is being received
    _unread = 0
    unread_since = 0.0
    idle_since = 0.0
    is_pushed_out = False
    address = ""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self.idle_since = time.monotonic()
        self.address = address_of({"client": transport.get_extra_info("peername")})
        if len(self.connections) > self.settings.max_connections and not self._make_room():
            self._refuse(full(f"{len(self.connections):,} connections are open"))
            return
        self._wait_for_headers()

    def connection_lost(self, exc: Exception | None) -> None:
        self._headers_are_there()
        self._forget_reading()
        if pipeline := getattr(self, "pipeline", None):
            pipeline.clear()  # requests that nobody waits for; uvicorn would answer them all
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        before = self.cycle
        super().data_received(data)
        if self.transport is None or self.transport.is_closing():
            return
        if not self.idle or self.cycle is not before:
            self._headers_are_there()
        else:
            self._header_bytes += len(data)
            if self._waiting is None:
                self._wait_for_headers()
            # httptools has no limit of its own. Of a body that was answered before its end we read as much as an honest
            # client sends, so that it finds the answer.
            if self._in_headers and self._header_bytes > self.settings.max_header_bytes:
                self._refuse(_HEADERS_TOO_LARGE)
            elif self._header_bytes > self.settings.max_body_bytes:
                self.transport.close()
        if len(getattr(self, "pipeline", ())) > MAX_PIPELINED:
            self.transport.abort()

    def on_message_begin(self) -> None:
        """httptools has seen the beginning of headers; h11 has a limit of its own and never calls this."""
        self._header_bytes = 0
        self._in_headers = True
        self._parts = self._body_bytes = 0
        super().on_message_begin()  # type: ignore[misc]

    def on_body(self, body: bytes) -> None:
        """httptools has a part of a body, a chunk at most. What is raised ends the parsing, and is answered 400."""
        self._parts += 1
        self._body_bytes += len(body)
        if self._parts > SMALL_PARTS and self._body_bytes < SMALL_PART_BYTES * self._parts:
            raise ValueError(f"a body in more than {SMALL_PARTS:,} parts of a few bytes")
        super().on_body(body)  # type: ignore[misc]

    def on_response_complete(self) -> None:
        self.idle_since = time.monotonic()
        super().on_response_complete()

    @property
    def idle(self) -> bool:
        """No request is being answered, and none whose headers are complete is being received."""
        return self.cycle is None or self.cycle.response_complete

    # --- headers that do not come -------------------------------------------------------------------------------

    def _wait_for_headers(self) -> None:
        self._waiting = self.loop.call_later(self.settings.body_timeout_s, self._headers_are_late)

    def _headers_are_there(self) -> None:
        self._header_bytes = 0
        self._in_headers = False
        if self._waiting is not None:
            self._waiting.cancel()
            self._waiting = None

    def _headers_are_late(self) -> None:
        self._waiting = None
        if not self.idle or self.transport.is_closing():
            return
        if self.cycle is None and self._header_bytes:
            within = f"no request was received within {self.settings.body_timeout_s:g} s"
            self._refuse(ProblemError(408, "Request Timeout", within))
        else:  # it has sent nothing, or it was answered before
            self.transport.close()

    def _make_room(self) -> bool:
        """Close the idle connection of the address that has the most, the longest idle one. Whether there was one."""
        everyone = [each for each in self.connections if isinstance(each, Limited) and not each.is_pushed_out]
        idle = [each for each in everyone if each.idle and each is not self]
        if not idle:
            return False
        of_address = Counter(each.address for each in everyone)
        longest = min(idle, key=lambda each: (-of_address[each.address], each.idle_since))
        longest.is_pushed_out = True
        longest.transport.abort()
        return True

    # --- an answer that is not read ------------------------------------------------------------------------------

    def pause_writing(self) -> None:
        super().pause_writing()
        self._bound_unread()
        if self._reading is None:
            self.unread_since = time.monotonic()
            self._check_reading_later()

    def resume_writing(self) -> None:
        self._forget_reading()
        super().resume_writing()

    def _bound_unread(self) -> None:
        """Give up the answers that have been left unread for longest, where there is too much of them."""
        waiting = [each for each in self.connections if isinstance(each, Limited) and each._reading is not None]
        held = [(each.unread_since, each.transport.get_write_buffer_size(), each) for each in waiting]
        unread = self.transport.get_write_buffer_size() + sum(size for _, size, _ in held)
        for _, size, each in sorted(held, key=lambda one: one[0]):
            if unread <= MOST_UNREAD:
                return
            unread -= size
            each.transport.abort()

    def _check_reading_later(self) -> None:
        self._unread = self.transport.get_write_buffer_size()
        self._reading = self.loop.call_later(CHECK_READ_S, self._check_reading)

    def _check_reading(self) -> None:
        if self._unread - self.transport.get_write_buffer_size() < LEAST_READ * CHECK_READ_S:
            self._reading = None
            self.transport.abort()
        else:
            self._check_reading_later()

    def _forget_reading(self) -> None:
        if self._reading is not None:
            self._reading.cancel()
            self._reading = None

    # --- what is not a request --------------------------------------------------------------------------------------

    def send_400_response(self, msg: str) -> None:
        many = f", got a body in more than {SMALL_PARTS:,} parts of a few bytes" if self._parts > SMALL_PARTS else ""
        self._refuse(ProblemError(400, "Bad Request", f"expected an HTTP/1.1 request{many}"))

    def _refuse(self, problem: ProblemError) -> None:
        """Answer without a request, and close."""
        if self.idle or not self.cycle.response_started:
            self.transport.write(_as_http(problem))
        self._headers_are_there()
        self.transport.close()


_HEADERS_TOO_LARGE = ProblemError(
    431, "Request Header Fields Too Large", "the headers of the request are larger than the limit"
)


def _as_http(problem: ProblemError) -> bytes:
    body = json.dumps(problem.document()).encode()
    headers = {"content-type": MEDIA_TYPE, "content-length": str(len(body)), "connection": "close", **problem.headers()}
    lines = [f"HTTP/1.1 {problem.status} {problem.title}", *(f"{name}: {value}" for name, value in headers.items())]
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + body
