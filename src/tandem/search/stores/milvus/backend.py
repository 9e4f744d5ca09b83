"""A backend on Milvus: stores are opened, made and replaced.

A URL's name is an alias on the server; behind it stands a collection `<name>__<random>`. A staging collection is made
beside it under the alias `<name>__next`, and `promote` moves the alias: every client sees it at its next call, since
each call asks first what the name stands for.
"""

import uuid
from collections.abc import Mapping

from tandem.errors import StoreError, StoreExistsError, StoreNotFoundError
from tandem.search.stores.checking import check_vectors, without_vectors
from tandem.search.stores.milvus.client import Connection, parse_address
from tandem.search.stores.milvus.fields import FieldMapping, check_schema
from tandem.search.stores.milvus.store import NOTE, MilvusStore, view_of
from tandem.search.stores.protocol import Backend, Finding, Salvage, Schema, Value


class MilvusBackend(Backend):
    """A `Backend` for a collection on a server, or in a file of milvus-lite."""

    def __init__(self, url: str) -> None:
        self._url = url

    @property
    def url(self) -> str:
        return self._url

    @property
    def name(self) -> str:
        return parse_address(self._url).name

    @property
    def is_shared(self) -> bool:
        return True

    @property
    def uploads(self) -> None:
        return None

    def open(self, *, write: bool = False, staging: bool = False) -> MilvusStore:
        connection = self._connected()
        try:
            view = None if connection is None else view_of(connection, self._url, staging)
            if connection is None or view is None:
                raise self._not_found()
            return MilvusStore(self._url, connection, staging, view)
        except BaseException:
            if connection is not None:
                connection.close()
            raise

    def create(self, schema: Schema, notes: Mapping[str, str], *, staging: bool = False) -> MilvusStore:
        address = parse_address(self._url)
        check_schema(schema)
        if address.file is not None and not address.file.parent.is_dir():
            raise StoreError(f"no folder {address.file.parent} to put {address.file.name} into")
        connection = Connection(address)
        try:
            alias = address.alias(staging)
            if view_of(connection, self._url, staging) is not None:
                raise StoreExistsError(f"{self._url}: there is a {'staging ' * staging}collection already")
            name = f"{address.name}__{uuid.uuid4().hex[:12]}"
            connection.create_collection(
                name, FieldMapping(schema), {NOTE + key: value for key, value in notes.items() if value}
            )
            try:
                if connection.call("has_collection", alias):
                    connection.call("drop_alias", alias)  # left by a promotion that was cut off; see `view_of`
                connection.call("create_alias", name, alias)
            except BaseException:
                connection.call("drop_collection", name)
                raise
            view = view_of(connection, self._url, staging)
            if view is None:
                raise StoreError(f"{self._url}: the collection was removed while it was made")
            return MilvusStore(self._url, connection, staging, view)
        except BaseException:
            connection.close()
            raise

    def exists(self, *, staging: bool = False) -> bool:
        connection = self._connected()
        if connection is None:
            return False
        try:
            return view_of(connection, self._url, staging) is not None
        finally:
            connection.close()

    def promote(self) -> None:
        connection = self._connected()
        try:
            new = None if connection is None else view_of(connection, self._url, True)
            if connection is None or new is None:
                raise StoreError(f"{self._url}: there is no staging collection to take its place")
            name, staging = connection.address.alias(False), connection.address.alias(True)
            old = view_of(connection, self._url, False)
            connection.call("create_alias" if old is None else "alter_alias", new.collection, name)
            connection.call("drop_alias", staging)
            if old is not None:
                connection.call("drop_collection", old.collection)
        finally:
            if connection is not None:
                connection.close()

    def check(self) -> list[Finding]:
        return check_vectors(self)

    def repair(self, known: Mapping[str, Mapping[str, Value]] | None = None) -> Salvage:
        return without_vectors(self)

    def remove(self) -> None:
        connection = self._connected()
        try:
            if connection is None or view_of(connection, self._url, False) is None:
                raise self._not_found()
            for staging in (True, False):
                if (view := view_of(connection, self._url, staging)) is not None:
                    connection.call("drop_alias", connection.address.alias(staging))
                    connection.call("drop_collection", view.collection)
        finally:
            if connection is not None:
                connection.close()

    def _not_found(self) -> StoreNotFoundError:
        return StoreNotFoundError(
            f"{self._url}: no collection there; make one: tandem index ~/Pictures --to {self._url}"
        )

    def _connected(self) -> Connection | None:
        """A connection; None where there is no file of milvus-lite, which opening would make."""
        address = parse_address(self._url)
        return None if address.file is not None and not address.file.exists() else Connection(address)
