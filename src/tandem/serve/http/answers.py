"""Large answers as JSON, written beside the event loop and in pieces: a single call that writes all of it would hold
the interpreter's lock, and the loop would stand still meanwhile. Knows documents; no routes.
"""

import asyncio
import json
from collections.abc import Callable, Mapping
from typing import Any

from fastapi.responses import Response

MEDIA_TYPE = "application/json"


async def in_rows(make: Callable[[], Mapping[str, Any]], rows: str) -> Response:
    """The document that `make` gives, whose member `rows` is a list that may be long. Both are done in a thread."""

    def written() -> bytes:
        document = make()
        pieces = [
            f"{_json(name)}:{'[' + ','.join(map(_json, value)) + ']' if name == rows else _json(value)}"
            for name, value in document.items()
        ]
        return ("{" + ",".join(pieces) + "}").encode("utf-8", "replace")

    return Response(await asyncio.to_thread(written), media_type=MEDIA_TYPE)


def _json(value: Any) -> str:
    """As the framework writes it. Raises `ValueError` for numbers that JSON has not."""
    return json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
