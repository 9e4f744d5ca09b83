"""Connections under limits, around uvicorn's own protocols: what happens before there is a request, or beside it.

A head must arrive in time and within its size; what a client does not read is not kept for ever; and where there are
too many connections the one that has been idle longest makes room. What is no HTTP is answered by a problem document.
Knows bytes and connections. It has never heard of routes; requests are the guard's.
"""

import asyncio
import json
import time
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from tandem.serve.http.problems import MEDIA_TYPE, ProblemError, full
from tandem.serve.settings import Settings

if TYPE_CHECKING:
    # One base for type checkers; both of uvicorn's are the same to us.
    from uvicorn.protocols.http.h11_impl import H11Protocol as _Protocol
else:
    _Protocol = object

LEAST_READ = 16 * 2**10  # bytes a second that a client must take of its answer
CHECK_READ_S = 10.0
MAX_PIPELINED = 100  # requests sent before the first of them is answered


def protocol(settings: Settings) -> type[asyncio.Protocol]:
    """uvicorn's protocol for HTTP/1.1, with our limits around it."""
    base: Any
    if settings.http == "httptools" or (settings.http == "auto" and find_spec("httptools") is not None):
        from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol as base
    else:
        from uvicorn.protocols.http.h11_impl import H11Protocol as base
    made: type[asyncio.Protocol] = type("Limited", (Limited, base), {"settings": settings})
    return made


class Limited(_Protocol):
    """A connection. It waits for a head from when it is opened, or from the first byte after an answer."""

    settings: Settings
    _waiting: asyncio.TimerHandle | None = None
    _reading: asyncio.TimerHandle | None = None
    _head_bytes = 0  # received while no request was there
    _in_head = True
    _unread = 0
    idle_since = 0.0
    let_go = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self.idle_since = time.monotonic()
        if len(self.connections) > self.settings.max_connections and not self._make_room():
            self._refuse(full(f"{len(self.connections):,} connections are open"))
            return
        self._wait_for_head()

    def connection_lost(self, exc: Exception | None) -> None:
        self._head_is_there()
        self._forget_reading()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        before = self.cycle
        super().data_received(data)
        if self.transport is None or self.transport.is_closing():
            return
        if not self.idle or self.cycle is not before:
            self._head_is_there()
        else:
            self._head_bytes += len(data)
            if self._waiting is None:
                self._wait_for_head()
            # httptools has no limit of its own. Of a body that was answered before its end we read as much as could
            # have been sent in good faith, so that the answer is found.
            if self._in_head and self._head_bytes > self.settings.max_header_bytes:
                self._refuse(_HEAD_TOO_LARGE)
            elif self._head_bytes > self.settings.max_body_bytes:
                self.transport.close()
        if len(getattr(self, "pipeline", ())) > MAX_PIPELINED:
            self.transport.abort()

    def on_message_begin(self) -> None:
        """httptools has seen the beginning of a head; h11 has a limit of its own and never says so."""
        self._head_bytes = 0
        self._in_head = True
        super().on_message_begin()  # type: ignore[misc]

    def on_response_complete(self) -> None:
        self.idle_since = time.monotonic()
        super().on_response_complete()

    @property
    def idle(self) -> bool:
        """No request is being answered, and none is being received whose head is there."""
        return self.cycle is None or self.cycle.response_complete

    # --- a head that does not come -------------------------------------------------------------------------------

    def _wait_for_head(self) -> None:
        self._waiting = self.loop.call_later(self.settings.body_timeout_s, self._head_is_late)

    def _head_is_there(self) -> None:
        self._head_bytes = 0
        self._in_head = False
        if self._waiting is not None:
            self._waiting.cancel()
            self._waiting = None

    def _head_is_late(self) -> None:
        self._waiting = None
        if not self.idle or self.transport.is_closing():
            return
        if self.cycle is None and self._head_bytes:
            within = f"no request was received within {self.settings.body_timeout_s:g} s"
            self._refuse(ProblemError(408, "Request Timeout", within))
        else:  # it has said nothing, or it was answered before
            self.transport.close()

    def _make_room(self) -> bool:
        """Whether another connection was let go: the one that has been idle longest."""
        others = (each for each in self.connections if isinstance(each, Limited) and each is not self)
        idle = [each for each in others if each.idle and not each.let_go]
        if not idle:
            return False
        longest = min(idle, key=lambda each: each.idle_since)
        longest.let_go = True
        longest.transport.abort()
        return True

    # --- an answer that is not read ------------------------------------------------------------------------------

    def pause_writing(self) -> None:
        super().pause_writing()
        if self._reading is None:
            self._check_reading_later()

    def resume_writing(self) -> None:
        self._forget_reading()
        super().resume_writing()

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

    # --- what is no request --------------------------------------------------------------------------------------

    def send_400_response(self, msg: str) -> None:
        self._refuse(ProblemError(400, "Bad Request", "what was received is no HTTP/1.1 request"))

    def _refuse(self, problem: ProblemError) -> None:
        """An answer without a request, and the end."""
        if self.idle or not self.cycle.response_started:
            self.transport.write(_as_http(problem))
        self._head_is_there()
        self.transport.close()


_HEAD_TOO_LARGE = ProblemError(431, "Request Header Fields Too Large", "the head of a request is larger than the limit")


def _as_http(problem: ProblemError) -> bytes:
    body = json.dumps(problem.document()).encode()
    headers = {"content-type": MEDIA_TYPE, "content-length": str(len(body)), "connection": "close", **problem.headers()}
    lines = [f"HTTP/1.1 {problem.status} {problem.title}", *(f"{name}: {value}" for name, value in headers.items())]
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + body
