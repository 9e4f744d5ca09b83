"""Connecting to a LanceDB database: URLs, credentials, tables, and its errors as ours. Knows nothing of records.

    lance+s3://bucket/photos    S3 and compatible services (MinIO, R2, ...); also lance+gs:// and lance+az://
    lance:photos.lance          a folder

Credentials and the endpoint come from the environment, never from an address: those end up in logs and histories. All
that is imported from lancedb is imported here, when a database is opened.

A collection is a database of two tables or three: `records_<random>` holds the records, another of these is the staging
collection that will replace it, and the catalog, `tandem`, says which is which. Committing to a table is atomic, so
neither a crash nor another machine leaves half a change.
"""

import os
import re
import uuid
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from tandem.errors import MissingExtraError, StoreBusyError, StoreError, StoreExistsError
from tandem.search.stores.protocol import folder_of

CATALOG = "tandem"
FORMAT = "1"
ATTEMPTS = 8  # of a commit that others come before
SCHEMES = ("s3", "gs", "az")
INDEX_CACHE_BYTES = 2**30
METADATA_CACHE_BYTES = 2**28

CURRENT, STAGING = "tandem.current", "tandem.staging"
_FORMAT = "tandem.format"
_PREFIX = "records_"


class NotFound(StoreError):
    """A table is not there: another process may have replaced it."""


@dataclass(frozen=True)
class Address:
    """A parsed URL: the address for LanceDB, the folder (None in object storage), and a short name."""

    url: str
    uri: str
    folder: Path | None
    name: str


def parse_address(url: str) -> Address:
    """Parse a URL. `StoreError` says what a URL looks like, or that it contains a secret."""
    if url.startswith("lance:"):
        path = url.removeprefix("lance:")
        if not path.strip() or path.startswith("//"):
            raise StoreError(f"expected lance:FOLDER, for example lance:photos.lance, got {url!r}")
        folder = folder_of(path)
        return Address(f"lance:{folder}", str(folder.absolute()), folder, folder.absolute().stem)
    uri = url.removeprefix("lance+").rstrip("/")
    try:
        parts = urlsplit(uri)
    except ValueError as error:
        raise StoreError(f"expected lance+s3://BUCKET/NAME, got an address that cannot be read ({error})") from error
    if "@" in parts.netloc or parts.query or parts.fragment:
        raise StoreError("an address holds no credentials: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY")
    name = parts.path.strip("/").rpartition("/")[2]
    if parts.scheme not in SCHEMES or not parts.netloc or not name:
        raise StoreError(f"expected lance+s3://BUCKET/NAME (or lance+gs://, lance+az://), got {url!r}")
    return Address(f"lance+{uri}", uri, None, name)


class Database:
    """A connection to the tables of one collection. Threads may share it."""

    def __init__(self, address: Address) -> None:
        # Set before lancedb is imported: it writes warnings to stderr of its own accord.
        os.environ.setdefault("LANCEDB_LOG", "error")
        try:
            import lancedb
        except ImportError as error:
            raise MissingExtraError("lancedb", "lance", "a collection in LanceDB") from error
        self.address = address
        session = lancedb.Session(INDEX_CACHE_BYTES, METADATA_CACHE_BYTES)
        with self.errors():
            self._connection: Any = lancedb.connect(address.uri, storage_options=_options(address), session=session)

    @contextmanager
    def errors(self) -> Iterator[None]:
        """Errors of LanceDB in the block become `NotFound`, `StoreBusyError` or `StoreError`, in one line."""
        try:
            yield
        except StoreError:
            raise
        except (ValueError, RuntimeError, OSError) as error:
            raise _translated(self.address, error) from error

    def table(self, name: str) -> Any:
        """A table as of its newest version. `NotFound` if there is none."""
        with self.errors():
            return self._connection.open_table(name)

    def create_table(self, name: str, schema: Any) -> Any:
        """Create an empty table. `StoreExistsError` if it exists already."""
        with self.errors():
            return self._connection.create_table(name, schema=schema)

    def drop_table(self, name: str) -> None:
        """Remove a table and its files, if it is there."""
        with self.errors():
            self._connection.drop_table(name, ignore_missing=True)

    def has_table(self, name: str) -> bool:
        if not name:
            return False
        try:
            self.table(name)
        except NotFound:
            return False
        return True

    def drop_leftovers(self, kept: Collection[str]) -> None:
        """Remove the tables of records that are not among these: leftovers of crashes and lost races."""
        with self.errors():
            names = self._connection.list_tables().tables
        for name in names:
            if name.startswith(_PREFIX) and name not in kept:
                self.drop_table(name)

    def drop_all(self) -> None:
        """Remove the collection: first the catalog, so that no one opens a partly removed collection."""
        self.drop_table(CATALOG)
        self.drop_leftovers(())

    def close(self) -> None:
        """Disconnect. Open tables stay readable until they are released."""
        self._connection = None


class Catalog:
    """The table that names the tables of records: metadata of its only field, which a commit changes at once.

    Creating a table is not atomic in LanceDB: the loser of a race may commit an empty table over the winner's. So a new
    catalog is empty, and writing it is a separate commit; the first writer wins. An empty version was committed by the
    loser of the race: then the version before it counts.
    """

    def __init__(self, database: Database) -> None:
        """`NotFound` if there is none."""
        self._database = database
        self._table = database.table(CATALOG)

    def read(self) -> Mapping[str, str]:
        """Its current content. `NotFound` if there is no collection; `StoreError` if Tandem did not make it."""
        with self._database.errors():
            self._table.checkout_latest()
        said = self._newest(self._table)
        if CURRENT not in said:
            raise NotFound(f"{self._database.address.url}: there is no collection yet")
        return said

    def claim(self, role: str, name: str) -> None:
        """Let a table be the current or the staging one, if there is none. `StoreExistsError` if there is one."""
        url = self._database.address.url
        for _ in range(ATTEMPTS):
            table = self._database.table(CATALOG)
            said = self._newest(table)
            if self._database.has_table(said.get(role, "")):
                break
            try:
                self._say(table, {**said, role: name})
            except StoreBusyError:
                continue
            return
        raise StoreExistsError(f"{url}: there is a {'staging ' * (role == STAGING)}collection already")

    def promote(self) -> tuple[str, str]:
        """Let the staging table be the current one, at once for all. Gives the new one and the old one."""
        table = self._database.table(CATALOG)
        said = self.read()
        old, new = said[CURRENT], said.get(STAGING, "")
        if not self._database.has_table(new):
            raise NotFound(f"{self._database.address.url}: there is no staging collection")
        self._say(table, {**said, CURRENT: new, STAGING: ""})
        return new, old

    def _say(self, table: Any, said: Mapping[str, str]) -> None:
        """`StoreBusyError` if another process has written it since this table was opened."""
        with self._database.errors():
            table.update_field_metadata({"path": "catalog", "metadata": {_FORMAT: FORMAT, **said}})

    def _newest(self, table: Any) -> Mapping[str, str]:
        """The content of this version of the catalog, or of the newest version before it that is not empty."""
        url = self._database.address.url
        with self._database.errors():
            said = newest = _said(table)
            version = int(table.version)
            earlier = None
            while CURRENT not in said and version > 1:
                earlier = earlier or self._database.table(CATALOG)
                version -= 1
                earlier.checkout(version)
                said = _said(earlier)
        if _FORMAT not in newest:
            raise StoreError(f"{url}: a database that Tandem did not make; choose another name")
        if newest[_FORMAT] != FORMAT:
            raise StoreError(f"{url} has format {newest[_FORMAT]}, this Tandem reads {FORMAT}: install a newer one")
        return said


def new_name() -> str:
    """A unique name for a table of records."""
    return f"{_PREFIX}{uuid.uuid4().hex[:12]}"


def create_catalog(database: Database) -> Catalog:
    """The catalog, which says nothing if it is new."""
    import pyarrow as pa

    with suppress(StoreExistsError, StoreBusyError):
        if not database.has_table(CATALOG):
            field = pa.field("catalog", pa.string(), metadata={_FORMAT: FORMAT})
            database.create_table(CATALOG, pa.schema([field]))
    return Catalog(database)


def _said(table: Any) -> dict[str, str]:
    schema = table.schema
    found = (schema.field("catalog").metadata or {}) if "catalog" in schema.names else {}
    return {key.decode(): value.decode() for key, value in found.items()}


def _options(address: Address) -> dict[str, str]:
    """Options that the environment does not set. An endpoint without TLS is allowed, since the user has set it."""
    if address.uri.startswith("s3://") and "AWS_ALLOW_HTTP" not in os.environ:
        endpoint = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL") or ""
        if endpoint.startswith("http://"):
            return {"allow_http": "true"}
    return {}


_REFUSALS = (
    "accessdenied", "access denied", "invalidaccesskeyid", "signaturedoesnotmatch", "credential", "forbidden",
    "unauthorized", "unauthenticated", "status: 401", "status: 403",
)  # fmt: skip
_CONFLICTS = ("commit conflict", "incompatible transaction", "concurrent", "too many attempts")
_UNREACHABLE = ("connection refused", "connecterror", "dns error", "timed out", "timedout", "error sending request")


# Where in LanceDB's own source an error arose: of no use to a user.
_SOURCE_PLACE = re.compile(r",?\s*(\(?at )?[\w./~:\\-]*\.rs:\d+(:\d+)?\)?")


def _translated(address: Address, error: Exception) -> Exception:
    message = " ".join(str(error).split())
    lowered = message.lower()
    url = address.url
    if "nosuchbucket" in lowered or "specified bucket does not exist" in lowered:
        return StoreError(f"{url}: there is no bucket of that name; make it first")
    if re.search(r"table '[^']*' already exists|dataset already exists", lowered):
        return StoreExistsError(f"{url}: there is a collection already")
    if re.search(r"\bnot found\b|was not found|no such file", lowered):
        return NotFound(f"{url}: the collection was removed or replaced")
    if (
        "commit conflict" in lowered
        or "incompatible transaction" in lowered
        or "concurrent" in lowered
        or "too many attempts" in lowered
    ):
        return StoreBusyError(f"{url}: other processes write at the same moment; try again")
    if address.folder is None and any(words in lowered for words in _REFUSALS):
        return StoreError(
            f"{url}: refused, wrong or missing credentials; set AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_REGION "
            "(or those of your provider)"
        )
    if "failed to resolve region" in lowered:
        return StoreError(
            f"{url}: the region of the bucket cannot be found out; set AWS_REGION, AWS_ACCESS_KEY_ID, "
            "AWS_SECRET_ACCESS_KEY (and AWS_ENDPOINT_URL for other S3 servers)"
        )
    if "badscheme" in lowered:
        return StoreError(f"{url}: the endpoint has no TLS; set AWS_ALLOW_HTTP=true if that is meant")
    if address.folder is None and any(words in lowered for words in _UNREACHABLE):
        return StoreError(f"{url}: the object storage cannot be reached; is AWS_ENDPOINT_URL right?")
    return StoreError(f"{url}: LanceDB: {_SOURCE_PLACE.sub('', message)[:400]}")
