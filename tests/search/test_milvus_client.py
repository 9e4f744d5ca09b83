"""Reaching a Milvus, without one: addresses, and the private names of its packages that we lean on."""

import inspect
import sys
from importlib.metadata import version
from pathlib import Path

import pytest
from support import skip_without

from tandem.errors import MissingExtraError, StoreError
from tandem.search.stores.backends import create_store, open_store
from tandem.search.stores.milvus import client as milvus_client
from tandem.search.stores.milvus.client import CollectionNotFoundError, Connection, parse_address
from tandem.search.stores.protocol import Schema

skip_without("pymilvus")

SCHEMA = Schema(8, {"path": "text"})


@pytest.mark.parametrize(
    ("address", "words"),
    [
        ("milvus://user:secret@host:19530/photos", "TANDEM_MILVUS_TOKEN"),
        ("https://host/photos?token=secret", "TANDEM_MILVUS_TOKEN"),
        ("milvus://host:19530", "milvus://HOST:PORT/NAME"),
        ("milvus://host:19530/a/b", "milvus://HOST:PORT/NAME"),
        ("milvus://host:port/a", "milvus://HOST:PORT/NAME"),
        ("milvus://host:19530/my-photos", "letters, digits"),
        ("milvus://host:19530/photos__next", "letters, digits"),
        ("milvus-lite:photos.db", "milvus-lite:FILE/NAME"),
        ("milvus-lite:/nowhere/at/all.db/photos", "no folder|no collection"),
        ("milvus://127.0.0.1:1/photos", "cannot reach Milvus at 127.0.0.1:1"),
    ],
)
def test_addresses_that_lead_nowhere(address: str, words: str) -> None:
    for act in (lambda: open_store(address), lambda: create_store(address, SCHEMA, {})):
        with pytest.raises(StoreError, match=words) as caught:
            act()
        assert "secret" not in str(caught.value)
        assert "\n" not in str(caught.value)


def test_addresses() -> None:
    assert parse_address("milvus://h/n").uri == "http://h:19530"
    assert parse_address("http://h:1/n").uri == "http://h:1"
    assert parse_address("milvus://[::1]:5/n").uri == "http://[::1]:5"
    zilliz = parse_address("https://in03-0.serverless.gcp-us-west1.cloud.zilliz.com/photos")
    assert (zilliz.is_zilliz, zilliz.name, zilliz.uri and zilliz.uri.rpartition(":")[2]) == (True, "photos", "443")
    lite = parse_address("milvus-lite:/some where/photos.db/cats")
    assert (lite.file, lite.name, lite.is_zilliz) == (Path("/some where/photos.db"), "cats", False)


def test_without_pymilvus_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pymilvus", None)
    with pytest.raises(MissingExtraError, match=r"tandem-clip\[milvus\]"):
        open_store("milvus://127.0.0.1:1/photos")


# --- private names: whoever raises the newest version in pyproject.toml looks here first ---


def test_the_clock_of_pymilvus_is_where_we_look_for_it() -> None:
    from pymilvus import MilvusClient
    from pymilvus.client.grpc_handler import GrpcHandler

    assert int(version("pymilvus").split(".")[0]) < 4, "pymilvus 4: try Connection.timestamp, then raise the pin"
    assert "timeout" in inspect.signature(GrpcHandler.alloc_timestamp).parameters, "Connection.timestamp asks so"
    assert callable(MilvusClient._get_connection), "Connection.timestamp takes the handler from here"


def test_the_order_of_pages_is_requested_as_by_pymilvus() -> None:
    """`Reader.pages` gives these to `query` by name; were they dropped, pages would lack rows on newer servers."""
    from pymilvus.client import prepare

    request = prepare.Prepare.query_request(
        "photos", 'id > ""', ["id"], [], iterator="True", reduce_stop_for_best=True, limit=3
    )
    sent = {pair.key: pair.value for pair in request.query_params}
    assert (sent.get("iterator"), sent.get("reduce_stop_for_best"), sent.get("limit")) == ("True", "True", "3")


def test_the_server_of_milvus_lite_is_where_we_look_for_it() -> None:
    pytest.importorskip("milvus_lite")
    from milvus_lite.adapter.grpc.server import start_server_in_thread
    from milvus_lite.exceptions import DataDirLockedError

    assert int(version("milvus-lite").split(".")[0]) < 4, "milvus-lite 4: try a file of it, then raise the pin"
    assert {"host", "port"} <= set(inspect.signature(start_server_in_thread).parameters)
    assert issubclass(DataDirLockedError, Exception)


def test_a_pymilvus_without_these_names_is_one_line() -> None:
    connection = object.__new__(Connection)
    connection._client = object()
    with pytest.raises(MissingExtraError, match=r"pymilvus 2\.4 to 3; install it with"):
        connection.timestamp()


# --- what a server says of a collection ---


class Forgetful:
    """A client of a server whose cache of names is empty now and then."""

    def __init__(self, misses: int, is_there: bool) -> None:
        self.misses, self.is_there, self.asked = misses, is_there, 0

    def upsert(self, name: str, rows: object, timeout: float) -> str:
        from pymilvus import MilvusException

        self.asked += 1
        if self.asked <= self.misses:
            raise MilvusException(code=100, message=f"can't find collection[collection={name}]")
        return "put in"

    def has_collection(self, name: str, timeout: float) -> bool:
        return self.is_there


def connection_to(client: object) -> Connection:
    connection = object.__new__(Connection)
    connection.address = parse_address("milvus://host:19530/photos")
    connection._client = client
    return connection


def test_a_collection_that_the_server_forgets_for_a_moment_is_asked_for_again() -> None:
    """As while other clients change its properties: several times in a row on a slow server."""
    client = Forgetful(misses=3, is_there=True)
    assert connection_to(client).call("upsert", "photos__1", []) == "put in"
    assert client.asked == 4


def test_a_collection_that_is_gone_is_said_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    client = Forgetful(misses=99, is_there=False)
    with pytest.raises(CollectionNotFoundError, match="no such collection on the server"):
        connection_to(client).call("upsert", "photos__1", [])
    assert client.asked == 1
    monkeypatch.setattr(milvus_client, "FORGETFUL_S", 0.0)  # nor is it asked for without end
    with pytest.raises(CollectionNotFoundError):
        connection_to(Forgetful(misses=99, is_there=True)).call("upsert", "photos__1", [])
