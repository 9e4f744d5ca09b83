"""The store of a URL. A new store is a folder beside this file, and a line in `BACKENDS`."""

import functools
import os
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
# Prefixes of stores in folders, which are easily forgotten: their backends know such a folder by what is in it.
PREFIXES_OF_FOLDERS = ("lance:",)
OBJECT_STORAGE = "tandem.search.stores.lance.database.SCHEMES"


def backend(url: str | Path) -> Backend:
    """The backend of a collection URL. `StoreError` for what is neither a path nor the URL of a known store."""
    text = str(url)
    known = next((name for prefix, name in BACKENDS.items() if text.startswith(prefix)), None)
    if known is None and (not text.strip() or "://" in text):
        scheme = text.partition("://")[0]
        meant = f"; did you mean lance+{text}?" if scheme in _load(OBJECT_STORAGE) and "@" not in text else ""
        raise StoreError(f"expected {ADDRESS_FORMS}, got {text!r}{meant}")
    if known is None and (prefix := _forgotten_prefix(text)):
        raise StoreError(f"{text}: the folder of another kind of store; did you mean {prefix}{text}?")
    made: Backend = _load(known or FOLDER)(text)
    return made


def _forgotten_prefix(path: str) -> str | None:
    """The prefix of the store whose folder this is, if that is not the store of paths without one."""
    try:
        names = os.listdir(Path(path).expanduser())
    except (OSError, RuntimeError, ValueError):  # there is none, no home of that user, no path at all
        return None
    if _load(FOLDER).owns(path, names):
        return None
    return next((prefix for prefix in PREFIXES_OF_FOLDERS if _load(BACKENDS[prefix]).owns(path, names)), None)


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
