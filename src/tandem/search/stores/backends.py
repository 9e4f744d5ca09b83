"""Which store an address belongs to: opened, made, replaced."""

from collections.abc import Mapping

from tandem.search.stores.protocol import Schema, Store


def is_server(url: str) -> bool:
    """Whether the address is a Milvus or Zilliz server's, or a milvus-lite file's, rather than a folder's."""
    return url.startswith(("milvus://", "http://", "https://", "milvus-lite:"))


def create_store(url: str, schema: Schema, notes: Mapping[str, str], *, successor: bool = False) -> Store:
    """Make an empty store, open for writing. `StoreError` if there is one.

    `successor=True` makes it beside the one that is there, as what will replace it (see `promote`).
    """
    if is_server(url):
        from tandem.search.stores.milvus import store as milvus

        return milvus.create(url, schema, notes, successor=successor)
    from tandem.search.stores.embedded import store as embedded

    return embedded.create(url, schema, notes, successor=successor)


def open_store(url: str, *, write: bool = False, successor: bool = False) -> Store:
    """Open a store: a folder, `milvus://host:19530/name`, `https://...` (token in the environment), or milvus-lite.

    `StoreError` if there is none; `StoreBusyError` if it is to be written to and another process writes already.
    """
    if is_server(url):
        from tandem.search.stores.milvus import store as milvus

        return milvus.open(url, successor=successor)
    from tandem.search.stores.embedded import store as embedded

    return embedded.open(url, write=write, successor=successor)


def exists(url: str, *, successor: bool = False) -> bool:
    """Whether there is a store at this address."""
    if is_server(url):
        from tandem.search.stores.milvus import store as milvus

        return milvus.exists(url, successor=successor)
    from tandem.search.stores.embedded import store as embedded

    return embedded.exists(url, successor=successor)


def promote(url: str) -> None:
    """Let the successor take the place of the store at `url`, at once, and remove the old one."""
    if is_server(url):
        from tandem.search.stores.milvus import store as milvus

        milvus.promote(url)
    else:
        from tandem.search.stores.embedded import store as embedded

        embedded.promote(url)
