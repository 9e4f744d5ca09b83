"""Near-duplicates: groups of records whose vectors are almost one, and which of each group is worth keeping.

Memory is bounded by blocks, and by the images that have a duplicate, never by pairs. Knows a store, and three of
its columns by name if it has them (`width`, `height`, `bytes`): the largest image is the one to keep.

Shapes: n records, m members of a group, d dimensions.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tandem.arrays import Vectors
from tandem.defaults import DUPLICATE_COSINE
from tandem.errors import TandemError
from tandem.search.stores.protocol import Records, Store, Value

EXACT_UP_TO = 65_536  # records compared each with each (128 MB at 512 dimensions); above, by the store's own search
BLOCK = 2048
FIRST_K, MOST_K = 4, 1024


@dataclass(frozen=True)
class Member:
    """A record of a group: its cosine to the one that is kept (of which it is 1), and its values."""

    id: str
    score: float
    metadata: Mapping[str, Value]


@dataclass(frozen=True)
class DuplicateGroup:
    """Near-duplicates, the one to keep first, then the nearest to it first."""

    members: tuple[Member, ...]

    @property
    def kept(self) -> Member:
        return self.members[0]

    @property
    def others(self) -> tuple[Member, ...]:
        return self.members[1:]

    @property
    def freed_bytes(self) -> int:
        """Bytes of all members but the one to keep."""
        return sum(_number(member.metadata, "bytes") for member in self.others)


def find(
    store: Store,
    threshold: float = DUPLICATE_COSINE,
    *,
    where: str | None = None,
    columns: Sequence[str] = (),
    advance: Callable[[int], None] = lambda _: None,
) -> list[DuplicateGroup]:
    """The groups of a whole collection, those that free most bytes first. Moments of films are no files, and left out.

    `columns` are what members bring along, besides what decides which is kept. `advance` is told how many records
    have been compared.
    """
    check_threshold(threshold)
    if "time" in store.schema.columns:
        where = "time is null" if where is None else f"({where}) and time is null"
    joined = _Joined()
    if store.count(where) <= EXACT_UP_TO:
        batches = list(store.scan(where=where, columns=[]))
        ids = [id for batch in batches for id in batch.ids]
        vectors = np.concatenate([_vectors(batch) for batch in batches]) if batches else np.empty((0, 1), np.float32)
        for block, others in pairs(vectors, threshold, advance=advance):
            for one, other in zip(block.tolist(), others.tolist(), strict=True):
                joined.join(ids[one], ids[other])
    else:
        for one_id, other_id in _pairs_by_search(store, threshold, where, advance):
            joined.join(one_id, other_id)
    wanted = [name for name in dict.fromkeys((*columns, "width", "height", "bytes")) if name in store.schema.columns]
    groups = [
        group for ids in joined.sets() for group in _divided(store.get(ids, columns=wanted), threshold)
    ]  # fmt: skip
    return sorted(groups, key=lambda group: (-group.freed_bytes, group.kept.id))


def check_threshold(threshold: float) -> None:
    """Refuse thresholds that are no cosines, or under which everything is a duplicate, before the long work."""
    if not 0 < threshold <= 1:
        raise TandemError(f"duplicates: expected a cosine above 0 and up to 1 as threshold, got {threshold:g}")


def pairs(
    vectors: Vectors, threshold: float, *, advance: Callable[[int], None] = lambda _: None
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """The pairs i < j of float32 [n d] whose cosine is at least `threshold`, as two arrays for each pair of blocks."""
    for begin in range(0, len(vectors), BLOCK):
        block = vectors[begin : begin + BLOCK]
        for other_begin in range(begin, len(vectors), BLOCK):
            near = block @ vectors[other_begin : other_begin + BLOCK].T >= threshold  # [block block]
            if other_begin == begin:
                near = np.triu(near, 1)
            rows, columns = np.nonzero(near)
            if len(rows):
                yield rows + begin, columns + other_begin
        advance(len(block))


def _pairs_by_search(
    store: Store, threshold: float, where: str | None, advance: Callable[[int], None]
) -> Iterator[tuple[str, str]]:
    """Pairs of ids, found by asking for each record's neighbours, and for more as long as all of them are near.

    A record that has more than `MOST_K` duplicates is joined to that many, and through them to the others.
    """
    for batch in store.scan(where=where, columns=[], batch_size=BLOCK):
        ids, vectors, k = np.array(batch.ids, dtype=object), _vectors(batch), FIRST_K
        while len(ids):
            found = store.search(vectors, k, where=where, columns=[])
            for id, hits in zip(ids, found, strict=True):
                yield from ((id, hit.id) for hit in hits if hit.score >= threshold and hit.id != id)
            full = [len(hits) == k and hits[-1].score >= threshold for hits in found]
            if k >= MOST_K:
                break
            ids, vectors, k = ids[full], vectors[full], 4 * k
        advance(len(batch))


class _Joined:
    """Disjoint sets of ids that grow together (union-find, with halved paths)."""

    def __init__(self) -> None:
        self.parent: dict[str, str] = {}

    def join(self, one: str, other: str) -> None:
        first, second = sorted((self._root(one), self._root(other)))  # whatever the order, the same root
        self.parent[second] = first

    def sets(self) -> list[list[str]]:
        gathered: dict[str, list[str]] = {}
        for id in sorted(self.parent):
            gathered.setdefault(self._root(id), []).append(id)
        return list(gathered.values())

    def _root(self, id: str) -> str:
        self.parent.setdefault(id, id)
        while self.parent[id] != id:
            self.parent[id] = self.parent[self.parent[id]]
            id = self.parent[id]
        return id


def _divided(records: Records, threshold: float) -> Iterable[DuplicateGroup]:
    """Split a connected set into groups in which each member is near the one that is kept.

    A series of photos hangs together by its neighbours, while its ends may show different things: only what is as
    near as the threshold to the image that stays may be called its duplicate.
    """
    rows = [records.row(index) for index in range(len(records))]
    vectors = _vectors(records)
    remaining = np.array(sorted(range(len(rows)), key=lambda i: (*_worth(rows[i]), records.ids[i])), dtype=np.int64)
    while len(remaining) > 1:
        scores = vectors[remaining] @ vectors[remaining[0]]  # [m]
        scores[0] = 1.0
        near = scores >= threshold
        if near.sum() > 1:
            order = np.argsort(-scores[near][1:], kind="stable") + 1
            chosen = [0, *order.tolist()]
            yield DuplicateGroup(
                tuple(
                    Member(records.ids[i], min(float(score), 1.0), rows[i])
                    for i, score in zip(remaining[near][chosen].tolist(), scores[near][chosen], strict=True)
                )
            )
        remaining = remaining[~near]


def _worth(row: Mapping[str, Value]) -> tuple[int, int]:
    """Sorts the image to keep to the front: most pixels, then most bytes (the least compressed)."""
    return -_number(row, "width") * _number(row, "height"), -_number(row, "bytes")


def _number(row: Mapping[str, Value], column: str) -> int:
    value = row.get(column)
    return int(value) if isinstance(value, int | float) else 0


def _vectors(records: Records) -> Vectors:
    if records.vectors is None:
        raise TandemError("expected records with their vectors, got none")
    return records.vectors
