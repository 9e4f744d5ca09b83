"""How late the event loop is: while it is, nobody is answered. Measured all the time, for `/metrics` and the log."""

import asyncio
import logging
import time
from collections.abc import Callable

from tandem.serve.metrics import Metrics

EVERY_S = 0.1
SAID_FROM_S = 1.0  # a loop that stood still for longer is told in the log

_log = logging.getLogger(__name__)


async def watch(metrics: Metrics, clock: Callable[[], float] = time.monotonic) -> None:
    """Until it is cancelled: how much later than asked for the loop comes back."""
    while True:
        asked = clock() + EVERY_S
        await asyncio.sleep(EVERY_S)
        late_s = max(0.0, clock() - asked)
        metrics.loop_lag.observe(late_s)
        if late_s >= SAID_FROM_S:
            _log.warning("the event loop was blocked for %.1f s: requests were not answered meanwhile", late_s)
