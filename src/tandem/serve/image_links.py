"""Where the images of a collection are found, for every route that answers with some. Knows addresses; no routes."""

from urllib.parse import quote


def image_link(identifier: str, part: str = "", collection: str | None = None) -> str:
    """Where an image of a collection is found; `collection` only where it is not the default one."""
    named = f"?collection={quote(collection, safe='')}" if collection else ""
    return f"/v1/images/{quote(identifier, safe='')}{part}{named}"


def is_original(path: bytes) -> bool:
    """Whether a path (percent-encoded, without a query) is that of an image's own file."""
    return path.startswith(b"/v1/images/") and path.endswith(b"/original")
