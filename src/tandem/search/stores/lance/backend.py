"""An address in object storage, or `lance:FOLDER`, as the address of a store: opened, made, replaced.

A collection, and a staging one, is there once the catalog names its table: one commit, of which the first one wins, so
two machines cannot both make one.
"""

from collections.abc import Container, Mapping
from contextlib import suppress

from tandem.errors import StoreError, StoreExistsError, StoreNotFoundError
from tandem.files import sync
from tandem.search.stores.checking import check_vectors, without_vectors
from tandem.search.stores.lance.arrow import ArrowMapping
from tandem.search.stores.lance.database import (
    CATALOG,
    CURRENT,
    STAGING,
    Catalog,
    Database,
    NotFound,
    create_catalog,
    new_name,
    parse_address,
)
from tandem.search.stores.lance.store import LanceStore
from tandem.search.stores.protocol import Backend, Finding, Salvage, Schema, Value


class LanceBackend(Backend):
    """A `Backend` for a database of LanceDB."""

    @staticmethod
    def owns(folder: str, names: Container[str]) -> bool:
        """Whether a folder, which has these names in it, is that of a collection in LanceDB."""
        return f"{CATALOG}.lance" in names

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
        arrow = ArrowMapping(schema).arrow(notes)
        if staging and not self.exists():
            raise StoreNotFoundError(f"{self.url}: no collection there that could be replaced")
        if not staging and self.exists():
            raise StoreExistsError(f"{self.url}: there is a collection already")
        catalog = create_catalog(database)
        name = new_name()
        database.create_table(name, arrow)
        try:
            catalog.claim(STAGING if staging else CURRENT, name)
        except BaseException:
            database.drop_table(name)
            raise
        self._sync(name)
        return LanceStore(database, staging)

    def exists(self, *, staging: bool = False) -> bool:
        try:
            database = self._database()
            return database.has_table(Catalog(database).read().get(STAGING if staging else CURRENT, ""))
        except NotFound:
            return False

    def promote(self) -> None:
        try:
            database = self._database()
            new, _ = Catalog(database).promote()
        except NotFound:
            raise StoreError(f"{self.url}: there is no staging collection to take its place") from None
        self._sync()
        database.drop_leftovers([new])

    def check(self) -> list[Finding]:
        return check_vectors(self)

    def repair(self, known: Mapping[str, Mapping[str, Value]] | None = None) -> Salvage:
        return without_vectors(self)

    def remove(self) -> None:
        try:
            database = self._database()
            Catalog(database).read()  # what Tandem did not make stays
        except NotFound:
            raise StoreNotFoundError(f"{self.url}: no collection there") from None
        database.drop_all()
        if self._address.folder is not None:
            with suppress(OSError):  # it is not empty
                self._address.folder.rmdir()

    def _sync(self, *names: str) -> None:
        """Have the disk keep the catalog, and these tables, where they are in a folder."""
        folder = self._address.folder
        if folder is not None:
            tables = [folder / f"{name}.lance" for name in (CATALOG, *names)]
            for path in [*(path for table in tables for path in table.rglob("*")), *tables, folder, folder.parent]:
                with suppress(FileNotFoundError):  # written for a moment
                    sync(path)

    def _database(self) -> Database:
        """`NotFound` where there is no folder, which opening would make."""
        folder = self._address.folder
        if folder is not None and not folder.is_dir():
            raise NotFound(f"{self.url}: there is no folder")
        return Database(self._address)
