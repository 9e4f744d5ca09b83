"""The stores that the contract runs against: for each kind a function that makes an empty store, open for writing."""

import uuid
from collections import deque
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import pytest

from support import milvus_server, s3_server
from tandem.errors import StoreNotFoundError
from tandem.search.stores.backends import backend, create_store
from tandem.search.stores.protocol import Schema, Store

Make = Callable[[Path, Schema, Mapping[str, str]], Store]


def embedded(tmp_path: Path, schema: Schema, notes: Mapping[str, str]) -> Store:
    return create_store(str(tmp_path / "photos of 2024 #1?.tandem"), schema, notes)


# A server takes three seconds to make a collection ready, however many are being made: so some are made ahead.
AHEAD = 12
_makers = ThreadPoolExecutor(AHEAD)
_ahead: dict[str, deque[Future[Store]]] = {}
_used: set[str] = set()


def milvus(tmp_path: Path, schema: Schema, notes: Mapping[str, str]) -> Store:
    """On a real server, in a collection that no other test has."""
    pytest.importorskip("milvus", reason="needs the milvus wheel (Linux only): pip install -e .[dev]")
    pytest.importorskip("pymilvus")
    address = milvus_server.shared_server().address
    waiting = _ahead.setdefault(f"{schema} {notes}", deque())
    # One for the first that asks: most tests of their own schema are alone with it.
    while len(waiting) < (AHEAD if f"{schema} {notes}" in _used else 1):
        url = f"milvus://{address}/photos_{uuid.uuid4().hex[:12]}"
        waiting.append(_makers.submit(create_store, url, schema, notes))
    _used.add(f"{schema} {notes}")
    return waiting.popleft().result()


def close(store: Store) -> None:
    """Close it, and on the server of Milvus remove it: as long as it is loaded it takes processor time."""
    store.close()
    if store.url.startswith("milvus://"):
        with suppress(StoreNotFoundError):
            backend(store.url).remove()


def milvus_lite(tmp_path: Path, schema: Schema, notes: Mapping[str, str]) -> Store:
    pytest.importorskip("milvus_lite")
    return create_store(f"milvus-lite:{tmp_path}/photos of 2024.db/photos", schema, notes)


def lance(tmp_path: Path, schema: Schema, notes: Mapping[str, str]) -> Store:
    pytest.importorskip("lancedb")
    return create_store(f"lance:{tmp_path}/photos of 2024 #1?.lance", schema, notes)


def lance_s3(tmp_path: Path, schema: Schema, notes: Mapping[str, str]) -> Store:
    """On a real S3 server, under a name that no other test has."""
    pytest.importorskip("lancedb")
    pytest.importorskip("moto")
    s3_server.shared_server()
    return create_store(f"lance+s3://{s3_server.BUCKET}/photos_{uuid.uuid4().hex[:12]}", schema, notes)


STORES: dict[str, Make] = {
    "embedded": embedded,
    "milvus": milvus,
    "milvus-lite": milvus_lite,
    "lance": lance,
    "lance+s3": lance_s3,
}
# What a store needs, for `make quick`, which leaves these out.
_MARKS = {"milvus": pytest.mark.milvus, "milvus-lite": pytest.mark.milvus, "lance+s3": pytest.mark.s3}
PARAMS = [pytest.param(name, marks=_MARKS.get(name, ())) for name in sorted(STORES)]
