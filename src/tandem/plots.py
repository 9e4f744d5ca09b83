"""Results -> pictures: photos beside the bars of their probabilities, photos ranked by a sentence.

Knows pictures, labels and numbers; it has never heard of models. Draws on figures of its own (Agg): nothing of the
caller's matplotlib is touched. Lengths are inches unless they say otherwise.
"""

import os
import textwrap
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

from PIL import Image

from tandem.errors import MissingExtraError, TandemError

INK, QUIET, TRACK = "#1f2933", "#7b8794", "#eef1f4"
BEST, OTHER = "#0f7b6c", "#9fcfc4"
PHOTO_WIDTH, PHOTO_HEIGHT, BARS, GAP, MARGIN = 2.4, 1.65, 3.2, 0.35, 0.35
TITLE, FOOT = 0.28, 0.3
LABEL_LETTERS, NAME_LETTERS = 34, 48
DPI = 160
ENDINGS = (".png", ".jpg", ".pdf", ".svg", ".webp")
PHOTO_PIXELS = int(PHOTO_WIDTH * DPI * 1.5)


def check_installed() -> None:
    """`MissingExtraError` where drawing is not possible; without importing matplotlib, which takes a while."""
    if find_spec("matplotlib") is None:
        raise MissingExtraError("matplotlib", "plot", "drawing")


def check_target(path: Path) -> None:
    """Refuse a file name that no picture can have: better before the long work than after it."""
    if path.suffix.lower() not in ENDINGS:
        raise TandemError(f"{path}: expected a picture's ending ({', '.join(ENDINGS)}), got {path.suffix or 'none'!r}")


class Row(NamedTuple):
    """One picture and its likeliest labels with probabilities, likeliest first."""

    picture: Image.Image
    name: str
    top: Sequence[tuple[str, float]]


class Ranking(NamedTuple):
    """A sentence and the pictures that fit it, best first, each with its score."""

    sentence: str
    hits: Sequence[tuple[Image.Image, float]]


def draw_answer(rows: Sequence[Row], path: Path, *, model: str = "", left_out: int = 0) -> Path:
    """Each picture beside the bars of its labels, in one column or two. Writes `path` (its ending names the format)."""
    columns = 1 if len(rows) <= 3 else 2
    cell = PHOTO_WIDTH + BARS + GAP
    line = PHOTO_HEIGHT + TITLE + GAP
    lines = -(-len(rows) // columns)
    page = _Page(columns * cell + 2 * MARGIN - GAP, lines * line + MARGIN + FOOT)
    for place, row in enumerate(rows):
        left = MARGIN + (place % columns) * cell
        top = MARGIN + (place // columns) * line
        _draw_row(page, row, left, top)
    page.foot(model, f"and {left_out:,} more" if left_out else "")
    return page.save(path)


def draw_rankings(rankings: Sequence[Ranking], path: Path, *, model: str = "") -> Path:
    """One line a sentence: the pictures from the best hit on, with their scores. Writes `path`."""
    photo, gap = 1.25, 0.12
    most = max((len(ranking.hits) for ranking in rankings), default=0)
    page = _Page(2 * MARGIN + most * (photo + gap), len(rankings) * (photo + TITLE + GAP) + MARGIN + FOOT)
    for place, ranking in enumerate(rankings):
        top = MARGIN + place * (photo + TITLE + GAP)
        page.text(MARGIN, top + 0.13, f"“{ranking.sentence}”", size=10.5, weight="bold")
        for column, (picture, score) in enumerate(ranking.hits):
            left = MARGIN + column * (photo + gap)
            page.photo(_centre(picture), left, top + TITLE, photo, photo, frame=BEST if column == 0 else None)
            page.badge(left + 0.06, top + TITLE + photo - 0.06, f"{score:.2f}", BEST if column == 0 else QUIET)
    page.foot(model, "cosine of sentence and picture")
    return page.save(path)


def _draw_row(page: "_Page", row: Row, left: float, top: float) -> None:
    page.text(left, top + 0.12, _short(_file_name(row.name), NAME_LETTERS), size=8.5, color=QUIET)
    page.photo(row.picture, left, top + TITLE, PHOTO_WIDTH, PHOTO_HEIGHT)
    axes = page.axes(left + PHOTO_WIDTH + 0.2, top + TITLE, BARS - 0.2, PHOTO_HEIGHT)
    axes.set_xlim(0, 1)
    # Room for five bars even when there are two: bars of one page are of one height.
    slots = max(len(row.top), 4)
    axes.set_ylim(slots, 0)
    axes.axis("off")
    for place, (label, probability) in enumerate(row.top):
        middle = place + 0.5 + (slots - len(row.top)) / 2
        best = place == 0
        axes.text(
            0, middle - 0.19, _short(label, LABEL_LETTERS), fontsize=9.5, color=INK, va="center",
            fontweight="bold" if best else "normal",
        )  # fmt: skip
        axes.text(1, middle - 0.19, _percent(probability), fontsize=9, color=INK if best else QUIET,
                  va="center", ha="right")  # fmt: skip
        axes.barh(middle + 0.2, 1, height=0.17, color=TRACK)
        axes.barh(middle + 0.2, probability, height=0.17, color=BEST if best else OTHER)


class _Page:
    """A white figure that is addressed in inches from its top left corner."""

    def __init__(self, width: float, height: float) -> None:
        check_installed()
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure

        self.width, self.height = width, height
        self.figure = Figure(figsize=(width, height), dpi=DPI, facecolor="white")
        FigureCanvasAgg(self.figure)

    def axes(self, left: float, top: float, width: float, height: float) -> Any:
        bottom = self.height - top - height
        return self.figure.add_axes((left / self.width, bottom / self.height, width / self.width, height / self.height))

    def text(self, left: float, top: float, text: str, *, size: float, color: str = INK, **style: Any) -> None:
        # A dollar sign is a dollar sign, not mathematics.
        self.figure.text(
            left / self.width, 1 - top / self.height, text, fontsize=size, color=color, va="center",
            parse_math=False, **style,
        )  # fmt: skip

    def photo(
        self, picture: Image.Image, left: float, top: float, width: float, height: float, frame: str | None = None
    ) -> None:
        """The picture, whole, in the middle of a box."""
        shown = picture.convert("RGB")
        shown.thumbnail((PHOTO_PIXELS, PHOTO_PIXELS))
        scale = min(width / shown.width, height / shown.height)
        inner_width, inner_height = shown.width * scale, shown.height * scale
        axes = self.axes(left + (width - inner_width) / 2, top + (height - inner_height) / 2, inner_width, inner_height)
        axes.set_xticks([])
        axes.set_yticks([])
        axes.imshow(shown, interpolation="antialiased", aspect="auto")
        for spine in axes.spines.values():
            spine.set_visible(frame is not None)
            spine.set_edgecolor(frame or TRACK)
            spine.set_linewidth(2.2)

    def badge(self, left: float, bottom: float, text: str, color: str) -> None:
        self.figure.text(
            left / self.width, 1 - bottom / self.height, text, fontsize=8, color="white", va="bottom",
            bbox={"boxstyle": "round,pad=0.25", "facecolor": color, "edgecolor": "none", "alpha": 0.9},
        )  # fmt: skip

    def foot(self, left: str, right: str) -> None:
        middle = self.height - FOOT / 2 - 0.03
        self.text(MARGIN, middle, _short(left, 80), size=7.5, color=QUIET)
        self.text(self.width - MARGIN, middle, right, size=7.5, color=QUIET, ha="right")

    def save(self, path: Path) -> Path:
        """Written beside the target and moved over it: a picture is there whole or not at all."""
        check_target(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_name(f".{path.name}.{os.getpid()}")
        try:
            self.figure.savefig(partial, format=path.suffix.lower().lstrip("."), dpi=DPI)
            partial.replace(path)
        finally:
            partial.unlink(missing_ok=True)
        return path


def _centre(picture: Image.Image) -> Image.Image:
    """The central square: all that most models look at."""
    side = min(picture.size)
    left, top = (picture.width - side) // 2, (picture.height - side) // 2
    return picture.crop((left, top, left + side, top + side))


def _short(text: str, letters: int) -> str:
    return textwrap.shorten(text, letters, placeholder="…") if " " in text else _cut(text, letters)


def _cut(text: str, letters: int) -> str:
    return text if len(text) <= letters else f"{text[: letters - 1]}…"


def _file_name(name: str) -> str:
    return name.rstrip("/").rsplit("/", 1)[-1] or name


def _percent(probability: float) -> str:
    return f"{probability:.0%}" if probability >= 0.0995 else f"{probability:.1%}"
