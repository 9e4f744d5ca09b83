"""The rows nearest to queries: exact products, and an index that says where to look. Knows positions, not records.

The index is derived from the rows and can be made again at any time: an inverted file over a spherical k-means, its
codes one bit a dimension (RaBitQ, Gao and Long 2024, https://arxiv.org/abs/2405.12497). Vectors are centred before:
CLIP's pictures share a large common part, and its sentences another one (the modality gap). Without centring the lists
are chosen by how they stand to that part: measured on 1 M clustered vectors with queries from another region,
recall@10 was 0.65 with 64 of 1,024 lists; centred it is 1.00 with 8 of 2,048. Then they are rotated at random,
since a sign says little of a dimension that is larger than others: where the spectrum decays as i^-1/2, recall was
0.57 without, and 1.00 with. What the index names is scored again exactly, so scores never depend on it.

Letters: n rows, d dimensions, q queries.
"""

import itertools
import logging
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from tandem.arrays import Vectors
from tandem.search.stores.embedded.vector_file import VectorFile

Positions: TypeAlias = NDArray[np.int64]
Mask: TypeAlias = NDArray[np.bool_]

INDEX_FROM = 20_000  # rows; below this an exact search takes less than 5 ms
EXACT_BELOW = 20_000  # rows that pass a filter are all compared; measured at 1 M: 50,000 take 30 ms, by the index 7
MAPPED = 50_000  # rows; a pass over more of them reads them, rather than making the file this process's memory
CANDIDATES = (
    500  # scored exactly for a query, or more where k is large; measured: 200 give a recall of 0.96, 500 of 1.00
)
LOOKED_AT = 50_000  # rows whose codes are compared with a query: 1 ms; more lists where lists are short
PROBES = 32  # lists looked into, at least
TRAINING_ROWS = 60_000
OUTGROWN = 4  # times the rows that an index was trained for
MARGIN = 4e-6  # what a product in float32 may be off: whoever is this near the k-th is scored again
QUERIES_AT_ONCE = 256
BLOCK = 8192  # rows

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Rows:
    """What is searched: the first `count` rows of a file, those of them that count, and an index of the first ones."""

    file: VectorFile
    count: int
    alive: Mask | None = None  # [n]; None: all
    passing: Positions | None = None  # sorted, all of them alive; None: no filter
    index: "Index | None" = None


@dataclass(frozen=True)
class Near:
    """For one query: positions and cosines, the nearest first; more than k where several are as near as the k-th."""

    positions: Positions
    scores: Vectors


def nearest(queries: Vectors, k: int, rows: Rows) -> list[Near]:
    """For each query of [q d] the k nearest rows."""
    found: list[Near] = []
    for first in range(0, len(queries), QUERIES_AT_ONCE):
        block = queries[first : first + QUERIES_AT_ONCE]
        if rows.index is None or (rows.passing is not None and len(rows.passing) <= EXACT_BELOW):
            candidates = _exact(block, k, rows, 0)
        else:
            candidates = _indexed(block, k, rows, rows.index)
        found.extend(_score(query, k, rows.file, each) for query, each in zip(block, candidates, strict=True))
    return found


def _score(query: Vectors, k: int, file: VectorFile, positions: Positions) -> Near:
    """The k best of some candidates, scored so that equal rows have equal scores wherever they lie."""
    positions = np.sort(positions)
    if len(positions) > 2 * k:  # the index names many more than are wanted
        best = _Best(1, k)
        for first in range(0, len(positions), BLOCK):
            some = positions[first : first + BLOCK]
            best.offer(_products(query[None], file.gather(some)), some)
        positions = np.sort(best.positions()[0])
    scores = np.empty(len(positions), np.float32)
    for first in range(0, len(positions), BLOCK):
        block = slice(first, first + BLOCK)
        # A sum for each row by itself, in float64: BLAS would sum rows differently at the edges of its blocks.
        scores[block] = np.einsum("nd,d->n", file.gather(positions[block]), query, dtype=np.float64)
    order = np.argsort(-scores, kind="stable")
    if len(order) > k:
        order = order[scores[order] >= scores[order[k - 1]]]
    return Near(positions[order], scores[order])


def _products(queries: Vectors, vectors: Vectors) -> Vectors:
    """[q d], [n d] -> [q n]. One query is not worth waking the threads of BLAS: on a busy machine they wait for it."""
    if len(queries) == 1:
        one: Vectors = np.einsum("nd,d->n", vectors, queries[0])
        return one[None]
    products: Vectors = queries @ vectors.T
    return products


def _exact(queries: Vectors, k: int, rows: Rows, start: int) -> list[Positions]:
    """Candidates among all rows from `start` on, by blocked products: every one that may be among the k nearest."""
    best = _Best(len(queries), k)
    if rows.passing is not None:
        passing = rows.passing[np.searchsorted(rows.passing, start) :]
        for first in range(0, len(passing), BLOCK):
            positions = passing[first : first + BLOCK]
            best.offer(_products(queries, rows.file.gather(positions)), positions)
        return best.positions()
    if rows.count - start <= MAPPED:  # few enough to stay in memory, mapped
        mapped = rows.file.map(rows.count)
        blocks: Iterator[tuple[int, Vectors]] = (
            (first, mapped[first : first + BLOCK]) for first in range(start, rows.count, BLOCK)
        )
    else:
        blocks = rows.file.blocks(start, rows.count)
    for first, vectors in blocks:
        scores = _products(queries, vectors)
        if rows.alive is not None:
            scores[:, ~rows.alive[first : first + len(vectors)]] = -np.inf
        best.offer(scores, np.arange(first, first + len(vectors)))
    return best.positions()


class _Best:
    """The best so far of several queries: kept a little too generously, since float32 products are not exact."""

    def __init__(self, queries: int, k: int) -> None:
        self.k = k
        self.least = np.full(queries, -np.inf, np.float32)  # what the k-th best so far scores, at least
        self.kept: list[tuple[Positions, Positions, Vectors]] = []  # query, position, score
        self.waiting = 0

    def offer(self, scores: Vectors, positions: Positions) -> None:
        """Scores [q n] of rows at these positions; minus infinity stands for a row that does not count."""
        if self.k < scores.shape[1] and np.isneginf(self.least).any():
            self.least = np.maximum(self.least, np.partition(scores, -self.k, axis=1)[:, -self.k])
        query, column = np.nonzero((scores >= self.least[:, None] - MARGIN) & (scores > -np.inf))
        self.kept.append((query, positions[column], scores[query, column]))
        self.waiting += len(query)
        if self.waiting > max(100_000, 4 * self.k * len(self.least)):
            self.shrink()

    def shrink(self) -> None:
        query, position, score = (np.concatenate(parts) for parts in zip(*self.kept, strict=True))
        order = np.lexsort((-score, query))
        query, position, score = query[order], position[order], score[order]
        starts = np.searchsorted(query, np.arange(len(self.least) + 1))
        full = np.flatnonzero(np.diff(starts) >= self.k)
        self.least[full] = np.maximum(self.least[full], score[starts[full] + self.k - 1])
        stays = score >= self.least[query] - MARGIN
        self.kept = [(query[stays], position[stays], score[stays])]
        self.waiting = 0

    def positions(self) -> list[Positions]:
        if not self.kept:
            return [np.empty(0, np.int64) for _ in self.least]
        self.shrink()
        query, position, _ = self.kept[0]
        starts = np.searchsorted(query, np.arange(len(self.least) + 1))
        return [position[a:b] for a, b in itertools.pairwise(starts)]


def _indexed(queries: Vectors, k: int, rows: Rows, index: "Index") -> list[Positions]:
    """Candidates named by the index that are alive and pass, and exact ones among the rows that came after it."""
    wanted = max(CANDIDATES, min(20 * k, k + 5000))
    allowed = rows.alive
    if rows.passing is not None:
        allowed = np.zeros(rows.count, np.bool_)
        allowed[rows.passing] = True
    inside = index.rows if allowed is None else int(np.count_nonzero(allowed[: index.rows]))
    found: list[Positions | None] = [None] * len(queries)
    asked = wanted if allowed is None else int(1.2 * wanted * index.rows / max(1, inside))
    probes = max(index.probes, index.lists_of(10 * asked))
    open_queries = np.arange(len(queries))
    while len(open_queries) and asked <= index.rows // 4 and inside > wanted:
        for first in range(0, len(open_queries), max(1, 1_000_000 // asked)):
            some = open_queries[first : first + max(1, 1_000_000 // asked)]
            for query, named in zip(some, index.search(queries[some], asked, probes), strict=True):
                valid = (named >= 0) & (named < index.rows)
                if allowed is not None:
                    valid &= allowed[np.where(valid, named, 0)]
                # A filter that keeps what is far from the query leaves few: then look further.
                if np.count_nonzero(valid) >= max(2 * k, wanted // 2):
                    found[query] = named[valid]
        open_queries = np.array([i for i in open_queries if found[i] is None], np.int64)
        asked, probes = asked * 4, probes * 4
    answer: list[Positions] = [np.empty(0, np.int64) if each is None else each for each in found]
    if len(open_queries):
        for query, exact in zip(open_queries, _exact(queries[open_queries], k, rows, 0), strict=True):
            answer[query] = exact
    indexed = [i for i, each in enumerate(found) if each is not None]
    if indexed and rows.count > index.rows:
        for query, late in zip(indexed, _exact(queries[indexed], k, rows, index.rows), strict=True):
            answer[query] = np.concatenate([answer[query], late])
    return answer


@dataclass
class Index:
    """An index of the first `rows` rows of a file, made when there were `trained_rows`."""

    faiss_index: Any
    rows: int
    trained_rows: int
    _lists: Any = field(init=False)
    _mean: Vectors = field(init=False)

    def __post_init__(self) -> None:
        import faiss

        self._lists = faiss.downcast_index(self.faiss_index.index)
        centring: Any = faiss.downcast_VectorTransform(self.faiss_index.chain.at(0))
        # Rows are centred, queries must not be: q (x - mean) orders rows as q x does, (q - mean) (x - mean) does not.
        self._mean = faiss.vector_to_array(centring.mean)

    @property
    def probes(self) -> int:
        """How many lists to look into for the nearest of all."""
        return max(PROBES, self.lists_of(LOOKED_AT))

    def lists_of(self, rows: int) -> int:
        """How many lists have so many rows."""
        return rows * int(self._lists.nlist) // max(1, self.rows)

    def search(self, queries: Vectors, count: int, probes: int) -> Positions:
        """Positions [q count] that are probably the nearest, in any order, -1 where there are fewer."""
        import faiss

        inner = faiss.IVFSearchParameters()
        inner.nprobe = min(probes, self._lists.nlist)
        parameters = faiss.SearchParametersPreTransform()
        parameters.index_params = inner
        with _threads(1 if len(queries) < 16 else None):
            positions: Positions = self.faiss_index.search(queries + self._mean, count, params=parameters)[1]
        return positions

    def fits(self, rows: int) -> bool:
        """Whether it can serve so many rows by adding those that are missing."""
        return self.rows <= rows <= OUTGROWN * self.trained_rows

    def extended(self, file: VectorFile, rows: int, stopped: Callable[[], bool]) -> "Index | None":
        """A copy that also has the rows up to `rows`. None if stopped midway."""
        copy = _copied(self.faiss_index)
        with _threads(None):
            for _, vectors in file.blocks(self.rows, rows):
                if stopped():
                    return None
                copy.add(vectors)
        return Index(copy, rows, self.trained_rows)

    def write(self, path: Path) -> int:
        """Write it to a file, durable on return, and give the file's checksum."""
        import os

        import faiss

        faiss.write_index(self.faiss_index, str(path))
        with path.open("r+b") as file:
            os.fsync(file.fileno())
        return _checksum(path)


def train(file: VectorFile, rows: int, dimensions: int) -> Index:
    """An index without rows, made for so many."""
    import faiss

    generator = np.random.default_rng(0)
    chosen = np.sort(generator.choice(rows, min(rows, TRAINING_ROWS), replace=False))
    # Read in stretches: touching the map all over would count the whole file as this process's memory.
    sample = np.concatenate([
        vectors[chosen[(chosen >= first) & (chosen < first + len(vectors))] - first]
        for first, vectors in file.blocks(0, rows)
    ])  # fmt: skip
    centring = faiss.CenteringTransform(dimensions)
    rotation = faiss.RandomRotationMatrix(dimensions, dimensions)
    rotation.init(1)
    lists = max(1, min(int(2 * rows**0.5), len(sample) // 20))
    parameters = faiss.ClusteringParameters()
    parameters.niter, parameters.seed, parameters.spherical = 8, 1, True
    parameters.max_points_per_centroid, parameters.min_points_per_centroid = TRAINING_ROWS, 1
    with _threads(None):
        centring.train(sample)
        sample = rotation.apply(sample - faiss.vector_to_array(centring.mean))
        clustering = faiss.Clustering(dimensions, lists, parameters)
        directions = faiss.IndexFlatIP(dimensions)
        clustering.train(sample, directions)
        centroids = faiss.vector_to_array(clustering.centroids).reshape(lists, dimensions)
        # Codes say how a row differs from its centroid: put the centroids where the rows are, not on the unit sphere.
        length = float(directions.search(sample[:20_000], 1)[0].mean())
        quantizer = faiss.IndexFlatIP(dimensions)
        quantizer.add(centroids * np.float32(max(length, 1e-6)))
        inverted = faiss.IndexIVFRaBitQFastScan(quantizer, dimensions, lists, faiss.METRIC_INNER_PRODUCT)
        inverted.train(sample)
    index = faiss.IndexPreTransform(rotation, inverted)
    index.prepend_transform(centring)
    # faiss frees what Python lets go of: a copy owns all its parts.
    return Index(_copied(index), 0, rows)


def load(path: Path, rows: int, trained_rows: int, checksum: int) -> Index | None:
    """An index from its file. None if the file is missing or damaged: what it says could then be anything."""
    import faiss

    try:
        if _checksum(path) != checksum:
            _log.warning("%s is damaged: searching without it, until the next writer makes a new one", path)
            return None
        return Index(faiss.read_index(str(path)), rows, trained_rows)
    except (OSError, RuntimeError) as error:
        _log.warning("%s cannot be read (%s): searching without it, until the next writer makes a new one", path, error)
        return None


def _copied(index: Any) -> Any:
    import faiss

    return faiss.deserialize_index(faiss.serialize_index(index))  # faiss cannot clone a centring


def _checksum(path: Path) -> int:
    checksum = 0
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            checksum = zlib.crc32(block, checksum)
    return checksum


class _threads:
    """How many threads faiss takes in here, in this thread of ours: one query is fastest, and calmest, with one."""

    def __init__(self, count: int | None) -> None:
        self.count = count

    def __enter__(self) -> None:
        import faiss

        self.before = faiss.omp_get_max_threads()
        if self.count is not None:
            faiss.omp_set_num_threads(self.count)

    def __exit__(self, *_: object) -> None:
        import faiss

        faiss.omp_set_num_threads(self.before)
