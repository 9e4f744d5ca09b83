"""Requests in flight, by kind and by client: who finds a slot, and who has to make room. Knows counts; no requests."""

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

from tandem.serve.http.clients import HEALTH, METRICS, PAGE, WORK, Caller
from tandem.serve.http.problems import ProblemError, full
from tandem.serve.settings import Settings

OWN: Mapping[str, int] = {HEALTH: 128, METRICS: 16, PAGE: 128}  # those of work are a setting
SLOW_S = 1.0  # a body that has not arrived by then makes room where others find none


class Slots:
    """The page, health checks and metrics have slots of their own. One client holds at most half of those for work.

    Where none is free, the request whose body has been on its way for longest gives its slot up: whoever sends slowly,
    on purpose or not, keeps out nobody who sends at once.
    """

    def __init__(self, settings: Settings, clock: Callable[[], float] = time.monotonic) -> None:
        self._most = {**OWN, WORK: settings.concurrency}
        self._share = max(1, settings.concurrency // 2)
        self._clock = clock
        self._taken: Counter[str] = Counter()
        self._clients: Counter[str] = Counter()
        self._receiving: dict[Slot, tuple[float, asyncio.Timeout]] = {}  # the longest first

    @property
    def in_flight(self) -> int:
        """Requests for work and for the page."""
        return self._taken[WORK] + self._taken[PAGE]

    def enter(self, slot: "Slot", kind: str) -> None:
        """Take a slot. Raises `ProblemError` 503 where none is free."""
        if self._taken[kind] >= self._most[kind] and not self._made_room(lambda other: other.kind == kind):
            raise full(f"{self._taken[kind]:,} requests are in flight")
        self._taken[kind] += 1
        slot.kind = kind

    def enter_client(self, slot: "Slot", client: Caller) -> None:
        """Count a request for work for its client. Raises `ProblemError` 429 beyond its share."""
        if self._clients[client.name] >= self._share and not self._made_room(lambda other: other.client == client):
            detail = f"{self._share:,} requests from this client are in flight already; wait for their answers"
            raise ProblemError(429, "Too Many Requests", detail, retry_after_s=1)
        self._clients[client.name] += 1
        slot.client = client

    def leave(self, slot: "Slot") -> None:
        if slot.kind is not None:
            self._taken[slot.kind] -= 1
        if slot.client is not None:
            self._clients[slot.client.name] -= 1
            if not self._clients[slot.client.name]:
                del self._clients[slot.client.name]
        slot.kind = slot.client = None

    @contextmanager
    def receiving(self, slot: "Slot", until: asyncio.Timeout) -> Iterator[None]:
        """While the body of a request arrives; `until` passes at once where it has to make room."""
        self._receiving[slot] = (self._clock(), until)
        try:
            yield
        finally:
            self._receiving.pop(slot, None)

    def _made_room(self, fits: Callable[["Slot"], bool]) -> bool:
        """Send away the slowest of those that fit. Whether there was one."""
        for slot, (since, until) in self._receiving.items():
            if fits(slot):
                if self._clock() - since < SLOW_S:
                    return False
                until.reschedule(asyncio.get_running_loop().time())
                del self._receiving[slot]
                self.leave(slot)
                return True
        return False


class Slot:
    """The slots that one request has; nothing once it has left."""

    def __init__(self) -> None:
        self.kind: str | None = None
        self.client: Caller | None = None
