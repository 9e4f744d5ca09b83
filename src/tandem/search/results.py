"""Results of a search: hits with their relevance, and whether anything matches at all. Knows no store."""

import base64
import html
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from tandem.errors import ImageError, MissingExtraError, StoreError, TandemError
from tandem.files import user_path
from tandem.image import load_image
from tandem.search.stores.protocol import Value
from tandem.videos.naming import shown

if TYPE_CHECKING:
    import pandas

Metadata: TypeAlias = Mapping[str, Value | list[str]]  # a record's columns; `paths` is a list
THUMBNAIL_PIXELS = 120  # of the longer side, in a notebook


class _WithPaths:
    """What has metadata, and in it the files that hold the image."""

    metadata: Metadata

    @property
    def path(self) -> str:
        """One of the files that hold the image."""
        return str(self.metadata.get("path") or "")

    @property
    def time(self) -> float | None:
        """Of a moment of a film: seconds from its beginning. None for photos."""
        time = self.metadata.get("time")
        return float(time) if isinstance(time, int | float) else None

    @property
    def paths(self) -> tuple[str, ...]:
        """All files that hold the image."""
        listed = self.metadata.get("paths")
        return tuple(listed) if isinstance(listed, list) else (self.path,) if self.path else ()


@dataclass(frozen=True)
class StoredImage(_WithPaths):
    """An image as a collection keeps it."""

    id: str
    metadata: Metadata


@dataclass(frozen=True)
class SearchHit(_WithPaths):
    """An image found by a search: its cosine, and the calibrated probability that it matches.

    `relevance` is None where it would mean nothing: `Results.relevance_reason` says why. `missing`: none of its files
    exists any more, as far as this machine can tell.
    """

    id: str
    score: float
    relevance: float | None
    metadata: Metadata
    missing: bool = False


@dataclass(frozen=True)
class Results:
    """Hits, nearest first. `offset` hits before these were skipped; `best` is the relevance of the very first one.

    `relevance_reason` says in one line why hits have no relevance, and why it is not said whether anything matches: the
    model has no calibration, or one that cannot tell for such queries among so many images. None where they have one.
    """

    query: Mapping[str, str]
    model: str
    fingerprint: str
    hits: tuple[SearchHit, ...]
    best: float | None = None
    threshold: float | None = None
    offset: int = 0
    relevance_reason: str | None = None
    thumbnail: Callable[[str], bytes | None] | None = field(default=None, compare=False, repr=False)  # id -> JPEG

    def __len__(self) -> int:
        return len(self.hits)

    def __iter__(self) -> Iterator[SearchHit]:
        return iter(self.hits)

    def __getitem__(self, index: int) -> SearchHit:
        return self.hits[index]

    @property
    def nothing_matches(self) -> bool:
        """Whether the best hit is less relevant than the threshold, or there is none.

        Where hits have no relevance this is true only if nothing was found.
        """
        if self.best is not None and self.threshold is not None:
            return self.best < self.threshold
        return not self.hits and self.offset == 0

    @property
    def title(self) -> str:
        """The query as one line."""
        wanted = [self.query[name] for name in ("text", "image", "like") if name in self.query]
        avoided = [self.query[name] for name in ("minus", "minus_image") if name in self.query]
        return " + ".join(wanted) + "".join(f" - {it}" for it in avoided)

    def as_dict(self) -> dict[str, Any]:
        """The document that `tandem search --json` prints."""
        return {
            "query": dict(self.query),
            "model": {"name": self.model, "fingerprint": self.fingerprint},
            "nothing_matches": self.nothing_matches,
            "threshold": self.threshold,
            "relevance_reason": self.relevance_reason,
            "offset": self.offset,
            "hits": [
                {
                    "id": hit.id,
                    "path": hit.path,
                    "score": round(hit.score, 6),
                    "relevance": None if hit.relevance is None else round(hit.relevance, 4),
                    **({"missing": True} if hit.missing else {}),
                    "metadata": {
                        name: value
                        for name, value in hit.metadata.items()
                        if value is not None and not isinstance(value, bytes) and name != "path"
                    },
                }
                for hit in self.hits
            ],
        }

    def to_pandas(self) -> "pandas.DataFrame":
        """A table with a row for each hit. `MissingExtraError` without pandas."""
        try:
            import pandas
        except ImportError:
            raise MissingExtraError("pandas", "pandas", "a table of results") from None
        rows = [
            {
                "id": hit.id,
                "path": hit.path,
                "score": hit.score,
                "relevance": hit.relevance,
                "missing": hit.missing,
                **{name: value for name, value in hit.metadata.items() if name != "path"},
            }
            for hit in self.hits
        ]
        columns = list(rows[0]) if rows else ["id", "path", "score", "relevance", "missing"]
        return pandas.DataFrame(rows, columns=columns)

    def plot(self, path: str | Path | None = None, *, relevance: bool = False) -> Path | None:
        """Draw a contact sheet of the hits from their thumbnails. Returns the path; without one, shows the sheet.

        `relevance`: with the relevance of each hit, where it has one, instead of its cosine.
        """
        from tandem import plots

        if not self.hits:
            raise TandemError("nothing to draw: nothing was found")
        cells = []
        for rank, hit in enumerate(self.hits, self.offset + 1):
            small = self._thumbnail(hit.id)
            image = None
            with suppress(ImageError):  # a sheet without it is better than none
                image = load_image(small) if small else None
            cells.append(
                plots.Cell(image, f"{rank}. {_meaning(hit, relevance)}", shown(os.path.basename(hit.path)) or hit.id)
            )
        note = self.model + (": nothing matches well" if self.nothing_matches else "")
        target = None if path is None else user_path(path)
        return plots.draw_contact_sheet(cells, target, title=self.title, note=note)

    def _repr_html_(self) -> str:
        """What notebooks show."""
        cells = "".join(self._cell(rank, hit) for rank, hit in enumerate(self.hits, self.offset + 1))
        note = " Nothing matches well." if self.nothing_matches else ""
        head = f"<b>{html.escape(self.title)}</b>: {len(self.hits)} of {html.escape(self.model)}.{note}"
        return f'<div><p>{head}</p><div style="display:flex;flex-wrap:wrap;gap:8px">{cells}</div></div>'

    def _cell(self, rank: int, hit: SearchHit) -> str:
        small = self._thumbnail(hit.id)
        side = f"max-width:{THUMBNAIL_PIXELS}px;max-height:{THUMBNAIL_PIXELS}px"
        drawn = "<i>no thumbnail</i>"
        if small:
            drawn = f'<img style="{side}" src="data:image/jpeg;base64,{base64.b64encode(small).decode("ascii")}">'
        name = html.escape(shown(os.path.basename(hit.path)) or hit.id)
        missing = " (missing)" if hit.missing else ""
        style = f"width:{THUMBNAIL_PIXELS}px;overflow:hidden;font-size:smaller"
        return (
            f'<div style="{style}" title="{html.escape(hit.path)}">'
            f"{drawn}<br>{rank}. {_meaning(hit, False)}{missing}<br>{name}</div>"
        )

    def _thumbnail(self, identifier: str) -> bytes | None:
        """The small JPEG of an image; None without one, also where the collection cannot be read any more."""
        with suppress(StoreError):
            return None if self.thumbnail is None else self.thumbnail(identifier)
        return None


def _meaning(hit: SearchHit, relevance: bool) -> str:
    """Its cosine; its relevance where that is asked for and known."""
    if hit.relevance is None or not relevance:
        return f"{hit.score:.3f}"
    return f"{hit.relevance:.1%}" if round(hit.relevance, 3) < 0.1 else f"{hit.relevance:.0%}"
