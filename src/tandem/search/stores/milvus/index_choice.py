"""Which index a Milvus collection gets, and how it is asked, by size and by the server's version. Knows no server.

Up to `EXACT_UP_TO` records FLAT, which is exact. Beyond, from Milvus 2.6 on, IVF_RABITQ: lists by k-means, a bit for
each dimension, and a byte for each to refine what the bits name (https://milvus.io/docs/ivf-rabitq.md). Earlier servers
do not have it and get HNSW, a graph that holds all vectors in memory as float32: at 512 dimensions 2.2 KB a record
against 0.6. Zilliz chooses by itself (AUTOINDEX), and milvus-lite is always exact.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

Version: TypeAlias = tuple[int, int]

EXACT_UP_TO = 50_000
RABITQ_SINCE: Version = (2, 6)
# Of each segment, which has some hundred thousand records. Measured with faiss on 200,000 clustered vectors of 256
# dimensions, queries like texts: see docs/log.md.
LISTS, PROBES = 1024, 256
REFINED = 500  # candidates by bits that are looked at again by bytes, as in the embedded store


@dataclass(frozen=True)
class IndexKind:
    """An index by Milvus' name of it, and what it is built with."""

    name: str
    parameters: Mapping[str, Any]


FLAT = IndexKind("FLAT", {})
AUTOINDEX = IndexKind("AUTOINDEX", {})
HNSW = IndexKind("HNSW", {"M": 16, "efConstruction": 200})
IVF_RABITQ = IndexKind("IVF_RABITQ", {"nlist": LISTS, "refine": True, "refine_type": "SQ8"})


_VERSION = re.compile(r"(?:^|\bmilvus |\bv)v?(\d{1,4})\.(\d{1,4})(?!\d)", re.IGNORECASE)


def parse_version(text: object) -> Version:
    """The first two numbers of a server's version, such as v2.6.0-rc1; (0, 0) where it says none."""
    match = _VERSION.search(text) if isinstance(text, str) else None
    return (int(match[1]), int(match[2])) if match else (0, 0)


def large_index(version: Version) -> IndexKind:
    """The index of a collection of more than `EXACT_UP_TO` records."""
    return IVF_RABITQ if version >= RABITQ_SINCE else HNSW


def search_parameters(name: str, limit: int) -> dict[str, Any]:
    """How to ask an index of this name for so many candidates. What is not known is asked as HNSW is: FLAT and
    AUTOINDEX do not look at it.
    """
    if name == IVF_RABITQ.name:
        return {"nprobe": PROBES, "rbq_query_bits": 0, "refine_k": max(1.0, REFINED / limit)}
    return {"ef": min(max(512, 4 * limit), 32_768)}
