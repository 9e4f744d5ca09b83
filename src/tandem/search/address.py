"""Where a collection is: what a user wrote -> what the stores take, and why none can be opened there.

Knows addresses and what lies at them; what is in a collection, it does not know.
"""

from pathlib import Path

from tandem.errors import StoreError
from tandem.search.stores import backends as stores
from tandem.search.stores.embedded import generations


def address(url: str | Path) -> str:
    """What the stores take. `StoreError` for what is meant as neither folder nor server that we know."""
    text = str(url)
    if stores.is_server(text):
        return text
    if not text.strip() or "://" in text:
        raise StoreError(f"expected a folder, milvus://HOST:PORT/NAME or https://..., got {text!r}")
    return str(Path(text).expanduser())


def why_none(url: str) -> str:
    """Why a collection cannot be opened at this address, and what to do."""
    path = Path(url)
    if stores.is_server(url) or not path.exists() or (path.is_dir() and not any(path.iterdir())):
        return f"no collection there; make one: tandem index ~/Pictures --to {url}"
    if path.is_dir() and (lost := generations.how_to_mend(url)):
        return lost
    what = "a folder of other things" if path.is_dir() else "a file"
    return f"expected a collection, got {what}; to search in it: tandem index {url} --to photos.tandem"
