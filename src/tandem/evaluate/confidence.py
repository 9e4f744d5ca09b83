"""Whether stated probabilities are true: the calibration error, and a temperature that mends it.

Shapes: n images, c classes, b resamples, k bins.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tandem.errors import DataError
from tandem.evaluate.intervals import Statistic

BINS = 15
_ROWS = 1 << 21  # cells of logits worked on at once: 8 MB
_LIMITS = (1e-3, 1e3)  # of a temperature
_STEPS = 30


@dataclass(frozen=True)
class Bin:
    """Answers whose probability is above `low` and at most `high`."""

    low: float
    high: float
    n: int
    confidence: float  # the mean probability that was stated
    accuracy: float  # the share that was right


def _bin_of(confidence: NDArray[np.floating], bins: int) -> NDArray[np.intp]:
    return np.asarray(np.clip(np.ceil(confidence * bins) - 1, 0, bins - 1), dtype=np.intp)


def reliability(
    confidence: NDArray[np.floating], right: NDArray[np.floating] | NDArray[np.bool_], bins: int = BINS
) -> list[Bin]:
    """Answers by their probability, in bins of equal width; bins without answers are left out. [n] and [n]."""
    place = _bin_of(confidence, bins)
    found = []
    for each in np.unique(place):
        inside = place == each
        found.append(
            Bin(
                float(each / bins),
                float((each + 1) / bins),
                int(inside.sum()),
                float(confidence[inside].mean(dtype=np.float64)),
                float(right[inside].mean(dtype=np.float64)),
            )
        )
    return found


def calibration_errors(
    confidence: NDArray[np.floating], right: NDArray[np.floating] | NDArray[np.bool_], bins: int = BINS
) -> Statistic:
    """The expected calibration error as a statistic of weights [b n] -> [b 1] (`intervals.bootstrap`, centred).

    The mean over answers of how far the accuracy of their bin is from its mean confidence, in bins of equal width
    (Naeini et al. 2015; Guo et al. 2017, equation 3).
    """
    gaps = np.zeros((len(confidence), bins))
    gaps[np.arange(len(confidence)), _bin_of(confidence, bins)] = confidence - right.astype(np.float64)

    def statistic(weights: NDArray[np.floating]) -> NDArray[np.floating]:
        sums = np.abs(weights @ gaps.astype(weights.dtype)).sum(1)  # [b n] [n k] -> [b k] -> [b]
        return np.asarray(sums / weights.sum(1))[:, None]

    return statistic


def fit_temperature(logits: NDArray[np.float32], labels: NDArray[np.integer], smoothing: float = 0.0) -> float:
    """The temperature t for which softmax(logits / t) has the least log-loss on [n c] and [n] (Guo et al. 2017, 4.2).

    Log-loss is convex in 1/t: Newton's method within brackets, from 0.001 to 1,000, until an image gains less than
    1e-8. So there is an answer where the best one is 0 or infinite: where all are right, or worse than by guessing.
    `smoothing` is the share of every label that is given to all classes alike, so that a handful of right answers does
    not make the next one certain. Raises `DataError` without rows.
    """
    if not len(logits):
        raise DataError("temperature: expected at least one image, got none")
    low, high = 1 / _LIMITS[1], 1 / _LIMITS[0]
    beta = 1.0
    for _ in range(_STEPS):
        slope, curve = _slope(logits, labels, beta, smoothing)
        if slope * slope <= 1e-8 * len(logits) * curve and low < beta < high:
            break
        if slope > 0:
            high = beta
        else:
            low = beta
        step = beta - slope / curve if curve > 0 else np.inf
        # Outside of the brackets, halve them, on the scale of their logarithm.
        new = step if low < step < high else float(np.sqrt(low * high))
        beta, step = new, abs(new - beta)
        if step < 1e-6 * beta:
            break
    return float(1 / beta)


def _blocks(logits: NDArray[np.float32]) -> Iterator[slice]:
    rows = max(1, _ROWS // logits.shape[1])
    return (slice(start, start + rows) for start in range(0, len(logits), rows))


def _slope(
    logits: NDArray[np.float32], labels: NDArray[np.integer], beta: float, smoothing: float
) -> tuple[float, float]:
    """The first and second derivative of the sum of log-losses by 1/t, here beta."""
    slope = curve = 0.0
    for rows in _blocks(logits):
        block = logits[rows] - logits[rows].max(axis=1, keepdims=True)
        own = block[np.arange(len(block)), labels[rows]]
        if smoothing:
            own = (1 - smoothing) * own + smoothing * block.mean(axis=1)
        weights = np.exp(block * np.float32(beta))
        total = weights.sum(axis=1)
        mean = np.einsum("nc,nc->n", weights, block) / total  # of the logits, under their own softmax
        weights *= block
        square = np.einsum("nc,nc->n", weights, block) / total
        slope += float((mean - own).sum(dtype=np.float64))
        curve += float((square - mean * mean).sum(dtype=np.float64))
    return slope, curve


def cross_fitted_temperatures(
    logits: NDArray[np.float32], labels: NDArray[np.integer], seed: int = 0, smoothing: float = 0.0
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """A temperature for each image, fitted without it: [n], and the two that were fitted [2].

    The images are halved by a seeded draw; each half gets the temperature that was fitted on the other. Raises
    `DataError` for fewer than two images.
    """
    n = len(labels)
    if n < 2:
        raise DataError(f"temperature: expected at least two images, one to fit on and one to measure on, got {n}")
    first = np.zeros(n, dtype=bool)
    first[np.random.default_rng(seed).permutation(n)[: n // 2]] = True
    fitted = np.array([fit_temperature(logits[half], labels[half], smoothing) for half in (~first, first)])
    return np.where(first, fitted[0], fitted[1]), fitted


def log_probabilities(
    logits: NDArray[np.float32], classes: NDArray[np.integer], temperatures: NDArray[np.floating] | None = None
) -> NDArray[np.float32]:
    """The logarithm of the softmax of one class of each row, `classes` [n] among logits [n c], float32 [n].

    `temperatures` [n] divide the logits. Of the labels, the log-loss is the mean of what this gives, negated.
    """
    found = np.empty(len(logits), dtype=np.float32)
    for rows in _blocks(logits):
        block = logits[rows] - logits[rows].max(axis=1, keepdims=True)
        if temperatures is not None:
            block /= temperatures[rows, None].astype(np.float32)
        own = block[np.arange(len(block)), classes[rows]]
        found[rows] = own - np.log(np.exp(block, out=block).sum(axis=1))
    return found


def answer_prior(logits: NDArray[np.float32]) -> NDArray[np.float32]:
    """How much a model favours each class: its mean softmax probability over the images, [n c] -> [c], which sums to 1.

    One image without any preference is added, so that no class has none. Logits less the logarithm of this favour no
    class on average, which is right where classes are equally frequent. Why it is not the mean logit: docs/log.md.
    """
    total = np.full(logits.shape[1], 1 / logits.shape[1])
    for rows in _blocks(logits):
        block = np.exp(logits[rows] - logits[rows].max(axis=1, keepdims=True))
        total += (1 / block.sum(axis=1)) @ block  # [n] [n c] -> [c]
    return np.asarray(total / (len(logits) + 1), dtype=np.float32)
