"""A sample of a collection for judging scores: the number of its images, and some of their vectors.

Knows a store and a clock. Threads may share one.
"""

import threading
import time

from tandem.arrays import Vectors
from tandem.search.stores.protocol import Store

SAMPLED = 4096  # vectors
CHANGED = 0.1  # of the count; smaller changes leave the distribution of scores as it is
# Counting costs a shared store a round trip, for which every search would wait. Relevance depends on the logarithm of
# the count, so a count from a second ago is as good. A local store has it in the state that each call reads anyway.
SHARED_COUNT_FOR_S = 1.0


class CollectionSample:
    """A sample that is drawn lazily, and again after the collection's size changes."""

    def __init__(self, *, count_for_s: float = 0.0) -> None:
        """`count_for_s`: seconds for which a count is cached."""
        self._count_for_s = count_for_s
        self._drawn: tuple[int, Vectors] | None = None  # of how many
        self._count = 0
        self._counted: float | None = None  # when, on the clock of time.monotonic; None: not, or not since a change
        self._drawing = threading.Lock()

    def now(self, store: Store) -> tuple[int, Vectors]:
        """The number of images, and a sample of their vectors [m d]."""
        count = self._count_of(store)
        drawn = self._drawn
        if drawn is None or abs(count - drawn[0]) > CHANGED * drawn[0]:
            # Sampling a large collection on a server takes long: meanwhile other threads use the earlier sample.
            if self._drawing.acquire(blocking=drawn is None):
                try:
                    if self._drawn is drawn:  # and not drawn by another thread while this one waited
                        self._drawn = count, store.sample(SAMPLED)
                finally:
                    self._drawing.release()
            drawn = self._drawn
        assert drawn is not None
        return count, drawn[1]

    def count_again(self) -> None:
        """Invalidate the count, after this process has written to the collection."""
        self._counted = None

    def _count_of(self, store: Store) -> int:
        now = time.monotonic()
        counted = self._counted
        if counted is None or now - counted > self._count_for_s:
            self._count = store.count()
            self._counted = now
        return self._count
