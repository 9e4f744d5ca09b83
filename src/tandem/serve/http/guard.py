"""Checks every request before it reaches a route: host, key, limits and deadline; adds security headers to responses.

Plain ASGI middleware. Where a route takes a body, the whole of it is received, within limits, before the application
is called; elsewhere none is read. Meanwhile the guard watches the connection, and cancels the work if the client
disconnects. HEAD is answered as GET, without the body.
"""

import asyncio
import contextlib
import json
import logging
import time
from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import dataclass
from typing import Any

from tandem.serve.http import clients, problems
from tandem.serve.http.clients import Caller, Rates, WrongKeys
from tandem.serve.http.hosts import Hosts
from tandem.serve.http.keys import KeyFile
from tandem.serve.http.links import SignedLinks
from tandem.serve.http.problems import ProblemError
from tandem.serve.http.slots import Slot, Slots
from tandem.serve.metrics import Metrics
from tandem.serve.settings import Settings

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Application = Callable[[MutableMapping[str, Any], Receive, Send], Awaitable[None]]

_log = logging.getLogger(__name__)

HEADERS = (
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"x-frame-options", b"DENY"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"permissions-policy", b"camera=(), microphone=(), geolocation=()"),
    (
        b"content-security-policy",
        b"default-src 'self'; img-src 'self' data: blob:; object-src 'none'; base-uri 'none'; form-action 'self'; "
        b"frame-ancestors 'none'",
    ),
)
CLOSE = (b"connection", b"close")
LOCKED = ("/v1/", "/metrics", "/docs", "/openapi.json")  # what a key is asked for
OPEN = ("/healthz", "/readyz")  # for health checks, without a key; so is the page, which contains no images
CLIENT_CLOSED = 499  # as in nginx's logs; no client receives it


class _ClientClosedError(Exception):
    """The client has closed the connection."""


class RequestGuard:
    """Wraps an ASGI application."""

    def __init__(
        self,
        application: Application,
        settings: Settings,
        metrics: Metrics,
        keys: KeyFile | None,
        takes_body: Callable[[str, str], bool] = lambda method, path: True,
        links: SignedLinks | None = None,
    ) -> None:
        """`takes_body` says of a method and a path whether a route reads a body there."""
        self._application = application
        self._settings = settings
        self._metrics = metrics
        self._keys = keys
        self._takes_body = takes_body
        self._links = links
        self._hosts = Hosts.of(settings.host, settings.allow_hosts, on_loopback=settings.on_loopback)
        self._slots = Slots(settings)
        self._rates = Rates(settings.client_rate)
        self._wrong_keys = WrongKeys()
        self._held = 0  # bytes of bodies, from the first one received until the answer

    async def __call__(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._application(scope, receive, send)
            return
        began = time.monotonic()
        status = 0
        method = scope["method"]
        is_head = method == "HEAD"
        if is_head:
            scope = {**scope, "method": "GET"}
        headers = {name.lower(): value.decode("latin-1") for name, value in scope["headers"]}
        # Of a body that nobody reads the connection cannot know where it ends.
        unread = _has_body(headers) and not self._takes_body(method, scope["path"])
        slot = Slot()

        async def send_with_headers(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                pairs = list(message.get("headers", ()))
                named = {name.lower() for name, _ in pairs}
                pairs += [pair for pair in HEADERS if pair[0] not in named]
                if b"cache-control" not in named:
                    pairs.append((b"cache-control", b"no-store"))
                if unread and b"connection" not in named:
                    pairs.append(CLOSE)
                message = {**message, "headers": pairs}
            elif not message.get("more_body", False):
                self._leave(slot)  # before the response is complete: the client's next request must find a free slot
            if is_head and message["type"] == "http.response.body":
                message = {**message, "body": b""}
            try:
                await send(message)
            except (OSError, RuntimeError) as error:
                if isinstance(error, RuntimeError) and "closed" not in str(error):  # as uvloop says it
                    raise
                raise _ClientClosedError from None

        try:
            self._admit(scope, headers, slot)
            if unread and method in ("GET", "HEAD", "OPTIONS"):
                raise ProblemError(400, "Bad Request", f"{_method(method)} takes no body here")
            await self._admitted(scope, headers, receive, send_with_headers, None if unread else slot)
        except _ClientClosedError:
            self._metrics.client_closed.inc()
            status = CLIENT_CLOSED
        except Exception as error:
            if isinstance(error, ProblemError):
                problem = error
            else:
                _log.error("%s %s failed", _method(method), _route(scope), exc_info=error)
                problem = problems.internal()
            if status:  # the response has begun: it can only be aborted
                raise
            await send_problem(send_with_headers, problem)
        finally:
            self._leave(slot)
            route = _route(scope)
            self._metrics.requests.labels(_method(method), route, str(status)).inc()
            self._metrics.seconds.labels(route).observe(time.monotonic() - began)

    def _leave(self, slot: Slot) -> None:
        self._slots.leave(slot)
        self._metrics.in_flight.set(self._slots.in_flight)

    async def _admitted(
        self,
        scope: MutableMapping[str, Any],
        headers: dict[bytes, str],
        receive: Receive,
        send: Send,
        reading: Slot | None,
    ) -> None:
        """`reading`: the slot of a request whose body is read."""
        counted = _Counted()
        try:
            body = b"" if reading is None else await self._body(headers, receive, counted, reading)
            await self._answer(scope, body, receive, send)
        finally:
            self._held -= counted.bytes

    async def _answer(self, scope: MutableMapping[str, Any], body: bytes, receive: Receive, send: Send) -> None:
        gone = asyncio.create_task(_until_closed(receive))
        work = asyncio.ensure_future(self._application(scope, _replay(body, gone), send))
        try:
            async with asyncio.timeout(self._settings.deadline_s):
                await asyncio.wait((work, gone), return_when=asyncio.FIRST_COMPLETED)
            if not work.done():
                raise _ClientClosedError
            await work
        except TimeoutError:
            raise problems.too_late(self._settings.deadline_s) from None
        finally:
            for task in (work, gone):
                task.cancel()
            await asyncio.gather(work, gone, return_exceptions=True)

    def _admit(self, scope: MutableMapping[str, Any], headers: dict[bytes, str], slot: Slot) -> None:
        """Raises `ProblemError` for a request that may not be answered, or not now. Nothing of its body is read yet."""
        path, kind = scope["path"], kind_of(scope["path"])
        self._slots.enter(slot, kind)
        self._metrics.in_flight.set(self._slots.in_flight)
        hosts = [value.decode("latin-1") for name, value in scope["headers"] if name.lower() == b"host"]
        if len(hosts) > 1 or not all(map(self._hosts.admit, hosts)):  # requests without it do not come from a browser
            raise _misdirected()
        if path in OPEN:
            return
        # A page of another site can send a form to a server on this machine without a preflight request.
        if scope["method"] not in ("GET", "HEAD", "OPTIONS") and not self._hosts.from_own_page(
            "".join(hosts), headers.get(b"origin"), headers.get(b"sec-fetch-site")
        ):
            raise ProblemError(
                403, "Forbidden", "the request comes from a page of another site; this server answers its own page only"
            )
        client = Caller(clients.address_of(scope))
        if self._keys is not None and path.startswith(LOCKED):
            client = self._with_key(self._keys, client.address, headers, scope)
        clients.current.set(client)
        if path != "/metrics":
            self._rates.take(client)
        if kind == clients.WORK:
            self._slots.enter_client(slot, client)

    def _with_key(
        self, keys: KeyFile, address: str, headers: dict[bytes, str], scope: MutableMapping[str, Any]
    ) -> Caller:
        """The client by its key, or by the key that a link was made for. Raises `ProblemError` 401, 429 and 503."""
        if keys.is_broken():
            detail = "the server's file of API keys cannot be read, so no key is accepted; its log says why"
            raise ProblemError(503, "API keys unavailable", detail)
        authorization, x_api_key = headers.get(b"authorization"), headers.get(b"x-api-key")
        key = keys.find(authorization=authorization, x_api_key=x_api_key)
        if key is not None:
            return Caller(address, key)
        if authorization or x_api_key:
            self._wrong_keys.wrong(address)
        elif self._links is not None and (key := self._links.key_of(scope)) is not None:
            return Caller(address, key)
        raise ProblemError(
            401,
            "API key missing or wrong",
            "send it as a header: Authorization: Bearer KEY, or X-API-Key: KEY",
            headers={"WWW-Authenticate": "Bearer"},
        )

    async def _body(self, headers: dict[bytes, str], receive: Receive, counted: "_Counted", slot: Slot) -> bytes:
        most = self._settings.max_body_bytes
        said = headers.get(b"content-length", "")
        announced = int(said[:20]) if said.isascii() and said.isdigit() else 0
        if announced > most:
            raise _too_large(most)
        self._check_room(announced, counted)
        body = bytearray()
        try:
            async with asyncio.timeout(self._settings.body_timeout_s) as until:
                with self._slots.receiving(slot, until):
                    while True:
                        message = await receive()
                        if message["type"] == "http.disconnect":
                            raise _ClientClosedError
                        part = message.get("body", b"")
                        self._check_room(len(part), counted)
                        self._held += len(part)
                        counted.bytes += len(part)
                        body += part
                        if len(body) > most:
                            raise _too_large(most)
                        if not message.get("more_body", False):
                            return bytes(body)
        except TimeoutError:
            if slot.kind is None:
                detail = "the request was not received in time; it made room for others"
            else:
                detail = f"the request was not received within {self._settings.body_timeout_s:g} s"
            raise ProblemError(408, "Request Timeout", detail) from None

    def _check_room(self, more: int, counted: "_Counted") -> None:
        """Announced bytes are not reserved before they arrive: they may never arrive."""
        others = self._held - counted.bytes
        if others and self._held + more > self._settings.max_bodies_bytes:
            raise problems.full(f"the requests in flight hold {self._held:,} bytes")


@dataclass
class _Counted:
    """The held bytes of one request."""

    bytes: int = 0


def kind_of(path: str) -> str:
    """Which slots a request takes."""
    if path in OPEN:
        return clients.HEALTH
    if path == "/metrics":
        return clients.METRICS
    return clients.WORK if path.startswith(LOCKED) else clients.PAGE


async def send_problem(send: Send, problem: ProblemError) -> None:
    """Answer with a problem document, without the framework."""
    body = json.dumps(problem.document()).encode()
    headers = {"content-type": problems.MEDIA_TYPE, "content-length": str(len(body)), **problem.headers()}
    pairs = [(name.lower().encode(), value.encode("latin-1")) for name, value in headers.items()]
    with contextlib.suppress(OSError, _ClientClosedError):
        await send({"type": "http.response.start", "status": problem.status, "headers": pairs})
        await send({"type": "http.response.body", "body": body})


def _has_body(headers: dict[bytes, str]) -> bool:
    return b"transfer-encoding" in headers or headers.get(b"content-length", "0").strip("0 ") != ""


def _misdirected() -> ProblemError:
    detail = (
        "the Host header names no host of this server; use its address, "
        "or start tandem serve with --allow-host and that name"
    )
    return ProblemError(421, "Misdirected Request", detail)


def _too_large(most: int) -> ProblemError:
    return ProblemError(413, "Request too large", f"a body of more bytes than the limit of {most:,}")


async def _until_closed(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


def _replay(body: bytes, gone: "asyncio.Task[None]") -> Receive:
    sent = False

    async def receive() -> Message:
        nonlocal sent
        if not sent:
            sent = True
            return {"type": "http.request", "body": body, "more_body": False}
        await asyncio.wait((gone,))
        return {"type": "http.disconnect"}

    return receive


def _route(scope: MutableMapping[str, Any]) -> str:
    """The route's pattern, not the path: arbitrary paths must not create unlimited time series."""
    return str(getattr(scope.get("route"), "path", None) or "other")


def _method(method: str) -> str:
    return method if method in ("GET", "HEAD", "POST", "DELETE", "OPTIONS", "PUT", "PATCH") else "other"
