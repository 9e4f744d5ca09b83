"""The learning rate over the steps, as a plain function."""

import math


def learning_rate(step: int, steps: int, warmup_steps: int, peak: float) -> float:
    """Linear from 0 to `peak` over the warm-up, then a cosine down to 0 at `steps`."""
    if step < warmup_steps:
        return peak * (step + 1) / warmup_steps
    progress = min(1.0, (step - warmup_steps) / max(1, steps - warmup_steps))
    return peak * 0.5 * (1 + math.cos(math.pi * progress))
