"""Dynamic batching: concurrent requests share the encoder's batches. A bounded queue, and one thread that serves it.

A batch is taken as soon as it is full, or its oldest item has waited `max_wait_s`. While the encoder computes, the
next batch gathers. Items that nobody waits for any more (cancelled, or past their deadline) are
dropped first. Knows items and a function over a list of them: no HTTP, no images.
"""

import asyncio
import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Generic, TypeVar

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")
_log = logging.getLogger(__name__)
EMA_ALPHA = 0.2  # weight of the last batch in the moving average of the time per item


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
        self._queue: deque[_Waiting[_Item, _Result]] = deque()
        self._changed = threading.Condition()
        self._closed = False
        self._thread = threading.Thread(target=self._run, name=f"tandem-{name}", daemon=True)
        self._thread.start()

    def __len__(self) -> int:
        """How many items wait."""
        return len(self._queue)

    def put(self, items: Sequence[_Item], *, deadline_s: float) -> "list[Future[_Result]]":
        """Queue all items or none. Raises `QueueFullError` and `ClosedError`.

        A request that meets an empty queue is taken whatever its size: it would never fit otherwise.
        """
        now = time.monotonic()
        waiting = [_Waiting[_Item, _Result](item, now, now + deadline_s) for item in items]
        with self._changed:
            if self._closed:
                raise ClosedError(f"{self.name}: closed")
            if self._is_full(len(waiting)):
                self._drop_cancelled()
                if self._is_full(len(waiting)):
                    raise QueueFullError(f"{len(self._queue):,} items wait for the encoder of {self.name}")
            self._queue.extend(waiting)
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

    def map_from_thread(self, items: Sequence[_Item], *, deadline_s: float) -> list[_Result]:
        """As `map`, for a thread that may wait. Of many items a batch waits at a time, with a deadline of its own: work
        in the background must not fill the queue that requests stand in.
        """
        results: list[_Result] = []
        for start in range(0, len(items), self._max_size):
            futures = self.put(items[start : start + self._max_size], deadline_s=deadline_s)
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
            left = list(self._queue)
            self._queue.clear()
            self._changed.notify()
        for each in left:
            if each.future.set_running_or_notify_cancel():
                each.future.set_exception(ClosedError(f"{self.name}: closed"))
        if self._thread is not threading.current_thread():
            self._thread.join()

    def _is_full(self, more: int) -> bool:
        """Whether to refuse new items: the queue is too long, or too slow at the recent rate.

        Two batches are never too many: a single slow one, as the first often is, says little.
        """
        ahead = len(self._queue)
        is_long = ahead > 2 * self._max_size and ahead * self._item_s > self._max_queue_s
        return ahead > 0 and (ahead + more > self._max_queue or is_long)

    def _drop_cancelled(self) -> None:
        living = [each for each in self._queue if not each.future.cancelled()]
        self._queue.clear()
        self._queue.extend(living)

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
                if self._queue:
                    left = self._queue[0].arrived + self._max_wait_s - time.monotonic()
                    if left <= 0 or len(self._queue) >= self._max_size:
                        break
                    self._changed.wait(left)
                else:
                    self._changed.wait()
            if self._closed:
                return None
            batch: list[_Waiting[_Item, _Result]] = []
            late: list[_Waiting[_Item, _Result]] = []
            now = time.monotonic()
            while self._queue and len(batch) < self._max_size:
                each = self._queue.popleft()
                if not each.future.set_running_or_notify_cancel():
                    continue
                (late if now > each.deadline else batch).append(each)
        for each in late:
            each.future.set_exception(TimeoutError())
        return batch
