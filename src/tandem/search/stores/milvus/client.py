"""Connecting to Milvus: addresses, tokens, connections, and its errors as ours. Knows nothing of records.

    milvus://host:19530/name              a server
    https://in03-0123.zillizcloud.com/name   Zilliz, or a server behind TLS (http:// without)
    milvus-lite:photos.db/name            a file of milvus-lite (a folder since its version 3), read in this process

The token ("user:password", or an API key of Zilliz) is in TANDEM_MILVUS_TOKEN or MILVUS_TOKEN, never in an address:
addresses end up in logs and histories. pymilvus is imported here only, when a connection is made.
"""

import logging
import os
import re
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from tandem.errors import MissingExtraError, StoreBusyError, StoreError
from tandem.files import user_path
from tandem.search.stores.milvus.fields import MAX_ID_BYTES, MAX_TEXT_BYTES, PROPERTY, FieldMapping
from tandem.search.stores.milvus.index_choice import AUTOINDEX, FLAT, IndexKind, large_index, parse_version

CONNECT_TIMEOUT_S = 5.0
CALL_TIMEOUT_S = 60.0
LOADING_TIMEOUT_S = 600.0  # a collection whose index is being replaced, or whose server has just started
INDEXING_TIMEOUT_S = 600.0
LOAD_WAIT_S = 20.0  # then the client that needs a collection loads it
FORGETFUL_S = 20.0  # how long a server may say that a collection is not there which it also says is there
# Properties of a collection: how far its index is, and which one it is (absent: FLAT, or HNSW of an earlier version).
INDEX, CHANGING, FINAL = "tandem.index", "changing", "final"
INDEX_KIND = "tandem.index.kind"
STAGING = "__next"
KNOWN_VERSIONS = "pymilvus 2.4 to 3"
TOKEN_VARIABLES = ("TANDEM_MILVUS_TOKEN", "MILVUS_TOKEN")

# Milvus' codes: a collection that is not there (100; 4 and 1 of old servers), one that is not loaded, or not fully.
_NOT_FOUND_CODES = {100}
_NOT_LOADED_CODES = {101, 103}
_ASKING = ("describe_collection", "has_collection")  # answered from the catalogue itself, not from a cache


class CollectionNotFoundError(StoreError):
    """The collection is not on the server: another client may have put another in its place."""


@dataclass(frozen=True)
class Address:
    """A parsed URL: `uri` of a server or `file` of milvus-lite, and the `name` of the collection there."""

    url: str
    uri: str | None
    file: Path | None
    name: str

    @property
    def server(self) -> str:
        return str(self.file) if self.uri is None else self.uri.partition("://")[2]

    @property
    def is_zilliz(self) -> bool:
        host = urlsplit(self.uri or "").hostname or ""
        return host.endswith((".zillizcloud.com", ".zilliz.com", ".zilliz.com.cn"))

    def alias(self, staging: bool) -> str:
        """The name under which the server knows the collection, or the one that will replace it."""
        return self.name + STAGING if staging else self.name


def parse_address(url: str) -> Address:
    """Parse a URL. `StoreError` says what a URL looks like, that it contains a token, or what a name may be."""
    scheme, _, rest = url.partition(":")
    if scheme == "milvus-lite":
        file, slash, name = rest.rpartition("/")
        if not slash or not file or not name:
            raise StoreError(f"expected milvus-lite:FILE/NAME, for example milvus-lite:photos.db/photos, got {url}")
        return Address(url, None, user_path(file), _checked(name))
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError as error:
        raise StoreError(f"expected milvus://HOST:PORT/NAME, got an address that cannot be read ({error})") from error
    if "@" in parts.netloc or parts.query or parts.fragment:
        raise StoreError(
            f"an address holds no token, user or password: set the environment variable {TOKEN_VARIABLES[0]}"
        )
    name = parts.path.strip("/")
    if not host or not name or "/" in name:
        raise StoreError(f"expected {scheme}://HOST:PORT/NAME, with the name of one collection, got {url}")
    secure = scheme == "https"
    port = port or (443 if secure else 19530)
    shown = f"[{host}]" if ":" in host else host
    return Address(url, f"{'https' if secure else 'http'}://{shown}:{port}", None, _checked(name))


def _checked(name: str) -> str:
    if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]{0,199}", name) or "__" in name:
        raise StoreError(
            f"a name in Milvus has letters, digits and single _ (at most 200, no digit first), got {name!r}"
        )
    return name


class Connection:
    """A client of one server. Its calls wait for a collection that is being loaded, and raise our errors."""

    def __init__(self, address: Address) -> None:
        # Set before grpc is imported, which otherwise writes to stderr. Users see our errors.
        os.environ.setdefault("GRPC_VERBOSITY", "NONE")
        try:
            import pymilvus
        except ImportError as error:
            raise MissingExtraError("pymilvus", "milvus", "a collection in Milvus") from error
        for name in ("pymilvus", "milvus_lite"):
            logging.getLogger(name).setLevel(logging.CRITICAL + 1)
        self.address = address
        self.package = pymilvus
        self._lite = None if address.file is None else _lite_server(address.file)
        token = next((value for name in TOKEN_VARIABLES if (value := os.environ.get(name))), "")
        try:
            self._client: Any = pymilvus.MilvusClient(
                uri=address.uri if self._lite is None else self._lite.uri, token=token, timeout=CONNECT_TIMEOUT_S
            )
            # pymilvus shares channels: this one may be from before the server went away.
            self._large_index = large_index(parse_version(self._client.get_server_version(timeout=CONNECT_TIMEOUT_S)))
        except Exception as error:
            self._release_lite()
            raise self._as_store_error(error) from error

    @property
    def is_lite(self) -> bool:
        return self.address.file is not None

    def call(self, verb: str, *arguments: Any, timeout: float = CALL_TIMEOUT_S, **named: Any) -> Any:
        """A verb of `pymilvus.MilvusClient`. `CollectionNotFoundError`, or `StoreError` in one line."""
        began = waited = time.monotonic()
        while True:
            try:
                return getattr(self._client, verb)(*arguments, timeout=timeout, **named)
            except Exception as error:
                known = self._as_store_error(error)
                if isinstance(known, CollectionNotFoundError) and verb not in _ASKING:
                    if time.monotonic() - began > FORGETFUL_S or not self._is_there(arguments):
                        raise known from error
                    time.sleep(0.05)
                    continue
                if not _is_loading(error) or time.monotonic() - began > LOADING_TIMEOUT_S:
                    raise known from error
            time.sleep(0 if self.is_lite else 0.2)
            if self.is_lite:  # closing it unloads collections
                self.call("load_collection", arguments[0])
            elif time.monotonic() - waited > LOAD_WAIT_S:
                self._ensure_loaded(arguments[0])
                waited = time.monotonic()

    def _is_there(self, arguments: tuple[Any, ...]) -> bool:
        """Whether the server has the collection that a call names, though it said otherwise.

        A server of 2.3 looks names up in a cache, which any client's change of a property empties, and an operation
        that meets that moment does not find its collection (milvus-io/milvus issue 29675).
        """
        return bool(arguments) and isinstance(arguments[0], str) and bool(self.call("has_collection", arguments[0]))

    def create_collection(self, name: str, mapping: FieldMapping, properties: Mapping[str, str]) -> None:
        """Make a collection with the fields of `mapping`, empty and ready to be searched, exactly."""
        kinds = self.package.DataType
        schema = self.package.MilvusClient.create_schema(
            auto_id=False, enable_dynamic_field=False, description="made by Tandem"
        )
        schema.add_field("id", kinds.VARCHAR, is_primary=True, max_length=MAX_ID_BYTES)
        schema.add_field("vector", kinds.FLOAT_VECTOR, dim=mapping.schema.dimensions)
        for column, kind in mapping.schema.columns.items():
            field = mapping.value_field(column)
            if kind in ("text", "bytes"):
                schema.add_field(field, kinds.VARCHAR, max_length=MAX_TEXT_BYTES)
            else:
                schema.add_field(field, {"integer": kinds.INT64, "real": kinds.DOUBLE, "boolean": kinds.BOOL}[kind])
            schema.add_field(mapping.presence_field(column), kinds.BOOL)
        for field in mapping.several_fields.values():
            schema.add_field(field, kinds.BOOL)
        self.call(
            "create_collection",
            name,
            schema=schema,
            # Each read says as of which moment: see `store`.
            consistency_level="Session",
            properties={PROPERTY: mapping.to_json(), **properties},
        )
        self._load(name, AUTOINDEX if self.address.is_zilliz else FLAT, wait=False)

    def set_properties(self, name: str, properties: Mapping[str, str]) -> None:
        """Set some of a collection's properties, durably."""
        # Twice: a server of 2.3.5 has all properties in memory, but puts on disk what they were before the call.
        for _ in range(1 if self.is_lite else 2):
            self.call("alter_collection_properties", name, dict(properties))

    def build_large_index(self, name: str) -> None:
        """Switch a collection to the index of large ones. This takes seconds or minutes, in which other clients' calls
        wait.
        """
        if self._index_name(name) == FLAT.name:
            # A search during a release may find nothing without an error: readers check this before they trust it.
            self.set_properties(name, {INDEX: CHANGING})
            # Rows that are flushed and indexed first are in the new index when it is loaded.
            self.call("flush", name, timeout=INDEXING_TIMEOUT_S)
            self.call("release_collection", name)
            self.call("drop_index", name, "vector")
            self._load(name, self._large_index, wait=True)
            self._note_final(name)

    def index_state(self, name: str) -> tuple[str, str]:
        """`CHANGING`, `FINAL`, or "" while the collection is small; and the name of its index, where it was noted."""
        properties = self.call("describe_collection", name)["properties"]
        return properties.get(INDEX, ""), properties.get(INDEX_KIND, "")

    def await_index(self, name: str) -> str:
        """Wait until a collection has its final index; build it if the client that was building it has died. Returns
        the name of the index.
        """
        began = time.monotonic()
        while (found := self.index_state(name))[0] != FINAL:
            if time.monotonic() - began > INDEXING_TIMEOUT_S:
                self._ensure_loaded(name)
                self._note_final(name)
            time.sleep(0.1)
        return found[1]

    def _note_final(self, name: str) -> None:
        # As the server says: another client, of another version, may have built it.
        self.set_properties(name, {INDEX: FINAL, INDEX_KIND: self._index_name(name)})

    def _index_name(self, name: str) -> str:
        found: str = self.call("describe_index", name, "vector")["index_type"]
        return found

    def _ensure_loaded(self, name: str) -> None:
        """Load a collection that was left unloaded: after a crash of the server, or of a client amid a new index."""
        if "vector" in self.call("list_indexes", name):
            self.call("load_collection", name, timeout=LOADING_TIMEOUT_S)
        else:
            self._load(name, self._large_index, wait=True)

    def _load(self, name: str, kind: IndexKind, wait: bool) -> None:
        index = self.package.MilvusClient.prepare_index_params()
        # Vectors have unit length: the inner product is the cosine.
        index.add_index(
            "vector", index_name="vector", index_type=kind.name, metric_type="IP", params=dict(kind.parameters)
        )
        # No wait for an empty collection: it saves half a second, and milvus-lite cannot tell.
        self.call("create_index", name, index, sync=wait, timeout=INDEXING_TIMEOUT_S)
        self.call("load_collection", name, timeout=LOADING_TIMEOUT_S)

    def timestamp(self) -> int:
        """A point in the server's time, after all that it has acknowledged."""
        try:
            # `MilvusClient` has no verb for it. The private names are why pyproject.toml names a newest version.
            moment: int = self._client._get_connection().alloc_timestamp(timeout=CALL_TIMEOUT_S)
        except AttributeError as error:
            raise MissingExtraError(KNOWN_VERSIONS, "milvus", "a collection in Milvus") from error
        except Exception as error:
            raise self._as_store_error(error) from error
        return moment

    def close(self) -> None:
        client, self._client = self._client, None
        if client is not None:
            client.close()
            self._release_lite()

    def _release_lite(self) -> None:
        lite, self._lite = self._lite, None
        if lite is not None:
            lite.release()

    def _as_store_error(self, error: Exception) -> Exception:
        server = self.address.server
        if isinstance(error, StoreError) or not _is_milvus_error(error):
            return error
        code, message = getattr(error, "code", None), " ".join(str(getattr(error, "message", error)).split())
        lowered = message.lower()
        if code in _NOT_FOUND_CODES or "can't find collection" in lowered or "collection not found" in lowered:
            return CollectionNotFoundError(f"{self.address.url}: no such collection on the server")
        if "auth" in lowered or "permission" in lowered or "privilege" in lowered:
            return StoreError(
                f"{server} rejects a wrong or missing token; set {TOKEN_VARIABLES[0]} (user:password, or a key)"
            )
        if "connect" in lowered or "unavailable" in lowered or "deadline" in lowered or "retry" in lowered:
            return StoreError(f"cannot reach Milvus at {server}: is it running, is the address right?")
        return StoreError(f"Milvus at {server}: {message[:400]}")


def _is_milvus_error(error: Exception) -> bool:
    """pymilvus raises its own errors, grpc's, and a few of Python's where an answer is malformed."""
    return type(error).__module__.split(".")[0] in ("pymilvus", "grpc") or isinstance(error, OSError)


def _is_loading(error: Exception) -> bool:
    message = str(getattr(error, "message", "")).lower()
    words = (
        "not loaded",
        "not fully loaded",
        "not available",
        "no available",
        "not ready",
        "node not found",
        "incomplete query result",
    )
    return _is_milvus_error(error) and (
        getattr(error, "code", None) in _NOT_LOADED_CODES or any(word in message for word in words)
    )


# --- milvus-lite: one server in this process for each file, while any connection needs it ---


@dataclass
class _Lite:
    file: Path
    server: Any
    database: Any
    uri: str
    users: int = 0

    def release(self) -> None:
        with _lite_lock:
            self.users -= 1
            if self.users == 0:
                del _lite_servers[self.file]
                self.server.stop(grace=1).wait()
                self.database.close()


_lite_lock = threading.Lock()
_lite_servers: dict[Path, _Lite] = {}


def _lite_server(file: Path) -> _Lite:
    try:
        # Its public way starts a process for each file; this server lives in ours, and ends with it.
        from milvus_lite.adapter.grpc.server import start_server_in_thread  # type: ignore[import-untyped]
        from milvus_lite.exceptions import DataDirLockedError  # type: ignore[import-untyped]
    except ImportError as error:
        raise MissingExtraError("milvus-lite 3", "milvus", "a file of milvus-lite") from error
    file = file.absolute()
    with _lite_lock:
        if file not in _lite_servers:
            try:
                server, database, port = start_server_in_thread(str(file), host="127.0.0.1", port=0)
            except DataDirLockedError as error:
                raise StoreBusyError(
                    f"{file} is open in another process: milvus-lite serves one at a time; close that, or use a server"
                ) from error
            except Exception as error:
                raise StoreError(f"{file} cannot be opened as a milvus-lite file: {error}") from error
            _lite_servers[file] = _Lite(file, server, database, f"http://127.0.0.1:{port}")
        _lite_servers[file].users += 1
        return _lite_servers[file]
