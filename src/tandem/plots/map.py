"""A map of many images: a point for each, coloured by cluster, with images and names where clusters are densest.

Knows places, names and images; the caller passes them in. Lengths are inches.
"""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from tandem.plots.page import FOOT, MARGIN, Page, Target, centre, cut, short

WIDTH, HEIGHT = 13.0, 9.0  # of the map itself
HEADING = 0.35
PIN, SMALL = 0.66, 0.44  # sides of the image of a cluster, and of the others
TAG = 0.2  # height of a name
LETTER = 0.068  # width of one of its characters
LAND, SPREAD = 0.05, 0.17  # side of a spot of the tint under the points, and how far a point colours
AROUND = 0.05  # that is kept free around what is drawn
# Of middling lightness, so that white names can be read on all of them; unlike ones follow one another.
COLORS = (
    "#2f6fb0", "#c2571a", "#2e8b6f", "#b03a5b", "#7f8f24", "#7d54b3", "#c08a1e", "#2590a8",
    "#b2489a", "#4f8f3a", "#5560b8", "#a8642f", "#178072", "#cc4b4b", "#6b7785", "#8d7a1f",
)  # fmt: skip
BARE = "#c4ccd4"  # of points in no cluster


class Region(NamedTuple):
    """A cluster on the map: its name if it has one, how many images it has, and where most of them are."""

    name: str | None
    size: int
    x: float
    y: float


class Pin(NamedTuple):
    """An image to show at its place; those of a region in order of preference."""

    image: Image.Image
    x: float
    y: float
    region: int


def draw_map(
    points: NDArray[np.float32],
    region_of: NDArray[np.int32],
    regions: Sequence[Region],
    pins: Sequence[Pin],
    path: Target,
    *,
    title: str,
    note: str = "",
) -> Target:
    """Points [n 2] in the colours of their regions [n], a pin and a name for each region that has room for them.

    Larger regions come first; what would cover something else moves a little, or is left out. Writes `path`.
    """
    page = Page(WIDTH + 2 * MARGIN, HEIGHT + HEADING + FOOT + 2 * MARGIN)
    page.text(MARGIN, MARGIN + 0.08, short(title, 90), size=15, weight="bold")
    axes = page.axes(MARGIN, MARGIN + HEADING, WIDTH, HEIGHT)
    to_inches = _frame(axes, points)
    colors = _colors(regions)
    at = to_inches(points)
    _draw_lands(axes, at, region_of, colors)
    _draw_points(axes, at, region_of, colors)
    room = _Room()
    order = sorted(range(len(regions)), key=lambda i: (-regions[i].size, i))
    remaining = {i: [pin for pin in pins if pin.region == i] for i in order}
    left_out: list[str] = []
    for i in order:
        if regions[i].size:
            middle = to_inches(np.array([[regions[i].x, regions[i].y]]))[0]
            first = remaining[i].pop(0) if remaining[i] else None
            drawn, name = _draw_region(axes, room, middle, regions[i], first, colors[i]), regions[i].name
            if name and not drawn:
                left_out.append(name)
    for rank in range(max((len(rest) for rest in remaining.values()), default=0)):
        for i in order:
            if rank < len(remaining[i]):
                pin = remaining[i][rank]
                x, y = to_inches(np.array([[pin.x, pin.y]]))[0]
                if room.take(x, y, SMALL, SMALL):
                    _draw_image(axes, pin.image, x, y, SMALL, colors[i], 1.0)
    page.foot(note, short(f"without room for a name: {', '.join(left_out)}" if left_out else "", 110))
    return page.finish(path)


def _frame(axes: Any, points: NDArray[np.float32]) -> Any:
    """Axes in inches from their lower left corner; the function that turns places of the map into them.

    The middle 99.6% of the points fill it; the few strays beyond are moved to its edge.
    """
    axes.set_xlim(0, WIDTH)
    axes.set_ylim(0, HEIGHT)
    axes.axis("off")
    if len(points):
        low, high = np.percentile(points, [0.2, 99.8], axis=0)
    else:
        low, high = np.array([-1.0, -1.0]), np.array([1.0, 1.0])
    size = np.array([WIDTH, HEIGHT])
    inner = size - 2 * 0.5  # room for pins at the edge
    # Both axes may stretch by their own factor, but not far: distances should mean the same in all directions.
    scale = inner / np.maximum(high - low, 1e-9)
    scale = np.minimum(scale, scale.min() * 1.35)
    middle = (low + high) / 2

    def to_inches(points: NDArray[Any]) -> NDArray[Any]:
        return np.asarray(np.clip((points - middle) * scale + size / 2, 0.3, size - 0.3))

    return to_inches


def _draw_lands(axes: Any, at: NDArray[Any], region_of: NDArray[np.int32], colors: Sequence[str]) -> None:
    """A tint under the points: at each spot the colour of the region that is densest there, stronger where more is."""
    from matplotlib.colors import to_rgba_array

    if not len(at) or not colors:
        return
    rows, columns = int(HEIGHT / LAND), int(WIDTH / LAND)
    cells = np.minimum(at[:, 1] / LAND, rows - 1).astype(int) * columns + np.minimum(
        at[:, 0] / LAND, columns - 1
    ).astype(int)
    down, across = _blur(rows), _blur(columns)
    most, land, total = np.zeros((rows, columns)), np.zeros((rows, columns), dtype=int), np.zeros((rows, columns))
    for region in range(len(colors)):
        counts = np.bincount(cells[region_of == region], minlength=rows * columns).reshape(rows, columns)
        density = down @ counts @ across
        total += density
        land[density > most] = region
        most = np.maximum(density, most)
    tint = to_rgba_array(colors)[land]  # [rows columns 4]
    # Where it is as dense as in the middle of the points, the tint is full.
    full = max(float(np.median(total.ravel()[cells])), 1e-12)
    tint[..., 3] = 0.26 * np.clip(total / full, 0, 1) ** 0.7
    axes.imshow(tint, extent=(0, WIDTH, 0, HEIGHT), origin="lower", interpolation="bicubic", aspect="auto", zorder=0)


def _blur(length: int) -> NDArray[Any]:
    """A matrix [length length] that spreads a line of counts by a Gaussian."""
    apart = (np.arange(length)[:, None] - np.arange(length)[None]) * LAND / SPREAD
    return np.asarray(np.exp(-(apart**2) / 2))


def _draw_points(axes: Any, at: NDArray[Any], region_of: NDArray[np.int32], colors: Sequence[str]) -> None:
    """In one shuffled layer: drawn one region after the other, the last would cover the rest."""
    from matplotlib.colors import to_rgba_array

    count = len(at)
    order = np.random.default_rng(0).permutation(count)
    table = to_rgba_array([*colors, BARE])
    area = float(np.clip(50_000 / max(count, 1), 0.3, 30))  # points squared
    axes.scatter(
        at[order, 0], at[order, 1], s=area, c=table[region_of[order]], alpha=0.75 if count < 20_000 else 0.45,
        linewidths=0, rasterized=True,
    )  # fmt: skip


class _Room:
    """What is taken of the map: boxes that must not cover one another."""

    def __init__(self) -> None:
        self.boxes: list[tuple[float, float, float, float]] = []

    def take(self, x: float, y: float, width: float, height: float) -> bool:
        """Whether a box around (x, y) was free, and is now taken."""
        box = (x - width / 2, y - height / 2, x + width / 2, y + height / 2)
        inside = box[0] >= 0 and box[1] >= 0 and box[2] <= WIDTH and box[3] <= HEIGHT
        if not inside or any(_overlap(box, other) for other in self.boxes):
            return False
        self.boxes.append(box)
        return True


def _overlap(a: tuple[float, float, float, float], b: tuple[float, float, float, float]) -> bool:
    return (
        a[0] < b[2] + AROUND and b[0] < a[2] + AROUND and a[1] < b[3] + AROUND and b[1] < a[3] + AROUND
    )  # fmt: skip


def _draw_region(axes: Any, room: _Room, at: NDArray[Any], region: Region, pin: Pin | None, color: str) -> bool:
    """The name below the image of a region, as near to its middle as there is room, with a line to it."""
    name = cut(region.name, 22) if region.name else ""
    if not (name or pin):
        return True
    tag = TAG if name else 0.0
    width = max(len(name) * LETTER + 0.12, PIN if pin else 0)
    height = tag + (PIN + 0.03 if pin else 0)
    for right, up in _around():
        x, y = at[0] + right, at[1] + up
        if not room.take(x, y, width, height):
            continue
        if np.hypot(right, up) > 0.3:
            axes.plot([at[0], x], [at[1], y], color=color, linewidth=1.1, zorder=4, solid_capstyle="round")
            axes.plot([at[0]], [at[1]], marker="o", markersize=4, color=color, zorder=4, markeredgecolor="white")
        if pin:
            _draw_image(axes, pin.image, x, y + height / 2 - PIN / 2, PIN, color, 2.0)
        if name:
            axes.text(
                x, y - height / 2 + tag / 2, name, fontsize=8.5, color="white", ha="center", va="center",
                weight="bold", parse_math=False, zorder=7,
                bbox={"boxstyle": "round,pad=0.22", "facecolor": color, "edgecolor": "white", "linewidth": 0.8},
            )  # fmt: skip
        return True
    return False


def _around() -> Iterator[tuple[float, float]]:
    """Offsets on growing rings, up to what a line can still connect."""
    yield 0.0, 0.0
    for ring in np.arange(0.15, 1.6, 0.15):
        for angle in np.linspace(0, 2 * np.pi, int(8 + ring * 12), endpoint=False):
            yield float(ring * np.cos(angle)), float(ring * np.sin(angle))


def _draw_image(axes: Any, image: Image.Image, x: float, y: float, side: float, color: str, line: float) -> None:
    from matplotlib.patches import Rectangle

    shown = centre(image.convert("RGB"))
    shown.thumbnail((256, 256))
    half = side / 2
    axes.imshow(shown, extent=(x - half, x + half, y - half, y + half), interpolation="antialiased", aspect="auto",
                zorder=5)  # fmt: skip
    axes.add_patch(
        Rectangle((x - half, y - half), side, side, fill=False, edgecolor=color, linewidth=line, zorder=6)
    )  # fmt: skip
    axes.set_xlim(0, WIDTH)  # which imshow moves
    axes.set_ylim(0, HEIGHT)


def _colors(regions: Sequence[Region]) -> list[str]:
    """A colour for each region, by turns in the order of their direction from the middle: neighbours differ."""
    order = sorted(range(len(regions)), key=lambda i: float(np.arctan2(regions[i].y, regions[i].x)))
    colors = [BARE] * len(regions)
    for rank, i in enumerate(order):
        colors[i] = COLORS[rank % len(COLORS)]
    return colors
