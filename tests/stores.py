"""The stores that the contract runs against: for each kind a function that makes an empty store, open for writing."""

import uuid
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
from milvus_server import shared_server

from tandem.search.store import Schema, Store, create_store

Make = Callable[[Path, Schema, Mapping[str, str]], Store]


def embedded(tmp_path: Path, schema: Schema, notes: Mapping[str, str]) -> Store:
    return create_store(str(tmp_path / "photos of 2024 #1?.tandem"), schema, notes)


def milvus(tmp_path: Path, schema: Schema, notes: Mapping[str, str]) -> Store:
    """On a real server, in a collection that no other test has."""
    pytest.importorskip("milvus", reason="needs the milvus wheel (Linux only): pip install -e .[dev]")
    pytest.importorskip("pymilvus")
    return create_store(f"milvus://{shared_server().address}/photos_{uuid.uuid4().hex[:12]}", schema, notes)


def milvus_lite(tmp_path: Path, schema: Schema, notes: Mapping[str, str]) -> Store:
    pytest.importorskip("milvus_lite")
    return create_store(f"milvus-lite:{tmp_path}/photos of 2024.db/photos", schema, notes)


STORES: dict[str, Make] = {"embedded": embedded, "milvus": milvus, "milvus-lite": milvus_lite}
