"""A small local store for tests: records whose vectors are random, and what exact search would find."""

import subprocess
import sys

import numpy as np
import pytest

from tandem.arrays import Vectors
from tandem.search.stores.embedded import index_maintainer, nearest
from tandem.search.stores.embedded.backend import EmbeddedBackend
from tandem.search.stores.embedded.store import EmbeddedStore
from tandem.search.stores.protocol import Records, Schema

D = 16
SCHEMA = Schema(D, {"path": "text", "number": "integer", "thumbnail": "bytes"})


def unit(n: int, seed: int = 0) -> Vectors:
    rows = np.random.default_rng(seed).standard_normal((n, D)).astype(np.float32)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def records(first: int, stop: int, seed: int = 0) -> Records:
    numbers = range(first, stop)
    return Records(
        [f"{i:06d}" for i in numbers],
        unit(stop - first, seed + first),
        {"path": [f"a/{i}.jpg" for i in numbers], "number": list(numbers), "thumbnail": [b"x" * 50] * len(numbers)},
    )


def index_for_toys(monkeypatch: pytest.MonkeyPatch) -> None:
    """An index from a thousand records on."""
    monkeypatch.setattr(index_maintainer, "INDEX_FROM", 1000)
    monkeypatch.setattr(nearest, "EXACT_BELOW", 200)
    monkeypatch.setattr(index_maintainer, "MAX_BEHIND_AT_REST", 100)


def filled(url: str, count: int) -> EmbeddedStore:
    store = EmbeddedBackend(url).create(SCHEMA, {"identity": "x"})
    for first in range(0, count, 1000):
        store.upsert(records(first, min(count, first + 1000)))
    return store


def exact(store: EmbeddedStore, query: Vectors, k: int, where: str | None = None) -> list[str]:
    scored = []
    for batch in store.scan(columns=[], where=where):
        assert batch.vectors is not None
        scores = np.einsum("nd,d->n", batch.vectors, query, dtype=np.float64).astype(np.float32)
        scored += zip(-scores, batch.ids, strict=True)
    return [name for _, name in sorted(scored)[:k]]


def in_process(code: str, *arguments: str) -> str:
    """What another process says."""
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            f"import sys\nfrom tandem.search.stores.embedded.backend import EmbeddedBackend\n{code}",
            *arguments,
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def vectors_of(batch: Records) -> Vectors:
    assert batch.vectors is not None
    return batch.vectors
