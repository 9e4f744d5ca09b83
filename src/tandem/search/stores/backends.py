"""The store of a URL. A new store is a folder beside this file, and a line in `BACKENDS`."""

import functools
import os
from collections.abc import Callable, Container, Mapping
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from tandem.defaults import ADDRESS_FORMS
from tandem.errors import StoreError, TandemError
from tandem.files import user_path

if TYPE_CHECKING:  # asking where a collection is imports no store and no numpy
    from tandem.search.stores.protocol import Backend, Schema, Store


def _itself(path: str) -> str:
    return path


class Scheme(NamedTuple):
    """How the URLs of a store begin, and the store's backend, imported on first use.

    Where a path on this machine follows the prefix, `holder` gives the file or folder that holds the store.
    """

    prefix: str
    backend: str
    holder: Callable[[str], str] | None = None


_MILVUS = "tandem.search.stores.milvus.backend.MilvusBackend"
_LANCE = "tandem.search.stores.lance.backend.LanceBackend"

BACKENDS = (
    Scheme("milvus://", _MILVUS),
    Scheme("milvus-lite:", _MILVUS, os.path.dirname),  # FILE/NAME
    Scheme("http://", _MILVUS),
    Scheme("https://", _MILVUS),
    Scheme("lance:", _LANCE, _itself),
    Scheme("lance+", _LANCE),
)
# What begins in none of these ways is the path of a folder.
FOLDER = Scheme("", "tandem.search.stores.embedded.backend.EmbeddedBackend", _itself)
OBJECT_STORAGE = "tandem.search.stores.lance.database.SCHEMES"


def backend(url: str | Path) -> "Backend":
    """The backend of a collection URL. `StoreError` for what is neither a path nor the URL of a known store."""
    text = str(url)
    scheme = _scheme(text)
    if scheme is FOLDER:
        if not text.strip() or "://" in text:
            kind = text.partition("://")[0]
            meant = f"; did you mean lance+{text}?" if kind in _load(OBJECT_STORAGE) and "@" not in text else ""
            raise StoreError(f"expected {ADDRESS_FORMS}, got {text!r}{meant}")
        if prefix := _forgotten_prefix(text):
            raise StoreError(f"{text}: the folder of another kind of store; did you mean {prefix}{text}?")
    found: Backend = _load(scheme.backend)(text)
    return found


def full_url(url: str) -> str:
    """The URL that means the same in any working directory: with a full path, where it names one on this machine."""
    scheme = _scheme(url)
    if scheme.holder is None or "://" in url:
        return url
    return scheme.prefix + os.path.abspath(user_path(url.removeprefix(scheme.prefix), strict=False))


def local_path(url: str) -> str | None:
    """The file or folder on this machine that holds the store, whether it exists or not; None for one elsewhere."""
    scheme = _scheme(url)
    if scheme.holder is None or "://" in url:
        return None
    return scheme.holder(os.fspath(user_path(url.removeprefix(scheme.prefix), strict=False)))


def _scheme(url: str) -> Scheme:
    return next((scheme for scheme in BACKENDS if url.startswith(scheme.prefix)), FOLDER)


def _forgotten_prefix(path: str) -> str | None:
    """The prefix of the store whose folder this is, if that is not the store of paths without one."""
    try:
        names = os.listdir(user_path(path))
    except (OSError, ValueError, TandemError):  # there is none, no home of that user, no path at all
        return None
    if is_store_folder(path, names):
        return None
    of_folders = (scheme for scheme in BACKENDS if scheme.holder is _itself)
    return next((scheme.prefix for scheme in of_folders if _load(scheme.backend).owns(path, names)), None)


@functools.cache
def _load(dotted: str) -> Any:
    module, _, name = dotted.rpartition(".")
    return getattr(import_module(module), name)


def is_store_folder(folder: str, names: Container[str]) -> bool:
    """Whether a folder, which has these names in it, is that of a local store. Cheap: walks ask it of every folder."""
    owns: Callable[[str, Container[str]], bool] = _load(FOLDER.backend).owns
    return owns(folder, names)


def create_store(url: str | Path, schema: "Schema", notes: Mapping[str, str], *, staging: bool = False) -> "Store":
    """`Backend.create` at an address."""
    return backend(url).create(schema, notes, staging=staging)


def open_store(url: str | Path, *, write: bool = False, staging: bool = False) -> "Store":
    """`Backend.open` at an address."""
    return backend(url).open(write=write, staging=staging)


def exists(url: str | Path, *, staging: bool = False) -> bool:
    """`Backend.exists` at an address."""
    return backend(url).exists(staging=staging)


def promote(url: str | Path) -> None:
    """`Backend.promote` at an address."""
    backend(url).promote()
