"""Scores at places to maps. Pure arithmetic.

Shapes: r rows and c columns of places, t texts, h and w rows and columns of a map.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from tandem.localization.windows import FloatArray

FloatMap = NDArray[np.float32]


def map_size(width: int, height: int, longest: int) -> tuple[int, int]:
    """Rows and columns of a map in the aspect of an image, `longest` along its longer side (fewer for tiny images)."""
    longest = min(longest, max(width, height))
    scale = longest / max(width, height)
    return max(1, round(height * scale)), max(1, round(width * scale))


def spread(
    scores: NDArray[np.float32],
    rows: FloatArray,
    columns: FloatArray,
    side: float,
    bandwidth: float,
    image: tuple[int, int],
    size: tuple[int, int],
) -> FloatMap:
    """Scores at places [r c t] -> maps [t h w]: at each point the mean of the places around, by a Gaussian.

    Outside of the image there are places too, of the median score: or a thing near an edge would seem to be at the
    edge, where no other place is near. side: pixels that a place covers. bandwidth: the Gaussian's standard deviation,
    in sides. image: height and width in pixels; size: h and w.
    """
    middle = np.median(scores, axis=(0, 1))
    padded = np.empty((scores.shape[0] + 2, scores.shape[1] + 2, scores.shape[2]), np.float32)
    padded[:] = middle
    padded[1:-1, 1:-1] = scores
    by_row = _weights(_with_outside(rows, side), bandwidth * side, image[0], size[0])  # [h r+2]
    by_column = _weights(_with_outside(columns, side), bandwidth * side, image[1], size[1])  # [w c+2]
    return np.asarray(np.einsum("hr,rct,wc->thw", by_row, padded, by_column, optimize=True), np.float32)


def _with_outside(places: FloatArray, side: float) -> FloatArray:
    """One more place at either end, as far away as the next one is, and a side at most."""
    step = min(float(places[1] - places[0]), side) if len(places) > 1 else side
    return np.concatenate([[places[0] - step], places, [places[-1] + step]])


def _weights(places: FloatArray, bandwidth: float, length: int, steps: int) -> FloatArray:
    """How much each place counts at each step of a map, [steps places]; each row sums to 1."""
    at = (np.arange(steps) + 0.5) * (length / steps)
    exponents = -((at[:, None] - places) ** 2) / (2 * bandwidth**2)
    weights = np.exp(exponents - exponents.max(axis=1, keepdims=True))  # far from every place: the nearest one
    return np.asarray(weights / weights.sum(axis=1, keepdims=True))


def best_mean(logits: Sequence[NDArray[np.float32]], count: int) -> NDArray[np.float32]:
    """The mean of the `count` highest of all places, of each text: each [n t] -> [t]."""
    together = np.concatenate(logits)
    best = np.partition(together, max(len(together) - count, 0), axis=0)[-count:]
    return np.asarray(best.mean(axis=0), np.float32)


def competing(logits: FloatMap) -> FloatMap:
    """Softmax over texts and nothing, whose logit is 0: [t h w] -> shares [t h w], which sum to less than 1."""
    highest = np.maximum(logits.max(axis=0, keepdims=True), 0)
    each = np.exp(logits - highest)
    return np.asarray(each / (each.sum(axis=0, keepdims=True) + np.exp(-highest)), np.float32)


def log_odds_of_shares(logits: FloatMap) -> FloatMap:
    """How far each text is ahead of the others and of nothing, as the log-odds of `competing`: [t h w] -> [t h w]."""
    if len(logits) == 1:
        return logits
    highest = np.maximum(logits.max(axis=0), 0)  # [h w]
    each = np.exp((logits - highest).astype(np.float64))  # the others of one that is far ahead are a small difference
    others = each.sum(axis=0) - each + np.exp(-highest)
    return np.asarray(logits - highest - np.log(np.maximum(others, 1e-30)), np.float32)


def resized(heat: FloatMap, width: int, height: int) -> FloatMap:
    """A map [h w] at another size [height width], bilinear."""
    rows, columns = (
        np.clip((np.arange(wanted) + 0.5) * (given / wanted) - 0.5, 0, given - 1)
        for wanted, given in zip((height, width), heat.shape, strict=True)
    )
    by_column = _between(heat.T, columns).T
    return np.ascontiguousarray(_between(by_column, rows), np.float32)


def _between(values: NDArray[np.float32], at: Sequence[float] | FloatArray) -> NDArray[np.float32]:
    at = np.asarray(at)
    low = at.astype(int)
    high = np.minimum(low + 1, len(values) - 1)
    share = (at - low).astype(np.float32)[:, None]
    return np.asarray(values[low] * (1 - share) + values[high] * share)
