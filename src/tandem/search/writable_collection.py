"""What changes a collection: images are added, checked, deleted, given captions.

Joins indexing and the store. Methods import what they need, so that searching does not load indexing. Knows no command
line and no server.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from tandem.arrays import Vectors
from tandem.defaults import BATCH_SIZE
from tandem.errors import StoreError
from tandem.search import identity
from tandem.search.store_and_model import StoreAndModel
from tandem.search.stores.protocol import Store, Value

if TYPE_CHECKING:
    from tandem.image import ImageSource
    from tandem.model import Model
    from tandem.search.checking import Check
    from tandem.search.indexing.in_memory import Named
    from tandem.search.indexing.progress import IndexingProgress
    from tandem.search.indexing.run import IndexingOptions, IndexingReport
    from tandem.search.indexing.sources import Sources


class WritableCollection(StoreAndModel):
    """The part of a collection that writes. Only one process may write at a time."""

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

    def _open_sources(self, named: Sequence[str | Path], options: "IndexingOptions") -> "Sources":
        """Open the sources. A folder without images is never pruned: it may be a disk that is not mounted."""
        from tandem.search.indexing.run import open_sources
        from tandem.search.indexing.sources import NoImagesError, NothingPrunedError

        try:
            return open_sources(named, options)
        except NoImagesError as error:
            if not options.prune or self._opened() is None:
                raise
            raise NothingPrunedError(str(error)) from None

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
