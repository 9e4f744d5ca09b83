"""A served collection: open while it is in use, reopened when another store has replaced it.

`tandem migrate` replaces the store of a collection while it is served. The next request opens the new one, with the
model of its vectors. Knows collections and encoders; no threads, no HTTP.
"""

import math
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from tandem.search.collection import Collection, open_collection
from tandem.search.stores.backends import backend
from tandem.serve.encoding.encoder import Encoder

CHECKED_EVERY_S = 1.0  # how often a remote store is checked for replacement, which costs a round trip


class OpenCollection:
    """An open collection with its encoder, reference-counted by its handle and the requests that lease it."""

    def __init__(self, name: str, collection: Collection, encoder: Encoder, *, is_shared: bool) -> None:
        """`is_shared`: whether the backend is remote, so that a check for replacement costs a round trip."""
        self.name = name
        self.collection = collection
        self.encoder = encoder
        self.users = 1  # the handle
        self._is_shared = is_shared
        self._checked = time.monotonic()

    @property
    def is_checked(self) -> bool:
        """Whether `is_stale` answers without a round trip."""
        return not self._is_shared or time.monotonic() - self._checked < CHECKED_EVERY_S

    def is_stale(self, *, surely: bool = False) -> bool:
        """Whether another store has replaced it. Remote stores are checked only now and then, unless `surely`."""
        if self._is_shared and not surely and self.is_checked:
            return False
        self._checked = time.monotonic()  # others go on while one asks
        stale = self.collection.store.is_stale()
        if stale:
            self._checked = -math.inf  # the next check sees it too
        return stale


class CollectionHandle:
    """A collection by its name and address, leased to requests."""

    def __init__(
        self,
        name: str,
        url: str,
        acquire_encoder: Callable[[Collection], Encoder],
        release_encoder: Callable[[Encoder], None],
    ) -> None:
        """`acquire_encoder` returns the encoder of a collection's vectors; `release_encoder` releases it."""
        self.name = name
        address = backend(url)
        self.url = address.url
        self.is_shared = address.is_shared
        self._acquire_encoder = acquire_encoder
        self._release_encoder = release_encoder
        self._lock = threading.Lock()  # for counting only; nobody waits for a store or a model under it
        self._opening = threading.Lock()
        self._open: OpenCollection | None = None

    @contextmanager
    def lease(self) -> Iterator[OpenCollection]:
        """The collection as it is now; it stays open until the block ends."""
        leased = self._leased_if_fresh() or self._leased_anew()
        try:
            yield leased
        finally:
            self._release(leased)

    def current_encoder(self) -> Encoder | None:
        """The encoder, if it is known without waiting for a store; None otherwise."""
        current = self._open
        return current.encoder if current is not None and current.is_checked and not current.is_stale() else None

    def close(self) -> None:
        with self._lock:
            current, self._open = self._open, None
        if current is not None:
            self._release(current)

    def _leased_if_fresh(self) -> OpenCollection | None:
        with self._lock:
            current = self._open
            if current is None:
                return None
            current.users += 1
        try:
            if not current.is_stale():
                return current
        except BaseException:
            self._release(current)
            raise
        with self._lock:
            is_first = self._open is current  # of those who see that it is stale
            if is_first:
                self._open = None
        self._release(current)
        if is_first:
            self._release(current)
        return None

    def _leased_anew(self) -> OpenCollection:
        with self._opening:  # one opens it, and loads the model; the others wait for that
            leased = self._leased_if_fresh()
            if leased is None:
                leased = self._opened()
                with self._lock:
                    self._open = leased
                    leased.users += 1
            return leased

    def _opened(self) -> OpenCollection:
        with open_collection(self.url, must_exist=True) as plain:
            encoder = self._acquire_encoder(plain)
        try:
            collection = open_collection(self.url, encoder.model, must_exist=True)
            _ = collection.model  # refused if it is of another model by now
        except BaseException:
            self._release_encoder(encoder)
            raise
        return OpenCollection(self.name, collection, encoder, is_shared=self.is_shared)

    def _release(self, leased: OpenCollection) -> None:
        with self._lock:
            leased.users -= 1
            is_last = not leased.users
        if is_last:
            leased.collection.close()
            self._release_encoder(leased.encoder)
