"""A collection of images: a store and the model whose vectors are in it. What changes it is in `writable_collection`.

Joins the store, searching and relevance. Methods import what they need: searching loads nothing that only labels or
maps need. Knows no command line and no server.
"""

import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tandem.arrays import Vectors
from tandem.defaults import DUPLICATE_COSINE, HITS, LABELS, MOMENTS, TEXT_WEIGHT, LongTexts
from tandem.errors import TandemError
from tandem.search import identity
from tandem.search.writable_collection import WritableCollection

if TYPE_CHECKING:
    from tandem import prompts
    from tandem.classifying import AnyHead
    from tandem.image import ImageSource
    from tandem.model import Model
    from tandem.scores.relevance import Calibration
    from tandem.search.exploring.duplicates import DuplicateGroup
    from tandem.search.exploring.survey import Survey
    from tandem.search.labelling import LabelledImage
    from tandem.search.query import SearchQuery
    from tandem.search.results import Results, StoredImage


def open_collection(
    url: str | Path, model: "Model | str | Path | None" = None, *, must_exist: bool = False, **loading: Any
) -> "Collection":
    """Open the collection at an address (see `tandem.defaults.ADDRESS_FORMS` for its forms).

    Tokens and credentials come from the environment.

    Args:
        url: the address. A collection that does not exist is created by the first `add`.
        model: a loaded model, or what `tandem.load` takes. None for the collection's own model, or the one that ships
            with Tandem for a new collection.
        must_exist: raise `StoreError` at once if it does not exist.
        loading: passed on to `tandem.load` where the model is loaded here: device, precision and the like.

    Raises: `StoreError`. A model other than the collection's own is refused when it is first used.
    """
    collection = Collection(url, model, loading)
    if must_exist:
        _ = collection.store
    return collection


class Collection(WritableCollection):
    """A searchable collection of images. Readers never wait for the writer."""

    def __repr__(self) -> str:
        if self._opened() is None:
            return f"<tandem.Collection {self.url}: not made yet>"
        return f"<tandem.Collection {self.url}: {self.count():,} images, {self.notes.get('model_name')}>"

    def __len__(self) -> int:
        return self.count()

    @cached_property
    def calibration(self) -> "Calibration | None":
        """The calibration of this model's scores; None if it is not calibrated.

        One that cannot be read gives a warning, and searches go on without it.
        """
        from tandem.scores.calibration_files import load_calibration

        try:
            return load_calibration(self.model)
        except TandemError as error:
            warnings.warn(f"hits are shown without relevance: {error}", stacklevel=3)
            return None

    def count(self, where: str | None = None) -> int:
        """The number of images, or of those that pass the filter."""
        return self.store.count(where)

    def get(self, ids: str | Sequence[str]) -> "list[StoredImage]":
        """The stored data of images by id: of those that exist, in the order of the ids."""
        from tandem.search.results import StoredImage
        from tandem.search.searching import with_list_of_paths

        found = self.store.get([ids] if isinstance(ids, str) else ids, vectors=False)
        return [StoredImage(id, with_list_of_paths(found.row(row))) for row, id in enumerate(found.ids)]

    def info(self) -> identity.CollectionInfo:
        """Information on the collection: its model, size and sources. Does not load the model."""
        return identity.info(self.store)

    def search(
        self,
        text: "str | SearchQuery | None" = None,
        *,
        image: "ImageSource | None" = None,
        like: str | None = None,
        minus: str | None = None,
        minus_image: "ImageSource | None" = None,
        weight: float = TEXT_WEIGHT,
        k: int = HITS,
        offset: int = 0,
        moments: int = MOMENTS,
        where: str | None = None,
        threshold: float | None = None,
        long: LongTexts = "error",
        vectors: Mapping[str, Vectors] | None = None,
    ) -> "Results":
        """Find the images nearest to a text, an image, or both, nearest first.

        Args:
            text: a description of the images; or the whole search as a `SearchQuery`.
            image: an image to find similar ones to; `like` is the id of one in the collection.
            minus, minus_image: a text and an image to avoid.
            weight: the weight of the text beside an image, 0..1.
            k, offset: the number of hits to return, and to skip.
            moments: how many moments of one film come before everything else; its others follow, and last those within
                seconds of a better one. 0 for all, by cosine alone.
            where: a filter over the metadata, such as "width > 1000 and path like '%2023%'".
            threshold: if the best hit is less relevant, nothing matches; None for the calibration's own threshold.
            long: what happens to texts of more tokens than the model takes, as for `Model.embed_texts`.
            vectors: unit vectors [d] that the collection's model computed elsewhere, by field: `{"text": ...}`. The
                image of such a field is not read.

        Raises: `FilterError` for an invalid filter, `StoreError` where there is no collection or it belongs to another
        model, `TandemError` for an invalid query.
        """
        from tandem.search import searching
        from tandem.search.query import SearchQuery

        query = SearchQuery.of(
            text,
            image=image,
            like=like,
            minus=minus,
            minus_image=minus_image,
            weight=weight,
            k=k,
            offset=offset,
            moments=moments,
            where=where,
            threshold=threshold,
            long=long,
        )
        found = searching.search(self.store, self.model, self.calibration, self._sample, query, vectors or {})
        return replace(found, thumbnail=self.thumbnail)

    def label(
        self,
        labels: "prompts.Labels | None" = None,
        *,
        head: "AnyHead | None" = None,
        k: int = HITS,
        templates: str | Sequence[str] | None = None,
        language: str | None = None,
        long: LongTexts = "error",
        independent: bool = False,
        where: str | None = None,
    ) -> "dict[str, list[LabelledImage]]":
        """For each label, the k images most likely to have it rather than another label, with their paths.

        With `independent` the probability is of the label by itself; that, `language`, `long` and `head` as for
        `Model.classify`. The scores of a head's classes are logits.
        """
        from tandem.search.labelling import top_images, with_paths

        names, vectors, scoring = self.model.labels_and_scoring(labels, head, templates, language, long, independent)
        best = top_images(self.store, vectors, k, scoring=scoring, where=where)
        return dict(zip(names, with_paths(self.store, best), strict=True))

    def iter_labels(
        self,
        labels: "prompts.Labels | None" = None,
        *,
        head: "AnyHead | None" = None,
        k: int = LABELS,
        templates: str | Sequence[str] | None = None,
        language: str | None = None,
        long: LongTexts = "error",
        independent: bool = False,
        where: str | None = None,
    ) -> Iterator[tuple[str, list[tuple[str, float]]]]:
        """Yield each image's id and its k likeliest labels with their probabilities; the rest as for `label`."""
        from tandem.search.labelling import top_labels

        names, vectors, scoring = self.model.labels_and_scoring(labels, head, templates, language, long, independent)
        for some in top_labels(self.store, vectors, k, scoring=scoring, where=where):
            for identifier, indices, shares in zip(some.ids, some.labels, some.probabilities, strict=True):
                yield identifier, [(names[index], float(share)) for index, share in zip(indices, shares, strict=True)]

    def duplicates(self, threshold: float = DUPLICATE_COSINE, *, where: str | None = None) -> "list[DuplicateGroup]":
        """Groups of near-duplicates: the image to keep, and the others with their cosines to it."""
        from tandem.search.exploring import duplicates

        return duplicates.find(self.store, threshold, where=where, columns=["path"])

    def explore(self, *, clusters: int | None = None, where: str | None = None, seed: int = 0) -> "Survey":
        """Named clusters, and the coordinates of every image on a two-dimensional map."""
        from tandem.search.exploring.explore import explore

        return explore(self.store, self.model, count=clusters, where=where, seed=seed)

    def thumbnail(self, identifier: str) -> bytes | None:
        """The thumbnail of an image, a small JPEG; None without one."""
        found = self.store.get([identifier], columns=("thumbnail",), vectors=False)
        content = found.columns["thumbnail"][0] if len(found) else None
        return content if isinstance(content, bytes) else None
