"""A collection of images: a store and the model whose vectors are in it.

Joins what others do: indexing fills it, the store finds, relevance says what a score means. It makes sure that
vectors of different models never meet. Knows no command line and no server.
"""

import os
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from tandem.arrays import Vectors
from tandem.errors import StoreError, StoreNotFoundError, TandemError
from tandem.image import ImageSource
from tandem.model import Model
from tandem.search import identity
from tandem.search.calibration_files import load_calibration
from tandem.search.exploring import duplicates
from tandem.search.exploring.survey import Survey
from tandem.search.indexing.image_record import paths_of
from tandem.search.indexing.ledger import Ledger
from tandem.search.indexing.progress import IndexingProgress
from tandem.search.indexing.run import IndexingOptions, IndexingReport, check_not_empty, open_sources
from tandem.search.indexing.sources import Sources
from tandem.search.labelling import Best, top_images, top_labels
from tandem.search.query import SearchQuery, combine, kind_of
from tandem.search.relevance import Calibration, number_of_words, score_stats
from tandem.search.results import Results, SearchHit
from tandem.search.sample import SHARED_COUNT_FOR_S, Sample
from tandem.search.stores import backends as stores
from tandem.search.stores.protocol import Store, Value

NO_SAMPLE: Vectors = np.empty((0, 0), dtype=np.float32)


def open_collection(
    url: str | Path, model: Model | str | Path | None = None, *, must_exist: bool = False, **loading: Any
) -> "Collection":
    """A collection: a local folder, `milvus://host:19530/name`, or `https://...` (token in the environment).

    Args:
        url: where it is. A collection that is not there yet is made by the first `add`.
        model: a loaded model, or what `tandem.load` takes. None for the model that the collection was made with, and
            for a new one the model that ships inside.
        must_exist: raise `StoreError` at once if it is not there.
        loading: passed on to `tandem.load` where the model is loaded here: device, precision and the like.

    Raises: `StoreError`. That a given model is the one that the collection was made with is checked when it is used.
    """
    collection = Collection(url, model, loading)
    if must_exist:
        collection.open()
    return collection


class Collection:
    """Images that can be added, found and taken out. Readers never wait for the one who writes."""

    def __init__(
        self, url: str | Path, model: Model | str | Path | None = None, loading: Mapping[str, Any] | None = None
    ) -> None:
        self._backend = stores.backend(url)
        self.url = self._backend.url
        self._given = model
        self._loading = dict(loading or {})
        self._store: Store | None = None
        self._model: Model | None = None
        self._sample = Sample(count_for_s=SHARED_COUNT_FOR_S if self._backend.is_shared else 0)

    def __repr__(self) -> str:
        if self._opened() is None:
            return f"<tandem.Collection {self.url}: not made yet>"
        return f"<tandem.Collection {self.url}: {self.count():,} images, {self.notes.get('model_name')}>"

    def __enter__(self) -> "Collection":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __len__(self) -> int:
        return self.count()

    def close(self) -> None:
        """Let go of the store. Anything asked afterwards opens it again."""
        if self._store is not None:
            self._store.close()
            self._store = None

    # --- what it joins -------------------------------------------------------------------------------------------

    def open(self) -> Store:
        """The store, opened for reading if it is not yet. `StoreNotFoundError` if there is none."""
        if self._store is None:
            self._store = self._backend.open()
        return self._store

    def _opened(self) -> Store | None:
        """The store; None if there is none yet."""
        try:
            return self.open()
        except StoreNotFoundError:
            return None

    @property
    def store(self) -> Store:
        """What `open` gives."""
        return self.open()

    @property
    def notes(self) -> Mapping[str, str]:
        """What the collection says of itself: its model's name, fingerprint and source among others."""
        return self.store.notes

    def load(self) -> Model:
        """The model, loaded if it is not yet, and known to be the collection's own. `StoreError` for another one."""
        if self._model is None:
            store = self._opened()
            notes = {} if store is None else store.notes
            model = identity.load_model(self.url, notes, self._given, self._loading)
            if store is not None:
                identity.check_model(self.url, notes, model)
            self._model = model
        return self._model

    @property
    def model(self) -> Model:
        """What `load` gives."""
        return self.load()

    @cached_property
    def calibration(self) -> Calibration | None:
        """What turns this model's scores into probabilities; None where it was never calibrated.

        One that cannot be read is no reason not to search: a warning says so.
        """
        try:
            return load_calibration(self.model)
        except TandemError as error:
            warnings.warn(f"hits are shown without relevance: {error}", stacklevel=3)
            return None

    # --- filling it ----------------------------------------------------------------------------------------------

    def add(
        self,
        sources: str | Path | Sequence[str | Path],
        *,
        prune: bool = False,
        fast_decode: bool = False,
        caption: str | None = None,
        exclude: Sequence[str] = (),
        batch_size: int = 32,
        workers: int | None = None,
        on_progress: Callable[[IndexingProgress], None] | None = None,
    ) -> IndexingReport:
        """Put in images: folders, globs, files, WebDataset tars, Parquet files. Makes the collection if need be.

        What is there already and has not changed is skipped; what was stopped goes on. Bad images are set aside in
        `IndexingReport.failures`. `prune` takes out what is gone from the sources. `workers` embeds with Ray Data.
        """
        chosen = [sources] if isinstance(sources, str | os.PathLike) else list(sources)
        options = IndexingOptions(prune, fast_decode, caption, tuple(exclude), batch_size, on_progress=on_progress)
        if workers is not None and workers < 1:
            raise TandemError(f"workers: expected at least 1, got {workers}")
        with open_sources(chosen, options) as found:
            if self._opened() is None:
                check_not_empty(found, caption)  # else an empty collection would be made
            return self._index(found, options, workers)

    def _index(self, found: Sources, options: IndexingOptions, workers: int | None) -> IndexingReport:
        with self._writing(create=True) as store:

            def own() -> Model:
                # The one that is loaded may be of a store that another has taken the place of since it was read.
                identity.check_model(self.url, store.notes, self.model)
                return self.model

            if self._given is not None:
                own()  # another model is refused before anything is read
            with Ledger.open(identity.ledger_path(store)) as ledger:
                if workers is not None:
                    from tandem.search.indexing import on_ray

                    return on_ray.index(store, own, found, ledger, options, workers=workers)
                from tandem.search.indexing import local

                return local.index(store, own, found, ledger, options)

    def delete(self, ids: str | Sequence[str]) -> int:
        """Take images out by id. Gives how many there were. Their files are left alone."""
        with self._writing() as store:
            return store.delete([ids] if isinstance(ids, str) else ids)

    @contextmanager
    def _writing(self, *, create: bool = False) -> Iterator[Store]:
        """The store open for writing, for as long as it takes: nobody is kept from writing in between."""
        try:
            store = self._writable()
        except StoreNotFoundError:
            if not create:
                raise
            store = identity.create(self.url, self.model) or self._writable()
        try:
            yield store
        finally:
            if store is not self._store:
                store.close()
            self._sample.count_again()

    def _writable(self) -> Store:
        """The store open for writing: a shared one that is open for reading is."""
        return self.open() if self._backend.is_shared else self._backend.open(write=True)

    # --- asking it -----------------------------------------------------------------------------------------------

    def count(self, where: str | None = None) -> int:
        """How many images there are, or pass the filter."""
        return self.store.count(where)

    def search(
        self,
        text: str | SearchQuery | None = None,
        *,
        image: ImageSource | None = None,
        like: str | None = None,
        minus: str | None = None,
        minus_image: ImageSource | None = None,
        weight: float = 0.5,
        k: int = 10,
        offset: int = 0,
        where: str | None = None,
        threshold: float | None = None,
        vectors: Mapping[str, Vectors] | None = None,
    ) -> Results:
        """The images nearest to a text, to an image, or to both, the nearest first.

        Args:
            text: what they show, in a sentence or a few words; or the whole search as a `SearchQuery`.
            image: an image they resemble; `like` is the id of one in the collection.
            minus, minus_image: less of this.
            weight: of the text where there is an image too, 0..1.
            k, offset: how many, after how many.
            where: a filter over the metadata, such as "width > 1000 and path like '%2023%'".
            threshold: the relevance below which nothing is said to match well; the calibration's own if None.
            vectors: unit vectors [d] that the collection's model made elsewhere, by the fields they belong to:
                `{"text": ...}`. They are not made again; of such an image only its name is used, in the answer.

        Raises: `FilterError` for a filter that cannot be understood, `StoreError` where there is no collection or it
        was made with another model, `TandemError` for a query that makes no sense.
        """
        query = SearchQuery.of(
            text,
            image=image,
            like=like,
            minus=minus,
            minus_image=minus_image,
            weight=weight,
            k=k,
            offset=offset,
            where=where,
            threshold=threshold,
        )
        model, calibration = self.model, self.calibration
        made = query.vectors(vectors or {}, model.config.embed_dim, model.embed_texts, model.embed_images, self._stored)
        parts = query.parts(made)
        kind = kind_of(parts)
        with self.store.reading():
            count, sample = 0, NO_SAMPLE
            if calibration is not None or len(parts) > 1:
                count, sample = self._sample.now(self.store)
            vector = combine(parts, sample)[None]
            hits = self.store.search(vector, query.k + query.offset, where=query.where)[0]
            relevance: list[float | None] = [None] * len(hits)
            if calibration is not None and hits:
                scores = np.array([[hit.score for hit in hits]], dtype=np.float32)
                # Judged by the whole collection also where a filter narrows the hits: what an image's score means
                # depends on the query, the image and the collection, so that a filter changes no hit's relevance.
                length = [number_of_words(query.text)] if kind == "text" and query.text is not None else []
                stats = score_stats(vector, sample, count)
                relevance = calibration.probability(kind, scores, stats, vector, length)[0].tolist()
            notes = self.notes
            identity.check_model(self.url, notes, model)  # on a server another may have taken its place meanwhile
        threshold = query.threshold
        if calibration is not None and threshold is None:
            threshold = calibration.coefficients(kind).threshold
        found = [
            SearchHit(hit.id, hit.score, probability, _with_paths(hit.metadata))
            for hit, probability in zip(hits, relevance, strict=True)
        ]
        return Results(
            query=query.described(),
            model=notes["model_name"],
            fingerprint=notes["model_fingerprint"],
            hits=tuple(found[query.offset :]),
            best=relevance[0] if hits else None,
            threshold=None if calibration is None else threshold,
            offset=query.offset,
        )

    def _stored(self, identifier: str) -> Vectors:
        found = self.store.get([identifier], columns=())
        if not len(found) or found.vectors is None:
            raise StoreError(f"{self.url}: no image {identifier!r}")
        return np.asarray(found.vectors[0], dtype=np.float32)

    def label(
        self,
        labels: Sequence[str],
        *,
        k: int = 10,
        templates: str | Sequence[str] | None = None,
        where: str | None = None,
    ) -> dict[str, list[Best]]:
        """For each label the k images, of all, that are likeliest to have it rather than another."""
        vectors = self.model.class_vectors(labels, templates)
        best = top_images(self.store, vectors, k, logit_scale=self.model.logit_scale, where=where)
        return dict(zip(labels, best, strict=True))

    def iter_labels(
        self,
        labels: Sequence[str],
        *,
        k: int = 3,
        templates: str | Sequence[str] | None = None,
        where: str | None = None,
    ) -> Iterator[tuple[str, list[tuple[str, float]]]]:
        """For each image, as they come: its id, and its k likeliest labels with their probabilities."""
        vectors = self.model.class_vectors(labels, templates)
        for some in top_labels(self.store, vectors, k, logit_scale=self.model.logit_scale, where=where):
            for name, places, shares in zip(some.ids, some.labels, some.probabilities, strict=True):
                yield name, [(labels[place], float(share)) for place, share in zip(places, shares, strict=True)]

    def duplicates(
        self, threshold: float = duplicates.THRESHOLD, *, where: str | None = None
    ) -> list[duplicates.Group]:
        """Groups of images that are nearly the same: the one to keep, and the others with their cosines to it."""
        return duplicates.find(self.store, threshold, where=where, columns=["path"])

    def explore(self, *, clusters: int | None = None, where: str | None = None, seed: int = 0) -> Survey:
        """Clusters with names, and the place of every image on a map of two dimensions."""
        from tandem.search.exploring.explore import explore

        return explore(self.store, self.model, count=clusters, where=where, seed=seed)

    def thumbnail(self, identifier: str) -> bytes | None:
        """The small JPEG kept of an image; None where there is none."""
        found = self.store.get([identifier], columns=("thumbnail",), vectors=False)
        content = found.columns["thumbnail"][0] if len(found) else None
        return content if isinstance(content, bytes) else None


def _with_paths(values: Mapping[str, Value]) -> dict[str, Value | list[str]]:
    """A record's values with all its paths as a list."""
    return {**values, "paths": paths_of(values)}
