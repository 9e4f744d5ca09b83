"""Draws solids, shapes and everyday things with Pillow, clear at 64 pixels. Knows no scene and no model.

Everything is drawn at three times its size and averaged, so that edges are smooth. Coordinates of a thing are shares of
its own square, 0..1 from the top left.
"""

import math
from collections.abc import Callable, Sequence

from PIL import Image, ImageChops, ImageDraw

SIDE = 224  # pixels of a scene: what most published models read
SHARPNESS = 3  # drawn pixels for one of a scene

Colour = tuple[int, int, int]
Box = tuple[float, float, float, float]  # left, top, right, bottom, in drawn pixels

COLOURS: dict[str, Colour] = {
    "red": (214, 32, 36),
    "blue": (28, 78, 214),
    "green": (22, 150, 56),
    "yellow": (250, 206, 20),
    "purple": (132, 40, 168),
    "orange": (248, 124, 12),
}
# Plain grounds on which every colour is seen.
GROUNDS: tuple[Colour, ...] = ((255, 255, 255), (232, 232, 232), (240, 230, 212), (216, 228, 236), (70, 74, 82))
_WHITE, _BLACK = (255, 255, 255), (20, 20, 20)


def canvas(ground: Colour) -> Image.Image:
    """An empty scene, in drawn pixels."""
    return Image.new("RGB", (SIDE * SHARPNESS, SIDE * SHARPNESS), ground)


def finished(drawn: Image.Image) -> Image.Image:
    """The scene, its drawn pixels averaged."""
    return drawn.reduce(SHARPNESS)


def shade(colour: Colour, factor: float) -> Colour:
    """Darker below 1, lighter above it."""
    if factor <= 1:
        return tuple(round(value * factor) for value in colour)  # type: ignore[return-value]
    return tuple(round(255 - (255 - value) * (2 - factor)) for value in colour)  # type: ignore[return-value]


class Pen:
    """Draws into a square of an image, in shares of its side."""

    def __init__(self, image: Image.Image, box: Box) -> None:
        self._draw = ImageDraw.Draw(image)
        self._left, self._top, right, _ = box
        self._size = right - self._left

    def _at(self, *points: float) -> list[float]:
        return [(self._left if i % 2 == 0 else self._top) + value * self._size for i, value in enumerate(points)]

    def ellipse(self, left: float, top: float, right: float, bottom: float, colour: object) -> None:
        self._draw.ellipse(self._at(left, top, right, bottom), fill=colour)  # type: ignore[arg-type]

    def box(self, left: float, top: float, right: float, bottom: float, colour: object, round_by: float = 0) -> None:
        self._draw.rounded_rectangle(
            self._at(left, top, right, bottom),
            round_by * self._size,
            fill=colour,  # type: ignore[arg-type]
        )

    def polygon(self, points: Sequence[float], colour: object) -> None:
        self._draw.polygon(self._at(*points), fill=colour)  # type: ignore[arg-type]

    def line(self, points: Sequence[float], colour: object, width: float) -> None:
        self._draw.line(self._at(*points), fill=colour, width=round(width * self._size), joint="curve")  # type: ignore[arg-type]

    def pie(self, box: Sequence[float], start: float, end: float, colour: object) -> None:
        self._draw.pieslice(self._at(*box), start, end, fill=colour)  # type: ignore[arg-type]


# --- shapes of one colour ------------------------------------------------------------------------------------------


def _star(pen: Pen, ink: object) -> None:
    points: list[float] = []
    for i in range(10):
        radius, angle = (0.5 if i % 2 == 0 else 0.2), math.pi * (i / 5 - 0.5)
        points += [0.5 + radius * math.cos(angle), 0.53 + radius * math.sin(angle)]
    pen.polygon(points, ink)


def _heart(pen: Pen, ink: object) -> None:
    points: list[float] = []
    for i in range(60):
        t = i / 60 * 2 * math.pi
        x = 16 * math.sin(t) ** 3
        y = 13 * math.cos(t) - 5 * math.cos(2 * t) - 2 * math.cos(3 * t) - math.cos(4 * t)
        points += [0.5 + x / 34, 0.45 - y / 34]
    pen.polygon(points, ink)


def _cross(pen: Pen, ink: object) -> None:
    pen.box(0.36, 0.02, 0.64, 0.98, ink)
    pen.box(0.02, 0.36, 0.98, 0.64, ink)


SHAPES: dict[str, Callable[[Pen, object], None]] = {
    "square": lambda pen, ink: pen.box(0.06, 0.06, 0.94, 0.94, ink),
    "circle": lambda pen, ink: pen.ellipse(0.02, 0.02, 0.98, 0.98, ink),
    "triangle": lambda pen, ink: pen.polygon((0.5, 0.04, 0.99, 0.94, 0.01, 0.94), ink),
    "star": _star,
    "heart": _heart,
    "cross": _cross,
}


def draw_shape(image: Image.Image, kind: str, box: Box, colour: Colour, style: str = "plain") -> None:
    """A flat shape in one of four styles: plain, striped, spotted (both with white), hollow."""
    if style == "plain":
        SHAPES[kind](Pen(image, box), colour)
        return
    size = max(1, round(box[2] - box[0]))
    mask = Image.new("L", (size, size), 0)
    SHAPES[kind](Pen(mask, (0, 0, size, size)), 255)
    fill = Image.new("RGB", (size, size), colour)
    pen = Pen(fill, (0, 0, size, size))
    if style == "striped":
        for i in range(4):
            pen.box(0, 0.125 + i * 0.25, 1, 0.25 + i * 0.25, _WHITE)
    elif style == "spotted":
        for row in range(4):
            for column in range(4):
                x, y = 0.02 + column * 0.27 + (row % 2) * 0.12, 0.02 + row * 0.27
                pen.ellipse(x, y, x + 0.14, y + 0.14, _WHITE)
    elif style == "hollow":
        inner = round(size * 0.68)
        hole = Image.new("L", (inner, inner), 0)
        SHAPES[kind](Pen(hole, (0, 0, inner, inner)), 255)
        whole = Image.new("L", (size, size), 0)
        # A triangle's middle lies below that of its square, a heart's above.
        down = {"triangle": 0.055, "heart": -0.015, "star": 0.01}.get(kind, 0.0)
        whole.paste(hole, ((size - inner) // 2, (size - inner) // 2 + round(down * size)))
        mask = ImageChops.subtract(mask, whole)
    else:
        raise ValueError(f"style: expected plain, striped, spotted or hollow, got {style!r}")
    image.paste(fill, (round(box[0]), round(box[1])), mask)


# --- solids --------------------------------------------------------------------------------------------------------


def _cube(pen: Pen, colour: Colour) -> None:
    pen.polygon((0.5, 0.02, 0.94, 0.25, 0.5, 0.48, 0.06, 0.25), shade(colour, 1.35))
    pen.polygon((0.06, 0.25, 0.5, 0.48, 0.5, 0.98, 0.06, 0.75), colour)
    pen.polygon((0.5, 0.48, 0.94, 0.25, 0.94, 0.75, 0.5, 0.98), shade(colour, 0.68))


def _ball(pen: Pen, colour: Colour) -> None:
    for i in range(12):
        t = i / 12
        x, y, radius = 0.5 - 0.13 * t, 0.5 - 0.15 * t, 0.48 * (1 - t) ** 0.8
        pen.ellipse(x - radius, y - radius, x + radius, y + radius, shade(colour, 0.72 + 0.75 * t))


def _cone(pen: Pen, colour: Colour) -> None:
    pen.ellipse(0.08, 0.74, 0.92, 0.98, shade(colour, 0.8))
    pen.polygon((0.5, 0.02, 0.92, 0.86, 0.08, 0.86), colour)
    pen.polygon((0.5, 0.02, 0.92, 0.86, 0.62, 0.95, 0.5, 0.95), shade(colour, 0.68))
    pen.polygon((0.5, 0.02, 0.34, 0.9, 0.2, 0.88), shade(colour, 1.3))


def _ring(pen: Pen, colour: Colour) -> None:
    for wide, ink in ((0.11, shade(colour, 0.75)), (0.075, colour), (0.03, shade(colour, 1.35))):
        points: list[float] = []
        for i in range(49):
            angle = i / 48 * 2 * math.pi
            points += [0.5 + 0.38 * math.cos(angle), 0.5 + 0.38 * math.sin(angle)]
        pen.line(points, ink, 2 * wide)


SOLIDS: dict[str, Callable[[Pen, Colour], None]] = {"cube": _cube, "ball": _ball, "cone": _cone, "ring": _ring}


def draw_solid(image: Image.Image, kind: str, box: Box, colour: Colour) -> None:
    """A cube, ball, cone or ring with light from the top left."""
    SOLIDS[kind](Pen(image, box), colour)
