"""Steps that are not to be trusted: a loss or gradient that is no number, or a loss far above its running median.

`Guard` judges numbers; `note_batch` writes down which samples the step had. Neither knows a model.
"""

import json
import math
import statistics
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
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


def note_batch(
    folder: Path, step: int, process: int, reason: str, losses: Mapping[str, float], keys: Sequence[str],
    sentences: Sequence[str],
) -> Path:  # fmt: skip
    """Write this process's share of a step to `folder/step-N-process-P.json`, and return the file.

    `keys`: where each picture came from. Numbers that are none are written as words: JSON has no NaN.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"step-{step:08d}-process-{process}.json"
    plain = {name: value if math.isfinite(value) else str(value) for name, value in losses.items()}
    told = {"step": step, "reason": reason, "losses": plain, "keys": list(keys), "sentences": list(sentences)}
    path.write_text(json.dumps(told, indent=1, ensure_ascii=False), encoding="utf-8")
    return path
