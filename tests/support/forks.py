"""Work in a fork of this process, which may be killed while it is at it."""

import os
import signal
import sys
import time
import traceback
from collections.abc import Callable


def in_child(work: Callable[[], object], kill_after_s: float | None = None) -> bool:
    """Do it in a process of its own, and kill that after a while. Gives whether it was killed.

    Fails where the work raises: what it raised is on standard error.
    """
    child = os.fork()
    if not child:
        leave(work)
    if kill_after_s is not None:
        time.sleep(kill_after_s)
        os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status):
        return True
    assert os.WEXITSTATUS(status) == 0
    return False


def leave(work: Callable[[], object]) -> None:
    """Do it, and end this process."""
    status = 1
    try:
        work()
        status = 0
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(status)
