"""One scan of a collection that puts each record in its cluster and on the map.

Joins a store with `clusters` and `map2d`; memory is bounded by the sample, and by twelve bytes for each record.

Shapes: n records, c clusters, s sampled, d dimensions.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from tandem.arrays import Vectors
from tandem.search.exploring.clusters import Census
from tandem.search.exploring.map2d import LANDMARKS, Coordinates, MapLayout
from tandem.search.stores.protocol import Records, Store

HEART_FROM = 1000  # members of a cluster that say where it is densest


class Representative(NamedTuple):
    """An image that stands for its cluster, and its place on the map."""

    id: str
    x: float
    y: float


@dataclass(frozen=True)
class Cluster:
    """A part of a collection. `x` and `y` are where most of it is on the map."""

    name: str | None  # None where no word clearly sets it apart
    words: tuple[str, ...]  # that describe it, the name first; none without a name
    size: int
    coherence: float  # mean cosine of its members to its centre
    x: float
    y: float
    representatives: tuple[Representative, ...]  # the nearest to its centre first

    def as_dict(self, digits: int) -> dict[str, Any]:
        """As documents with a map have it, with so many digits behind the point."""
        return {
            "name": self.name,
            "words": list(self.words),
            "size": self.size,
            "coherence": round(self.coherence, digits),
            "x": round(self.x, digits),
            "y": round(self.y, digits),
            "representatives": [representative.id for representative in self.representatives],
        }


def survey_rows(
    records: Records,
    coordinates: Coordinates,
    clusters: NDArray[np.int32],
    *,
    digits: int,
    start: int = 0,
    step: int = 1,
) -> Iterator[dict[str, Any]]:
    """`{"id", "path", "x", "y", "cluster"}` of every `step`th of these records, from `start` on, as documents with a
    map have them.
    """
    paths = records.columns.get("path", [None] * len(records))
    for row in range(start, len(records), step):
        x, y = coordinates[row].tolist()
        yield {
            "id": records.ids[row],
            "path": paths[row],
            "x": round(x, digits),
            "y": round(y, digits),
            "cluster": int(clusters[row]),
        }


@dataclass(frozen=True)
class Survey:
    """Where everything is: places [n 2] and clusters int32 [n] in the order of the scan."""

    coordinates: Coordinates
    cluster_of: NDArray[np.int32]
    clusters: tuple[Cluster, ...]


def take_sample(
    store: Store, *, where: str | None = None, most: int = LANDMARKS, seed: int = 0,
    advance: Callable[[int], None] = lambda _: None,
) -> Vectors:  # fmt: skip
    """Vectors [s d] of at most `most` records that pass the filter, in the scan's order, each with equal chance."""
    count = store.count(where)
    chosen = np.random.default_rng(seed).permutation(count)[:most] if count > most else np.arange(count)
    wanted = np.zeros(count, dtype=bool)
    wanted[chosen] = True
    parts, seen = [np.empty((0, store.schema.dimensions), dtype=np.float32)], 0
    for batch in store.scan(where=where, columns=[]):
        kept = wanted[seen : seen + len(batch)]  # records that came since the count have no part in it
        assert batch.vectors is not None
        parts.append(batch.vectors[: len(kept)][kept])
        seen += len(batch)
        advance(len(batch))
    return np.concatenate(parts)


def survey(
    store: Store,
    layout: MapLayout,
    centres: Vectors,
    words: Sequence[tuple[str, ...]],
    *,
    where: str | None = None,
    columns: Sequence[str] = (),
    each: Callable[[Records, Coordinates, NDArray[np.int32]], None] = lambda *_: None,
    advance: Callable[[int], None] = lambda _: None,
) -> Survey:
    """Scan everything once. `centres` [c d] with their `words`; empty clusters stay, with no place of their own.

    `each` gets every batch with the places and clusters of its records, and `columns` of them: what is to be written
    down need not be kept.
    """
    census = Census(centres)
    coordinates, clusters = [np.empty((0, 2), dtype=np.float32)], [np.empty(0, dtype=np.int32)]
    for batch in store.scan(where=where, columns=list(columns)):
        assert batch.vectors is not None
        clusters.append(census.add(batch.ids, batch.vectors))
        coordinates.append(layout.place(batch.vectors))
        each(batch, coordinates[-1], clusters[-1])
        advance(len(batch))
    all_places, all_clusters = np.concatenate(coordinates), np.concatenate(clusters)
    coherence = census.coherence()
    found = []
    for cluster, described in enumerate(words):
        x, y = heart(all_places[all_clusters == cluster])
        found.append(
            Cluster(
                next(iter(described), None), described, int(census.sizes[cluster]), float(coherence[cluster]), x, y,
                _placed(store, layout, [id for _, id in census.nearest[cluster]]),
            )
        )  # fmt: skip
    return Survey(all_places, all_clusters, tuple(found))


def _placed(store: Store, layout: MapLayout, ids: Sequence[str]) -> tuple[Representative, ...]:
    records = store.get(ids, columns=[])
    assert records.vectors is not None
    coordinates = layout.place(records.vectors)
    return tuple(Representative(id, float(x), float(y)) for id, (x, y) in zip(records.ids, coordinates, strict=True))


def heart(coordinates: Coordinates) -> tuple[float, float]:
    """The place [2] among some [n 2] that has most of the others around it: a mean may lie where none of them is."""
    if not len(coordinates):
        return 0.0, 0.0
    some = coordinates[:: -(-len(coordinates) // HEART_FROM)].astype(np.float64)
    apart = ((some[:, None] - some[None]) ** 2).sum(axis=-1)
    width = max(float(np.median(apart)), 1e-12) / 4
    x, y = some[int(np.exp(-apart / width).sum(axis=1).argmax())]
    return float(x), float(y)
