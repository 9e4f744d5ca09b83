"""How sure a figure is: bootstrap intervals over images, paired differences, McNemar's test, Wilson's interval.

A statistic is a function of weights. Weights of one give the figure itself; the counts of a resample give what the
figure would be with that sample. So both come from the same arithmetic, and figures that are resampled together can be
compared pair by pair.

Shapes: n images (what is resampled), b resamples, f figures.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tandem.errors import DataError

RESAMPLES = 1000
LEVEL = 0.95
_Z = 1.959963984540054  # the normal quantile of LEVEL
_EQUAL = 1e-6  # a narrower interval is one of equal outcomes, but for float32 sums
_CELLS = 1 << 20  # weights held at once: 4 MB

Floats = NDArray[np.floating]
Statistic = Callable[[Floats], Floats]  # weights [b n] -> [b f]


@dataclass(frozen=True)
class Interval:
    """A value with the bounds of its 95% interval."""

    value: float
    low: float
    high: float

    def within(self, low: float, high: float) -> "Interval":
        """The same, its bounds cut to what is possible."""
        return Interval(self.value, max(low, self.low), min(high, self.high))


def resamples_of(n: int, resamples: int = RESAMPLES, seed: int = 0) -> Iterator[NDArray[np.float32]]:
    """How often each of n images was drawn, in blocks of resamples, float32 [b n]; each row sums to n."""
    rng = np.random.default_rng(seed)
    block = max(1, min(resamples, _CELLS // n))
    for start in range(0, resamples, block):
        rows = min(block, resamples - start)
        drawn = rng.integers(0, n, (rows, n), dtype=np.int64)
        drawn += np.arange(rows)[:, None] * n
        yield np.bincount(drawn.ravel(), minlength=rows * n).reshape(rows, n).astype(np.float32)


def bootstrap(
    statistic: Statistic, n: int, *, centred: bool = False, resamples: int = RESAMPLES, seed: int = 0
) -> list[Interval]:
    """The value of each figure and its 95% percentile interval over resampled images (Efron 1979).

    `centred` takes the resamples' own bias off both bounds: for what resampling alone makes larger, as a sum of
    absolute errors, whose value would else lie outside of its interval. Raises `DataError` without images.
    """
    if n < 1:
        raise DataError("an interval needs at least one image, got none")
    values = np.asarray(statistic(np.ones((1, n))), dtype=np.float64)[0]
    drawn = np.concatenate([statistic(weights) for weights in resamples_of(n, resamples, seed)]).astype(np.float64)
    low, high = np.nanquantile(drawn, [(1 - LEVEL) / 2, (1 + LEVEL) / 2], axis=0)
    if centred:
        bias = np.nanmean(drawn, axis=0) - values
        low, high = low - bias, high - bias
    return [Interval(float(v), float(a), float(b)) for v, a, b in zip(values, low, high, strict=True)]


# --- statistics ------------------------------------------------------------------------------------------------------


def means(outcomes: Floats, sizes: Floats | None = None) -> Statistic:
    """The mean of each column of outcomes [n f]; of their sums over n groups, with `sizes` [n] members each."""
    divisor = np.ones(len(outcomes)) if sizes is None else np.asarray(sizes, dtype=np.float64)

    def statistic(weights: Floats) -> Floats:
        sums, members = (weights @ each.astype(weights.dtype) for each in (outcomes, divisor))
        return np.asarray(sums.astype(np.float64) / members[:, None])

    return statistic


def class_means(outcomes: Floats, labels: NDArray[np.integer]) -> Statistic:
    """The mean over classes of the mean outcome of each column of [n f]. A class that a resample lacks is left out."""
    order = np.argsort(labels, kind="stable")
    starts = np.flatnonzero(np.diff(labels[order], prepend=-1))

    def statistic(weights: Floats) -> Floats:
        drawn = weights[:, order]
        count = np.add.reduceat(drawn, starts, axis=1)  # [b n] -> [b classes]
        there = count > 0
        found = []
        for column in outcomes[order].T.astype(weights.dtype):
            total = np.add.reduceat(drawn * column, starts, axis=1)
            shares = np.divide(total, count, out=np.zeros_like(total), where=there)
            found.append(shares.sum(1) / there.sum(1))
        return np.stack(found, axis=1)

    return statistic


def medians(values: NDArray[np.integer] | Floats, groups: NDArray[np.integer] | None = None) -> Statistic:
    """The median of values [m], each of one of n groups (the images): the lower one of an even number."""
    order = np.argsort(values, kind="stable")
    ordered = values[order]
    member = order if groups is None else groups[order]

    def statistic(weights: Floats) -> Floats:
        below = np.cumsum(weights[:, member], axis=1)  # [b m]
        place = (below < below[:, -1:] / 2).sum(axis=1)
        return np.asarray(ordered[place][:, None], dtype=np.float64)

    return statistic


# --- shares and pairs ------------------------------------------------------------------------------------------------


def wilson(right: float, n: int) -> tuple[float, float]:
    """Wilson's 95% interval of a share, `right` of n (Wilson 1927): it has a width where all outcomes are the same."""
    share, z2 = right / n, _Z * _Z / n
    middle = (share + z2 / 2) / (1 + z2)
    half = _Z / (1 + z2) * math.sqrt(share * (1 - share) / n + z2 / (4 * n))
    return max(0.0, middle - half) if right else 0.0, min(1.0, middle + half) if right < n else 1.0


def share(interval: Interval, n: int) -> Interval:
    """The interval of a share of n: within 0..1, and Wilson's where all outcomes are the same.

    No resample of equal outcomes differs from another, as if three right answers of three proved that all will be.
    """
    if interval.high - interval.low < _EQUAL:
        return Interval(interval.value, *wilson(interval.value * n, n))
    return Interval(interval.value, max(0.0, interval.low), min(1.0, interval.high))


def difference(interval: Interval, n: int, pairs_differ: bool) -> Interval:
    """The interval of a paired difference of shares of n: as `share`, where no pair differs."""
    if pairs_differ:
        return interval
    widest = wilson(0, n)[1]
    return Interval(interval.value, interval.value - widest, interval.value + widest)


def mean_interval(outcomes: Floats, *, resamples: int = RESAMPLES, seed: int = 0) -> Interval:
    """The mean of outcomes [n] between 0 and 1, with its interval."""
    outcomes = np.asarray(outcomes, dtype=np.float64)
    return share(bootstrap(means(outcomes[:, None]), len(outcomes), resamples=resamples, seed=seed)[0], len(outcomes))


def paired_bootstrap(a: Floats, b: Floats, *, resamples: int = RESAMPLES, seed: int = 0) -> Interval:
    """The mean of a - b over the same images [n], with its interval: positive where `a` is better."""
    a, b = np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64)
    if a.shape != b.shape or a.ndim != 1:
        raise DataError(f"paired difference: expected outcomes of the same images, got {a.shape} and {b.shape}")
    found = bootstrap(means((a - b)[:, None]), len(a), resamples=resamples, seed=seed)[0]
    return difference(found, len(a), bool((a != b).any()))


@dataclass(frozen=True)
class McNemar:
    """How often only one of two was right, and the probability of that or more, were both equally good."""

    only_a: int
    only_b: int
    p_exact: float


def mcnemar(a: Floats | NDArray[np.bool_], b: Floats | NDArray[np.bool_]) -> McNemar:
    """McNemar's two-sided test on right answers [n] of two over the same images, each 0 or 1.

    Raises `DataError` for other outcomes: a share of several captions has no such test.
    """
    a, b = np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64)
    if a.shape != b.shape or not (np.isin(a, (0, 1)).all() and np.isin(b, (0, 1)).all()):
        raise DataError("McNemar's test: expected outcomes of 0 or 1 of the same images")
    only_a, only_b = int((a > b).sum()), int((b > a).sum())
    pairs, fewer = only_a + only_b, min(only_a, only_b)
    logs = np.concatenate([[0.0], np.cumsum(np.log(np.arange(1, pairs + 1)))])  # log i!
    at = np.arange(fewer + 1)
    chances = np.exp(logs[pairs] - logs[at] - logs[pairs - at] - pairs * math.log(2))  # of i out of all pairs
    exact = min(1.0, 2 * float(chances.sum()))
    return McNemar(only_a, only_b, exact)
