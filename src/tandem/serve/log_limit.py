"""A filter that keeps a log readable, and a disk from filling: of lines that are alike only some are let through.

Knows log records; no server.
"""

import logging
import threading
import time
from collections import OrderedDict
from collections.abc import Callable

MOST = 20  # lines of a kind
PER_S = 60.0
KINDS = 1000  # that are remembered
LONGEST = 20_000  # characters of a line, its traceback included


class LogLimit(logging.Filter):
    """At most `most` records of a kind, the same line of the same logger, in `per_s` seconds.

    The first one of the next period says how many were left out.
    """

    def __init__(self, most: int = MOST, per_s: float = PER_S, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._most, self._per_s, self._clock = most, per_s, clock
        self._lock = threading.Lock()
        self._seen: OrderedDict[tuple[str, str], tuple[float, int]] = OrderedDict()  # since when, and how many

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether the record is written. Counts it."""
        kind = (record.name, str(record.msg)[:200])
        with self._lock:
            now = self._clock()
            since, count = self._seen.pop(kind, (now, 0))
            left_out = 0
            if now - since >= self._per_s:
                left_out, since, count = max(0, count - self._most), now, 0
            self._seen[kind] = (since, count + 1)
            if len(self._seen) > KINDS:
                self._seen.popitem(last=False)
        if count >= self._most:
            return False
        if left_out:
            record.msg, record.args = f"{record.getMessage()} ({left_out:,} more like it were left out)", ()
        return True


def limit_logs(names: tuple[str, ...] = ("tandem", "uvicorn", "uvicorn.error", "asyncio")) -> None:
    """Limit what the handlers of these loggers and of all others write, and its length."""
    limit = LogLimit()
    loggers = [logging.getLogger(name) for name in (*names, "")]
    handlers = {handler for logger in loggers for handler in logger.handlers}
    if logging.lastResort is not None:  # what writes where no handler was set up
        handlers.add(logging.lastResort)
    for handler in handlers:
        handler.addFilter(limit)
