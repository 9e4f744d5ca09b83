"""Drawings of where texts are in an image: heat over the photo, boxes and a point.

Knows images, numbers and words; it has never heard of models. Lengths are inches.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from tandem.plots.page import BEST, FOOT, GAP, INK, MARGIN, QUIET, TITLE, Page, Target, short

PHOTO = 3.2  # of a photo's longer side
COLUMNS = 3
CHARACTERS = 34
HEAT = "#e8590c"
PHOTO_PIXELS = 900
OPACITY = 0.72  # of the hottest place


class Found(NamedTuple):
    """A text, its heat [h w] in 0..1, boxes (left, top, right, bottom) and a point in pixels; what is said of it."""

    text: str
    heat: NDArray[np.float32]
    boxes: Sequence[tuple[float, float, float, float]]
    point: tuple[float, float]
    said: str
    present: bool


def draw_locations(
    image: Image.Image,
    size: tuple[int, int],
    found: Sequence[Found],
    path: Target,
    *,
    title: str = "",
    model: str = "",
) -> Target:
    """The photo once for each text. `size`: the width and height that boxes and points are given in.

    Writes `path`, whose suffix names the format; None shows the drawing instead.
    """
    scale = PHOTO / max(size)
    width, height = max(size[0] * scale, 0.6), max(size[1] * scale, 0.6)
    columns = min(len(found), COLUMNS)
    rows = -(-len(found) // columns)
    cell = max(width, 2.4)
    page = Page(
        columns * (cell + GAP) - GAP + 2 * MARGIN, rows * (height + 2 * TITLE + GAP) - GAP + MARGIN + FOOT + 0.1
    )
    shown = image.convert("RGB")
    shown.thumbnail((PHOTO_PIXELS, PHOTO_PIXELS))
    for i, each in enumerate(found):
        left = MARGIN + (i % columns) * (cell + GAP)
        top = MARGIN / 2 + (i // columns) * (height + 2 * TITLE + GAP)
        page.text(left, top + 0.13, short(each.text, CHARACTERS), size=10.5, weight="bold", color=INK)
        page.text(left, top + 0.36, each.said, size=8.5, color=BEST if each.present else QUIET)
        _draw(page.axes(left, top + 2 * TITLE, width, height), shown, size, each)
    page.foot(title, model)
    return page.finish(path)


def _draw(axes: Any, shown: Image.Image, size: tuple[int, int], found: Found) -> None:
    from matplotlib.colors import to_rgb
    from matplotlib.patches import Rectangle

    extent = (0, size[0], size[1], 0)
    axes.set_xticks([])
    axes.set_yticks([])
    axes.imshow(shown, extent=extent, interpolation="antialiased", aspect="auto")
    overlay = np.empty((*found.heat.shape, 4), np.float32)
    overlay[..., :3] = to_rgb(HEAT)
    overlay[..., 3] = np.clip(found.heat, 0, 1) * OPACITY
    axes.imshow(overlay, extent=extent, interpolation="bilinear", aspect="auto")
    for i, (left, top, right, bottom) in enumerate(found.boxes):
        for colour, line in (("white", 3.2), (BEST, 1.8)):
            axes.add_patch(
                Rectangle(
                    (left, top), right - left, bottom - top, fill=False, edgecolor=colour, linewidth=line,
                    linestyle="-" if i == 0 else ":",
                )
            )  # fmt: skip
    if found.present:
        axes.plot(*found.point, "o", color=BEST, markeredgecolor="white", markersize=7, markeredgewidth=1.6)
    axes.set_xlim(0, size[0])
    axes.set_ylim(size[1], 0)
    for spine in axes.spines.values():
        spine.set_visible(False)
