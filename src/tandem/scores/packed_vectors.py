"""Unit vectors in a JSON document: int8, deflated, as base64 text. Knows nothing of what they are of."""

import base64
import zlib
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

_MOST_BYTES = 64 << 20  # of the vectors in one document: a few kilobytes of text may be deflated gigabytes


def pack(vectors: NDArray[np.int8]) -> dict[str, Any]:
    """int8 [n d] -> the keys `dimensions`, `compression` and `vectors` of a document."""
    text = base64.b64encode(zlib.compress(vectors.tobytes(), 9)).decode("ascii")
    return {"dimensions": vectors.shape[1], "compression": "zlib", "vectors": text}


def unpack(plain: Mapping[str, Any]) -> NDArray[np.int8]:
    """The inverse of `pack`; without `compression`, the bytes as they are. Raises ValueError, TypeError or KeyError."""
    content = base64.b64decode(plain["vectors"], validate=True)
    compression = plain.get("compression")
    if compression == "zlib":
        inflating = zlib.decompressobj()
        try:
            content = inflating.decompress(content, _MOST_BYTES)
        except zlib.error as error:
            raise ValueError(f"vectors: {error}") from None
        if not inflating.eof or inflating.unused_data:
            raise ValueError("vectors: expected one whole zlib stream of at most 64 MiB")
    elif compression is not None:
        raise ValueError(f"compression: expected zlib, got {compression!r}")
    return np.frombuffer(content, np.int8).reshape(-1, int(plain["dimensions"]))
