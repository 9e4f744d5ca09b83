"""An address in object storage, or `lance:FOLDER`, as the address of a store: opened, made, replaced.

A new collection is there once the table `tandem` is, which names the table of records; a staging collection once its
table is, whose name follows from the one in use. Each is one atomic step, so two machines cannot both make one.
"""

from collections.abc import Mapping
from contextlib import suppress

from tandem.errors import StoreError, StoreExistsError, StoreNotFoundError
from tandem.search.stores.lance.database import (
    Catalog,
    Database,
    NotFound,
    create_catalog,
    first_generation,
    next_generation,
    parse_address,
)
from tandem.search.stores.lance.layout import Layout
from tandem.search.stores.lance.store import LanceStore
from tandem.search.stores.protocol import Backend, Schema


class LanceBackend(Backend):
    """A `Backend` for a database of LanceDB."""

    def __init__(self, url: str) -> None:
        self._address = parse_address(url)

    @property
    def url(self) -> str:
        return self._address.url

    @property
    def name(self) -> str:
        return self._address.name

    @property
    def is_shared(self) -> bool:
        return True

    @property
    def uploads(self) -> None:
        return None

    def open(self, *, write: bool = False, staging: bool = False) -> LanceStore:
        try:
            return LanceStore(self._database(), staging)
        except NotFound:
            what = "staging collection" if staging else "collection"
            raise StoreNotFoundError(
                f"{self.url}: no {what} there; make one: tandem index ~/Pictures --to {self.url}"
            ) from None

    def create(self, schema: Schema, notes: Mapping[str, str], *, staging: bool = False) -> LanceStore:
        folder = self._address.folder
        if folder is not None and not staging:
            if folder.exists() and not folder.is_dir():
                raise StoreError(f"{self.url}: expected a folder for a new collection, and this is a file")
            if folder.is_dir() and any(path.suffix != ".lance" for path in folder.iterdir()):
                raise StoreError(f"{self.url}: expected an empty or a new folder; choose another name")
        database = Database(self._address)
        arrow = Layout(schema).arrow(notes)
        try:
            current: str | None = Catalog(database).current()
        except NotFound:
            current = None
        if not staging and current is not None:
            raise StoreExistsError(f"{self.url}: there is a collection already")
        if staging:
            if current is None:
                raise StoreNotFoundError(f"{self.url}: no collection there that could be replaced")
            database.drop_others(current)  # what a promotion that was cut off left
            database.create_table(next_generation(current), arrow)
            return LanceStore(database, True)
        name = first_generation()
        try:
            database.create_table(name, arrow)
        except NotFound:  # removed by who made the collection meanwhile
            raise StoreExistsError(f"{self.url}: there is a collection already") from None
        try:
            create_catalog(database, name)
        except BaseException:
            database.drop_table(name)
            raise
        database.drop_others(name)
        return LanceStore(database, False)

    def exists(self, *, staging: bool = False) -> bool:
        try:
            database = self._database()
            current = Catalog(database).current()
            database.table(next_generation(current) if staging else current)
        except NotFound:
            return False
        return True

    def promote(self) -> None:
        try:
            database = self._database()
            catalog = Catalog(database)
            new = next_generation(catalog.current())
            database.table(new)
        except NotFound:
            raise StoreError(f"{self.url}: there is no staging collection to take its place") from None
        catalog.replace(new)
        database.drop_others(new)

    def remove(self) -> None:
        try:
            database = self._database()
            Catalog(database)
        except NotFound:
            raise StoreNotFoundError(f"{self.url}: no collection there") from None
        database.drop_all()
        if self._address.folder is not None:
            with suppress(OSError):  # it is not empty
                self._address.folder.rmdir()

    def _database(self) -> Database:
        """`NotFound` where there is no folder, which opening would make."""
        folder = self._address.folder
        if folder is not None and not folder.is_dir():
            raise NotFound(f"{self.url}: there is no folder")
        return Database(self._address)
