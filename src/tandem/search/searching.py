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
from tandem.videos.naming import moment_of

if TYPE_CHECKING:
    from tandem.model import Model

APART_S = 15.0  # between two moments of a film in one answer: three times what frames of a scene are apart
MOST_ASKED = 4096  # hits that are looked at for moments that are apart
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
        hits = _nearest(store, vector, query)
        relevance: list[float | None] = [None] * len(hits)
        reason = _why_not(calibration, model, query.measured_kinds(parts), count)
        if calibration is not None and reason is None and hits:
            scores = np.array([[hit.score for hit in hits]], dtype=np.float32)
            # Relevance depends on query, image and the whole collection: a filter changes no hit's relevance.
            length = [number_of_words(query.text)] if kind == "text" and query.text is not None else []
            stats = score_stats(vector, sample, count)
            relevance = calibration.probability(kind, scores, stats, vector, length)[0].tolist()
        notes = store.notes
        # On a server another may have taken its place meanwhile
        check_model(store.url, notes, model, store.schema.dimensions)
    threshold = None
    if calibration is not None and reason is None:
        threshold = calibration.coefficients(kind).threshold if query.threshold is None else query.threshold
    shown = zip(hits[query.offset :], relevance[query.offset :], strict=True)
    return Results(
        query=query.described(),
        # A quantised model that stands in for the collection's own says so
        model=notes["model_name"] if model.fingerprint == notes["model_fingerprint"] else model.name,
        fingerprint=model.fingerprint,
        hits=tuple(_hit(hit, probability) for hit, probability in shown),
        best=relevance[0] if hits else None,
        threshold=threshold,
        offset=query.offset,
        relevance_reason=reason,
    )


def _nearest(store: Store, vector: Vectors, query: SearchQuery) -> list[StoreHit]:
    """The hits up to the last that is shown: more are asked for where moments of films stand back."""
    wanted = asked = query.k + query.offset
    while True:
        hits = store.search(vector, asked, where=query.where)[0]
        if not query.moments or all(moment_of(str(hit.metadata.get("path") or "")) is None for hit in hits):
            return hits
        first, later, near = spread(hits, query.moments)
        if len(first) >= wanted or len(hits) < asked or asked >= MOST_ASKED:
            return [*first, *later, *near][:wanted]
        asked = min(4 * asked, max(wanted, MOST_ASKED))


def spread(hits: Sequence[StoreHit], most: int) -> tuple[list[StoreHit], list[StoreHit], list[StoreHit]]:
    """Hits in three parts: up to `most` moments of each film with all photos, its other moments, and those next to
    better ones.

    Each in the order of the hits. So no film fills an answer, and pages of an answer fit together.
    """
    first: list[StoreHit] = []
    later: list[StoreHit] = []
    near: list[StoreHit] = []
    taken: dict[str, list[float]] = {}
    for hit in hits:
        moment = moment_of(str(hit.metadata.get("path") or ""))
        if moment is None:
            first.append(hit)
            continue
        times = taken.setdefault(moment[0], [])
        if all(abs(moment[1] - time_s) >= APART_S for time_s in times):
            times.append(moment[1])
            (first if len(times) <= most else later).append(hit)
        else:
            near.append(hit)
    return first, later, near


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
