"""A backend in a folder: stores are opened, made and replaced. Knows generations and files' roles; no records."""

from collections.abc import Container, Mapping
from contextlib import closing
from pathlib import Path

import numpy as np

from tandem.errors import StoreError, StoreNotFoundError
from tandem.search.stores.embedded import generations, records_database, vector_file, verifying
from tandem.search.stores.embedded.records_database import State
from tandem.search.stores.embedded.sqlite_errors import database_errors
from tandem.search.stores.embedded.store import EmbeddedStore
from tandem.search.stores.protocol import Backend, Finding, Salvage, Schema, Value, folder_of

UPLOADS = "uploads"


class EmbeddedBackend(Backend):
    """A `Backend` for a folder."""

    def __init__(self, url: str | Path) -> None:
        self._url = str(folder_of(url))

    @staticmethod
    def owns(folder: str, names: Container[str]) -> bool:
        """Whether a folder, which has these names in it, is that of a store."""
        return generations.CURRENT in names and generations.exists(folder)

    @property
    def url(self) -> str:
        return self._url

    @property
    def name(self) -> str:
        return Path(self._url).resolve().stem

    @property
    def is_shared(self) -> bool:
        return False

    @property
    def uploads(self) -> Path:
        return Path(self._url).resolve() / UPLOADS

    def open(self, *, write: bool = False, staging: bool = False) -> EmbeddedStore:
        while True:
            signature = generations.signature(self._url)
            folder = generations.folder(self._url, staging=staging)
            if staging and not folder.is_dir():
                raise StoreNotFoundError(f"{self._url}: there is no staging collection")
            if not folder.is_dir():
                raise StoreError(f"{folder}: expected the data of a collection, and there is none", remedy="restore")
            if not write:
                try:
                    return EmbeddedStore(self._url, folder, signature)
                except StoreError:
                    if folder == generations.folder(self._url, staging=staging):
                        raise
                    continue  # a staging collection took this one's place just now
            lock = generations.lock_for_writing(self._url, folder)
            if folder == generations.folder(self._url, staging=staging):
                break
            lock.release()  # a staging collection took this one's place just now
        try:
            if not staging:
                generations.remove_leftovers(self._url)
            return EmbeddedStore(self._url, folder, signature, lock.release)
        except BaseException:
            lock.release()
            raise

    def create(self, schema: Schema, notes: Mapping[str, str], *, staging: bool = False) -> EmbeddedStore:
        def fill(draft: Path) -> None:
            with database_errors(Path(self._url)):
                records_database.create(draft, schema, notes)
                vector_file.append(draft / State().vectors, 0, np.empty((0, schema.dimensions), np.float32))

        generations.prepare(self._url, fill, staging=staging)
        return self.open(write=True, staging=staging)

    def exists(self, *, staging: bool = False) -> bool:
        return generations.exists(self._url, staging=staging)

    def promote(self) -> None:
        generations.promote(self._url)

    def remove(self) -> None:
        generations.remove(self._url)

    def check(self) -> list[Finding]:
        return verifying.check(self._url)

    def repair(self, known: Mapping[str, Mapping[str, Value]] | None = None) -> Salvage:
        salvage, renew = verifying.repair(self, known or {})
        with closing(self.open(write=True)) as store:  # adds the checksums of vectors, and brings the index up to date
            if renew:
                store.renew_derived()
        return salvage
