"""Threads whose work may take longer: the system serves those that people wait for first. Knows threads only."""

import contextlib
import os
import sys
import threading

NICENESS = 10


def stand_back() -> None:
    """Lower this thread's priority for good, and that of the threads that it starts. Linux alone has one per thread."""
    if sys.platform == "linux":
        with contextlib.suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), NICENESS)
