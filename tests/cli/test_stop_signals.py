"""Signals are handled while a command works, and by whoever handled them before afterwards."""

import signal
import threading

from support.processes import Child

from tandem.cli import stop_signals

SIGNALLED = """
import signal
from tandem.cli import stop_signals

heard = []
before = signal.getsignal(signal.SIGTERM)
with stop_signals.handled([signal.SIGTERM], lambda number, _: heard.append(number)):
    signal.raise_signal(signal.SIGTERM)
assert heard == [signal.SIGTERM]
assert signal.getsignal(signal.SIGTERM) == before
"""


def test_signals_go_back_to_whom_they_went_before() -> None:
    """In a process of its own: a signal that nobody hears would end that of other tests."""
    assert Child(("tandem.cli",), SIGNALLED).wait() == 0


def test_a_thread_that_hears_no_signals_works_all_the_same() -> None:
    """`signal.signal` raises there."""
    done: list[bool] = []

    def work() -> None:
        with stop_signals.handled([signal.SIGTERM], lambda *_: None):
            done.append(True)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert done == [True]
