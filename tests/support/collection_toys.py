"""A small collection to index into: a model whose vectors cost nothing, a store, and what is in it."""

import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from support import toy
from tandem.model import Model
from tandem.search.indexing.image_record import COLUMNS, paths_of
from tandem.search.indexing.ledger import Ledger
from tandem.search.indexing.local import index
from tandem.search.indexing.run import IndexingOptions, IndexingReport, open_sources
from tandem.search.stores.backends import create_store, exists, open_store
from tandem.search.stores.protocol import Schema, Store

Contents = dict[str, tuple[list[str], np.ndarray]]


class ToyEngine:
    """Vectors by one product with fixed numbers, each row by itself: the batch makes no difference."""

    name, device, precision = "openvino", "cpu", "float32"

    def __init__(self) -> None:
        self.config = toy.config()
        self.encoded = 0
        self.threads: set[int] = set()
        size = toy.SIZE
        self._matrix = np.random.default_rng(0).normal(size=(size * size * 3, toy.DIMENSIONS)).astype(np.float32)

    def encode_images(self, pixels: np.ndarray) -> np.ndarray:
        self.encoded += len(pixels)
        self.threads.add(threading.get_ident())
        rows = [(row.reshape(-1) / np.float32(255) - np.float32(0.5)) @ self._matrix for row in pixels]
        return np.stack([row / np.linalg.norm(row) for row in rows]).astype(np.float32)

    def encode_texts(self, token_ids: np.ndarray) -> np.ndarray:
        raise NotImplementedError

    def text_states(self, token_ids: np.ndarray, layer: int = -1) -> np.ndarray:
        raise NotImplementedError

    def image_states(self, pixels: np.ndarray, layer: int = -2, **_: object) -> np.ndarray:
        raise NotImplementedError

    def release(self) -> None: ...


def toy_model() -> Model:
    return Model(toy.checkpoint(), ToyEngine())  # type: ignore[arg-type]


@contextmanager
def writing(folder: Path) -> Iterator[tuple[Store, Ledger]]:
    """The collection `c.tandem` in a folder, made if need be, and its ledger beside it."""
    url = str(folder / "c.tandem")
    if exists(url):
        store = open_store(url, write=True)
    else:
        store = create_store(url, Schema(toy.DIMENSIONS, COLUMNS), {"format": "1", "identity": "toy"})
    try:
        with Ledger.open(folder / "files.sqlite") as ledger:
            yield store, ledger
    finally:
        store.close()


def run(folder: Path, *named: str | Path, model: Any = None, **options: Any) -> IndexingReport:
    """Index into the collection of a folder; `model` is one, or what loads one."""
    with writing(folder) as (store, ledger):
        chosen = IndexingOptions(**options)
        with open_sources(named, chosen) as sources:
            load_model = model if callable(model) else lambda: model or toy_model()
            return index(store, load_model, sources, ledger, chosen)


def contents(folder: Path) -> Contents:
    """Every image: id -> (its places, its vector)."""
    store = open_store(str(folder / "c.tandem"))
    try:
        found: Contents = {}
        for some in store.scan(columns=["path", "paths"]):
            assert some.vectors is not None
            for i, id in enumerate(some.ids):
                row = some.row(i)
                assert id not in found
                assert row["path"] == paths_of(row)[0]
                found[id] = (paths_of(row), some.vectors[i])
        return found
    finally:
        store.close()


def same(a: Contents, b: Contents) -> bool:
    """Whether two collections hold the same images at the same places with the same vectors."""
    return a.keys() == b.keys() and all(a[id][0] == b[id][0] and np.allclose(a[id][1], b[id][1], atol=1e-6) for id in a)


def values(folder: Path, path: Path | str) -> dict[str, Any]:
    """What is stored for the image at a place."""
    store = open_store(str(folder / "c.tandem"))
    try:
        for some in store.scan(columns=list(COLUMNS), vectors=False):
            for i in range(len(some)):
                if str(path) in paths_of(some.row(i)):
                    return some.row(i)
        raise KeyError(str(path))
    finally:
        store.close()


def counts(report: IndexingReport) -> dict[str, int]:
    names = ("added", "unchanged", "duplicates", "moved", "changed", "pruned")
    return {name: getattr(report, name) for name in names if getattr(report, name)}


def reasons(report: IndexingReport) -> dict[str, str]:
    return {Path(failure.path).name: failure.reason for failure in report.failures}


def never() -> Model:
    raise AssertionError("the model was loaded although there is nothing to read")


def fresh(home: Path, *named: Path, **options: Any) -> Any:
    """What a collection made from nothing would hold."""
    other = home / "fresh"
    shutil.rmtree(other, ignore_errors=True)
    other.mkdir()
    run(other, *named, **options)
    return contents(other)
