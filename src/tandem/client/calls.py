"""Requests to a Tandem server, retried where that is safe.

Knows HTTP and problem documents (RFC 9457); nothing of images.
"""

import contextlib
import json
import random
import time
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from tandem.errors import ClientError, ServerError, TandemError
from tandem.http_limits import ACCEPTED, BodyError, bounded, read_body, within
from tandem.plain_line import plain_line

if TYPE_CHECKING:
    import httpx

MAX_BYTES = 256 * 2**20  # of any answer
SMALL_BYTES = 16 * 2**20  # of one to a question without many parts; and of what errors say
ITEM_BYTES = 128 * 2**10  # for each part that is asked for: a vector of 24,000 numbers in base64, a hit, a row
SLOWEST_BYTES_S = 64 * 2**10  # at which requests are sent: their bodies may take longer than an answer
FIRST_WAIT_S = 0.25
MAX_WAIT_S = 30.0  # between two attempts, whatever the server asks for
_BUSY = (429, 502, 503, 504)
_STANDARD = {"type", "title", "status", "detail", "instance", "error"}


class Calls:
    """The HTTP interface of a server. Keeps connections; thread-safe."""

    def __init__(
        self,
        url: str,
        *,
        api_key: str | None,
        timeout_s: float,
        retries: int,
        transport: "httpx.BaseTransport | None" = None,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        """transport (of httpx) and sleep can be replaced in tests."""
        import httpx

        if not url.lower().startswith(("http://", "https://")):
            raise TandemError(f"url: expected an address such as http://localhost:8000, got {url!r}")
        if retries < 0 or not timeout_s > 0:
            raise TandemError(f"expected retries of 0 or more and timeout_s above 0, got {retries} and {timeout_s}")
        if api_key and not (api_key.isascii() and api_key.isprintable()):
            raise TandemError("api_key: expected printable ASCII")
        self.url = url.rstrip("/")
        self.timeout_s = timeout_s
        self.retries = retries
        self._sleep = sleep
        headers = {"accept-encoding": ACCEPTED} | ({"authorization": f"Bearer {api_key}"} if api_key else {})
        self._http = bounded(
            httpx.Client(
                timeout=timeout_s,
                transport=transport,
                follow_redirects=False,  # the key is for this server
                headers=headers,
            )
        )

    def close(self) -> None:
        self._http.close()

    def document(
        self,
        method: str,
        path: str,
        body: Mapping[str, Any] | None = None,
        *,
        wants: str,
        safe: bool = True,
        items: int = 0,
        item_bytes: int = ITEM_BYTES,
    ) -> dict[str, Any]:
        """The answered document, which must have the member `wants`. For `safe` see `answer`.

        So many `items` are asked for: an answer is read as far as they may take. Raises `ClientError` for an answer
        that is larger, or no such document.
        """
        most = min(MAX_BYTES, SMALL_BYTES + items * item_bytes)
        answer = self.answer(method, path, body, safe=safe, max_bytes=most)
        try:
            document = answer.json(parse_constant=_no_number)
        except (ValueError, RecursionError):
            document = None
        if not isinstance(document, dict) or wants not in document:
            raise ClientError(f"{self.url}{path} answered no document with {wants!r}: is it a Tandem server?")
        return document

    @contextlib.contextmanager
    def checked(self, path: str) -> Iterator[None]:
        """`ClientError` where what a path answered is not of the form that is read in this block."""
        try:
            yield
        except (KeyError, IndexError, TypeError, ValueError, AttributeError, OverflowError) as error:
            missing = f"it has no {error}" if isinstance(error, KeyError) else str(error) or type(error).__name__
            said = f"{self.url}{path} answered something else than was asked for: {missing:.200}"
            raise ClientError(plain_line(said)) from None

    def answer(
        self,
        method: str,
        path: str,
        body: Mapping[str, Any] | None = None,
        *,
        safe: bool = True,
        max_bytes: int = SMALL_BYTES,
    ) -> "httpx.Response":
        """The response, of status 2xx. `safe`: the request is idempotent."""
        for left in range(self.retries, -1, -1):
            wait_s = (
                FIRST_WAIT_S * 2 ** (self.retries - left) * random.uniform(0.5, 1.5)
            )  # so that clients do not all retry at once
            try:
                answer = self.once(method, path, body, max_bytes)
            except Unanswered as error:
                if not left or error.silent or (error.begun and not safe):
                    raise TandemError(str(error)) from None
            else:
                if answer.is_success:
                    return answer
                if not left or answer.status_code not in _BUSY or not safe:
                    raise as_error(answer)
                wait_s = max(wait_s, _retry_after_s(answer))
            self._sleep(min(wait_s, MAX_WAIT_S))
        raise AssertionError("the last try returns or raises")

    def once(
        self, method: str, path: str, body: Mapping[str, Any] | None = None, max_bytes: int = SMALL_BYTES
    ) -> "httpx.Response":
        """One attempt, with any response."""
        import httpx

        content = None if body is None else json.dumps(body, ensure_ascii=False, allow_nan=False).encode()
        headers = {} if content is None else {"content-type": "application/json"}
        seconds = self.timeout_s + len(content or b"") / SLOWEST_BYTES_S
        try:
            with (
                within(seconds),
                self._http.stream(method, f"{self.url}{path}", content=content, headers=headers) as answer,
            ):
                try:
                    read = read_body(answer, max_bytes if answer.is_success else min(max_bytes, SMALL_BYTES))
                except BodyError as error:
                    raise ClientError(plain_line(f"{self.url}{path}: {error}")) from None
                kept = {
                    name: answer.headers[name] for name in ("content-type", "retry-after") if name in answer.headers
                }
                extensions = {name: answer.extensions[name] for name in ("reason_phrase",) if name in answer.extensions}
                return httpx.Response(answer.status_code, headers=kept, content=read, extensions=extensions)
        except httpx.TimeoutException as error:
            begun = not isinstance(error, httpx.ConnectTimeout | httpx.PoolTimeout)
            raise Unanswered(f"{self.url}: no answer within {self.timeout_s:g} s", begun=begun, silent=begun) from None
        except (httpx.TransportError, httpx.StreamError) as error:
            begun = not isinstance(error, httpx.ConnectError)
            reason = str(error) or type(error).__name__
            said = plain_line(f"{self.url}: no answer ({reason}); is the server running?")
            raise Unanswered(said, begun=begun) from None


class Unanswered(TandemError):
    """An attempt without a response. `begun`: the server may have read the request; `silent`: it timed out."""

    def __init__(self, message: str, *, begun: bool, silent: bool = False) -> None:
        super().__init__(message)
        self.begun = begun
        self.silent = silent


def as_error(answer: "httpx.Response") -> ServerError:
    """The error of a problem document, or of the status where there is none; with nothing that commands a terminal."""
    title, detail, members = answer.reason_phrase or "Error", "", dict[str, Any]()
    try:
        document = answer.json()
        if isinstance(document, dict):
            title, detail = str(document.get("title") or title), str(document.get("detail") or "")
            members = {name: document[name] for name in document.keys() - _STANDARD}
    except (ValueError, RecursionError):
        detail = " ".join(answer.text[:200].split())
    return ServerError(answer.status_code, plain_line(title), plain_line(detail), members)


def _no_number(name: str) -> float:
    raise ValueError(f"{name} is no number of JSON")


def _retry_after_s(answer: "httpx.Response") -> float:
    said = answer.headers.get("retry-after", "").strip()
    return float(said) if said.isdigit() and len(said) < 6 else 0.0
