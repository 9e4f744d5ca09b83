"""Steps that are not to be trusted: a loss or gradient that is no number, or a loss far above its running median.

Knows numbers; no model and no files.
"""

import math
import statistics
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tandem.train.recipe import Guards

WARM = 10  # losses before a median means something


@dataclass(frozen=True)
class Verdict:
    """What is wrong with a step. Nothing: `reason` is empty."""

    reason: str = ""
    apply: bool = True  # whether the optimiser may take the step
    stop: bool = False  # whether there have been too many in a row


class Guard:
    """Judges each step by its loss and the norm of its gradient, which are the same on every process."""

    def __init__(self, chosen: Guards, remembered: Mapping[str, Any] | None = None) -> None:
        remembered = remembered or {}
        self.chosen = chosen
        self.bad_in_a_row: int = remembered.get("bad_in_a_row", 0)
        self._losses: deque[float] = deque(remembered.get("losses", ()), maxlen=max(chosen.median_steps, 1))

    def judge(self, loss: float, gradient_norm: float) -> Verdict:
        """The verdict on a step, once for every step in order."""
        if not (math.isfinite(loss) and math.isfinite(gradient_norm)):
            self.bad_in_a_row += 1
            what = f"the loss is {loss}" if not math.isfinite(loss) else f"the gradient's norm is {gradient_norm}"
            return Verdict(what, apply=False, stop=self.bad_in_a_row >= self.chosen.max_bad)
        self.bad_in_a_row = 0
        median = statistics.median(self._losses) if len(self._losses) >= WARM else None
        self._losses.append(loss)
        factor = self.chosen.spike_factor
        if factor and median is not None and median > 0 and loss > factor * median:
            return Verdict(f"the loss is {loss:.4g}, {loss / median:.1f} times its running median of {median:.4g}")
        return Verdict()

    def remembered(self) -> dict[str, Any]:
        """Plain values that make the same guard again."""
        return {"bad_in_a_row": self.bad_in_a_row, "losses": list(self._losses)}
