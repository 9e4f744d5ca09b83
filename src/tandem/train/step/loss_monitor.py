"""Steps that went wrong: a loss or gradient that is not finite, or a loss far above its running median.

Knows numbers; no model and no files.
"""

import math
import statistics
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tandem.train.recipe import Guards

MIN_LOSSES = 10  # before a median means something


@dataclass(frozen=True)
class LossCheck:
    """The verdict on a step; `reason` is empty if nothing is wrong."""

    reason: str = ""
    apply: bool = True  # whether the optimiser may take the step
    stop: bool = False  # whether there have been too many in a row


class LossMonitor:
    """Checks each step by its loss and the norm of its gradient, which are the same on every process."""

    def __init__(self, chosen: Guards, state: Mapping[str, Any] | None = None) -> None:
        """`state`: what `state_dict` gave; None: a new run."""
        state = state or {}
        self.chosen = chosen
        self.bad_steps: int = state.get("bad_steps", 0)  # in a row, up to now
        self._losses: deque[float] = deque(state.get("losses", ()), maxlen=max(chosen.median_steps, 1))

    def check(self, loss: float, gradient_norm: float) -> LossCheck:
        """The verdict on a step; called once for every step, in order."""
        if not (math.isfinite(loss) and math.isfinite(gradient_norm)):
            self.bad_steps += 1
            what = f"the loss is {loss}" if not math.isfinite(loss) else f"the gradient's norm is {gradient_norm}"
            return LossCheck(what, apply=False, stop=self.bad_steps >= self.chosen.max_bad)
        self.bad_steps = 0
        median = statistics.median(self._losses) if len(self._losses) >= MIN_LOSSES else None
        self._losses.append(loss)
        factor = self.chosen.spike_factor
        if factor and median is not None and median > 0 and loss > factor * median:
            return LossCheck(f"the loss is {loss:.4g}, {loss / median:.1f} times its running median of {median:.4g}")
        return LossCheck()

    def state_dict(self) -> dict[str, Any]:
        """Plain values that restore this monitor."""
        return {"bad_steps": self.bad_steps, "losses": list(self._losses)}
