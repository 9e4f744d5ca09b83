"""How far a run is, of its steps and of its time. Knows the clock and counts alone."""

import time


class Pace:
    """The clock of a run from step `first` on to `steps`, until `deadline` (of `time.perf_counter`) where there is one.

    A deadline is looked at before every step, since how long steps take changes with what else a machine does.
    """

    def __init__(self, steps: int, first: int, deadline: float | None) -> None:
        self._steps, self._first, self._deadline = steps, first, deadline
        self._began = self._last = time.perf_counter()
        self._took = 0.0  # seconds of the last step, and of what was done with it
        self.is_timed = deadline is not None

    def has_time(self, step: int) -> bool:
        """Whether one more step fits before the deadline. There is always time for the first."""
        self._took, self._last = time.perf_counter() - self._last, time.perf_counter()
        return self._deadline is None or step == self._first or self._last + self._took <= self._deadline

    def done(self, step: int) -> float:
        """The share of the run that is behind it, 0 to 1: of its steps or of its time, whichever is larger."""
        share = step / self._steps
        if self._deadline is None or self._deadline <= self._began:
            return share
        before = self._first / self._steps
        elapsed = (time.perf_counter() - self._began) / (self._deadline - self._began)
        return max(share, before + (1 - before) * min(elapsed, 1.0))

    def left(self, step: int) -> float:
        """Seconds to the end, as the steps so far took them."""
        now = time.perf_counter()
        left = (now - self._began) / max(step - self._first, 1) * (self._steps - step)
        return left if self._deadline is None else max(0.0, min(left, self._deadline - now))
