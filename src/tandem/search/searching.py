"""Runs one search: from a query to hits with their relevance. Joins a store, a model and its calibration."""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from tandem.arrays import Vectors
from tandem.errors import StoreError
from tandem.scores.calibration_files import how_to_calibrate
from tandem.scores.relevance import Calibration, MeasuredKind, number_of_words, score_stats
from tandem.search.identity import check_model
from tandem.search.indexing.entries import is_missing
from tandem.search.indexing.image_record import paths_of
from tandem.search.query import SearchQuery, combine, kind_of
from tandem.search.results import Metadata, Results, SearchHit
from tandem.search.sample import CollectionSample
from tandem.search.stores.protocol import Store, StoreHit, Value

if TYPE_CHECKING:
    from tandem.model import Model

NO_SAMPLE: Vectors = np.empty((0, 0), dtype=np.float32)


def search(
    store: Store,
    model: "Model",
    calibration: Calibration | None,
    sampled: CollectionSample,
    query: SearchQuery,
    ready: Mapping[str, Vectors],
) -> Results:
    """The results of a query. `ready` are precomputed vectors of its fields; `sampled` is the store's sample."""

    def stored(id: str) -> Vectors:
        found = store.get([id], columns=())
        if not len(found) or found.vectors is None:
            raise StoreError(f"{store.url}: no image {id!r}")
        return np.asarray(found.vectors[0], dtype=np.float32)

    embed_texts = partial(model.embed_texts, long=query.long)
    vectors = query.vectors(ready, model.config.embed_dim, embed_texts, model.embed_images, stored)
    parts = query.parts(vectors)
    kind = kind_of(parts)
    with store.reading():
        count, sample = 0, NO_SAMPLE
        if calibration is not None or len(parts) > 1:
            count, sample = sampled.now(store)
        vector = combine(parts, sample)[None]
        hits = store.search(vector, query.k + query.offset, where=query.where)[0]
        relevance: list[float | None] = [None] * len(hits)
        reason = _why_not(calibration, model, query.measured_kinds(parts), count)
        if calibration is not None and reason is None and hits:
            scores = np.array([[hit.score for hit in hits]], dtype=np.float32)
            # Relevance depends on query, image and the whole collection: a filter changes no hit's relevance.
            length = [number_of_words(query.text)] if kind == "text" and query.text is not None else []
            stats = score_stats(vector, sample, count)
            relevance = calibration.probability(kind, scores, stats, vector, length)[0].tolist()
        notes = store.notes
        check_model(store.url, notes, model)  # on a server another may have taken its place meanwhile
    threshold = None
    if calibration is not None and reason is None:
        threshold = calibration.coefficients(kind).threshold if query.threshold is None else query.threshold
    shown = zip(hits[query.offset :], relevance[query.offset :], strict=True)
    return Results(
        query=query.described(),
        model=notes["model_name"],
        fingerprint=notes["model_fingerprint"],
        hits=tuple(_hit(hit, probability) for hit, probability in shown),
        best=relevance[0] if hits else None,
        threshold=threshold,
        offset=query.offset,
        relevance_reason=reason,
    )


def _why_not(calibration: Calibration | None, model: "Model", kinds: Sequence[MeasuredKind], count: int) -> str | None:
    """Why hits have no relevance, in one line; None where they have one."""
    if calibration is None:
        return f"{model.name} has no calibration; {how_to_calibrate(model)}"
    return calibration.cannot_tell(kinds, count)


def with_list_of_paths(values: Mapping[str, Value]) -> Metadata:
    """A record's values with all its paths as a list."""
    return {**values, "paths": paths_of(values)}


def _hit(hit: StoreHit, relevance: float | None) -> SearchHit:
    paths = paths_of(hit.metadata)
    return SearchHit(hit.id, hit.score, relevance, {**hit.metadata, "paths": paths}, is_missing(paths))
