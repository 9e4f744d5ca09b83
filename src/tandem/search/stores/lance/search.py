"""The nearest records of a snapshot. Knows nothing of writing.

A small table is compared whole, in memory. In a large one LanceDB's index names candidates (IVF with RaBitQ codes; what
came after the index was built is compared by LanceDB itself). Scores, and the order of equal ones, are always ours.

Shapes: n records, q queries, d dimensions.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tandem.arrays import Vectors
from tandem.search.stores.lance.snapshots import Contents, RowIds, Snapshot
from tandem.search.stores.protocol import StoreHit, Value, check_queries

QUERIES_BATCH = 256
MARGIN = 4e-6  # error of a product in float32
SPARE = 16  # candidates beyond k, to see whether scores go on equal
PROBES = 40  # partitions looked into, at least
PROBED_ROWS = 16_384  # and one for so many records, which is half of the partitions (of 8,192)
CANDIDATES = 500  # scored exactly by LanceDB for a query, or more where k is large

_Ranking = list[tuple[float, str, int]]  # minus the score, id, row id: in the order of hits


class Search:
    """One search in a snapshot."""

    def __init__(self, snapshot: Snapshot, where: str | None, columns: Sequence[str] | None) -> None:
        self.snapshot = snapshot
        self.where = where
        self.columns = snapshot.mapping.schema.chosen(columns)

    def hits(self, vectors: Vectors, k: int) -> list[list[StoreHit]]:
        """For each query its k nearest. `TandemError` for malformed queries."""
        queries = check_queries(vectors, k, self.snapshot.mapping.schema)
        rankings = self._in_memory(queries, k) if self.snapshot.is_small else self._by_index(queries, k)
        values = self._values({row_id for ranking in rankings for _, _, row_id in ranking})
        return [
            [StoreHit(each, -score, {} if values is None else values[row_id]) for score, each, row_id in ranking]
            for ranking in rankings
        ]

    def _values(self, row_ids: set[int]) -> dict[int, dict[str, Value]] | None:
        if not self.columns or not row_ids:
            return None
        mapping = self.snapshot.mapping
        found = self.snapshot.rows(sorted(row_ids), [mapping.fields[name] for name in self.columns])
        columns = [found.column(mapping.fields[name]).to_pylist() for name in self.columns]
        return {
            row_id: dict(zip(self.columns, values, strict=True))
            for row_id, values in zip(found.column("_rowid").to_pylist(), zip(*columns, strict=True), strict=True)
        }

    # In memory

    def _in_memory(self, queries: Vectors, k: int) -> list[_Ranking]:
        contents = self.snapshot.contents()
        positions: NDArray[np.int64] = np.arange(len(contents.ids))
        vectors = contents.vectors
        if self.where is not None:
            positions = _positions(contents.row_ids, self.snapshot.passing(self.where))
            vectors = vectors[positions]
        k = min(k, len(positions))
        if not k:
            return [[] for _ in queries]
        rankings = []
        for first in range(0, len(queries), QUERIES_BATCH):
            block = queries[first : first + QUERIES_BATCH]
            products = block @ vectors.T  # [q n]
            least = np.partition(products, -k, axis=1)[:, -k] - MARGIN
            for query, scores, bound in zip(block, products, least, strict=True):
                near = np.flatnonzero(scores >= bound)
                rankings.append(_ranked(query, k, contents, positions[near]))
        return rankings

    # By the index

    def _by_index(self, queries: Vectors, k: int) -> list[_Ranking]:
        if not k:
            return [[] for _ in queries]
        condition = None if self.where is None else self.snapshot.condition(self.where).sql
        return [self._nearest(query, k, condition) for query in queries]

    def _nearest(self, query: Vectors, k: int, condition: str | None) -> _Ranking:
        limit, exact = k + SPARE, False
        while True:
            found = self._candidates(query, limit, condition, exact)
            ranking = self._ranked(query, found)
            if len(ranking) < limit:
                if exact or len(ranking) >= self._there(condition):
                    return ranking[:k]
                exact = True  # an index may lose its way where few records pass
            elif -ranking[k - 1][0] - MARGIN > -ranking[-1][0]:
                return ranking[:k]
            else:
                limit *= 4  # more of the same score may follow, of lesser ids

    def _candidates(self, query: Vectors, limit: int, condition: str | None, exact: bool) -> Any:
        with self.snapshot.database.errors():
            builder = self.snapshot.table.search(query, vector_column_name="vector").distance_type("dot").limit(limit)
            if condition is not None:
                builder = builder.where(condition, prefilter=True)
            if exact:
                builder = builder.bypass_vector_index()
            else:
                wanted = max(CANDIDATES, min(20 * limit, limit + 5000))
                probes = max(PROBES, self.snapshot.count // PROBED_ROWS)
                # No maximum: where few records pass, further partitions are looked into until there are enough.
                builder = builder.minimum_nprobes(probes).maximum_nprobes(0).refine_factor(-(-wanted // limit))
            return builder.select(["id", "vector", "_distance"]).with_row_id(True).to_arrow()

    def _ranked(self, query: Vectors, found: Any) -> _Ranking:
        scores = _scores(self.snapshot.mapping.vectors(found), query)
        row_ids = found.column("_rowid").to_pylist()
        return sorted(zip((-scores).tolist(), found.column("id").to_pylist(), row_ids, strict=True))

    def _there(self, condition: str | None) -> int:
        if condition is None or self.where is None:
            return self.snapshot.count
        return len(self.snapshot.passing(self.where))


def _positions(row_ids: RowIds, passing: RowIds) -> NDArray[np.int64]:
    return np.searchsorted(row_ids, passing).astype(np.int64)


def _ranked(query: Vectors, k: int, contents: Contents, positions: NDArray[np.int64]) -> _Ranking:
    scores = _scores(contents.vectors[positions], query)
    ranking = [
        (-float(score), contents.ids[position], int(contents.row_ids[position]))
        for score, position in zip(scores, positions, strict=True)
    ]
    return sorted(ranking)[:k]


def _scores(vectors: Vectors, query: Vectors) -> NDArray[np.float64]:
    """Cosines [n]. Not a matrix product: that may sum equal rows in different orders, and they must score equally."""
    scores: NDArray[np.float64] = (vectors.astype(np.float64) * query).sum(axis=1)
    return scores
