"""Reaching a LanceDB database: addresses, credentials, tables, and its errors as ours. Knows nothing of records.

    lance+s3://bucket/photos    S3 and what speaks its protocol (MinIO, R2, ...); also lance+gs:// and lance+az://
    lance:photos.lance          a folder

Credentials and the endpoint come from the environment, never from an address: those end up in logs and histories. All
that is imported from lancedb is imported here, when a database is opened.

A collection is a database of two tables or three: `tandem` says which generation is in use, `g1_<random>` holds the
records, and `g2_<random>` is the staging collection that will replace it. Creating a table and committing to one are
atomic, so neither a crash nor another machine leaves half a change.
"""

import os
import re
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from tandem.errors import MissingExtraError, StoreBusyError, StoreError, StoreExistsError

CATALOG = "tandem"
FORMAT = "1"
SCHEMES = ("s3", "gs", "az")
INDEX_CACHE_BYTES = 2**30
METADATA_CACHE_BYTES = 2**28

_FORMAT, _CURRENT = "tandem.format", "tandem.current"
_GENERATION = re.compile(r"g(\d+)_([0-9a-f]{12})")


class NotFound(StoreError):
    """A table is not there: another process may have replaced it."""


@dataclass(frozen=True)
class Address:
    """A URL taken apart: what LanceDB opens, the folder (None in object storage), and a short name."""

    url: str
    uri: str
    folder: Path | None
    name: str


def parse_address(url: str) -> Address:
    """Take a URL apart. `StoreError` says what a URL looks like, or that a secret is in it."""
    if url.startswith("lance:"):
        path = url.removeprefix("lance:")
        if not path.strip() or path.startswith("//"):
            raise StoreError(f"expected lance:FOLDER, for example lance:photos.lance, got {url!r}")
        folder = Path(path).expanduser()
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
        """What LanceDB raises in here becomes `NotFound`, `StoreBusyError` or `StoreError`, in one line."""
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
        """An empty table, which nobody had made before. `StoreExistsError` if somebody had."""
        with self.errors():
            return self._connection.create_table(name, schema=schema)

    def drop_table(self, name: str) -> None:
        """Remove a table and its files, if it is there."""
        with self.errors():
            self._connection.drop_table(name, ignore_missing=True)

    def drop_others(self, keep: str) -> None:
        """Remove the tables of older generations and of creations that another process won."""
        number, key = _parts(keep)
        with self.errors():
            names = self._connection.list_tables().tables
        for name in names:
            if (match := _GENERATION.fullmatch(name)) and (match[2] != key or int(match[1]) < number):
                self.drop_table(name)

    def drop_all(self) -> None:
        """Remove the collection: first the table that names its generation, so that nobody opens what is half gone."""
        self.drop_table(CATALOG)
        with self.errors():
            names = self._connection.list_tables().tables
        for name in names:
            if _GENERATION.fullmatch(name):
                self.drop_table(name)

    def close(self) -> None:
        """Let go; what is open stays readable until nobody holds it."""
        self._connection = None


class Catalog:
    """The table that names the generation in use."""

    def __init__(self, database: Database) -> None:
        """`NotFound` if there is no collection; `StoreError` if Tandem did not make it."""
        self._database = database
        self._table = database.table(CATALOG)
        self.current()

    def current(self) -> str:
        """The table of the generation in use, as of now."""
        with self._database.errors():
            self._table.checkout_latest()
            written = {key.decode(): value.decode() for key, value in (_metadata(self._table, "current")).items()}
        if _CURRENT not in written:
            raise StoreError(f"{self._database.address.url}: a database that Tandem did not make; choose another name")
        if written[_FORMAT] != FORMAT:
            raise StoreError(
                f"{self._database.address.url} has format {written[_FORMAT]}, this Tandem reads {FORMAT}: "
                "install a newer one"
            )
        return written[_CURRENT]

    def replace(self, name: str) -> None:
        """Let another generation be in use, at once for all."""
        with self._database.errors():
            self._table.update_field_metadata({"path": "current", "metadata": {_CURRENT: name}})


def first_generation() -> str:
    """A name for the table of a new collection, which no other creation takes."""
    return f"g1_{uuid.uuid4().hex[:12]}"


def next_generation(current: str) -> str:
    """The name of the staging table beside the one in use: the same for everyone, so only one can be made."""
    number, key = _parts(current)
    return f"g{number + 1}_{key}"


def create_catalog(database: Database, current: str) -> None:
    """Let a collection be there. `StoreExistsError` if one was made meanwhile."""
    import pyarrow as pa

    field = pa.field("current", pa.string(), metadata={_FORMAT: FORMAT, _CURRENT: current})
    database.create_table(CATALOG, pa.schema([field]))


def _parts(generation: str) -> tuple[int, str]:
    match = _GENERATION.fullmatch(generation)
    if match is None:
        raise StoreError(f"expected the name of a generation such as g1_0123456789ab, got {generation[:40]!r}")
    return int(match[1]), match[2]


def _metadata(table: Any, field: str) -> Mapping[bytes, bytes]:
    schema = table.schema
    found: Mapping[bytes, bytes] = (schema.field(field).metadata or {}) if field in schema.names else {}
    return found


def _options(address: Address) -> dict[str, str]:
    """What the environment does not say. An endpoint without TLS was asked for by whoever set it."""
    if address.uri.startswith("s3://") and "AWS_ALLOW_HTTP" not in os.environ:
        endpoint = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL") or ""
        if endpoint.startswith("http://"):
            return {"allow_http": "true"}
    return {}


_REFUSALS = (
    "accessdenied", "access denied", "invalidaccesskeyid", "signaturedoesnotmatch", "credential", "forbidden",
    "unauthorized", "unauthenticated", "status: 401", "status: 403",
)  # fmt: skip
_UNREACHABLE = ("connection refused", "connecterror", "dns error", "timed out", "timedout", "error sending request")


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
    if "commit conflict" in lowered or "concurrent" in lowered or "too many attempts" in lowered:
        return StoreBusyError(f"{url}: other processes write at the same moment; try again")
    if address.folder is None and any(words in lowered for words in _REFUSALS):
        return StoreError(
            f"{url}: refused, wrong or missing credentials; set AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_REGION "
            "(or those of your provider)"
        )
    if "badscheme" in lowered:
        return StoreError(f"{url}: the endpoint has no TLS; set AWS_ALLOW_HTTP=true if that is meant")
    if address.folder is None and any(words in lowered for words in _UNREACHABLE):
        return StoreError(f"{url}: the object storage cannot be reached; is AWS_ENDPOINT_URL right?")
    return StoreError(f"{url}: LanceDB: {message[:400]}")
