"""Dynamic batching: concurrent requests share the encoder's batches. A bounded queue, and one thread that serves it.

A batch is taken as soon as it is full, or its oldest item has waited `max_wait_s`; requests take turns in it. While the
encoder computes, the next batch gathers. Items that nobody waits for any more (cancelled, or past their deadline) are
dropped first. Work in the background is done in small batches while nobody else waits. Knows items and a function over
a list of them: no HTTP, no images.
"""

import asyncio
import logging
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from tandem.serve.encoding.fair_queue import FairQueue

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")
_log = logging.getLogger(__name__)
EMA_ALPHA = 0.2  # weight of the last batch in the moving average of the time per item
BACKGROUND_SIZE = 8  # items of a batch of the background: whoever comes meanwhile waits for it
BACKGROUND_EVERY_S = 1.0  # how long the background stands back while people keep the encoder busy


class QueueFullError(Exception):
    """The queue is full; the items were not taken."""


class ClosedError(Exception):
    """The batcher was closed before it reached the item."""


@dataclass(frozen=True)
class _Waiting(Generic[_Item, _Result]):
    item: _Item
    arrived: float
    deadline: float  # on the clock of time.monotonic
    future: "Future[_Result]" = field(default_factory=Future)


class Batcher(Generic[_Item, _Result]):
    """`work` maps a list of items to as many results; it is only ever called from one thread.

    Args:
        max_size: items in a batch.
        max_wait_s: the longest time that the first item of a batch waits for others.
        max_queue: items that may wait.
        max_queue_s: the longest expected wait; beyond it items are refused.
        observe: gets the size and the seconds of each batch.
    """

    def __init__(
        self,
        name: str,
        work: Callable[[list[_Item]], Sequence[_Result]],
        *,
        max_size: int,
        max_wait_s: float,
        max_queue: int,
        max_queue_s: float,
        observe: Callable[[int, float], None] = lambda size, seconds: None,
    ) -> None:
        self.name = name
        self._work = work
        self._max_size, self._max_wait_s, self._max_queue = max_size, max_wait_s, max_queue
        self._max_queue_s, self._item_s = max_queue_s, 0.0  # moving average
        self._observe = observe
        self._queue: FairQueue[_Waiting[_Item, _Result]] = FairQueue()
        self._background_done = time.monotonic()
        self._changed = threading.Condition()
        self._closed = False
        self._thread = threading.Thread(target=self._run, name=f"tandem-{name}", daemon=True)
        self._thread.start()

    def __len__(self) -> int:
        """How many items wait."""
        return len(self._queue)

    def put(self, items: Sequence[_Item], *, deadline_s: float, background: bool = False) -> "list[Future[_Result]]":
        """Queue all items of a request or none. Raises `QueueFullError` and `ClosedError`.

        A request that meets an empty queue is taken whatever its size: it would never fit otherwise. What works in the
        background is never refused, and waits until nobody else does.
        """
        now = time.monotonic()
        waiting = [_Waiting[_Item, _Result](item, now, now + deadline_s) for item in items]
        with self._changed:
            if self._closed:
                raise ClosedError(f"{self.name}: closed")
            if not background and self._is_full(len(waiting)):
                self._queue.keep(lambda each: not each.future.cancelled())
                if self._is_full(len(waiting)):
                    raise QueueFullError(f"{len(self._queue):,} items wait for the encoder of {self.name}")
            self._queue.add(waiting, background=background)
            self._changed.notify()
        return [each.future for each in waiting]

    async def map(self, items: Sequence[_Item], *, deadline_s: float) -> list[_Result]:
        """The results, in order. Cancelling drops what has not begun. Raises `TimeoutError` past the deadline."""
        futures = [asyncio.wrap_future(future) for future in self.put(items, deadline_s=deadline_s)]
        try:
            return list(await asyncio.gather(*futures))
        except BaseException:
            for future in futures:
                future.cancel()
            await asyncio.gather(*futures, return_exceptions=True)
            raise

    def map_from_thread(self, items: Sequence[_Item], *, deadline_s: float, background: bool = False) -> list[_Result]:
        """As `map`, for a thread that may wait. Of many items a batch waits at a time, with a deadline of its own: they
        must not fill the queue that requests stand in.
        """
        results: list[_Result] = []
        size = BACKGROUND_SIZE if background else self._max_size
        for start in range(0, len(items), size):
            futures = self.put(items[start : start + size], deadline_s=deadline_s, background=background)
            try:
                results += [future.result() for future in futures]
            except BaseException:
                for future in futures:
                    future.cancel()
                raise
        return results

    def close(self) -> None:
        """Finish the current batch; waiting items get `ClosedError`."""
        with self._changed:
            self._closed = True
            left = self._queue.clear()
            self._changed.notify()
        for each in left:
            if each.future.set_running_or_notify_cancel():
                each.future.set_exception(ClosedError(f"{self.name}: closed"))
        if self._thread is not threading.current_thread():
            self._thread.join()

    def _is_full(self, more: int) -> bool:
        """Whether to refuse new items: the queue before them is too long, or too slow at the recent rate.

        Two batches are never too many: a single slow one, as the first often is, says little.
        """
        ahead = self._queue.ahead_of(more)
        is_long = ahead > 2 * self._max_size and ahead * self._item_s > self._max_queue_s
        return ahead > 0 and (ahead + more > self._max_queue or is_long)

    def _run(self) -> None:
        while (batch := self._next()) is not None:
            if not batch:
                continue
            began = time.monotonic()
            try:
                results = self._work([each.item for each in batch])
                if len(results) != len(batch):
                    raise ValueError(f"expected {len(batch)} results, got {len(results)}")
            except (
                BaseException
            ) as error:  # whatever it is, the waiting requests get the error and the thread continues
                _log.error("%s: a batch of %d failed", self.name, len(batch), exc_info=error)
                for each in batch:
                    each.future.set_exception(error)
                continue
            took_s = time.monotonic() - began
            each_s = took_s / len(batch)
            self._item_s += (EMA_ALPHA if self._item_s else 1) * (each_s - self._item_s)
            for each, result in zip(batch, results, strict=True):
                each.future.set_result(result)
            try:
                self._observe(len(batch), took_s)
            except Exception:  # whatever it is, the thread must continue
                _log.exception("%s: a batch could not be observed", self.name)

    def _next(self) -> "list[_Waiting[_Item, _Result]] | None":
        """The next batch, without items that nobody waits for; None once closed."""
        with self._changed:
            while not self._closed:
                if not len(self._queue):
                    self._changed.wait()
                    continue
                background = self._is_backgrounds_turn()
                arrived = min(each.arrived for each in self._queue.firsts(background=background))
                left_s = arrived + self._max_wait_s - time.monotonic()
                if left_s <= 0 or background or len(self._queue) >= self._max_size:
                    break
                self._changed.wait(left_s)
            if self._closed:
                return None
            batch: list[_Waiting[_Item, _Result]] = []
            late: list[_Waiting[_Item, _Result]] = []
            now = time.monotonic()
            if background:
                self._background_done = now
            most = min(BACKGROUND_SIZE, self._max_size) if background else self._max_size
            while len(batch) < most and (each := self._queue.take(background=background)) is not None:
                if each.future.set_running_or_notify_cancel():
                    (late if now > each.deadline else batch).append(each)
        for each in late:
            each.future.set_exception(TimeoutError())
        return batch

    def _is_backgrounds_turn(self) -> bool:
        if not self._queue.has_people:
            return True
        waits = any(True for _ in self._queue.firsts(background=True))
        return waits and time.monotonic() - self._background_done > BACKGROUND_EVERY_S
