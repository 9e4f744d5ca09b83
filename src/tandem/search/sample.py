"""What stands for a collection where scores are judged: how many images it has, and some of their vectors.

Knows a store and a clock. Threads may share one.
"""

import threading
import time

from tandem.arrays import Vectors
from tandem.search.stores.protocol import Store

SAMPLED = 4096  # vectors
CHANGED = 0.1  # of the count: by less, what is usual in a collection does not change
# To count costs a shared store a round trip, and every search would wait for it. Scores are judged by the logarithm of
# the count, which of a second ago is as good. A local store tells it from the state that each call reads anyway.
SHARED_COUNT_FOR_S = 1.0


class CollectionSample:
    """Drawn when first asked for, and again when the collection has grown or shrunk, whoever did that."""

    def __init__(self, *, count_for_s: float = 0.0) -> None:
        """A count is taken for true for so long."""
        self._count_for_s = count_for_s
        self._drawn: tuple[int, Vectors] | None = None  # of how many
        self._count = 0
        self._counted: float | None = None  # when, on the clock of time.monotonic; None: not, or not since a change
        self._drawing = threading.Lock()

    def now(self, store: Store) -> tuple[int, Vectors]:
        """How many images there are, and vectors [m d] that stand for them."""
        count = self._count_of(store)
        drawn = self._drawn
        if drawn is None or abs(count - drawn[0]) > CHANGED * drawn[0]:
            # A large collection on a server is long drawn from: meanwhile the earlier sample does for other threads.
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
        """The collection was written to from here: what is known of its count is no longer true."""
        self._counted = None

    def _count_of(self, store: Store) -> int:
        now = time.monotonic()
        counted = self._counted
        if counted is None or now - counted > self._count_for_s:
            self._count = store.count()
            self._counted = now
        return self._count
