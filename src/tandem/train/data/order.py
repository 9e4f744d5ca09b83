"""Random orders of millions of samples that are never stored, and which source fills which slot. Numbers only.

The order of an epoch is a permutation computed one position at a time: a Feistel network over the bits of the position
(Luby and Rackoff 1988), repeated until the result is a valid sample number (Black and Rogaway 2002). Any position of
any epoch is known at once, in constant memory.
"""

import functools
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

_ROUNDS = 6
_LEAST_HALF_BITS = 3  # over fewer bits, too few of the permutations can occur
_CYCLE_STEPS = 64  # weights are met exactly over this many steps
_RANDOM_REPLACEMENTS = 100  # samples tried in place of a broken one, before those that follow the last of them
_SEQUENTIAL_REPLACEMENTS = 10_000


def sample_indices(positions: np.ndarray, count: int, seed: int, source: int) -> np.ndarray:
    """int64 positions in the endless stream of a source -> sample numbers: epochs, each in an order of its own."""
    out = np.empty(len(positions), np.int64)
    epochs = positions // count
    for epoch in np.unique(epochs):
        rows = epochs == epoch
        out[rows] = shuffled(positions[rows] % count, count, seed, source, int(epoch))
    return out


def replacements(first: int, position: int, count: int, seed: int, source: int) -> Iterator[int]:
    """The sample of a position, then those that replace it if it is broken, in an order that the position decides."""
    yield first
    indices = np.random.default_rng((seed, source, position, 3)).integers(count, size=_RANDOM_REPLACEMENTS).tolist()
    yield from indices
    for step in range(1, min(count, _SEQUENTIAL_REPLACEMENTS) + 1):
        yield (indices[-1] + step) % count


def shuffled(positions: np.ndarray, count: int, *key: int) -> np.ndarray:
    """int64 positions 0..count-1 -> their images under the permutation that `key` selects, int64 of the same shape."""
    bits = max(_LEAST_HALF_BITS, ((count - 1).bit_length() + 1) // 2)
    keys = np.random.SeedSequence(key).generate_state(_ROUNDS, np.uint64)
    out = np.asarray(positions).astype(np.uint64).reshape(-1)
    walking = np.arange(len(out))
    while len(walking):
        out[walking] = _feistel(out[walking], bits, keys)
        walking = walking[out[walking] >= count]  # the domain is less than 4 times as large: few rounds each
    return out.astype(np.int64).reshape(np.shape(positions))


def _feistel(values: np.ndarray, bits: int, keys: np.ndarray) -> np.ndarray:
    """A permutation of 0..4^bits-1, uint64."""
    half, mask = np.uint64(bits), np.uint64((1 << bits) - 1)
    left, right = values >> half, values & mask
    for key in keys:
        left, right = right, left ^ (_splitmix(right ^ key) & mask)
    return (left << half) | right


def _splitmix(x: np.ndarray) -> np.ndarray:
    """The finaliser of SplitMix64 (Steele et al. 2014): each bit of the result depends on all of `x`."""
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return np.asarray(x ^ (x >> np.uint64(31)))


@dataclass(frozen=True)
class BatchPlan:
    """For every slot of a step: the source that fills it, and the position in that source's stream of samples."""

    sources: np.ndarray  # int64 [N]
    positions: np.ndarray  # int64 [N]


@dataclass(frozen=True)
class Mixture:
    """How sources share a step: `counts` of each, or `weights` of a batch of `size`."""

    seed: int
    counts: tuple[int, ...] = ()
    weights: tuple[float, ...] = ()
    size: int = 0

    def plan(self, step: int) -> BatchPlan:
        """The slots of a step in random order, so that any range of them is a mixture."""
        if self.counts:
            counts = np.array(self.counts, np.int64)
            before = counts * step
        else:
            table, per_cycle = _counts_per_step(self.weights, self.size)
            cycle, at = divmod(step, _CYCLE_STEPS)
            counts, before = table[at], cycle * per_cycle + table[:at].sum(0)
        sources = np.repeat(np.arange(len(counts)), counts)
        within = np.arange(len(sources)) - np.repeat(np.cumsum(counts) - counts, counts)
        order = np.random.default_rng((self.seed, step, 0)).permutation(len(sources))
        return BatchPlan(sources[order], (before[sources] + within)[order])


@functools.lru_cache(maxsize=8)
def _counts_per_step(weights: tuple[float, ...], size: int) -> tuple[np.ndarray, np.ndarray]:
    """Slots of each source in each step of a cycle, int64 [steps sources], and in the whole cycle [sources].

    Each source's slots are spread evenly over the cycle, then the slots of all sources are merged in that order.
    """
    exact = np.array(weights) / sum(weights) * size * _CYCLE_STEPS
    per_cycle = np.floor(exact).astype(np.int64)
    rest = size * _CYCLE_STEPS - int(per_cycle.sum())
    per_cycle[np.argsort(per_cycle - exact, kind="stable")[:rest]] += 1  # the largest remainders
    at = np.concatenate([(np.arange(n) + 0.5) / max(n, 1) for n in per_cycle])
    sources = np.repeat(np.arange(len(per_cycle)), per_cycle)[np.argsort(at, kind="stable")]
    steps = sources.reshape(_CYCLE_STEPS, size)
    return np.stack([(steps == source).sum(1) for source in range(len(per_cycle))], axis=1), per_cycle
