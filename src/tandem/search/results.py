"""What a search found: hits with what their scores mean, and whether anything matches at all. Knows no store."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from tandem.search.stores.protocol import Value


@dataclass(frozen=True)
class SearchHit:
    """An image that was found: cosine, calibrated probability that it is what was meant (None: no calibration)."""

    id: str
    score: float
    relevance: float | None
    metadata: Mapping[str, Value | list[str]]  # the record's columns; `paths` is a list

    @property
    def path(self) -> str:
        """One of the places where the image is."""
        return str(self.metadata.get("path") or "")

    @property
    def paths(self) -> tuple[str, ...]:
        """All places where the image is."""
        listed = self.metadata.get("paths")
        return tuple(listed) if isinstance(listed, list) else (self.path,) if self.path else ()


@dataclass(frozen=True)
class Results:
    """Hits, the nearest first. `offset` hits before these were passed over; `best` is the very first's relevance."""

    query: Mapping[str, str]
    model: str
    fingerprint: str
    hits: tuple[SearchHit, ...]
    best: float | None = None
    threshold: float | None = None
    offset: int = 0

    def __len__(self) -> int:
        return len(self.hits)

    def __iter__(self) -> Iterator[SearchHit]:
        return iter(self.hits)

    def __getitem__(self, index: int) -> SearchHit:
        return self.hits[index]

    @property
    def nothing_matches(self) -> bool:
        """Whether the very best hit is less relevant than the threshold, or there is none at all.

        Without a calibration nobody knows: then it is true only where nothing was found.
        """
        if self.best is not None and self.threshold is not None:
            return self.best < self.threshold
        return not self.hits and self.offset == 0

    def as_dict(self) -> dict[str, Any]:
        """The document that `tandem search --json` prints."""
        return {
            "query": dict(self.query),
            "model": {"name": self.model, "fingerprint": self.fingerprint},
            "nothing_matches": self.nothing_matches,
            "threshold": self.threshold,
            "offset": self.offset,
            "hits": [
                {
                    "id": hit.id,
                    "path": hit.path,
                    "score": round(hit.score, 6),
                    "relevance": None if hit.relevance is None else round(hit.relevance, 4),
                    "metadata": {
                        name: value
                        for name, value in hit.metadata.items()
                        if value is not None and not isinstance(value, bytes) and name != "path"
                    },
                }
                for hit in self.hits
            ],
        }
