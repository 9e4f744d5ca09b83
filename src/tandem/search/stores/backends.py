"""Which store an address belongs to. A new store is a folder beside this file, and a line in `BACKENDS`."""

from collections.abc import Container, Mapping
from importlib import import_module
from pathlib import Path

from tandem.defaults import ADDRESS_FORMS
from tandem.errors import StoreError
from tandem.search.stores.embedded import generations
from tandem.search.stores.protocol import Backend, Schema, Store

# How an address begins -> what answers for it, imported on first use. What begins in no such way is a folder's path.
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
    """What answers for an address. `StoreError` for what is neither a path nor an address of a store we know."""
    text = str(url)
    known = next((name for prefix, name in BACKENDS.items() if text.startswith(prefix)), None)
    if known is None and (not text.strip() or "://" in text):
        raise StoreError(f"expected {ADDRESS_FORMS}, got {text!r}")
    module, _, name = (known or FOLDER).rpartition(".")
    made: Backend = getattr(import_module(module), name)(text)
    return made


def is_store_folder(folder: str, names: Container[str]) -> bool:
    """Whether a folder with these names in it is a local store's own. Asked of every folder that is walked: cheap."""
    return generations.CURRENT in names and generations.exists(folder)


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
