"""Millions of vectors like a model's of photos, with metadata, for `scale.py`: made in batches, the same each time.

A vector has a part that all share, one of topics of unequal sizes, one of scenes within them (one for each hundred
vectors), and a spread within its scene; topics, scenes and spread have the decaying spectrum of real vectors. Queries
are made like them, or like texts: with another shared part and a weaker pull towards a topic.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from store import unit

BATCH = 50_000
TOPICS = 2000
PER_SCENE = 100
QUERIES = 200  # of each kind; a filter is asked by the first 50
Array = NDArray[np.float32]
Columns = dict[str, NDArray[Any]]
# Of the squared length. As CLIP's vectors of photos: two have a cosine of about 0.5, two of one scene of 0.85.
SHARED, TOPIC, SCENE, WITHIN = 0.5, 0.2, 0.15, 0.15
DECAY = 0.5  # spectrum: the i-th direction has a deviation of i^-DECAY
FILTERS: dict[str, tuple[str, Callable[[Columns], NDArray[np.bool_]]]] = {
    "width and format (0.1%)": (
        "width = 1234 and format = 'PNG'",
        lambda c: (c["width"] == 1234) & (c["format"] == "PNG"),
    ),
    "width = 1234 (1%)": ("width = 1234", lambda c: c["width"] == 1234),
    "taken in 3 days (1%)": (
        "taken >= '2023-06-01' and taken < '2023-06-04T15'",
        lambda c: (c["taken"] >= np.datetime64("2023-06-01")) & (c["taken"] < np.datetime64("2023-06-04T15")),
    ),
    "path like '%/0042/%' (1%)": ("path like '%/0042/%'", lambda c: c["number"] % 100 == 42),
    "format and half of widths (5%)": (
        "format = 'PNG' and width >= 1250",
        lambda c: (c["format"] == "PNG") & (c["width"] >= 1250),
    ),
    "half (50%)": ("width >= 1250", lambda c: c["width"] >= 1250),
}


@dataclass(frozen=True)
class Data:
    """Ten million vectors that are never all there."""

    count: int
    dimensions: int

    @cache  # noqa: B019 - one object a process
    def _parts(self) -> tuple[Array, Array, Array, Array, Array]:
        """What all share and what texts share [d], topics [t d], scenes [s d], the way from noise to a spread [d d]."""
        random = np.random.default_rng(3)
        d = self.dimensions
        basis = np.linalg.qr(random.standard_normal((d, d)))[0]
        spread = (basis * np.arange(1, d + 1) ** -DECAY).T.astype(np.float32)
        spread /= np.float32(np.linalg.norm(spread))  # what comes out has length 1 on average
        shared, texts = (unit(random.standard_normal((1, d)).astype(np.float32))[0] for _ in range(2))
        topics = random.standard_normal((TOPICS, d), np.float32) @ spread
        scenes = random.standard_normal((max(1, self.count // PER_SCENE), d), np.float32) @ spread
        return shared, texts, topics, scenes, spread

    def _topic_of(self, scenes: NDArray[np.int64]) -> NDArray[np.int64]:
        """The topics of scenes: a few are large, most are small."""
        position = (scenes * 2_654_435_761 % 2**32) / 2**32  # evenly spread, the same everywhere
        found: NDArray[np.int64] = (TOPICS * position**2).astype(np.int64)
        return found

    def vectors(self, batch: int, n: int) -> Array:
        """Unit vectors [n d]."""
        shared, _, topics, scenes, spread = self._parts()
        random = np.random.default_rng((7, batch))
        chosen = random.integers(0, len(scenes), n)
        within = random.standard_normal((n, self.dimensions), np.float32) @ spread
        return unit(
            shared * np.float32(SHARED**0.5)
            + topics[self._topic_of(chosen)] * np.float32(TOPIC**0.5)
            + scenes[chosen] * np.float32(SCENE**0.5)
            + within * np.float32(WITHIN**0.5)
        )

    def queries(self, kind: str, n: int = QUERIES) -> Array:
        if kind == KINDS[0]:
            return self.vectors(10**6, n)
        _, texts, topics, _, spread = self._parts()
        random = np.random.default_rng(17)
        within = random.standard_normal((n, self.dimensions), np.float32) @ spread
        pull = topics[random.integers(0, TOPICS, n)]
        return unit(texts * np.float32(0.7) + pull * np.float32(0.4) + within * np.float32(0.6))

    def columns(self, batch: int, n: int) -> Columns:
        """Values of a batch, as arrays."""
        random = np.random.default_rng((11, batch))
        return {
            "number": np.arange(batch * BATCH, batch * BATCH + n),
            "width": 1200 + random.integers(0, 100, n),
            "height": random.integers(500, 4000, n),
            "bytes": random.integers(10**4, 10**7, n),
            "format": np.where(random.random(n) < 0.1, "PNG", "JPEG"),
            "taken": np.datetime64("2023-01-01T00:00:00") + random.integers(0, 365 * 86400, n).astype("timedelta64[s]"),
        }

    def ids(self, batch: int, n: int) -> list[str]:
        """As content hashes are: without any order."""
        text = np.random.default_rng((13, batch)).bytes(16 * n).hex()
        return [text[i : i + 32] for i in range(0, 32 * n, 32)]

    def batches(self, first: int = 0) -> Iterator[tuple[int, int]]:
        for batch in range(first, -(-self.count // BATCH)):
            yield batch, min(BATCH, self.count - batch * BATCH)


KINDS = ("like the data", "like texts")


def plain(columns: Columns) -> dict[str, list[Any]]:
    """Columns as the store takes them."""
    values = {name: columns[name].tolist() for name in ("width", "height", "bytes", "format")}
    path = [f"/pictures/{i % 2023}/{i % 100:04d}/IMG_{i:08d}.jpg" for i in columns["number"].tolist()]
    return {"path": path, **values, "taken": np.datetime_as_string(columns["taken"]).tolist()}


def fit(data: Data, file: Path) -> None:
    """What vectors of photos in a file [n d], and as many made, have in common."""
    real = unit(np.load(file).astype(np.float32))
    for name, vectors in {"real": real, "made": data.vectors(0, len(real))}.items():
        cosines = vectors[:2000] @ vectors[2000:4000].T
        values = np.linalg.svd(vectors - vectors.mean(axis=0), compute_uv=False) ** 2
        share = np.cumsum(values) / values.sum()
        print(f"{name}: length of the mean {np.linalg.norm(vectors.mean(axis=0)):.2f}; cosines of pairs "
              f"{cosines.mean():.2f} +- {cosines.std():.3f}, nearest of 2,000 {np.median(cosines.max(axis=1)):.2f}; "
              f"directions for half of the variance {np.searchsorted(share, 0.5) + 1}, "
              f"effective {values.sum() ** 2 / (values**2).sum():.0f}")  # fmt: skip
