"""A collection of pictures: a store and the model whose vectors are in it.

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

from tandem.errors import StoreError, TandemError
from tandem.image import ImageSource
from tandem.model import Model, load
from tandem.search import store as stores
from tandem.search.calibration.calibrate import load_fit
from tandem.search.exploring import duplicates
from tandem.search.exploring.survey import Survey
from tandem.search.identity import check_model, ledger_path, notes_for, schema_for
from tandem.search.indexing.ledger import Ledger
from tandem.search.indexing.progress import Progress
from tandem.search.indexing.run import Report
from tandem.search.indexing.sources import find
from tandem.search.labelling import Best, best_labels, best_pictures
from tandem.search.query import Part, combine, kind_of
from tandem.search.relevance import Fit, background, number_of_words
from tandem.search.results import Found, Results
from tandem.search.store import Store, Vectors

SAMPLED = 4096  # records that stand for the whole when a score is judged
FEWEST = 100  # pictures that a filter is taken to leave when relevance is judged
MINUS = 0.5  # how strongly `minus` pushes away, beside 1 for all that is looked for


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
    text = _address(url)
    collection = Collection(text, model, loading)
    if must_exist:
        collection.store  # noqa: B018 (opens it)
    return collection


def _address(url: str | Path) -> str:
    """What the stores take. `StoreError` for what is meant as neither folder nor server that we know."""
    text = str(url)
    if stores.is_server(text):
        return text
    if not text.strip() or "://" in text:
        raise StoreError(f"expected a folder, milvus://HOST:PORT/NAME or https://..., got {text!r}")
    return str(Path(text).expanduser())


class Collection:
    """Pictures that can be added, found and taken out. Readers never wait for the one who writes."""

    def __init__(
        self, url: str, model: Model | str | Path | None = None, loading: Mapping[str, Any] | None = None
    ) -> None:
        self.url = url
        self._given = model
        self._loading = dict(loading or {})
        self._store: Store | None = None
        self._model: Model | None = None

    def __repr__(self) -> str:
        if self._store is None and not stores.exists(self.url):
            return f"<tandem.Collection {self.url}: not made yet>"
        return f"<tandem.Collection {self.url}: {self.count():,} pictures, {self.notes.get('model_name')}>"

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

    @property
    def store(self) -> Store:
        """The store, open for reading. `StoreError` if there is none."""
        if self._store is None:
            if not stores.exists(self.url):
                raise StoreError(f"{self.url}: {_what_is_there(self.url)}")
            self._store = stores.open_store(self.url)
        return self._store

    @property
    def notes(self) -> Mapping[str, str]:
        """What the collection says of itself: its model's name, fingerprint and source among others."""
        return self.store.notes

    @property
    def model(self) -> Model:
        """The model, loaded on first use and known to be the collection's own. `StoreError` that names both if not."""
        if self._model is None:
            exists = self._store is not None or stores.exists(self.url)
            model = self._load(self.notes if exists else {})
            if exists:
                check_model(self.url, self.notes, model)
            self._model = model
        return self._model

    @property
    def model_was_named(self) -> bool:
        """Whether someone asked for a model, rather than for whatever the collection holds."""
        return self._given is not None

    def _load(self, notes: Mapping[str, str]) -> Model:
        if isinstance(self._given, Model):
            return self._given
        source = self._given or notes.get("model_source") or None
        try:
            return load(source, **self._loading)
        except TandemError as error:
            if self._given is not None or source is None:
                raise
            name = notes.get("model_name", "its model")
            raise StoreError(
                f"{self.url} was made with {name}, which cannot be loaded: {error}; give it as model"
            ) from None

    @cached_property
    def fit(self) -> Fit | None:
        """What turns this model's scores into probabilities; None where it was never calibrated.

        One that cannot be read is no reason not to search: a warning says so.
        """
        try:
            return load_fit(self.model)
        except TandemError as error:
            warnings.warn(f"hits are shown without relevance: {error}", stacklevel=3)
            return None

    @cached_property
    def _sample(self) -> Vectors:
        return self.store.sample(SAMPLED)

    # --- filling it ----------------------------------------------------------------------------------------------

    def add(
        self,
        sources: str | Path | Sequence[str | Path],
        *,
        prune: bool = False,
        fast_decode: bool = False,
        caption: str | None = None,
        batch_size: int = 32,
        workers: int | None = None,
        on_progress: Callable[[Progress], None] | None = None,
    ) -> Report:
        """Put in pictures: folders, globs, files, WebDataset tars, Parquet files. Makes the collection if need be.

        What is there already and has not changed is skipped; what was stopped goes on. Bad pictures are set aside in
        `Report.failures`. `prune` takes out what is gone from the sources. `workers` embeds with Ray Data.
        """
        chosen = [sources] if isinstance(sources, str | os.PathLike) else list(sources)
        for name, number in (("batch_size", batch_size), ("workers", 1 if workers is None else workers)):
            if number < 1:
                raise TandemError(f"{name}: expected at least 1, got {number}")
        if not stores.exists(self.url):
            readable_twice = [source for source in chosen if str(source) != "-"]
            if readable_twice or not chosen:
                find(readable_twice).__exit__()  # no collection is made in vain
        with self._writing(create=True) as store:
            if self.model_was_named:
                self.model  # noqa: B018 (refuses another model before anything is read)
            with Ledger.open(ledger_path(self.url, store.notes)) as ledger:
                asked: dict[str, Any] = {
                    "ledger": ledger,
                    "prune": prune,
                    "fast_decode": fast_decode,
                    "caption": caption,
                    "batch_size": batch_size,
                    "on_progress": on_progress,
                }
                if workers is not None:
                    from tandem.search.indexing import on_ray

                    return on_ray.index(store, lambda: self.model, chosen, workers=workers, **asked)
                from tandem.search.indexing import local

                return local.index(store, lambda: self.model, chosen, **asked)

    def delete(self, ids: str | Sequence[str]) -> int:
        """Take pictures out by id. Gives how many there were. Their files are left alone."""
        with self._writing() as store:
            return store.delete([ids] if isinstance(ids, str) else ids)

    @contextmanager
    def _writing(self, *, create: bool = False) -> Iterator[Store]:
        """The store open for writing, for as long as it takes: nobody is kept from writing in between."""
        if create and (made := self._create()) is not None:
            store = made
        elif stores.is_server(self.url):
            yield self.store
            return
        else:
            store = stores.open_store(self.url, write=True)
        try:
            yield store
        finally:
            store.close()
            self.__dict__.pop("_sample", None)

    def _create(self) -> Store | None:
        """A new collection, open for writing; None where there is one, also one made by another just now."""
        if stores.exists(self.url):
            return None
        model = self.model
        try:
            return stores.create_store(self.url, schema_for(model), notes_for(model))
        except StoreError:
            if not stores.exists(self.url):
                raise
        check_model(self.url, self.notes, model)
        return None

    # --- asking it -----------------------------------------------------------------------------------------------

    def count(self, where: str | None = None) -> int:
        """How many pictures there are, or pass the filter."""
        return self.store.count(where)

    def search(
        self,
        words: str | None = None,
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
    ) -> Results:
        """The pictures nearest to words, to a picture, or to both, the nearest first.

        Args:
            words: what they show, in a sentence or a few words.
            image: a picture they resemble; `like` is the id of one in the collection.
            minus, minus_image: less of this.
            weight: of the words where there is a picture too, 0..1.
            k, offset: how many, after how many.
            where: a filter over the metadata, such as "width > 1000 and path like '%2023%'".
            threshold: the relevance below which nothing is said to match well; the calibration's own if None.

        Raises: `FilterError` for a filter that cannot be understood, `StoreError` where there is no collection or it
        was made with another model, `TandemError` where nothing is asked.
        """
        _check_request(words, minus, weight, k, offset, threshold)
        parts = self._parts(words, image, like, minus, minus_image, weight)
        query = combine(parts, self._sample if len(parts) > 1 else np.empty((0, 0), dtype=np.float32))
        hits = self.store.search(query[None], k + offset, where=where)[0]
        relevance: list[float | None] = [None] * len(hits)
        fit = self.fit
        if fit is not None and hits:
            scores = np.array([[hit.score for hit in hits]], dtype=np.float32)
            # Few that pass a filter were not chosen for the query: they do not promise that one of them is meant.
            count = max(self.count(where), min(self.count(), FEWEST)) if where is not None else self.count()
            standing = background(query[None], self._sample, count)
            kind = kind_of(parts)
            length = [number_of_words(words)] if kind == "words" and words is not None else []
            relevance = [float(p) for p in fit.probability(kind, scores, standing, query[None], length)[0]]
        if threshold is None and fit is not None:
            threshold = fit.terms(kind_of(parts)).threshold
        return Results(
            query=_described(words, image, like, minus, minus_image),
            model=self.notes["model_name"],
            fingerprint=self.notes["model_fingerprint"],
            hits=tuple(
                Found(hit.id, hit.score, probability, hit.metadata)
                for hit, probability in zip(hits[offset:], relevance[offset:], strict=True)
            ),
            best=relevance[0] if hits else None,
            threshold=threshold if fit is not None else None,
            offset=offset,
        )

    def _parts(
        self,
        words: str | None,
        image: ImageSource | None,
        like: str | None,
        minus: str | None,
        minus_image: ImageSource | None,
        weight: float,
    ) -> list[Part]:
        model = self.model
        pictures = (image is not None) + (like is not None)
        if words is None and not pictures:
            raise TandemError("nothing to look for: give words, or a picture")
        of_words = 1.0 if not pictures else weight if words is not None else 0.0
        of_picture = (1 - of_words) / max(pictures, 1)
        parts = []
        if words is not None:
            parts.append(Part("words", model.embed_texts(words)[0], of_words))
        if image is not None:
            parts.append(Part("picture", model.embed_images(image)[0], of_picture))
        if like is not None:
            parts.append(Part("picture", self._vector(like), of_picture))
        if minus is not None:
            parts.append(Part("words", model.embed_texts(minus)[0], -MINUS))
        if minus_image is not None:
            parts.append(Part("picture", model.embed_images(minus_image)[0], -MINUS))
        return parts

    def _vector(self, identifier: str) -> Vectors:
        found = self.store.get([identifier], columns=())
        if not len(found) or found.vectors is None:
            raise StoreError(f"{self.url}: no picture {identifier!r}")
        return np.asarray(found.vectors[0], dtype=np.float32)

    def label(
        self,
        labels: Sequence[str],
        *,
        k: int = 10,
        templates: str | Sequence[str] | None = None,
        where: str | None = None,
    ) -> dict[str, list[Best]]:
        """For each label the k pictures, of all, that are likeliest to have it rather than another."""
        vectors = self.model.class_vectors(labels, templates)
        best = best_pictures(self.store, vectors, k, logit_scale=self.model.logit_scale, where=where)
        return dict(zip(labels, best, strict=True))

    def iter_labels(
        self,
        labels: Sequence[str],
        *,
        k: int = 3,
        templates: str | Sequence[str] | None = None,
        where: str | None = None,
    ) -> Iterator[tuple[str, list[tuple[str, float]]]]:
        """For each picture, as they come: its id, and its k likeliest labels with their probabilities."""
        vectors = self.model.class_vectors(labels, templates)
        for some in best_labels(self.store, vectors, k, logit_scale=self.model.logit_scale, where=where):
            for name, places, shares in zip(some.ids, some.labels, some.probabilities, strict=True):
                yield name, [(labels[place], float(share)) for place, share in zip(places, shares, strict=True)]

    def duplicates(
        self, threshold: float = duplicates.THRESHOLD, *, where: str | None = None
    ) -> list[duplicates.Group]:
        """Groups of pictures that are nearly the same: the one to keep, and the others with their cosines to it."""
        return duplicates.find(self.store, threshold, where=where, columns=["path"])

    def explore(self, *, clusters: int | None = None, where: str | None = None, seed: int = 0) -> Survey:
        """Clusters with names, and the place of every picture on a map of two dimensions."""
        from tandem.search.exploring.explore import explore

        return explore(self.store, self.model, count=clusters, where=where, seed=seed)

    def thumbnail(self, identifier: str) -> bytes | None:
        """The small JPEG kept of a picture; None where there is none."""
        found = self.store.get([identifier], columns=("thumbnail",), vectors=False)
        content = found.columns["thumbnail"][0] if len(found) else None
        return content if isinstance(content, bytes) else None


def _what_is_there(url: str) -> str:
    """Why a collection cannot be opened at this address, and what to do."""
    path = Path(url)
    if stores.is_server(url) or not path.exists() or (path.is_dir() and not any(path.iterdir())):
        return f"no collection there; make one: tandem index ~/Pictures --to {url}"
    what = "a folder of other things" if path.is_dir() else "a file"
    return f"expected a collection, got {what}; to search in it: tandem index {url} --to photos.tandem"


def _check_request(
    words: str | None, minus: str | None, weight: float, k: int, offset: int, threshold: float | None
) -> None:
    for name, text in (("words", words), ("minus", minus)):
        if text is not None and (not isinstance(text, str) or not text.strip()):
            raise TandemError(f"{name}: expected words, got {text!r}")
    if not 0 <= weight <= 1:
        raise TandemError(f"weight: expected 0..1, the share of the words, got {weight:g}")
    if k < 1:
        raise TandemError(f"k: expected at least 1, got {k}")
    if offset < 0:
        raise TandemError(f"offset: expected at least 0, got {offset}")
    if threshold is not None and not 0 <= threshold <= 1:
        raise TandemError(f"threshold: expected a probability in 0..1, got {threshold:g}")


def _described(
    words: str | None,
    image: ImageSource | None,
    like: str | None,
    minus: str | None,
    minus_image: ImageSource | None,
) -> dict[str, str]:
    from tandem.image import source_name

    query = {"words": words, "like": like, "minus": minus}
    query |= {
        name: None if it is None else source_name(it) for name, it in (("image", image), ("minus_image", minus_image))
    }
    return {name: value for name, value in query.items() if value is not None}
