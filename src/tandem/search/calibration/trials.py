"""Searches whose right answers are known: from a caption set to labelled hits. Pure arithmetic on arrays of scores.

A trial is one query against a collection of some of the images. The matching images
are present, or all of them are removed.

Shapes: q queries, n images, h hits, t trials, k hits of a trial.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from tandem.scores.relevance import ScoreStats

TOP = 10  # hits of each trial that are looked at, as many as a search shows
_TOGETHER = 50  # trials share a random collection, which is cheaper to draw


@dataclass(frozen=True, eq=False)
class LabelledQueries:
    """Queries and what they are to find: cosines float32 [q n], matches bool [q n], and each query's own image [q].

    A query is written for, or a view of, its own image, which is one of its matches. `queries` [q d] are its
    vectors; `length` [q] is the logarithm of the number of its words, 0 if it has none.
    """

    scores: NDArray[np.float32]
    matches: NDArray[np.bool_]
    own: NDArray[np.intp]
    queries: NDArray[np.float32]
    length: NDArray[np.float64]

    def part(self, keep: NDArray[np.bool_] | NDArray[np.intp]) -> "LabelledQueries":
        """Some of the queries."""
        return LabelledQueries(
            self.scores[keep], self.matches[keep], self.own[keep], self.queries[keep], self.length[keep]
        )


@dataclass(frozen=True, eq=False)
class Trials:
    """The best hits of trials [t k], best first, over collections of one size. `exists` says which hits there are."""

    query: NDArray[np.intp]  # [t]
    scores: NDArray[np.float32]  # [t k]
    exists: NDArray[np.bool_]  # [t k]
    matches: NDArray[np.bool_]  # [t k]
    own: NDArray[np.bool_]  # [t k], whether the hit is the query's own image
    stats: ScoreStats

    def __len__(self) -> int:
        return len(self.query)


def sizes_up_to(images: int) -> list[int]:
    """Sizes of collections to try: 1, 2, 5, 10, 20, ... and all images."""
    steps = [digit * 10**power for power in range(7) for digit in (1, 2, 5)]
    return [step for step in steps if step < images] + [images]


def run_trials(
    known: LabelledQueries, size: int, seed: int, *, present: bool, take_out: Literal["matches", "own"] = "matches"
) -> Iterator[Trials]:
    """Every query once, in blocks, against a random collection of `size` images with its own among them.

    Unless `present`, its own is then taken out, and every other match with it (`take_out="own"`: it alone). The same
    seed gives the same collections.
    """
    random = np.random.default_rng([seed, size])
    queries, images = known.scores.shape
    order = random.permutation(queries)
    for start in range(0, queries, _TOGETHER):
        query = order[start : start + _TOGETHER]
        own = known.own[query]
        drawn = np.tile(random.permutation(images)[:size], (len(query), 1))  # [t size]
        column = random.integers(size, size=len(query))
        lacking = np.flatnonzero(~(drawn == own[:, None]).any(1))
        drawn[lacking, column[lacking]] = own[lacking]
        scores = np.take_along_axis(known.scores[query], drawn, 1)
        matches = np.take_along_axis(known.matches[query], drawn, 1)
        is_own = drawn == own[:, None]
        out = np.zeros_like(matches) if present else matches if take_out == "matches" else is_own
        keep = ~out
        count = keep.sum(1)
        some = np.maximum(count, 1)
        mean = np.where(keep, scores, 0).sum(1, dtype=np.float64) / some
        variance = np.where(keep, (scores - mean[:, None]) ** 2, 0).sum(1) / some
        top = np.argsort(np.where(keep, -scores, np.inf), axis=1, kind="stable")[:, :TOP]
        yield Trials(
            query,
            np.take_along_axis(scores, top, 1),
            np.take_along_axis(keep, top, 1),
            np.take_along_axis(matches, top, 1),
            np.take_along_axis(is_own, top, 1),
            ScoreStats(mean, np.sqrt(variance), count, count),
        )


Trial: TypeAlias = tuple[int, bool, Trials]  # the size of the collections, whether what is looked for is there, hits


def many_trials(known: LabelledQueries, sizes: Sequence[int], seed: int) -> Iterator[Trial]:
    """Every query against collections of every size, with what it looks for and without."""
    for size in sizes:
        for present in (True, False):
            for trials in run_trials(known, size, seed, present=present):
                yield size, present, trials
