"""Who asks a server, how often, and with how many wrong keys.

A client is the key that it brings; without keys it is its address. Knows addresses and
counts; no requests, no paths.
"""

import ipaddress
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

from tandem.serve.http.problems import ProblemError

REMEMBERED = 10_000  # clients, of each kind of memory; the ones seen longest ago are forgotten first
FREE_FAILURES = 5  # wrong keys before an address has to wait with the next
LONGEST_WAIT_S = 60.0
HEALTH, METRICS, PAGE, WORK = "health", "metrics", "page", "work"


@dataclass(frozen=True)
class Caller:
    """Whom a request is counted for. `key` is the name of its key, which tells nothing of it; None without one."""

    address: str
    key: str | None = None

    @property
    def name(self) -> str:
        return self.address if self.key is None else f"key {self.key}"


# The client of the request that a task answers, where it is deep in the application.
current: ContextVar[Caller | None] = ContextVar("current", default=None)


def address_of(scope: Mapping[str, Any]) -> str:
    """The address that a request comes from. Of IPv6 the network of 64 bits: who has one address there has all."""
    host = str((scope.get("client") or ("",))[0])
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:  # a socket file, a test
        return host
    if isinstance(address, ipaddress.IPv6Address):
        if address.ipv4_mapped is not None:
            return str(address.ipv4_mapped)
        return str(ipaddress.ip_network((address, 64), strict=False))
    return str(address)


class Rates:
    """Requests per second of each client: a bucket that holds two seconds of them."""

    def __init__(self, per_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._per_s, self._clock = per_s, clock
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()  # what is left, and when that was

    def take(self, client: Caller) -> None:
        """Count a request. Raises `ProblemError` 429 where there were too many."""
        now, most = self._clock(), 2 * self._per_s
        left, then = self._buckets.pop(client.name, (most, now))
        left = min(most, left + (now - then) * self._per_s)
        self._buckets[client.name] = (max(left - 1, -most), now)
        if len(self._buckets) > REMEMBERED:
            self._buckets.popitem(last=False)
        if left < 1:
            detail = f"more than {self._per_s:g} requests per second from this client; send fewer"
            raise ProblemError(429, "Too Many Requests", detail, retry_after_s=1)


@dataclass
class _Failures:
    count: int = 0
    until: float = 0.0


class WrongKeys:
    """Addresses that bring wrong keys: after a few, each further one doubles the wait before the next is answered 401.

    A right key never waits: who guesses behind the same proxy must not lock the others out. What the wait costs a
    guesser is small beside the keys' length (`keys.MIN_KEY_LENGTH`); it keeps logs and answers few.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._failures: OrderedDict[str, _Failures] = OrderedDict()

    def wrong(self, address: str) -> None:
        """Count a wrong key. Raises `ProblemError` 429 where the address has to wait; that one is not counted."""
        now = self._clock()
        found = self._failures.pop(address, None) or _Failures()
        self._failures[address] = found  # as the one seen last
        if now < found.until:
            wait_s = max(1, round(found.until - now))
            detail = f"too many wrong API keys from this address; try again in {wait_s} s, or with a right one"
            raise ProblemError(429, "Too Many Requests", detail, retry_after_s=wait_s)
        if now - found.until > LONGEST_WAIT_S:
            found.count = 0
        found.count += 1
        found.until = now
        if found.count > FREE_FAILURES:
            found.until += min(LONGEST_WAIT_S, 2.0 ** min(found.count - FREE_FAILURES - 1, 10))
        if len(self._failures) > REMEMBERED:
            self._failures.popitem(last=False)
