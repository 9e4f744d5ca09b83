"""Where a picture of a collection is found on the server. Knows the shape of addresses only."""

from urllib.parse import quote


def thumbnail_link(identifier: str, collection: str | None = None) -> str:
    return picture_link(identifier, "/thumbnail", collection)


def picture_link(identifier: str, part: str = "", collection: str | None = None) -> str:
    """`collection` only where it is not the default one."""
    named = f"?collection={quote(collection, safe='')}" if collection else ""
    return f"/v1/pictures/{quote(identifier, safe='')}{part}{named}"
