"""A budget of bytes for the images that a process decodes at the same time, however many threads there are.

Knows bytes and threads; nothing of images.
"""

import contextlib
import functools
import threading
from collections import deque
from collections.abc import Iterator

from tandem.processor import cores

_LEAST = 512 * 2**20
_PER_CORE = 128 * 2**20  # three photos of 12 megapixels on each core


class Budget:
    """Bytes in flight, first come, first served. What is larger than all of it waits until it is alone."""

    def __init__(self, total: int) -> None:
        self.total = total
        self.in_flight = 0
        self._changed = threading.Condition()
        self._waiting: deque[object] = deque()
        self._own = threading.local()

    @contextlib.contextmanager
    def take(self, count: int) -> Iterator[None]:
        """Hold so many bytes during the block. A thread that holds some already does not wait for itself."""
        held: int = getattr(self._own, "held", 0)
        with self._changed:
            if not held:
                self._wait(count)
            self.in_flight += count
        self._own.held = held + count
        try:
            yield
        finally:
            self._own.held = held
            with self._changed:
                self.in_flight -= count
                self._changed.notify_all()

    def _wait(self, count: int) -> None:
        ticket = object()
        self._waiting.append(ticket)
        try:
            while self._waiting[0] is not ticket or (self.in_flight and self.in_flight + count > self.total):
                self._changed.wait()
        finally:
            self._waiting.remove(ticket)
            self._changed.notify_all()


@functools.cache
def in_flight() -> Budget:
    """The budget that all threads of this process share."""
    return Budget(max(_LEAST, cores() * _PER_CORE))
