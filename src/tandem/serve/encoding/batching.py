"""Dynamic batching: concurrent requests share the encoder's batches. A bounded queue, and one thread that serves it.

A batch is taken as soon as it is full, or its oldest item has waited `max_wait_s`, or 12 ms if that is longer while
few wait and others are on their way; requests take turns in it. While the encoder computes, the next batch gathers.
Items that nobody waits for any more (cancelled, or past their deadline) are dropped first. Work in the background is
done in small batches while nobody else waits. Knows items and a function over a list of them: no HTTP, no images.
"""

import asyncio
import contextlib
import itertools
import logging
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from tandem.serve.encoding.fair_queue import SMALL, FairQueue, Lane, lane_of

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")
_log = logging.getLogger(__name__)
EMA_ALPHA = 0.2  # weight of the last batch in the moving average of the time per item
BACKGROUND_SIZE = 8  # items of a batch of the background: whoever comes meanwhile waits for it
SLICE_S = 0.006  # what a batch of large requests may take while people are around
AROUND_S = 2.0  # how long after a small request people are taken to be around
FEW = 8  # items: encoders compute fewer at a lower rate
WAIT_FOR_OTHERS_S = 0.012  # the longest time that few items wait for those on their way
BACKGROUND_EVERY_S = 1.0  # how often the background gets a batch while people keep the encoder busy


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
        max_wait_s: the longest time that the first item of a batch waits for others; at least `WAIT_FOR_OTHERS_S` while
            fewer than `FEW` wait and others are on their way. 0: none waits, whatever is on its way.
        max_queue: items of small requests that may wait, and as many of large ones; beside those of one request that
            met none of its kind.
        max_queue_s: the longest expected wait; beyond it items are refused.
        observe: gets the size and the seconds of each batch.
        on_their_way: how many items will soon be put, as those that are being decoded.
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
        on_their_way: Callable[[], int] = lambda: 0,
    ) -> None:
        self.name = name
        self._work = work
        self._max_size, self._max_wait_s, self._max_queue = max_size, max_wait_s, max_queue
        self._max_queue_s, self._item_s = max_queue_s, 0.0  # moving average
        self._observe, self._on_their_way = observe, on_their_way
        self._queue: FairQueue[_Waiting[_Item, _Result]] = FairQueue()
        self._background_done = time.monotonic()
        self._last_lane: Lane = "large"
        self._small_seen = float("-inf")
        self._rest_s = 0.0  # of the background after its last batch
        self._changed = threading.Condition()
        self._closed = False
        self._thread = threading.Thread(target=self._run, name=f"tandem-{name}", daemon=True)
        self._thread.start()

    def __len__(self) -> int:
        """How many items wait."""
        return len(self._queue)

    def put(self, items: Sequence[_Item], *, deadline_s: float, background: bool = False) -> "list[Future[_Result]]":
        """Queue all items of a request or none. Raises `QueueFullError` and `ClosedError`.

        A request that meets none of its kind, small or large, is taken whatever its size: it would never fit otherwise.
        What works in the background is never refused, and waits until nobody else does.
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
            if not background and len(waiting) <= SMALL:
                self._small_seen = now
            self._changed.notify()
        return [each.future for each in waiting]

    async def map(self, items: Sequence[_Item], *, deadline_s: float) -> list[_Result]:
        """The results, in order. Cancelling drops what has not begun. Raises `TimeoutError` past the deadline."""
        futures = self.put(items, deadline_s=deadline_s)
        try:
            await _first_failed_or_all(futures)
            for future in futures:
                if future.done() and (error := future.exception()) is not None:
                    raise error
            return [future.result() for future in futures]
        except BaseException:
            for future in futures:
                future.cancel()
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
        """Whether to refuse new items: too many of their kind wait, or those before them are too slow at the recent
        rate.

        Two batches are never too many: a single slow one, as the first often is, says little.
        """
        alike = self._queue.waiting(lane_of(more))
        ahead = self._queue.ahead_of(more)
        is_slow = ahead > 2 * self._max_size and ahead * self._item_s > self._max_queue_s
        return is_slow or (alike > 0 and alike + more > self._max_queue)

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
            if self._last_lane == "background":
                self._background_done = began + took_s
                self._rest_s = took_s if self._has_people_around() else 0.0
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
                lane = self._next_lane()
                rest_s = self._background_done + self._rest_s - time.monotonic()
                if lane == "background" and rest_s > 0:  # who comes meanwhile finds the encoder free
                    self._changed.wait(rest_s)
                    continue
                arrived = min(each.arrived for each in self._queue.firsts(lane))
                left_s = arrived + self._wait_s() - time.monotonic()
                if left_s <= 0 or lane == "background" or len(self._queue) >= self._max_size:
                    break
                self._changed.wait(left_s)
            if self._closed:
                return None
            self._last_lane = lane
            if lane == "background":
                batch, late = self._taken({"background": min(BACKGROUND_SIZE, self._max_size)})
            elif lane == "small":
                batch, late = self._taken({"small": self._max_size})
            else:
                most = self._size_of_large()
                batch, late = self._taken({"small": most // 2, "large": most})
        for each in late:
            each.future.set_exception(TimeoutError())
        return batch

    def _wait_s(self) -> float:
        """How long the first item waits for others."""
        waits = len(self._queue) < min(FEW, self._max_size) and self._on_their_way() > 0
        return max(self._max_wait_s, WAIT_FOR_OTHERS_S) if waits and self._max_wait_s else self._max_wait_s

    def _has_people_around(self) -> bool:
        """Whether somebody sends small requests, and will probably send another one."""
        return time.monotonic() - self._small_seen < AROUND_S

    def _size_of_large(self) -> int:
        """Items of a batch of large requests: few where people are around, so that who comes waits for little."""
        if not self._has_people_around():
            return self._max_size
        fit = int(SLICE_S / self._item_s) if self._item_s else self._max_size
        return max(1, min(self._max_size // 2, max(SMALL, fit)))

    def _taken(self, most: dict[Lane, int]) -> "tuple[list[_Waiting[_Item, _Result]], list[_Waiting[_Item, _Result]]]":
        """A batch filled from lanes up to a number each, and the items whose deadline has passed."""
        batch: list[_Waiting[_Item, _Result]] = []
        late: list[_Waiting[_Item, _Result]] = []
        now = time.monotonic()
        for lane, limit in most.items():
            while len(batch) < limit and (each := self._queue.take(lane)) is not None:
                if each.future.set_running_or_notify_cancel():
                    (late if now > each.deadline else batch).append(each)
        return batch, late

    def _next_lane(self) -> Lane:
        """Small requests and large ones by turns; the background where nobody else waits, and once a second."""
        people = self._queue.has("small") or self._queue.has("large")
        if self._queue.has("background") and (
            not people or time.monotonic() - self._background_done > BACKGROUND_EVERY_S
        ):
            return "background"
        if self._queue.has("small") and (self._last_lane != "small" or not self._queue.has("large")):
            return "small"
        return "large"


async def _first_failed_or_all(futures: "Sequence[Future[_Result]]") -> None:
    """Until all are done, or one has failed. The loop is woken once, not for each: requests have thousands of items."""
    if not futures:
        return
    loop = asyncio.get_running_loop()
    woken = loop.create_future()
    left = itertools.count(1)

    def wake() -> None:
        if not woken.done():
            woken.set_result(None)

    def finished(future: "Future[_Result]") -> None:
        failed = future.cancelled() or future.exception() is not None
        if next(left) == len(futures) or failed:
            with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits
                loop.call_soon_threadsafe(wake)

    for future in futures:
        future.add_done_callback(finished)
    await woken
