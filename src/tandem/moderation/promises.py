"""Thresholds that keep a promise on new images, the images that takes, and figures with intervals. Pure arithmetic.

A threshold that reaches a precision or a recall on the images it was chosen on reaches less on others. So it is chosen
with a margin, such that it keeps its promise in `CONFIDENCE` of all draws of labelled images, whatever the scores'
distribution is:

- recall: of n images that show the category, the share below the r-th lowest score has the distribution
  Beta(r, n - r + 1) (order statistics; Wilks 1941). The highest r is taken whose share is surely small enough.
- precision at the base rate p: p T / (p T + (1 - p) F), with T the share of images with the category that lie above
  the threshold, and F that of the others. Thresholds are tried just above the (j + 1)-th highest of the others, for a
  few j (`tried`): there F has the distribution Beta(j + 1, m - j), and T is at least Clopper and Pearson's
  bound, a quantile of a Beta. Each is tried at its part of the error (Bonferroni), and the lowest that passes is taken.

Shapes: n images with the category, m without.
"""

import math
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from tandem.evaluate.figures import Figure
from tandem.evaluate.intervals import wilson

CONFIDENCE = 0.95
_DRAWS = 5_000
_MOST = 10_000_000  # images that are asked for; more is said as "more than"

Numbers = NDArray[np.float64]


# --- recall ----------------------------------------------------------------------------------------------------------


def allowed_misses(n: int, recall: float) -> int | None:
    """How many of n images with the category may lie below a threshold that promises `recall`; None if n is too few.

    The largest r with P(Binomial(n, 1 - recall) <= r) of at most 1 - CONFIDENCE.
    """
    miss = 1 - recall
    if not 0 < miss < 1:
        return None
    r = np.arange(n)
    steps = np.log((n - r) / (r + 1) * (miss / (1 - miss)))  # of the logarithm of the probability of r to that of r + 1
    logs = n * math.log1p(-miss) + np.concatenate([[0.0], np.cumsum(steps)])
    few = np.cumsum(np.exp(logs)) <= 1 - CONFIDENCE
    return int(few.sum()) - 1 if few[0] else None


def needed_for_recall(recall: float) -> int:
    """How many images with the category it takes to promise a recall below 1."""
    return math.ceil(math.log(1 - CONFIDENCE) / math.log(recall))


def recall_threshold(positives: Numbers, recall: float) -> float | None:
    """The highest score from which on images are looked at, so that `recall` of those with the category are: [n].

    None where there are too few.
    """
    misses = allowed_misses(len(positives), recall)
    return None if misses is None else float(np.sort(positives)[misses])


# --- precision -------------------------------------------------------------------------------------------------------


def precision_of(found: float | Numbers, false: float | Numbers, base_rate: float) -> Numbers:
    """The precision at a base rate, from the shares of images with and without the category above a threshold."""
    true, wrong = base_rate * np.asarray(found, np.float64), (1 - base_rate) * np.asarray(false, np.float64)
    return np.divide(true, true + wrong, out=np.zeros(np.broadcast(true, wrong).shape), where=true + wrong > 0)


def precision_bound(found: int, n: int, j: int, m: int, base_rate: float, error: float) -> float:
    """What the precision exceeds in all but `error` of draws: `found` of n are above the (j + 1)-th highest of m."""
    if not found:
        return 0.0
    draw = np.random.default_rng(0)  # of the same numbers always: the bound is a function of the counts
    true = draw.beta(found, n - found + 1, _DRAWS)
    false = draw.beta(j + 1, m - j, _DRAWS)
    return float(np.quantile(precision_of(true, false, base_rate), error))


def tried(m: int, precision: float, base_rate: float) -> list[int]:
    """How many of m images without the category may lie above each threshold that is tried: 0, 1, 2, 3, 4, 6, 9, ...

    No more than leave room for the precision if all images with it lay above. Each one that is tried costs the others,
    and these are known before any label is.
    """
    most = base_rate * (1 - precision) / ((1 - base_rate) * precision) * (m + 1)
    found = [0]
    while (more := max(found[-1] + 1, found[-1] * 3 // 2)) < min(most, m) - 1:
        found.append(more)
    return found


def precision_threshold(
    positives: Numbers, negatives: Numbers, precision: float, base_rate: float
) -> tuple[float | None, float]:
    """The lowest threshold that was found to promise `precision`, [n] and [m], and the best bound of all.

    None where none does: the best bound says what could be promised.
    """
    ordered, choices = np.sort(negatives)[::-1], tried(len(negatives), precision, base_rate)
    above_all = np.sort(positives)
    threshold, best = None, 0.0
    for j in choices:
        above = above_all[np.searchsorted(above_all, ordered[j], "right") :]
        bound = precision_bound(
            len(above), len(positives), j, len(negatives), base_rate, (1 - CONFIDENCE) / len(choices)
        )
        best = max(best, bound)
        if bound >= precision:
            threshold = float((above[0] + ordered[j]) / 2)
            if threshold <= ordered[j]:  # neighbours in the numbers of the machine
                threshold = float(above[0])
    return threshold, best


def needed_for_precision(precision: float, base_rate: float, n: int) -> int | None:
    """How many images without the category it takes to promise a precision, if all n images with it lie above them.

    None where no number does: then n is too small.
    """

    def enough(m: int) -> bool:
        error = (1 - CONFIDENCE) / len(tried(m, precision, base_rate))
        return precision_bound(n, n, 0, m, base_rate, error) >= precision

    return _least(enough)


def _least(enough: Callable[[int], bool]) -> int | None:
    high = 1
    while not enough(high):
        high *= 2
        if high > _MOST:
            return None
    low = high // 2
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if enough(middle) else (middle, high)
    return high


# --- figures ---------------------------------------------------------------------------------------------------------


def precision_figure(found: int, n: int, wrong: int, m: int, base_rate: float) -> Figure | None:
    """The precision at a base rate, from the counts above a threshold, with its 95% interval; None if none is above.

    The interval is that of the two shares drawn from Jeffreys's posterior (Brown, Cai and DasGupta 2001). Chance is the
    base rate.
    """
    if not found + wrong or not n or not m:
        return None
    draw = np.random.default_rng(0)
    true = draw.beta(found + 0.5, n - found + 0.5, _DRAWS)
    false = draw.beta(wrong + 0.5, m - wrong + 0.5, _DRAWS)
    low, high = np.quantile(precision_of(true, false, base_rate), [0.025, 0.975])
    value = float(precision_of(found / n, wrong / m, base_rate))
    return Figure(value, found + wrong, min(float(low), value), max(float(high), value), base_rate)


def recall_figure(found: int, n: int, wrong: int, m: int, base_rate: float) -> Figure | None:
    """The recall with Wilson's interval; None without an image to find.

    Chance is the share of all images that lie above the threshold: what it would find among images drawn blindly.
    """
    if not n or not m:
        return None
    chance = base_rate * found / n + (1 - base_rate) * wrong / m
    return Figure(found / n, n, *wilson(found, n), chance)
