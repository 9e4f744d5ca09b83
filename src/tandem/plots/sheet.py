"""A contact sheet: the images that were found, in rows of one width, each with its words below.

Knows images and captions; the caller passes them in. Lengths are inches.
"""

import textwrap
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from PIL import Image

from tandem.plots.page import FOOT, MARGIN, QUIET, TRACK, Page, Target, cut, short

WIDTH = 10.0  # of the rows
SPACE, WORDS = 0.14, 0.46  # between images; below an image
HEADING = 0.5
TALLEST, LOWEST = 2.3, 1.3  # what a row may be
NARROWEST, WIDEST = 0.62, 2.4  # width over height, of the box of an image: the words need some room
CHARACTERS_PER_INCH = 13.5  # of the characters below an image
LINE = 0.15  # of a detail that takes several
MOST_LINES = 8


class Cell(NamedTuple):
    """One image of a sheet, and what stands below it: a caption, and smaller a detail.

    `image` is None where it could not be read; its place is kept, and says so.
    """

    image: Image.Image | None
    caption: str
    detail: str


def draw_contact_sheet(
    cells: Sequence[Cell], path: Target, *, title: str, note: str = "", wrapped: bool = False
) -> Target:
    """The cells in their order, in rows of one width, under `title`; `note` at the foot. Writes `path`.

    `wrapped`: details are sentences, in as many lines as they take, up to `MOST_LINES`; else names, cut to one.
    """
    lines = _lines([_shape(cell) for cell in cells], _row_height(len(cells)))
    details = iter(
        [_detail(cell, shape * height, wrapped) for cell, (shape, height) in zip(cells, _boxes(lines), strict=True)]
    )
    rows = [[next(details) for _ in shapes] for shapes, _ in lines]
    words = [WORDS + LINE * (max(map(len, row)) - 1) for row in rows]
    bottom = MARGIN + HEADING + sum(height for _, height in lines) + sum(words)
    page = Page(WIDTH + 2 * MARGIN, bottom + FOOT + 0.1)
    page.text(MARGIN, MARGIN + 0.1, short(title, 78), size=15, weight="bold")
    if not cells:
        page.text(MARGIN, MARGIN + 0.45, "no images", size=9, color=QUIET)
    top = MARGIN + HEADING
    remaining = iter(cells)
    for (shapes, height), row, below in zip(lines, rows, words, strict=True):
        left = MARGIN
        for shape, detail in zip(shapes, row, strict=True):
            _draw_cell(page, next(remaining), detail, left, top, shape * height, height)
            left += shape * height + SPACE
        top += height + below
    page.foot(note, "")
    return page.finish(path)


def _boxes(lines: Sequence[tuple[list[float], float]]) -> Iterator[tuple[float, float]]:
    """The shape and the height of each cell's box."""
    return ((shape, height) for shapes, height in lines for shape in shapes)


def _detail(cell: Cell, width: float, wrapped: bool) -> list[str]:
    """The lines of a cell's detail, at least one."""
    characters = int(width * CHARACTERS_PER_INCH)
    if not wrapped:
        return [_middle(cell.detail, characters)]
    return textwrap.wrap(cell.detail, characters, max_lines=MOST_LINES, placeholder="…") or [""]


def _draw_cell(
    page: Page, cell: Cell, detail: Sequence[str], left: float, top: float, width: float, height: float
) -> None:
    if cell.image is None:
        page.box(left, top, width, height, TRACK)
        page.text(left + width / 2, top + height / 2, "no image", size=8, color=QUIET, ha="center")
    else:
        page.photo(_within(cell.image, width / height), left, top, width, height)
    page.text(
        left, top + height + 0.13, cut(cell.caption, int(width * CHARACTERS_PER_INCH * 0.85)), size=9, weight="bold"
    )
    for number, text in enumerate(detail):
        page.text(left, top + height + 0.29 + number * LINE, text, size=7, color=QUIET)


def _row_height(count: int) -> float:
    """Rows are lower the more images there are, so that a sheet of many is still seen at once."""
    return float(min(TALLEST, max(LOWEST, 2.75 - 0.045 * count)))


def _shape(cell: Cell) -> float:
    """Width over height of the box a cell gets."""
    if cell.image is None:
        return 1.0
    return min(max(cell.image.width / cell.image.height, NARROWEST), WIDEST)


def _lines(shapes: Sequence[float], wanted: float) -> list[tuple[list[float], float]]:
    """Shapes -> rows of them with their heights: each but the last exactly `WIDTH` wide, as high as `wanted` or less.

    A row takes one image more as long as it is then nearer to the height that is wanted than without it.
    """
    lines: list[tuple[list[float], float]] = []
    row: list[float] = []
    for shape in shapes:
        if row and abs(_fitting(row) - wanted) < abs(_fitting([*row, shape]) - wanted):
            lines.append((row, _fitting(row)))
            row = []
        row.append(shape)
    if row:
        lines.append((row, min(_fitting(row), lines[-1][1] if lines else wanted)))
    return lines


def _fitting(row: Sequence[float]) -> float:
    """The height at which a row is as wide as the page."""
    return (WIDTH - SPACE * (len(row) - 1)) / sum(row)


def _within(image: Image.Image, shape: float) -> Image.Image:
    """The image, cut at both ends where it is longer than its box: panoramas would make rows of nothing."""
    width, height = image.size
    if width / height > shape * 1.01:
        kept = max(1, round(height * shape))
        return image.crop(((width - kept) // 2, 0, (width - kept) // 2 + kept, height))
    if width / height < shape * 0.99:
        kept = max(1, round(width / shape))
        return image.crop((0, (height - kept) // 2, width, (height - kept) // 2 + kept))
    return image


def _middle(text: str, characters: int) -> str:
    """File names differ at their ends as often as at their beginnings: cut from the middle."""
    text = " ".join(text.split())
    if len(text) <= characters:
        return text
    kept = max(characters - 1, 2)
    return f"{text[: kept - kept // 2]}…{text[-(kept // 2) :]}"
