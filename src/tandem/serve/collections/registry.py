"""The collections of a server, and the threads in which their stores run.

Knows collections, threads and queues; of HTTP only the problem of a full queue.
"""

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

from tandem.errors import ConfigError, TandemError
from tandem.model import Model, load
from tandem.search.collection import Collection, open_collection
from tandem.search.stores.backends import backend
from tandem.serve.collections.handle import CollectionHandle, OpenCollection
from tandem.serve.encoding.encoder import Encoder
from tandem.serve.encoding.pool import EncoderPool
from tandem.serve.http.problems import ProblemError, from_error, full, not_found
from tandem.serve.settings import Settings

MAX_WRITES = 32  # that wait for each other

_Result = TypeVar("_Result")


class CollectionRegistry:
    """All collections by name, each with the encoder of its vectors; or a single encoder without collections."""

    def __init__(
        self,
        urls: Sequence[str],
        make_encoder: Callable[[Model], Encoder],
        settings: Settings,
        *,
        model: str | Path | Model | None = None,
        loading: dict[str, Any] | None = None,
    ) -> None:
        """`model` overrules what the collections say of themselves, as --model does."""
        self.pool = EncoderPool(make_encoder, linger_s=settings.deadline_s)
        self._model = model
        self._loading = dict(loading or {})
        self._lone_encoder: Encoder | None = None
        self.collections: dict[str, CollectionHandle] = {}
        for url in urls:
            name = backend(url).name
            if name in self.collections:
                raise ConfigError(f"two collections are called {name!r}: rename a folder ({url})")
            self.collections[name] = CollectionHandle(name, url, self._acquire_encoder, self.pool.release)
        self.pending = 0
        self.writes_pending = 0
        self._max_pending = settings.store_queue
        self._writer = ThreadPoolExecutor(1, thread_name_prefix="tandem-writer")
        self._threads = ThreadPoolExecutor(settings.store_threads, thread_name_prefix="tandem-store")
        self._scans = ThreadPoolExecutor(settings.scan_threads, thread_name_prefix="tandem-scan")
        self._remote = ThreadPoolExecutor(settings.server_threads, thread_name_prefix="tandem-remote")

    def open_all(self) -> None:
        """Load the models and open every collection, so that errors appear before a port is bound."""
        if not self.collections:
            self._lone_encoder = self.pool.add(
                self._model if isinstance(self._model, Model) else load(self._model, **self._loading)
            )
        for handle in self.collections.values():
            with handle.lease():
                pass

    def get(self, name: str | None) -> CollectionHandle:
        """A collection by name; None for the first. Raises `ProblemError` 404."""
        if name is None and self.collections:
            return next(iter(self.collections.values()))
        found = self.collections.get(name or "")
        if found is None:
            raise not_found(f"no collection {name!r} here; see /v1/collections")
        return found

    async def run(self, name: str | None, work: Callable[[OpenCollection], _Result], *, scan: bool = False) -> _Result:
        """Run a read of a collection in a thread; `scan` for reads that may visit every image.

        Repeated once if another store has replaced it in the meantime. Raises `ProblemError` 503 if too many wait.
        """
        handle = self.get(name)

        def ask() -> _Result:
            with handle.lease() as leased:
                try:
                    return work(leased)
                except (TandemError, OSError):
                    if not leased.is_stale(surely=True):
                        raise
            with handle.lease() as leased:
                return work(leased)

        if self.pending >= self._max_pending:
            raise full(f"{self.pending:,} requests wait for the collections")
        threads = self._remote if handle.is_shared else self._scans if scan else self._threads
        self.pending += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(threads, ask)
        finally:
            self.pending -= 1

    async def write(self, name: str | None, change: Callable[[OpenCollection], _Result]) -> _Result:
        """Run a change of a collection in the one thread that writes. Once begun it is finished, even if the client
        has left.
        """
        handle = self.get(name)
        if self.writes_pending >= MAX_WRITES:
            raise full(f"{self.writes_pending:,} changes wait")

        def make() -> _Result:
            with handle.lease() as leased:
                return change(leased)

        self.writes_pending += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._writer, make)
        finally:
            self.writes_pending -= 1

    async def describe(self, name: str) -> dict[str, Any]:
        """The entry of /v1/collections for a collection. Raises `ProblemError`."""

        def work(leased: OpenCollection) -> dict[str, Any]:
            model = leased.encoder.model
            return {
                "name": name,
                "count": leased.collection.count(),
                "model": model.name,
                "fingerprint": model.fingerprint,
                "calibrated": leased.collection.calibration is not None,
            }

        return await self.run(name, work)

    async def listed(self, name: str) -> dict[str, Any]:
        """`describe`, and whether the collection answers: one that does not is no reason to be silent on the others."""
        try:
            return {**await self.describe(name), "state": "ok"}
        except (ProblemError, TandemError) as error:
            problem = error if isinstance(error, ProblemError) else from_error(error)
            return {"name": name, "state": "unavailable", "reason": problem.detail}

    # --- encoders ------------------------------------------------------------------------------------------------

    async def encoder_of(self, name: str | None) -> Encoder:
        """The encoder of a collection's vectors as they are now; None for the first collection, or the lone model."""
        if name is None and self._lone_encoder is not None:
            return self._lone_encoder
        found = self.get(name).current_encoder()
        return found if found is not None else await self.run(name, lambda leased: leased.encoder)

    async def encoders(self) -> list[Encoder]:
        """Those that answer now, the default one first. A collection that cannot be asked has none."""
        found: list[Encoder] = []
        for name in self.collections or [None]:
            try:
                encoder = await self.encoder_of(name)
            except (TandemError, ProblemError):
                continue
            if encoder not in found:
                found.append(encoder)
        return found

    async def encoder_named(self, model: str | None) -> Encoder:
        """By the model's name or fingerprint; None for the default one. Raises `ProblemError` 404."""
        if model is None:
            return await self.encoder_of(None)
        for encoder in await self.encoders():
            if model in (encoder.model.name, encoder.model.fingerprint):
                return encoder
        raise not_found(f"no model {model!r} here; see /v1/models")

    def close(self) -> None:
        for threads in (self._threads, self._scans, self._remote):
            threads.shutdown(cancel_futures=True)
        self._writer.shutdown()  # what was begun is finished, and what waits too: its client may still be there
        for handle in self.collections.values():
            handle.close()
        self.pool.close()

    def _acquire_encoder(self, collection: Collection) -> Encoder:
        """The encoder of a collection's vectors; its model is loaded if no other collection has brought it."""
        found = self.pool.acquire(collection.notes.get("model_fingerprint", ""))
        if found is not None:
            return found
        with open_collection(collection.url, self._model, **self._loading) as opened:
            return self.pool.add(opened.model)
