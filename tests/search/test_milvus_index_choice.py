"""Which index is asked of which Milvus, and how it is searched: by a client that records what is asked of it.

It stands for servers that cannot be had here. The index of a real one, 2.3.5, is built in `test_milvus.py`.
"""

from typing import Any

import numpy as np
import pytest
from support import skip_without

from tandem.search.stores.milvus import index_choice
from tandem.search.stores.milvus.client import CHANGING, FINAL, INDEX, INDEX_KIND, Connection, parse_address
from tandem.search.stores.milvus.fields import PROPERTY, FieldMapping
from tandem.search.stores.milvus.index_choice import HNSW, IVF_RABITQ, large_index, parse_version, search_parameters
from tandem.search.stores.milvus.search import Search
from tandem.search.stores.milvus.store import MilvusStore, view_of
from tandem.search.stores.protocol import Records, Schema

skip_without("pymilvus")
import pymilvus  # noqa: E402

SCHEMA = Schema(8, {"path": "text"})


class Recorder(pymilvus.MilvusClient):
    """A client of a server of some version with one collection: it answers what it must, and keeps what it is asked."""

    version = ""
    count = 0  # of its records

    def __init__(self, *_: object, **__: object) -> None:
        self.index: dict[str, Any] = {"index_type": "FLAT"}
        self.properties = {PROPERTY: FieldMapping(SCHEMA).to_json()}
        self.states: list[str] = []
        self.searches: list[dict[str, Any]] = []

    def get_server_version(self, *_: object, **__: object) -> str:
        return self.version

    def describe_collection(self, *_: object, **__: object) -> dict[str, Any]:
        vector = {"name": "vector", "params": {"dim": 8}}
        return {"collection_name": "photos__1", "properties": dict(self.properties), "fields": [vector]}

    def alter_collection_properties(self, _: str, properties: dict[str, str], **__: object) -> None:
        self.properties |= properties
        self.states.append(self.properties.get(INDEX, ""))

    def describe_index(self, *_: object, **__: object) -> dict[str, Any]:
        return self.index

    def create_index(self, _: str, index: Any, **__: object) -> None:
        (self.index,) = [each.to_dict() for each in index]

    def flush(self, *_: object, **__: object) -> None: ...

    release_collection = drop_index = load_collection = upsert = flush

    def search(self, _: str, **named: Any) -> list[list[object]]:
        self.searches.append(named)
        return [[] for _ in named["data"]]

    def query(self, *_: object, **__: object) -> list[dict[str, int]]:
        return [{"count(*)": self.count}]

    def close(self) -> None: ...


@pytest.fixture
def connection(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Connection:
    monkeypatch.setattr(Recorder, "version", request.param)
    monkeypatch.setattr(pymilvus, "MilvusClient", Recorder)
    return Connection(parse_address("milvus://127.0.0.1:1/photos"))


def asked(connection: Connection, k: int = 10) -> dict[str, Any]:
    """The parameters of the index in a search for k records."""
    view = view_of(connection, connection.address.url, False)
    assert view is not None
    Search(connection, view, None, None).hits(np.eye(8, dtype=np.float32)[:1], k)
    (one,) = connection._client.searches
    connection._client.searches.clear()
    assert one["search_params"]["metric_type"] == "IP"
    parameters: dict[str, Any] = one["search_params"]["params"]
    return parameters


@pytest.mark.parametrize(
    ("text", "version"),
    [
        ("v2.3.5", (2, 3)),
        ("2.6.0", (2, 6)),
        ("v2.6.0-rc1", (2, 6)),
        ("2.10.1", (2, 10)),
        ("3.0", (3, 0)),
        ("Zilliz Cloud Vector Database(Compatible with Milvus 2.5)", (2, 5)),
        ("master-20250601-abcdef", (0, 0)),
        ("build 2026.11 of v2.4.1", (2, 4)),
        ("9" * 5_000 + ".6", (0, 0)),
        ("", (0, 0)),
        (None, (0, 0)),
    ],
)
def test_a_version_is_read_as_servers_write_it(text: str | None, version: tuple[int, int]) -> None:
    assert parse_version(text) == version
    assert large_index(version) == (IVF_RABITQ if version in {(2, 6), (2, 10), (3, 0)} else HNSW)


@pytest.mark.parametrize("connection", ["v2.6.3", "2.10.0"], indirect=True)
def test_a_server_of_2_6_gets_rabitq_and_is_asked_so(connection: Connection) -> None:
    client = connection._client
    assert "ef" in asked(connection)  # while it is small
    connection.build_large_index("photos__1")
    assert client.index["index_type"] == "IVF_RABITQ"
    built = client.index.get("params", client.index)
    as_built = {name: built[name] for name in ("nlist", "refine", "refine_type")}
    assert as_built == {"nlist": 1024, "refine": True, "refine_type": "SQ8"}  # without refining, bits alone decide
    assert list(dict.fromkeys(client.states)) == [CHANGING, FINAL]
    assert client.properties[INDEX_KIND] == "IVF_RABITQ"
    assert asked(connection) == {
        "nprobe": index_choice.PROBES,
        "rbq_query_bits": 0,
        "refine_k": pytest.approx(500 / 26),
    }
    assert asked(connection, 1000)["refine_k"] == 1


@pytest.mark.parametrize("connection", ["v2.3.5", "2.5.27", "unknown"], indirect=True)
def test_an_earlier_server_gets_hnsw_and_is_asked_so(connection: Connection) -> None:
    connection.build_large_index("photos__1")
    assert connection._client.index["index_type"] == "HNSW"
    assert asked(connection) == {"ef": 512}
    connection.build_large_index("photos__1")  # it has one: nothing is built again
    assert connection._client.properties[INDEX_KIND] == "HNSW"


@pytest.mark.parametrize("connection", ["v2.6.3"], indirect=True)
@pytest.mark.parametrize(("count", "index"), [(50_000, "FLAT"), (50_001, "IVF_RABITQ")])
def test_a_collection_is_exact_up_to_50_000_records(
    connection: Connection, count: int, index: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Connection, "timestamp", lambda self: 1)
    connection._client.count = count
    view = view_of(connection, connection.address.url, False)
    assert view is not None
    one = Records(["a"], np.eye(8, dtype=np.float32)[:1], {"path": ["a.jpg"]})
    MilvusStore(connection.address.url, connection, False, view).upsert(one)
    assert connection._client.index["index_type"] == index


@pytest.mark.parametrize(("limit", "ef"), [(10, 512), (200, 800), (16_384, 32_768)])
def test_a_graph_is_searched_for_more_than_is_wanted_within_the_bound_of_servers(limit: int, ef: int) -> None:
    assert search_parameters("HNSW", limit) == {"ef": ef}


@pytest.mark.parametrize("connection", ["v2.6.3"], indirect=True)
def test_a_collection_that_an_earlier_version_indexed_is_asked_as_it_is(connection: Connection) -> None:
    """Its server was renewed; its index was not."""
    connection._client.index = {"index_type": "HNSW"}
    connection._client.properties[INDEX] = FINAL
    connection.build_large_index("photos__1")
    assert connection._client.index == {"index_type": "HNSW"}
    assert asked(connection) == {"ef": 512}


@pytest.mark.parametrize("connection", ["v2.6.3"], indirect=True)
def test_a_search_during_the_change_is_repeated_as_the_new_index_is_asked(connection: Connection) -> None:
    view = view_of(connection, connection.address.url, False)
    assert view is not None
    connection.build_large_index("photos__1")  # another client does, between the look and the search
    Search(connection, view, None, None).hits(np.eye(8, dtype=np.float32)[:1], 10)
    first, second = (each["search_params"]["params"] for each in connection._client.searches)
    assert "ef" in first
    assert second == search_parameters("IVF_RABITQ", 26)
