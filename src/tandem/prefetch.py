"""Runs work in threads ahead of its consumer, in order and within bounds. Knows nothing of the work itself."""

import contextlib
import itertools
import queue
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar

from tandem.processor import cores

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")

_INTERVAL_S = 0.1


def in_order(
    function: Callable[[_Item], _Result], items: Iterable[_Item], *, threads: int | None = None, ahead: int = 128
) -> Generator[_Result, None, None]:
    """Yield `function(item)` for each item, in order, computed in `threads` (one per core if None).

    At most `ahead` results are kept before the one consumed next. Items are drawn in the consumer's thread, two for
    each result until `ahead` is reached, so that the first result does not wait for many items. An error while
    drawing items is raised after the results before it. Closing the generator ends its threads and drops work that
    has not begun.
    """
    threads = threads or min(16, cores())
    waiting: deque[Future[_Result]] = deque()
    drawn = iter(items)
    pool = ThreadPoolExecutor(threads, thread_name_prefix="prefetch")
    broken: BaseException | None = None
    exhausted = False
    try:
        while True:
            target = min(max(threads, len(waiting) + 2), max(ahead, 1))
            while not exhausted and len(waiting) < target:
                try:
                    waiting.append(pool.submit(function, next(drawn)))
                except StopIteration:
                    exhausted = True
                except Exception as error:
                    exhausted, broken = True, error
            if not waiting:
                break
            yield waiting.popleft().result()
        if broken is not None:
            raise broken
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def in_thread(
    items: Generator[_Item, None, None], *, ahead: int = 2, meanwhile: Callable[[], None] = lambda: None
) -> Generator[_Item, None, None]:
    """Run a generator in its own thread, at most `ahead` items before the one consumed next.

    `meanwhile` is called in the consumer's thread a few times a second while it waits for the next item. An error of
    the generator is raised here after the items before it. Closing this generator also closes the other one, in its
    thread, at its next item, and waits for that.
    """
    ready: queue.Queue[_Item | _End] = queue.Queue(ahead)
    stopped = threading.Event()

    def put(item: _Item | _End) -> None:
        while not stopped.is_set():
            with contextlib.suppress(queue.Full):
                ready.put(item, timeout=_INTERVAL_S)
                return

    def work() -> None:
        try:
            with contextlib.closing(items):
                for item in items:
                    put(item)
                    if stopped.is_set():
                        return
            put(_End(None))
        except BaseException as error:
            put(_End(error))

    thread = threading.Thread(target=work, name="prefetch", daemon=True)
    thread.start()
    try:
        while True:
            try:
                item = ready.get(timeout=_INTERVAL_S)
            except queue.Empty:
                meanwhile()
                continue
            if not isinstance(item, _End):
                yield item
            elif item.error is not None:
                raise item.error
            else:
                return
    finally:
        stopped.set()
        thread.join()


def batched(items: Iterable[_Item], size: int) -> Iterator[list[_Item]]:
    """Yield lists of `size` items, drawn lazily; the last list may be shorter."""
    iterator = iter(items)
    while batch := list(itertools.islice(iterator, size)):
        yield batch


@dataclass(frozen=True)
class _End:
    error: BaseException | None
