"""Reading from a Milvus collection: pages, rows by id, and the nearest. Knows no aliases, and nothing of writing.

Milvus gives candidates; scores, order and all that its expressions cannot say are ours.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from tandem.arrays import Vectors
from tandem.errors import StoreError
from tandem.search.stores.filter_parser import parse
from tandem.search.stores.filters import columns_of, matches, without_lists
from tandem.search.stores.milvus.client import FINAL, Connection
from tandem.search.stores.milvus.fields import FieldMapping, is_id
from tandem.search.stores.milvus.filters import ALL, Condition, conjunction, id_in, quoted, to_expression
from tandem.search.stores.milvus.index_choice import search_parameters
from tandem.search.stores.protocol import StoreHit, Value, check_queries

MilvusRow = Mapping[str, Any]

MAX_K = 16_384  # also of rows that one query gives
MAX_MESSAGE_BYTES = 16 * 2**20  # of one message; servers refuse 64 MB
ID_BATCH = 4_096
ATTACHMENT_BATCH = 256  # records with values of bytes, which may be 64 kB each
# Records that pass a filter are all compared; on 2.3.5, of 200,000, HNSW had a recall of 0.78 where 200 pass
EXACT_BELOW = 2_000
EXTRA_CANDIDATES = 16  # candidates beyond k, to see whether scores go on equal
SCORE_TOLERANCE = 2e-6  # by which two sums of the same products may differ


@dataclass(frozen=True)
class View:
    """The collection that a name stands for now. `consistency` goes with every call that reads."""

    collection: str
    mapping: FieldMapping
    notes: Mapping[str, str]
    writes: Mapping[str, int]
    consistency: Mapping[str, Any]
    index: str  # as `Connection.index_state`; always final where one index serves all sizes
    index_name: str = ""  # as far as it was noted


class Reader:
    """Rows of a collection that pass a filter. Conditions that Milvus cannot express are checked here, row by row."""

    def __init__(self, connection: Connection, view: View, where: str | None = None) -> None:
        self.connection = connection
        self.view = view
        self.condition = ALL
        self.accept: Callable[[MilvusRow], bool] = lambda row: True
        self.filter_fields: list[str] = []  # the fields that `accept` reads
        if where is not None:
            expression = without_lists(parse(where, view.mapping.schema), self._with_several)
            self.condition = to_expression(expression, view.mapping)
            if not self.condition.exact:
                names = sorted(columns_of(expression))
                self.filter_fields = view.mapping.filter_fields(names)
                self.accept = lambda row: matches(expression, view.mapping.filter_row(row, names)) is True

    def read(self, verb: str, **named: Any) -> Any:
        """The collection's answer; repeated if its index was replaced meanwhile."""
        while True:
            if verb == "search":
                parameters = search_parameters(self.view.index_name, named["limit"])
                named["search_params"] = {"metric_type": "IP", "params": parameters}
            answer = self.connection.call(verb, self.view.collection, **named, **self.view.consistency)
            if self.view.index == FINAL:
                return answer
            if self.view.index == self.connection.index_state(self.view.collection)[0] == "":
                return answer
            index_name = self.connection.await_index(self.view.collection)
            self.view = replace(self.view, index=FINAL, index_name=index_name)

    def query(self, text: str, fields: Sequence[str], **named: Any) -> list[MilvusRow]:
        rows: list[MilvusRow] = self.read("query", filter=text, output_fields=list(fields), **named)
        return rows

    def _with_several(self, column: str, listed: str) -> Iterator[Mapping[str, Value]]:
        """The records that have several values of a column: their ids and these values."""
        mapping = self.view.mapping
        with_several = Reader(self.connection, self.view)
        with_several.condition = Condition(f"{mapping.several_field(listed)} == true", exact=True)
        for rows in with_several.pages([column, listed], False, MAX_K):
            for row in rows:
                yield {**mapping.filter_row(row, [column, listed]), "id": row["id"]}

    def count(self) -> int:
        if self.condition.exact:
            (row,) = self.query(self.condition.text, ["count(*)"])
            return int(row["count(*)"])
        return sum(len(rows) for rows in self.pages([], False, MAX_K))

    def pages(self, columns: Sequence[str], vectors: bool, size: int) -> Iterator[list[MilvusRow]]:
        """All rows that pass, by id."""
        mapping = self.view.mapping
        fields = list(
            dict.fromkeys(["id", *mapping.fields(columns), *self.filter_fields, *(["vector"] if vectors else [])])
        )
        limit = max(1, min(size, MAX_K, self.batch_size(columns, vectors)))
        after = ""
        while True:
            text = conjunction(self.condition.text, after)
            # As an iterator: only then do newer servers give the rows of least id, not just any.
            rows = self.query(text, fields, limit=limit, iterator="True", reduce_stop_for_best=True)
            if not rows:
                return
            last = max(row["id"] for row in rows)
            yield [row for row in rows if self.accept(row)]
            # A short page is not the last: servers end one where the first of their segments has no more.
            after = f"id > {quoted(last)}"

    def by_id(self, ids: Sequence[str], columns: Sequence[str], vectors: bool) -> dict[str, MilvusRow]:
        fields = ["id", *self.view.mapping.fields(columns), *(["vector"] if vectors else [])]
        wanted = [each for each in dict.fromkeys(ids) if is_id(each)]
        step = min(ID_BATCH, self.batch_size(columns, vectors))
        rows: dict[str, MilvusRow] = {}
        for start in range(0, len(wanted), step):
            part = wanted[start : start + step]
            rows |= {row["id"]: row for row in self.query(id_in(part), fields, limit=len(part))}
        return rows

    def batch_size(self, columns: Sequence[str], vectors: bool) -> int:
        """How many rows may come in one answer."""
        if self.view.mapping.has_bytes(columns):
            return ATTACHMENT_BATCH
        each = 4 * self.view.mapping.schema.dimensions if vectors else 0
        return max(1, MAX_MESSAGE_BYTES // (each + 256 * (1 + len(columns) + len(self.filter_fields))))


class Search(Reader):
    """One search: candidates by Milvus, scores and order by us."""

    def __init__(self, connection: Connection, view: View, where: str | None, columns: Sequence[str] | None) -> None:
        super().__init__(connection, view, where)
        self.columns = view.mapping.schema.chosen(columns)

    def hits(self, vectors: Vectors, k: int) -> list[list[StoreHit]]:
        """For each query its k nearest. `StoreError` for more hits than Milvus gives."""
        schema = self.view.mapping.schema
        queries = check_queries(vectors, k, schema)
        if k > MAX_K:
            raise StoreError(f"Milvus gives at most {MAX_K} hits, {k} were asked for: narrow the search by a filter")
        if not k:
            return [[] for _ in queries]
        answer_bytes = min(k + EXTRA_CANDIDATES, MAX_K) * (4 * schema.dimensions + 1024)
        step = max(1, min(1000, MAX_MESSAGE_BYTES // answer_bytes))
        return [hits for start in range(0, len(queries), step) for hits in self._hits(queries[start : start + step], k)]

    def _hits(self, queries: Vectors, k: int) -> list[list[StoreHit]]:
        found = self._nearest(queries, k, self.condition)
        values = (
            self.by_id([each for ranking in found for each, _ in ranking], self.columns, False) if self.columns else {}
        )
        mapping = self.view.mapping
        return [
            [
                StoreHit(each, score, {name: mapping.value(values[each], name) for name in self.columns})
                for each, score in ranking
                if not self.columns or each in values
            ]
            for ranking in found
        ]

    def _nearest(self, queries: Vectors, k: int, condition: Condition) -> list[list[tuple[str, float]]]:
        """Ids and scores, the best first."""
        is_indexed = self.view.index == FINAL and not self.connection.is_lite
        if is_indexed and condition.exact and condition != ALL and self._count_of(condition) <= EXACT_BELOW:
            return self._among_passing(queries, k)
        rankings: list[list[tuple[str, float]]] = [[] for _ in queries]
        open_queries = list(range(len(queries)))
        limit = min(k + EXTRA_CANDIDATES if condition.exact else max(4 * k, 256), MAX_K)
        there: int | None = None
        while open_queries:
            short, unsure = [], []
            for number, rows in zip(
                open_queries, self._candidates(queries[open_queries], limit, condition), strict=True
            ):
                scored = self._scored(queries[number], rows)
                passing = [(row["id"], score) for row, score in scored if condition.exact or self.accept(row)]
                rankings[number] = passing[:k]
                if len(rows) < limit:
                    if there is None:
                        there = self._count_of(condition)
                    if len(rows) < there:  # an index of graphs loses its way where few records pass
                        short.append(number)
                elif len(passing) < k:
                    short.append(number)
                elif passing[k - 1][1] <= scored[-1][1] + SCORE_TOLERANCE and limit < MAX_K:
                    unsure.append(number)  # more of the same score may follow, of lesser ids
            if short:
                for number, ranking in zip(short, self._among_passing(queries[short], k), strict=True):
                    rankings[number] = ranking
            open_queries, limit = unsure, min(4 * limit, MAX_K)
        return rankings

    def _candidates(self, queries: Vectors, limit: int, condition: Condition) -> list[list[MilvusRow]]:
        """The rows nearest according to Milvus, each with its vector and the fields that the filter reads."""
        columns = [] if condition.exact else self.filter_fields
        alone = limit <= self.batch_size([], True)
        answers = self.read(
            "search",
            data=list(queries),
            anns_field="vector",
            limit=limit,
            filter=condition.text,
            output_fields=["vector", *columns] if alone else ["id"],
        )
        if alone:
            return [[{**hit["entity"], "id": hit["id"]} for hit in hits] for hits in answers]
        fetched = self._fetched([hit["id"] for hits in answers for hit in hits], columns)
        return [[fetched[hit["id"]] for hit in hits if hit["id"] in fetched] for hits in answers]

    def _fetched(self, ids: Sequence[str], columns: Sequence[str]) -> dict[str, MilvusRow]:
        wanted = list(dict.fromkeys(ids))
        step = min(ID_BATCH, self.batch_size([], True))
        rows: dict[str, MilvusRow] = {}
        for start in range(0, len(wanted), step):
            part = wanted[start : start + step]
            rows |= {row["id"]: row for row in self.query(id_in(part), ["id", "vector", *columns], limit=len(part))}
        return rows

    def _scored(self, query: Vectors, rows: Sequence[MilvusRow]) -> list[tuple[MilvusRow, float]]:
        if not rows:
            return []
        vectors = np.array([row["vector"] for row in rows], dtype=np.float64)
        # Not a matrix product: those may sum equal rows in different orders, and equal scores must be equal.
        scores = (vectors * query).sum(axis=1)
        scored = [(row, float(score)) for row, score in zip(rows, scores, strict=True)]
        return sorted(scored, key=lambda each: (-each[1], each[0]["id"]))

    def _count_of(self, condition: Condition) -> int:
        (row,) = self.query(condition.text, ["count(*)"])
        return int(row["count(*)"])

    def _among_passing(self, queries: Vectors, k: int) -> list[list[tuple[str, float]]]:
        """First all ids that pass, then the nearest of them, some thousand at a time."""
        best: list[list[tuple[str, float]]] = [[] for _ in queries]
        for rows in self.pages([], False, ID_BATCH):
            ids = [row["id"] for row in rows]
            if not ids:
                continue
            fetched = list(self._fetched(ids, []).values())
            for number, query in enumerate(queries):
                scored = [(row["id"], score) for row, score in self._scored(query, fetched)]
                best[number] = sorted(best[number] + scored, key=lambda each: (-each[1], each[0]))[:k]
        return best
