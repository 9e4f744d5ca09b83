"""Small collections on a Milvus, for tests."""

import uuid

import numpy as np

from support.milvus_server import shared_server
from tandem.arrays import Vectors
from tandem.search.stores.protocol import Records, Schema, Store

D = 8
SCHEMA = Schema(D, {"path": "text", "width": "integer", "thumbnail": "bytes"})


def unit(n: int, d: int = D, seed: int = 0) -> Vectors:
    vectors = np.random.default_rng(seed).standard_normal((n, d))
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def records(n: int, prefix: str = "") -> Records:
    return Records(
        [f"{prefix}{i:05d}" for i in range(n)],
        unit(n),
        {"path": [f"/photos/{prefix}{i}.jpg" for i in range(n)], "width": list(range(n))},
    )


def ids_of(store: Store, where: str | None = None, batch_size: int = 8192) -> list[str]:
    batches = store.scan(where=where, columns=[], vectors=False, batch_size=batch_size)
    return [each for batch in batches for each in batch.ids]


def new_url() -> str:
    """The address of a collection that no other test has, on the server of this test run."""
    return f"milvus://{shared_server().address}/photos_{uuid.uuid4().hex[:12]}"
