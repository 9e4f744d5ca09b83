"""A store and the model whose vectors are in it: opened and loaded on first use.

Makes sure that vectors of different models never mix. Knows nothing of indexing and searching.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from tandem.errors import StoreNotFoundError
from tandem.search import identity
from tandem.search.sample import SHARED_COUNT_FOR_S, CollectionSample
from tandem.search.stores import backends as stores
from tandem.search.stores.protocol import Backend, Store

if TYPE_CHECKING:
    from tandem.image import Limits
    from tandem.model import Model


class StoreAndModel:
    """What a collection consists of. Readers never wait for the writer."""

    def __init__(
        self, url: str | Path, model: "Model | str | Path | None" = None, loading: Mapping[str, Any] | None = None
    ) -> None:
        self._backend = stores.backend(url)
        self.url = self._backend.url
        self._given = model
        self._loading = dict(loading or {})
        self._store: Store | None = None
        self._model: Model | None = None
        self._sample = CollectionSample(count_for_s=SHARED_COUNT_FOR_S if self._backend.is_shared else 0)

    @property
    def limits(self) -> "Limits":
        """How large images may be that the model reads, without loading it."""
        from tandem.image import DEFAULT_LIMITS

        known = getattr(self._model or self._given, "limits", None)  # what was given may be a name
        return known or self._loading.get("limits") or DEFAULT_LIMITS

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle the full address and the model; a copy opens the store itself."""
        return type(self), (stores.full_url(self.url), self._given, self._loading)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the store. The next call opens it again."""
        if self._store is not None:
            self._store.close()
            self._store = None

    @property
    def backend(self) -> Backend:
        """The address, and the kind of store that is there."""
        return self._backend

    @property
    def store(self) -> Store:
        """The store, opened for reading if it is not yet. `StoreNotFoundError` if there is none."""
        if self._store is None:
            self._store = self._backend.open()
        return self._store

    def _opened(self) -> Store | None:
        """The store; None if there is none yet."""
        try:
            return self.store
        except StoreNotFoundError:
            return None

    @property
    def notes(self) -> Mapping[str, str]:
        """The notes of the collection: among others its model's name, fingerprint and source."""
        return self.store.notes

    @property
    def model(self) -> "Model":
        """The collection's model, loaded on first use. Raises `StoreError` for a model that is not the collection's."""
        if self._model is None:
            store = self._opened()
            notes = {} if store is None else store.notes
            model = identity.load_model(self.url, notes, self._given, self._loading)
            if store is not None:
                identity.check_model(self.url, notes, model, store.schema.dimensions)
            self._model = model
        return self._model

    @contextmanager
    def _writing(self, *, create: bool = False) -> Iterator[Store]:
        """Open the store for writing for this block only."""
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
        return self.store if self._backend.is_shared else self._backend.open(write=True)
