"""How far a run is: files done, the rate, the time left. Knows only counts."""

import contextlib
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from tandem.progress import Progress, is_watched

EVERY_S = 0.1
RATE_OVER_S = 20.0


@dataclass(frozen=True)
class IndexingProgress:
    """How far a run is. `total` is None until the sources have been walked to their end."""

    done: int
    found: int  # until now, by the walk that runs ahead
    total: int | None
    skipped: int
    seconds: float
    rate: float  # files a second, at the recent rate
    seconds_left: float | None


class ProgressMeter:
    """Reports progress, a few times a second at most."""

    def __init__(self, counts: Callable[[], Iterator[int]], report: Callable[[IndexingProgress], None]) -> None:
        """`counts` gives how much there is, in parts: it is walked in a thread of its own, ahead of the run."""
        self._counts, self._report = counts, report
        self._found, self._is_total, self._stopped = 0, False, False
        self._began = self._reported = time.perf_counter()
        self._past: deque[tuple[float, int]] = deque([(self._began, 0)])  # (when, done): what the rate is taken from
        self._thread = threading.Thread(target=self._count, name="counter", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stopped = True
        self._thread.join()

    def report(self, done: int, skipped: int, *, at_once: bool = False) -> None:
        now = time.perf_counter()
        if not at_once and now - self._reported < EVERY_S:
            return
        self._reported = now
        self._past.append((now, done))
        while len(self._past) > 2 and now - self._past[0][0] > RATE_OVER_S:
            self._past.popleft()
        then, before = self._past[0]
        rate = (done - before) / (now - then) if now > then else 0.0
        found = done if at_once else max(self._found, done)  # at the end: of films it was only expected
        total = found if self._is_total else None
        left = (found - done) / rate if total is not None and rate > 0 else None
        self._report(IndexingProgress(done, found, total, skipped, now - self._began, rate, left))

    def _count(self) -> None:
        for count in self._counts():
            if self._stopped:
                return
            self._found += count
        self._is_total = True


@contextlib.contextmanager
def bar(
    show: bool | None, on_progress: Callable[[IndexingProgress], None] | None
) -> Iterator[Callable[[IndexingProgress], None] | None]:
    """Where progress goes: to `on_progress` if given, else to a bar if one is shown, else nowhere (None)."""
    if on_progress is not None or show is False or not (show or is_watched()):
        yield on_progress
        return
    with Progress(show=show, label="indexing", unit="image") as drawn:
        done = 0

        def report(progress: IndexingProgress) -> None:
            nonlocal done
            drawn.set_total(progress.total)
            drawn.advance(progress.done - done)
            done = progress.done

        yield report
