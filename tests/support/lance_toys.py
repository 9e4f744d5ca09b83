"""LanceDB collections of a few records, in a folder and in a bucket: fixtures.

Test files name it in `pytest_plugins`.
"""

import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from support import s3_server
from tandem.arrays import Vectors
from tandem.search.stores.backends import create_store
from tandem.search.stores.lance.database import CURRENT, Catalog, Database, parse_address
from tandem.search.stores.protocol import Records, Schema, Store

D = 8
SCHEMA = Schema(D, {"path": "text", "width": "integer", "thumbnail": "bytes"})


def unit(n: int, d: int = D, seed: int = 0) -> Vectors:
    vectors = np.random.default_rng(seed).standard_normal((n, d))
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def records(n: int, prefix: str = "", seed: int = 0) -> Records:
    return Records(
        [f"{prefix}{i:05d}" for i in range(n)],
        unit(n, seed=seed),
        {"path": [f"/photos/{prefix}{i}.jpg" for i in range(n)], "width": list(range(n))},
    )


def ids_of(store: Store, where: str | None = None, batch_size: int = 8192) -> list[str]:
    batches = store.scan(where=where, columns=[], vectors=False, batch_size=batch_size)
    return sorted(each for batch in batches for each in batch.ids)


def table_of(store: Store) -> Any:
    """LanceDB's own view of the table, as of its newest version."""
    database = Database(parse_address(store.url))
    return database.table(Catalog(database).read()[CURRENT])


@pytest.fixture(params=["folder", pytest.param("s3", marks=pytest.mark.s3)])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """An address where nothing is, in a folder and in a bucket."""
    if request.param == "folder":
        return f"lance:{tmp_path}/photos"
    pytest.importorskip("moto")
    s3_server.shared_server()
    return f"lance+s3://{s3_server.BUCKET}/some/where/photos_{uuid.uuid4().hex[:12]}"


@pytest.fixture
def store(url: str) -> Iterator[Store]:
    made = create_store(url, SCHEMA, {"identity": "one"})
    yield made
    made.close()


@pytest.fixture
def local(tmp_path: Path) -> Iterator[Store]:
    made = create_store(f"lance:{tmp_path}/photos", SCHEMA, {"identity": "one"})
    yield made
    made.close()
