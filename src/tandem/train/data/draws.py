"""Which sample comes at which position of a source, and which one takes its place when it is broken. Numbers only."""

from collections.abc import Iterator

import numpy as np

from tandem.train.data.order import shuffled

_AT_RANDOM = 100  # samples drawn in place of a broken one; then those that follow the last of them
_IN_ORDER = 10_000


def drawn(positions: np.ndarray, count: int, seed: int, source: int) -> np.ndarray:
    """int64 positions among all samples ever drawn from a source -> sample numbers: epochs, each in its own order."""
    out = np.empty(len(positions), np.int64)
    epochs = positions // count
    for epoch in np.unique(epochs):
        rows = epochs == epoch
        out[rows] = shuffled(positions[rows] % count, count, seed, source, int(epoch))
    return out


def candidates(first: int, position: int, count: int, seed: int, source: int) -> Iterator[int]:
    """The sample of a position, then those that may take its place, in an order of that position's own."""
    yield first
    yield from (last := np.random.default_rng((seed, source, position, 3)).integers(count, size=_AT_RANDOM).tolist())
    for step in range(1, min(count, _IN_ORDER) + 1):
        yield (last[-1] + step) % count
