"""The rows nearest to queries: by exact products, or among candidates from an index. Knows positions, not records.

What the index names is scored again exactly, so scores never depend on it.

Shapes: n rows, d dimensions, q queries.
"""

import itertools
from dataclasses import dataclass, field

import numpy as np

from tandem.arrays import Vectors
from tandem.search.stores.embedded.row_bits import RowBits
from tandem.search.stores.embedded.vector_file import Mask, Positions, VectorFile
from tandem.search.stores.embedded.vector_index import VectorIndex

EXACT_BELOW = 20_000  # rows that pass a filter are all compared; measured at 1 M: 50,000 take 30 ms, by the index 7
MAX_MAPPED_ROWS = 50_000  # a pass over more reads them, rather than making the file this process's memory
# Scored exactly for a query, or more where k is large; measured at 1 M: 200 give a recall of 0.96, 500 of 1.00; at
# 10 M, with 256 lists, for queries like texts: 500 of 0.90, 1,000 of 0.94, 2,000 of 0.96.
CANDIDATES = 500
MARGIN = 4e-6  # error of a product in float32: rows this near the k-th are scored again exactly
QUERY_BATCH = 256
ROW_BATCH = 8192


@dataclass(frozen=True)
class Rows:
    """The rows to search: the first `count` rows of a file, which of them are live, and an index of the first ones."""

    file: VectorFile
    count: int
    live_mask: Mask | None = None  # [n]; None: all
    passing: Positions | None = None  # sorted, all of them live; None: no filter
    index: VectorIndex | None = None
    bits: RowBits = field(default_factory=RowBits)  # of what is live or passes, kept from search to search


@dataclass(frozen=True)
class Neighbours:
    """For one query: positions and cosines, the nearest first; more than k where several are as near as the k-th."""

    positions: Positions
    scores: Vectors


NONE = Neighbours(np.empty(0, np.int64), np.empty(0, np.float32))


def nearest(queries: Vectors, k: int, rows: Rows) -> list[Neighbours]:
    """For each query of [q d] the k nearest rows."""
    found: list[Neighbours] = []
    for first in range(0, len(queries), QUERY_BATCH):
        block = queries[first : first + QUERY_BATCH]
        if rows.index is None or (rows.passing is not None and len(rows.passing) <= EXACT_BELOW):
            candidates = _exact_candidates(block, k, rows, 0)
        else:
            candidates = _index_candidates(block, k, rows, rows.index)
        found.extend(_score(query, k, rows.file, each) for query, each in zip(block, candidates, strict=True))
    return found


def _score(query: Vectors, k: int, file: VectorFile, positions: Positions) -> Neighbours:
    """The k best of some candidates, scored so that equal rows have equal scores wherever they are stored."""
    positions = np.sort(positions)
    if len(positions) > 2 * k:  # the index names many more than are wanted
        top = TopK(1, k)
        for first in range(0, len(positions), ROW_BATCH):
            some, vectors = file.gather_sound(positions[first : first + ROW_BATCH])
            top.push(_products(query[None], vectors), some)
        positions = np.sort(top.positions()[0])
    positions = file.sound(positions)
    scores = np.empty(len(positions), np.float32)
    for first in range(0, len(positions), ROW_BATCH):
        block = slice(first, first + ROW_BATCH)
        # A sum for each row by itself, in float64: BLAS would sum rows differently at the edges of its blocks.
        scores[block] = np.einsum("nd,d->n", file.gather(positions[block]), query, dtype=np.float64)
    order = np.argsort(-scores, kind="stable")
    if len(order) > k:
        order = order[scores[order] >= scores[order[k - 1]]]
    return Neighbours(positions[order], scores[order])


def _products(queries: Vectors, vectors: Vectors) -> Vectors:
    """[q d], [n d] -> [q n]. For one query without the threads of BLAS: on a busy machine waking them costs more."""
    if len(queries) == 1:
        one: Vectors = np.einsum("nd,d->n", vectors, queries[0])
        return one[None]
    products: Vectors = queries @ vectors.T
    return products


def _exact_candidates(queries: Vectors, k: int, rows: Rows, start: int) -> list[Positions]:
    """Every row from `start` on that may be among the k nearest, by products in blocks."""
    top = TopK(len(queries), k)
    if rows.passing is not None:
        passing = rows.passing[np.searchsorted(rows.passing, start) :]
        for first in range(0, len(passing), ROW_BATCH):
            positions, vectors = rows.file.gather_sound(passing[first : first + ROW_BATCH])
            top.push(_products(queries, vectors), positions)
        return top.positions()
    if rows.count - start <= MAX_MAPPED_ROWS:  # few enough to stay in memory, mapped
        blocks = rows.file.mapped_blocks(start, rows.count, ROW_BATCH)
    else:
        blocks = rows.file.blocks(start, rows.count)
    for first, vectors in blocks:
        scores = _products(queries, vectors)
        if rows.live_mask is not None:
            scores[:, ~rows.live_mask[first : first + len(vectors)]] = -np.inf
        if (damaged := rows.file.damaged_between(first, first + len(vectors))) is not None:
            scores[:, damaged] = -np.inf
        top.push(scores, np.arange(first, first + len(vectors)))
    return top.positions()


class TopK:
    """The best rows so far of several queries, and a few more than k of each: float32 products are not exact."""

    def __init__(self, queries: int, k: int) -> None:
        self.k = k
        self._bound = np.full(queries, -np.inf, np.float32)  # the k-th best so far scores at least this
        self._candidates: list[tuple[Positions, Positions, Vectors]] = []  # query, position, score
        self._pending = 0

    def push(self, scores: Vectors, positions: Positions) -> None:
        """Scores [q n] of rows at these positions; minus infinity marks a row that does not count."""
        if self.k < scores.shape[1] and np.isneginf(self._bound).any():
            self._bound = np.maximum(self._bound, np.partition(scores, -self.k, axis=1)[:, -self.k])
        query, column = np.nonzero((scores >= self._bound[:, None] - MARGIN) & (scores > -np.inf))
        self._candidates.append((query, positions[column], scores[query, column]))
        self._pending += len(query)
        if self._pending > max(100_000, 4 * self.k * len(self._bound)):
            self._prune()

    def positions(self) -> list[Positions]:
        """For each query the rows that may be among its k best."""
        if not self._candidates:
            return [np.empty(0, np.int64) for _ in self._bound]
        self._prune()
        query, position, _ = self._candidates[0]
        starts = np.searchsorted(query, np.arange(len(self._bound) + 1))
        return [position[a:b] for a, b in itertools.pairwise(starts)]

    def _prune(self) -> None:
        query, position, score = (np.concatenate(parts) for parts in zip(*self._candidates, strict=True))
        order = np.lexsort((-score, query))
        query, position, score = query[order], position[order], score[order]
        starts = np.searchsorted(query, np.arange(len(self._bound) + 1))
        full = np.flatnonzero(np.diff(starts) >= self.k)
        self._bound[full] = np.maximum(self._bound[full], score[starts[full] + self.k - 1])
        stays = score >= self._bound[query] - MARGIN
        self._candidates = [(query[stays], position[stays], score[stays])]
        self._pending = 0


def candidates_among(rows: int) -> int:
    """How many of so many rows an index is asked for: 500 of a million, 1,581 of ten, 5,000 of a hundred."""
    return max(CANDIDATES, int(rows**0.5 / 2))


def _index_candidates(queries: Vectors, k: int, rows: Rows, index: VectorIndex) -> list[Positions]:
    """Live rows that pass, named by the index, and exact candidates among the rows that came after it."""
    chosen = rows.live_mask if rows.passing is None else rows.passing
    bits, inside = None, index.rows
    if chosen is not None:
        bits = rows.bits.of(chosen, rows.count)
        is_mask = rows.passing is None
        inside = int(np.count_nonzero(chosen[:inside]) if is_mask else np.searchsorted(chosen, inside))
    wanted = max(candidates_among(inside), min(20 * k, k + 5000))
    found: list[Positions | None] = [None] * len(queries)
    # So many rows of all have those wanted among them.
    reach = wanted if bits is None else int(1.2 * wanted * index.rows / max(1, inside))
    # The nearest that pass a filter are farther away, and so in more lists.
    probes = max(index.probes, index.lists_of(10 * reach)) * (1 if rows.passing is None else 2)
    unanswered = np.arange(len(queries))
    while len(unanswered) and reach <= index.rows // 4 and inside > wanted:
        for first in range(0, len(unanswered), max(1, 1_000_000 // wanted)):
            some = unanswered[first : first + max(1, 1_000_000 // wanted)]
            for query, row in zip(some, index.search(queries[some], wanted, probes, bits), strict=True):
                named = row[(row >= 0) & (row < rows.count)]  # the index may know rows of a later commit
                # A filter that keeps only rows far from the query leaves few: then search more lists.
                if len(named) >= max(2 * k, wanted // 2):
                    found[query] = named
        unanswered = np.array([i for i in unanswered if found[i] is None], np.int64)
        reach, probes = reach * 4, probes * 4
    answer: list[Positions] = [np.empty(0, np.int64) if each is None else each for each in found]
    if len(unanswered):
        for query, exact in zip(unanswered, _exact_candidates(queries[unanswered], k, rows, 0), strict=True):
            answer[query] = exact
    indexed = [i for i, each in enumerate(found) if each is not None]
    if indexed and rows.count > index.rows:
        for query, late in zip(indexed, _exact_candidates(queries[indexed], k, rows, index.rows), strict=True):
            answer[query] = np.concatenate([answer[query], late])
    return answer
