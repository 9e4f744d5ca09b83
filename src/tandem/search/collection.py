"""A collection of images: a store and the model whose vectors are in it.

Joins indexing, the store and relevance. Methods import what they need, so that searching does not load indexing, nor
indexing what only searches need. Knows no command line and no server.
"""

import shlex
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from tandem.arrays import Vectors
from tandem.defaults import BATCH_SIZE, DUPLICATE_COSINE, HITS, LABELS, MOMENTS, TEXT_WEIGHT, LongTexts
from tandem.errors import StoreError, TandemError
from tandem.search import identity
from tandem.search.store_and_model import StoreAndModel
from tandem.search.stores.protocol import Store, Value

if TYPE_CHECKING:
    from tandem import prompts
    from tandem.classifying import AnyHead
    from tandem.image import ImageSource
    from tandem.model import Model
    from tandem.scores.relevance import Calibration
    from tandem.search.checking import Check
    from tandem.search.exploring.duplicates import DuplicateGroup
    from tandem.search.exploring.survey import Survey
    from tandem.search.indexing.in_memory import Named
    from tandem.search.indexing.progress import IndexingProgress
    from tandem.search.indexing.run import IndexingOptions, IndexingReport
    from tandem.search.indexing.sources import Sources
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


class Collection(StoreAndModel):
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

    # --- filling it ----------------------------------------------------------------------------------------------

    def add(
        self,
        sources: "str | Path | Iterable[str | Path] | ImageSource | Iterable[ImageSource] | Mapping[str, ImageSource]",
        *,
        ids: str | Iterable[str] | None = None,
        prune: bool = False,
        fast_decode: bool = False,
        caption: str | None = None,
        exclude: Sequence[str] = (),
        every: float | None = None,
        any_path: bool = False,
        batch_size: int = BATCH_SIZE,
        workers: int | None = None,
        progress: bool | None = None,
        on_progress: "Callable[[IndexingProgress], None] | None" = None,
    ) -> "IndexingReport":
        """Add images. Creates the collection if it does not exist.

        Args:
            sources: folders, globs, photos, films, WebDataset tars and Parquet files; or images in memory (PIL images,
                arrays, bytes): one, several, or a mapping from ids to images.
            ids: ids of images in memory; hashes of their content if None. Images with existing ids are replaced, unless
                they are indexed files.
            prune: delete images whose files are gone from the sources.
            fast_decode: let large JPEGs shrink while they are decoded.
            caption: the key or column of captions; the usual names are tried if None.
            exclude: patterns, as in a .gitignore, of files to exclude from folders and globs, in addition to
                `.tandemignore` files.
            every: seconds between the moments of a film that are kept within a scene; 5 if None. Films need the extra
                `video`.
            any_path: read files that Parquet names outside of the folder that it is in.
            batch_size: the number of images that are encoded, and committed, at once.
            workers: index with this many encoders on Ray.
            progress: show a bar; None shows it in terminals and notebooks.
            on_progress: called a few times a second instead.

        Unchanged images are not read again, and an interrupted call can be repeated to resume. Images that cannot be
        read are listed in `IndexingReport.failures`.
        """
        from tandem.search.indexing import in_memory
        from tandem.search.indexing.progress import bar
        from tandem.search.indexing.run import IndexingOptions, check_arguments, check_not_empty

        check_arguments(batch_size, workers, exclude, every)
        chosen = in_memory.named_images(sources, ids)
        if not isinstance(chosen, list):
            given = {"prune": prune, "fast_decode": fast_decode, "caption": caption, "exclude": exclude}
            in_memory.refuse(**given, every=every, workers=workers)
            with in_memory.reporting(sources, progress, on_progress) as report:
                return self._add_images(chosen, batch_size, report)
        with bar(progress, on_progress) as reported:
            options = IndexingOptions(
                prune, fast_decode, caption, tuple(exclude), every, any_path, batch_size, on_progress=reported
            )
            with self._open_sources(chosen, options) as found:
                if self._opened() is None:
                    check_not_empty(found, caption)  # else an empty collection would be made
                return self._index(found, options, workers)

    def check(
        self,
        *,
        repair: bool = False,
        remove_missing: bool = False,
        on_progress: "Callable[[IndexingProgress], None] | None" = None,
    ) -> "Check":
        """Verify everything that is stored; with `repair`, keep what is sound, make again what is derived from it, and
        read the images again whose vectors or records are damaged.

        Images whose files cannot be read now stay in the collection without their vectors, and are left out of answers
        until a later repair finds the files; with `remove_missing` they are removed.

        Raises: `StoreError` where there is no collection, or it cannot be repaired.
        """
        from tandem.search.checking import check
        from tandem.search.indexing.run import IndexingOptions

        def read_again(paths: BinaryIO) -> "IndexingReport":
            options = IndexingOptions(any_path=True, standard_input=paths, on_progress=on_progress)
            with self._open_sources(["-"], options) as found:
                return self._index(found, options, None)

        return check(self, read_again, repair=repair, remove_missing=remove_missing)

    def _open_sources(self, named: Sequence[str | Path], options: "IndexingOptions") -> "Sources":
        """Open the sources. A folder without images is never pruned: it may be a disk that is not mounted."""
        from tandem.search.indexing.run import open_sources
        from tandem.search.indexing.sources import NoImagesError

        try:
            return open_sources(named, options)
        except NoImagesError as error:
            if not options.prune or self._opened() is None:
                raise
            command = f"tandem remove {shlex.quote(self.url)} --all"
            raise NoImagesError(f"{error}; nothing was removed: to take out every photo, {command}") from None

    def add_vectors(
        self, ids: Sequence[str], vectors: Vectors, metadata: Mapping[str, Sequence[Value]] | None = None
    ) -> int:
        """Add vectors that the collection's model computed elsewhere, float32 [n d] of unit length. Returns how many.

        `metadata` are values for the columns of a collection, such as `{"path": [...], "caption": [...]}`. Records
        with existing ids are replaced, unless they are indexed files. Raises `TandemError` for invalid arguments.
        """
        from tandem.search.indexing import ready_vectors

        named = ready_vectors.checked_ids(ids)
        checked = ready_vectors.checked_vectors(vectors, named)
        values = ready_vectors.checked_metadata(metadata, len(named))
        if not named:
            return 0
        with self._writing(create=True) as store:
            identity.check_model(self.url, store.notes, self.model, store.schema.dimensions)
            store.upsert(ready_vectors.vector_records(store, named, checked, values))
        return len(named)

    def _add_images(
        self, images: "Iterable[Named]", batch_size: int, report: Callable[[int, int], None]
    ) -> "IndexingReport":
        from tandem.search import standing_in
        from tandem.search.indexing import in_memory

        with ExitStack() as opened:

            def writing() -> Store:
                store = opened.enter_context(self._writing(create=True))
                identity.check_model(self.url, store.notes, self.model, store.schema.dimensions)
                standing_in.check_vectors(store, self.model)
                return store

            store = None if self._opened() is None else writing()
            return in_memory.add_images(store, writing, self.model, images, batch_size=batch_size, report=report)

    def _index(self, found: "Sources", options: "IndexingOptions", workers: int | None) -> "IndexingReport":
        from tandem.search import standing_in
        from tandem.search.indexing import local
        from tandem.search.indexing.ledger import Ledger, with_ledger

        options = replace(options, limits=self.limits)
        with self._writing(create=True) as store:

            def own() -> "Model":
                # The one that is loaded may be of a store that another has taken the place of since it was read.
                identity.check_model(self.url, store.notes, self.model, store.schema.dimensions)
                standing_in.check_vectors(store, self.model)
                return self.model

            if self._given is not None:
                own()  # another model is refused before anything is read

            def run(ledger: Ledger) -> "IndexingReport":
                if workers is None:
                    return local.index(store, own, found, ledger, options)
                from tandem.search.indexing import on_ray

                return on_ray.index(store, own, found, ledger, options, workers=workers)

            report = with_ledger(identity.ledger_path(store), run)
            if (roots := identity.with_roots(store.notes, found.roots)) is not None:
                store.annotate(roots)
            return report

    def delete(self, ids: str | Sequence[str]) -> int:
        """Delete images by id. Returns how many existed.

        Their files are not touched, and can be added again.
        """
        from tandem.search.indexing.reconciling import forget_images

        ids = [ids] if isinstance(ids, str) else list(ids)
        with self._writing() as store:
            with suppress(StoreError):  # it only saves looking: `add` notices what is not there any more
                forget_images(store, identity.ledger_path(store), ids)
            return store.delete(ids)

    def set_caption(self, id: str, caption: str | None) -> None:
        """Write the caption of an image, or take it away; its files are not touched. `StoreError` if there is none."""
        from tandem.search.indexing.recording import read_records, to_records

        with self._writing() as store:
            record = read_records(store, [id]).get(id)
            if record is None:
                raise StoreError(f"{self.url}: no image {id!r}")
            record.values["caption"] = caption
            store.upsert(to_records([record], store.schema))

    def remove(self) -> None:
        """Remove the whole collection. The files of its images are not touched."""
        ledger = identity.ledger_path(self.store)
        self.close()
        self._backend.remove()
        for suffix in ("", "-wal", "-shm"):
            Path(f"{ledger}{suffix}").unlink(missing_ok=True)

    # --- asking it -----------------------------------------------------------------------------------------------

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
