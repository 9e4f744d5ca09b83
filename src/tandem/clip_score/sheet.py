"""The images with the lowest and highest scores, as a contact sheet or a page. Knows scores; no model."""

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tandem import html, plots
from tandem.clip_score.formulas import Metric
from tandem.clip_score.metrics import METRICS
from tandem.errors import ImageError, TandemError
from tandem.files import display_name, write_text
from tandem.image import load_image
from tandem.plots.page import SUFFIXES

if TYPE_CHECKING:
    from PIL.Image import Image

_SIDE = 220  # pixels of a picture on a page
_ENOUGH = 512  # pixels of the shorter side, on a sheet
_STYLE = (
    "body{font:15px/1.45 system-ui,sans-serif;max-width:70rem;margin:2rem auto;padding:0 1rem;color:#1f2933}"
    "td{padding:.4rem .8rem .4rem 0}small{color:#616e7c}"
)


@dataclass(frozen=True)
class Extreme:
    """An image at one of the ends."""

    image: str
    prompt: str
    score: float
    row: Mapping[str, Any]  # as `ScoredRows.as_dicts` has it


class Extremes:
    """The lowest and the highest of a stream of scores, at most `k` of each."""

    def __init__(self, k: int) -> None:
        self.k = k
        self.worst: list[Extreme] = []
        self.best: list[Extreme] = []

    def add(self, some: Sequence[Extreme]) -> None:
        """Take what belongs among them. Equal ones: those that came first."""
        self.worst = sorted([*self.worst, *some], key=lambda each: each.score)[: self.k]
        self.best = sorted([*self.best, *some], key=lambda each: -each.score)[: self.k]


def check_sheet(path: Path) -> None:
    """Refuse a file that cannot be made, before the long work."""
    if path.suffix.lower() == ".html":
        return
    if path.suffix.lower() not in SUFFIXES:
        known = ", ".join([".html", *SUFFIXES])
        raise TandemError(f"{path}: expected a name ending in {known}, got {path.suffix or 'no suffix'}")
    plots.check_installed()


def draw_sheet(extremes: Extremes, path: Path, *, metric: Metric, model: str, note: str) -> None:
    """Write the sheet: the lowest first, then the highest, as far as they are not the same."""
    low = extremes.worst
    high = [each for each in extremes.best if each not in low]
    title = f"{METRICS[metric].title}: the lowest {len(low)}" + (f", then the highest {len(high)}" if high else "")
    if path.suffix.lower() == ".html":
        path.parent.mkdir(parents=True, exist_ok=True)
        write_text(path, _page(low, high, title, f"{METRICS[metric].formula}; {model}; {note}"))
        return
    cells = [plots.Cell(_loaded(each.image), f"{each.score:.3f}", each.prompt or each.image) for each in (*low, *high)]
    plots.draw_contact_sheet(cells, path, title=title, note=f"{model}; {METRICS[metric].formula}; {note}", wrapped=True)


def _loaded(image: str) -> "Image | None":
    with contextlib.suppress(ImageError):  # it may have gone meanwhile
        return load_image(image, at_least=_ENOUGH)
    return None


def _page(low: Sequence[Extreme], high: Sequence[Extreme], title: str, note: str) -> str:
    parts = [f"<h1>{html.text(title)}</h1><p><small>{html.text(note)}</small></p>"]
    for heading, some in (("Lowest", low), ("Highest", high)):
        rows = [
            (
                html.photo(html.thumbnail_uri(each.image, _SIDE), display_name(each.image), _SIDE),
                f"<b>{each.score:.4f}</b><br>{html.text(each.prompt)}<br><small>{html.text(each.image)}</small>",
            )
            for each in some
        ]
        if rows:
            parts.append(f"<h2>{heading}</h2>{html.table(rows)}")
    head = f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{html.text(title)}</title>'
    return f"{head}<style>{_STYLE}</style><body>{''.join(parts)}</body></html>\n"
