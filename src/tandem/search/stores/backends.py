"""The store of a URL. A new store is a folder beside this file, and a line in `BACKENDS`."""

import functools
from collections.abc import Callable, Container, Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

from tandem.defaults import ADDRESS_FORMS
from tandem.errors import StoreError
from tandem.search.stores.protocol import Backend, Schema, Store

# The prefix of a URL -> its backend, imported on first use. Anything else is the path of a folder.
BACKENDS: Mapping[str, str] = {
    "milvus://": "tandem.search.stores.milvus.backend.MilvusBackend",
    "milvus-lite:": "tandem.search.stores.milvus.backend.MilvusBackend",
    "http://": "tandem.search.stores.milvus.backend.MilvusBackend",
    "https://": "tandem.search.stores.milvus.backend.MilvusBackend",
    "lance:": "tandem.search.stores.lance.backend.LanceBackend",
    "lance+": "tandem.search.stores.lance.backend.LanceBackend",
}
FOLDER = "tandem.search.stores.embedded.backend.EmbeddedBackend"


def backend(url: str | Path) -> Backend:
    """The backend of a collection URL. `StoreError` for what is neither a path nor the URL of a known store."""
    text = str(url)
    known = next((name for prefix, name in BACKENDS.items() if text.startswith(prefix)), None)
    if known is None and (not text.strip() or "://" in text):
        raise StoreError(f"expected {ADDRESS_FORMS}, got {text!r}")
    made: Backend = _load(known or FOLDER)(text)
    return made


@functools.cache
def _load(dotted: str) -> Any:
    module, _, name = dotted.rpartition(".")
    return getattr(import_module(module), name)


def is_store_folder(folder: str, names: Container[str]) -> bool:
    """Whether a folder, which has these names in it, is that of a local store. Cheap: walks ask it of every folder."""
    owns: Callable[[str, Container[str]], bool] = _load(FOLDER).owns
    return owns(folder, names)


def create_store(url: str | Path, schema: Schema, notes: Mapping[str, str], *, staging: bool = False) -> Store:
    """`Backend.create` at an address."""
    return backend(url).create(schema, notes, staging=staging)


def open_store(url: str | Path, *, write: bool = False, staging: bool = False) -> Store:
    """`Backend.open` at an address."""
    return backend(url).open(write=write, staging=staging)


def exists(url: str | Path, *, staging: bool = False) -> bool:
    """`Backend.exists` at an address."""
    return backend(url).exists(staging=staging)


def promote(url: str | Path) -> None:
    """`Backend.promote` at an address."""
    backend(url).promote()
