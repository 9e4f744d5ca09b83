"""Links to originals that work for a while without a key: a player of films sends no header.

A link is made for who has a key, and is good for one path, its collection and a time. It holds no key and nothing that
tells of one; it ends when its time is over, when that key leaves the file, and when this process ends. Knows no routes.
"""

import hashlib
import hmac
import secrets
import time
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import parse_qsl, urlencode

from tandem.serve.http.keys import KeyFile

LINK_S = 600  # how long a link is good; the page asks for another one when a film stops
_FIELDS = {"collection", "expires", "signature"}


class SignedLinks:
    """Makes links, and says whether a request came by one."""

    def __init__(
        self, keys: KeyFile, may_open: Callable[[bytes], bool], *, clock: Callable[[], float] = time.time
    ) -> None:
        """`may_open` says of a path (percent-encoded, without a query) whether links to it are made at all."""
        self._keys = keys
        self._may_open = may_open
        self._clock = clock
        self._secret = secrets.token_bytes(32)  # of this process: what is signed tells nothing about keys

    def signed(self, path: str, collection: str | None, authorization: str | None, x_api_key: str | None) -> str:
        """A link to the original at this path (percent-encoded), for the key that the headers have. It lasts `LINK_S`.

        Raises `ValueError` where they have none.
        """
        key = self._keys.find(authorization=authorization, x_api_key=x_api_key)
        if key is None:
            raise ValueError("the headers have no key")
        expires = int(self._clock()) + LINK_S
        named = {"collection": collection} if collection else {}
        signature = self._signature(path.encode(), collection, expires, key)
        return f"{path}?{urlencode({**named, 'expires': expires, 'signature': signature})}"

    def key_of(self, scope: Mapping[str, Any]) -> str | None:
        """What `KeyFile.find` calls the key that a request (ASGI) came by.

        None unless it is a GET of what a link was made for, before its end, by a key that still counts.
        """
        path = (scope.get("raw_path") or scope["path"].encode()).partition(b"?")[0]
        if scope["method"] != "GET" or not self._may_open(path):
            return None
        try:
            pairs = parse_qsl(
                scope["query_string"].decode("ascii"), keep_blank_values=True, max_num_fields=len(_FIELDS)
            )
        except ValueError:
            return None
        fields = dict(pairs)
        given, expires = fields.get("signature", ""), fields.get("expires", "")
        if len(fields) < len(pairs) or not set(fields) <= _FIELDS or not (expires.isdecimal() and len(expires) < 13):
            return None
        found = None
        for key in self._keys.names():  # to the end, as where keys are compared
            signature = self._signature(path, fields.get("collection"), int(expires), key)
            if hmac.compare_digest(signature.encode(), given.encode()):
                found = key
        return found if self._clock() < int(expires) else None

    def _signature(self, path: bytes, collection: str | None, expires: int, key: str) -> str:
        parts = (path, b"" if collection is None else b"=" + collection.encode(), str(expires).encode(), key.encode())
        together = b"".join(len(part).to_bytes(8) + part for part in parts)
        return hmac.new(self._secret, together, hashlib.sha256).hexdigest()
