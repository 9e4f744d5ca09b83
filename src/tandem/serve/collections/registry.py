"""The collections a server answers from: each by its name, read by a few threads, opened anew when it was moved.

`tandem migrate` puts a successor in a collection's place while it is served; whoever asks next finds it open, with the
model its vectors are of. Knows collections and threads; no HTTP.
"""

import asyncio
import math
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from tandem.errors import ConfigError, TandemError
from tandem.model import Model, load
from tandem.search.collection import Collection, open_collection
from tandem.search.stores.backends import backend
from tandem.serve.encoding.encoder import Encoder
from tandem.serve.http.problems import full, not_found

NOTES_FOR_S = 1.0  # how long what a server said of its collection's model is believed without an error
MAX_WRITES = 32  # that wait for each other

_Made = TypeVar("_Made")


class Shared:
    """One collection, in use by several requests."""

    def __init__(self, name: str, url: str, encoder_for: Callable[[Collection], Encoder]) -> None:
        self.name = name
        self.url = url
        self.is_shared = backend(url).is_shared
        self._encoder_for = encoder_for
        self._lock = threading.Lock()
        self._open: Opened | None = None

    @contextmanager
    def using(self) -> Iterator["Opened"]:
        """The collection as it is now, open for as long as it takes."""
        with self._lock:
            if self._open is not None and self._open.moved():
                self._open.leave()
                self._open = None
            if self._open is None:
                self._open = self._opened()
            used = self._open
            used.users += 1
        try:
            yield used
        finally:
            with self._lock:
                used.leave()

    def encoder_now(self) -> Encoder | None:
        """The encoder, where that can be said without waiting for a store."""
        used = self._open
        is_known = used is not None and not self.is_shared and not used.moved()
        return used.encoder if is_known and used is not None else None

    def close(self) -> None:
        with self._lock:
            if self._open is not None:
                self._open.leave()
                self._open = None

    def _opened(self) -> "Opened":
        plain = open_collection(self.url, must_exist=True)
        try:
            encoder = self._encoder_for(plain)
        finally:
            plain.close()
        collection = open_collection(self.url, encoder.model, must_exist=True)
        collection.load()  # refused, should it be of another model by now
        return Opened(self.name, collection, encoder, costs_a_trip=self.is_shared)


class Opened:
    """A collection with its encoder. Closed when the shelf and the last request have let go of it."""

    def __init__(self, name: str, collection: Collection, encoder: Encoder, *, costs_a_trip: bool) -> None:
        """`costs_a_trip`: to ask whether it moved takes a round trip over a network."""
        self.name = name
        self.collection = collection
        self.encoder = encoder
        self.users = 1  # the shelf
        self._costs_a_trip = costs_a_trip
        self._looked = time.monotonic()

    def moved(self, *, surely: bool = False) -> bool:
        """Whether another store took its place. Where that takes a round trip it is asked now and then, unless it
        must be known `surely`.
        """
        if self._costs_a_trip and not surely and time.monotonic() - self._looked < NOTES_FOR_S:
            return False
        has_moved = self.collection.store.is_stale()
        self._looked = -math.inf if has_moved else time.monotonic()  # whoever looks next sees it too
        return has_moved

    def leave(self) -> None:
        """Called under the shelf's lock."""
        self.users -= 1
        if not self.users:
            self.collection.close()


class Shelf:
    """All collections, and the threads in which their stores are asked."""

    def __init__(
        self,
        urls: Sequence[str],
        encoder_of: Callable[[Model], Encoder],
        *,
        model: str | Path | Model | None = None,
        loading: dict[str, Any] | None = None,
        threads: int = 2,
        scan_threads: int = 2,
        server_threads: int = 16,
        queue: int = 256,
    ) -> None:
        """`model` overrules what the collections say of themselves, as --model does. Threads: see `Settings`."""
        self._encoder_of = encoder_of
        self._model = model
        self._loading = dict(loading or {})
        self._encoders: dict[str, Encoder] = {}  # by fingerprint
        self._lock = threading.Lock()
        self.collections: dict[str, Shared] = {}
        for url in urls:
            name = backend(url).name
            if name in self.collections:
                raise ConfigError(f"two collections are called {name!r}: rename a folder ({url})")
            self.collections[name] = Shared(name, url, self._encoder_for)
        self.pending = 0
        self.writes_pending = 0
        self._queue = queue
        self._writer = ThreadPoolExecutor(1, thread_name_prefix="tandem-writer")
        self._threads = ThreadPoolExecutor(threads, thread_name_prefix="tandem-store")
        self._scans = ThreadPoolExecutor(scan_threads, thread_name_prefix="tandem-scan")
        self._servers = ThreadPoolExecutor(server_threads, thread_name_prefix="tandem-server")

    @property
    def encoders(self) -> list[Encoder]:
        """The first is the one that requests get which name no collection."""
        return list(self._encoders.values())

    def named(self, name: str | None) -> Shared:
        """Raises `ProblemError` 404."""
        if name is None and self.collections:
            return next(iter(self.collections.values()))
        found = self.collections.get(name or "")
        if found is None:
            raise not_found(f"no collection {name!r} here; see /v1/collections")
        return found

    def open_all(self) -> None:
        """Load the models and open every collection: what is wrong is said before a port is bound."""
        if not self.collections:
            self.add_model(self._model if isinstance(self._model, Model) else load(self._model, **self._loading))
        for shared in self.collections.values():
            with shared.using():
                pass

    def add_model(self, model: Model) -> Encoder:
        with self._lock:
            if model.fingerprint not in self._encoders:
                self._encoders[model.fingerprint] = self._encoder_of(model)
            return self._encoders[model.fingerprint]

    def encoder_named(self, name: str | None) -> Encoder:
        """By name or fingerprint; None for the first. Raises `ProblemError` 404."""
        for encoder in self.encoders:
            if name is None or name in (encoder.model.name, encoder.model.fingerprint):
                return encoder
        raise not_found(f"no model {name!r} here; see /v1/models")

    async def _ask(self, threads: ThreadPoolExecutor, question: Callable[[], _Made]) -> _Made:
        if self.pending >= self._queue:
            raise full(f"{self.pending:,} questions wait for the collections")
        loop = asyncio.get_running_loop()
        self.pending += 1
        try:
            return await loop.run_in_executor(threads, question)
        finally:
            self.pending -= 1

    async def ask_of(self, name: str | None, question: Callable[[Opened], _Made], *, scan: bool = False) -> _Made:
        """Ask a collection in a thread; `scan` for what may look at every picture of it.

        It is asked once more where a successor took its place in the midst of it. Raises `ProblemError` 503 where too
        many wait.
        """
        shared = self.named(name)

        def asked() -> _Made:
            with shared.using() as used:
                try:
                    return question(used)
                except (TandemError, OSError):
                    if not used.moved(surely=True):
                        raise
            with shared.using() as used:
                return question(used)

        if shared.is_shared:
            return await self._ask(self._servers, asked)
        return await self._ask(self._scans if scan else self._threads, asked)

    async def write_to(self, name: str | None, change: Callable[["Opened"], _Made]) -> _Made:
        """Run a change of a collection in the one thread that writes: begun, it is finished whoever left."""
        shared = self.named(name)
        if self.writes_pending >= MAX_WRITES:
            raise full(f"{self.writes_pending:,} changes wait")

        def changed() -> _Made:
            with shared.using() as used:
                return change(used)

        self.writes_pending += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._writer, changed)
        finally:
            self.writes_pending -= 1

    async def describe(self, name: str) -> dict[str, Any]:
        """What /v1/collections says of a collection. Raises `ProblemError`."""

        def question(used: Opened) -> dict[str, Any]:
            model = used.encoder.model
            return {
                "name": name,
                "count": used.collection.count(),
                "model": model.name,
                "fingerprint": model.fingerprint,
                "calibrated": used.collection.calibration is not None,
            }

        return await self.ask_of(name, question)

    async def encoder_of(self, name: str) -> Encoder:
        """The encoder of a collection's vectors as they are now."""
        found = self.named(name).encoder_now()
        return found if found is not None else await self.ask_of(name, lambda used: used.encoder)

    def close(self) -> None:
        for threads in (self._threads, self._scans, self._servers):
            threads.shutdown(cancel_futures=True)
        self._writer.shutdown()  # what was begun is finished, and what waits too: its asker may still be there
        for shared in self.collections.values():
            shared.close()
        for encoder in self.encoders:
            encoder.close()

    def _encoder_for(self, collection: Collection) -> Encoder:
        """The encoder of a collection's vectors; its model is loaded if no other collection has brought it."""
        theirs = collection.notes.get("model_fingerprint", "")
        with self._lock:
            if theirs in self._encoders:
                return self._encoders[theirs]
        given = open_collection(collection.url, self._model, **self._loading)
        try:
            return self.add_model(given.model)
        finally:
            given.close()
