"""Drawings of answers: photos beside bars of their probabilities, and photos ranked by a text.

Knows images, labels and numbers; it has never heard of models. Lengths are inches.
"""

from collections.abc import Sequence
from typing import NamedTuple

from PIL import Image

from tandem.plots.page import (
    BEST,
    FOOT,
    GAP,
    INK,
    MARGIN,
    OTHER,
    QUIET,
    TITLE,
    TRACK,
    Page,
    Target,
    centre,
    file_name,
    percent,
    short,
)

PHOTO_WIDTH, PHOTO_HEIGHT, BARS = 2.4, 1.65, 3.2
LABEL_CHARACTERS, NAME_CHARACTERS = 34, 48


class Row(NamedTuple):
    """One image and its likeliest labels with probabilities, likeliest first; the first `highlighted` stand out."""

    image: Image.Image
    name: str
    top: Sequence[tuple[str, float]]
    highlighted: int = 1


class Ranking(NamedTuple):
    """A text and the images that fit it, best first, each with its score."""

    text: str
    hits: Sequence[tuple[Image.Image, float]]


def draw_answer(rows: Sequence[Row], path: Target, *, model: str = "", left_out: int = 0) -> Target:
    """Each image beside the bars of its labels, in one column or two.

    Writes `path`, whose suffix names the format; None shows the drawing instead.
    """
    columns = 1 if len(rows) <= 3 else 2
    cell = PHOTO_WIDTH + BARS + GAP
    line = PHOTO_HEIGHT + TITLE + GAP
    lines = -(-len(rows) // columns)
    page = Page(columns * cell + 2 * MARGIN - GAP, lines * line + MARGIN + FOOT)
    for index, row in enumerate(rows):
        left = MARGIN + (index % columns) * cell
        top = MARGIN + (index // columns) * line
        _draw_row(page, row, left, top)
    page.foot(model, f"and {left_out:,} more" if left_out else "")
    return page.finish(path)


def draw_rankings(rankings: Sequence[Ranking], path: Target, *, model: str = "") -> Target:
    """One row per text: its images with their scores, best first. Writes `path`."""
    photo, gap = 1.25, 0.12
    most = max((len(ranking.hits) for ranking in rankings), default=0)
    page = Page(2 * MARGIN + most * (photo + gap), len(rankings) * (photo + TITLE + GAP) + MARGIN + FOOT)
    for index, ranking in enumerate(rankings):
        top = MARGIN + index * (photo + TITLE + GAP)
        page.text(MARGIN, top + 0.13, f"“{ranking.text}”", size=10.5, weight="bold")
        for column, (image, score) in enumerate(ranking.hits):
            left = MARGIN + column * (photo + gap)
            page.photo(centre(image), left, top + TITLE, photo, photo, frame=BEST if column == 0 else None)
            page.badge(left + 0.06, top + TITLE + photo - 0.06, f"{score:.2f}", BEST if column == 0 else QUIET)
    page.foot(model, "cosine of text and image")
    return page.finish(path)


def _draw_row(page: Page, row: Row, left: float, top: float) -> None:
    page.text(left, top + 0.12, short(file_name(row.name), NAME_CHARACTERS), size=8.5, color=QUIET)
    page.photo(row.image, left, top + TITLE, PHOTO_WIDTH, PHOTO_HEIGHT)
    axes = page.axes(left + PHOTO_WIDTH + 0.2, top + TITLE, BARS - 0.2, PHOTO_HEIGHT)
    axes.set_xlim(0, 1)
    # Room for five bars even when there are two: bars of one page are of one height.
    slots = max(len(row.top), 4)
    axes.set_ylim(slots, 0)
    axes.axis("off")
    for index, (label, probability) in enumerate(row.top):
        middle = index + 0.5 + (slots - len(row.top)) / 2
        best = index < row.highlighted
        axes.text(
            0, middle - 0.19, short(label, LABEL_CHARACTERS), fontsize=9.5, color=INK, va="center",
            fontweight="bold" if best else "normal", parse_math=False,
        )  # fmt: skip
        axes.text(1, middle - 0.19, percent(probability), fontsize=9, color=INK if best else QUIET,
                  va="center", ha="right")  # fmt: skip
        axes.barh(middle + 0.2, 1, height=0.17, color=TRACK)
        axes.barh(middle + 0.2, probability, height=0.17, color=BEST if best else OTHER)
