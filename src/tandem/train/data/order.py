"""Random orders of millions that nobody writes down, and which source fills which slot. Numbers only: no files here.

An epoch's order is a permutation computed position by position: a Feistel network over the bits of the position
(Luby and Rackoff 1988) walks until it lands among the samples (Black and Rogaway 2002). So any position of any epoch
is known at once, in no memory.
"""

import functools
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

_ROUNDS = 6
_LEAST_HALF_BITS = 3  # over fewer bits too few of the permutations can come up
_CYCLE_STEPS = 64  # weights are kept exactly over so many steps
_AT_RANDOM = 100  # samples drawn in place of a broken one; then those that follow the last of them
_IN_ORDER = 10_000


def shuffled(positions: np.ndarray, count: int, *key: int) -> np.ndarray:
    """int64 positions 0..count-1 -> where the order that belongs to `key` puts them, int64 of the same shape."""
    bits = max(_LEAST_HALF_BITS, ((count - 1).bit_length() + 1) // 2)
    keys = np.random.SeedSequence(key).generate_state(_ROUNDS, np.uint64)
    out = np.asarray(positions).astype(np.uint64).reshape(-1)
    walking = np.arange(len(out))
    while len(walking):
        out[walking] = _feistel(out[walking], bits, keys)
        walking = walking[out[walking] >= count]  # the domain is less than 4 times as large: few steps each
    return out.astype(np.int64).reshape(np.shape(positions))


def _feistel(values: np.ndarray, bits: int, keys: np.ndarray) -> np.ndarray:
    """A permutation of 0..4^bits-1, uint64."""
    half, mask = np.uint64(bits), np.uint64((1 << bits) - 1)
    left, right = values >> half, values & mask
    for key in keys:
        left, right = right, left ^ (_mixed(right ^ key) & mask)
    return (left << half) | right


def _mixed(x: np.ndarray) -> np.ndarray:
    """The finaliser of SplitMix64 (Steele et al. 2014): each bit of the result depends on all of `x`."""
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return np.asarray(x ^ (x >> np.uint64(31)))


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


@dataclass(frozen=True)
class Slots:
    """For every slot of a step: which source fills it, and the how-manieth sample drawn from that source it is."""

    sources: np.ndarray  # int64 [N]
    positions: np.ndarray  # int64 [N]


@dataclass(frozen=True)
class Mix:
    """How sources share a step: `counts` of each, or `weights` of a batch of `size`."""

    seed: int
    counts: tuple[int, ...] = ()
    weights: tuple[float, ...] = ()
    size: int = 0

    def slots(self, step: int) -> Slots:
        """Slots in a random order, so that any run of them is a mixture."""
        if self.counts:
            counts = np.array(self.counts, np.int64)
            before = counts * step
        else:
            table, whole = _shares(self.weights, self.size)
            cycle, at = divmod(step, _CYCLE_STEPS)
            counts, before = table[at], cycle * whole + table[:at].sum(0)
        sources = np.repeat(np.arange(len(counts)), counts)
        within = np.arange(len(sources)) - np.repeat(np.cumsum(counts) - counts, counts)
        order = np.random.default_rng((self.seed, step, 0)).permutation(len(sources))
        return Slots(sources[order], (before[sources] + within)[order])


@functools.lru_cache(maxsize=8)
def _shares(weights: tuple[float, ...], size: int) -> tuple[np.ndarray, np.ndarray]:
    """Slots of each source in each step of a cycle, int64 [steps sources], and in the whole cycle [sources].

    Each source's slots lie evenly in the cycle; those of all are merged by where they lie.
    """
    share = np.array(weights) / sum(weights) * size * _CYCLE_STEPS
    whole = np.floor(share).astype(np.int64)
    rest = size * _CYCLE_STEPS - int(whole.sum())
    whole[np.argsort(whole - share, kind="stable")[:rest]] += 1  # the largest remainders
    lies_at = np.concatenate([(np.arange(n) + 0.5) / max(n, 1) for n in whole])
    sources = np.repeat(np.arange(len(whole)), whole)[np.argsort(lies_at, kind="stable")]
    steps = sources.reshape(_CYCLE_STEPS, size)
    return np.stack([(steps == source).sum(1) for source in range(len(whole))], axis=1), whole


def share_of(count: int, rank: int, processes: int) -> tuple[int, int]:
    """The contiguous slots [first, last) of one process, as `np.array_split` would cut them."""
    least, more = divmod(count, processes)
    first = rank * least + min(rank, more)
    return first, first + least + (rank < more)
