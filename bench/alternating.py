"""Ways to do the same, timed in turn: what stands between two runs of one way is only the others.

A ratio is taken within each round, so that a machine which is slower for a while is slower for both sides; the median
of rounds is reported with its quartiles. The processor's time, of all threads, hardly depends on what else runs.
"""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np


@dataclass
class Timed:
    """The seconds of each round."""

    wall: list[float] = field(default_factory=list)
    processor: list[float] = field(default_factory=list)


def alternate(ways: Mapping[str, Callable[[], object]], rounds: int) -> dict[str, Timed]:
    """Every way once a round, forwards and backwards in turn, after a round that does not count."""
    found = {name: Timed() for name in ways}
    for number in range(rounds + 1):
        for name, way in list(ways.items())[:: 1 if number % 2 else -1]:
            began, spent = time.perf_counter(), time.process_time()
            way()
            if number:
                found[name].wall.append(time.perf_counter() - began)
                found[name].processor.append(time.process_time() - spent)
    return found


def table(found: Mapping[str, Timed], count: int) -> str:
    """Markdown: each way's seconds, its rate, and its share of the first way's rate."""
    first = next(iter(found.values()))
    lines = [
        "| way | median | best | images/s | of the first one's rate, median (quartiles) | by processor time |",
        "|---|---:|---:|---:|---:|---:|",
    ]
    for name, each in found.items():
        shares = np.quantile(np.divide(first.wall, each.wall), [0.25, 0.5, 0.75])
        spent = np.median(np.divide(first.processor, each.processor))
        median = float(np.median(each.wall))
        lines.append(
            f"| {name} | {median:.3f} s | {min(each.wall):.3f} s | {count / median:,.0f} "
            f"| {shares[1]:.3f} ({shares[0]:.3f} to {shares[2]:.3f}) | {spent:.3f} |"
        )
    return "\n".join(lines)
