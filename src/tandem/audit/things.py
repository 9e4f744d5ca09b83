"""Draws sixteen everyday things that have a plain name. Knows no scene and no model."""

import math
from collections.abc import Callable

from PIL import Image

from tandem.audit.drawing import Box, Colour, Pen, shade

_BROWN, _GREEN, _DARK, _WHITE = (122, 76, 40), (34, 140, 60), (40, 40, 46), (250, 250, 250)
_GLASS, _YELLOW, _RED = (170, 214, 240), (252, 204, 30), (212, 40, 40)


def _sun(pen: Pen, colour: Colour) -> None:
    for i in range(12):
        angle = i * math.pi / 6
        across, along = (0.06, angle + math.pi / 2), angle
        base = (0.5 + 0.3 * math.cos(along), 0.5 + 0.3 * math.sin(along))
        side = (across[0] * math.cos(across[1]), across[0] * math.sin(across[1]))
        tip = (0.5 + 0.5 * math.cos(along), 0.5 + 0.5 * math.sin(along))
        pen.polygon((base[0] + side[0], base[1] + side[1], *tip, base[0] - side[0], base[1] - side[1]), (250, 160, 20))
    pen.ellipse(0.22, 0.22, 0.78, 0.78, _YELLOW)


def _moon(pen: Pen, colour: Colour) -> None:
    points: list[float] = []
    for i in range(41):
        angle = math.pi * (0.5 + i / 40)
        points += [0.62 + 0.5 * math.cos(angle), 0.5 + 0.48 * math.sin(angle)]
    for i in range(41):
        angle = math.pi * (1.5 - i / 40)
        points += [0.62 + 0.22 * math.cos(angle), 0.5 + 0.48 * math.sin(angle)]
    pen.polygon(points, (246, 208, 90))


def _house(pen: Pen, colour: Colour) -> None:
    pen.box(0.14, 0.44, 0.86, 0.98, colour)
    pen.box(0.7, 0.08, 0.8, 0.34, shade(_BROWN, 0.8))
    pen.polygon((0.5, 0.04, 1, 0.48, 0, 0.48), _BROWN)
    pen.box(0.42, 0.66, 0.58, 0.98, _DARK)
    pen.box(0.2, 0.58, 0.34, 0.74, _GLASS)
    pen.box(0.66, 0.58, 0.8, 0.74, _GLASS)


def _tree(pen: Pen, colour: Colour) -> None:
    pen.box(0.43, 0.55, 0.57, 1, _BROWN)
    for left, top, size in ((0.06, 0.26, 0.46), (0.48, 0.26, 0.46), (0.25, 0.02, 0.5), (0.27, 0.28, 0.46)):
        pen.ellipse(left, top, left + size, top + size, _GREEN)


def _cloud(pen: Pen, colour: Colour) -> None:
    grey = (150, 170, 196)
    for left, top, right, bottom in ((0, 0.42, 0.36, 0.78), (0.18, 0.22, 0.62, 0.72), (0.5, 0.32, 0.88, 0.76)):
        pen.ellipse(left, top, right, bottom, grey)
    pen.box(0.1, 0.52, 1, 0.78, grey, 0.13)


def _fish(pen: Pen, colour: Colour) -> None:
    pen.polygon((0.66, 0.5, 1, 0.22, 0.94, 0.5, 1, 0.78), shade(colour, 0.8))
    pen.polygon((0.32, 0.3, 0.6, 0.14, 0.6, 0.36), shade(colour, 0.8))
    pen.ellipse(0.02, 0.26, 0.76, 0.76, colour)
    pen.ellipse(0.14, 0.38, 0.26, 0.5, _WHITE)
    pen.ellipse(0.17, 0.41, 0.24, 0.48, _DARK)


def _flower(pen: Pen, colour: Colour) -> None:
    pen.line((0.5, 0.4, 0.5, 1), _GREEN, 0.06)
    pen.ellipse(0.5, 0.72, 0.82, 0.86, _GREEN)
    for i in range(6):
        angle = i * math.pi / 3
        x, y = 0.5 + 0.2 * math.cos(angle), 0.34 + 0.2 * math.sin(angle)
        pen.ellipse(x - 0.14, y - 0.14, x + 0.14, y + 0.14, colour)
    pen.ellipse(0.39, 0.23, 0.61, 0.45, _YELLOW if colour != _YELLOW else _BROWN)


def _car(pen: Pen, colour: Colour) -> None:
    pen.polygon((0.2, 0.5, 0.32, 0.26, 0.68, 0.26, 0.82, 0.5), colour)
    pen.polygon((0.28, 0.48, 0.36, 0.32, 0.48, 0.32, 0.48, 0.48), _GLASS)
    pen.polygon((0.52, 0.48, 0.52, 0.32, 0.65, 0.32, 0.73, 0.48), _GLASS)
    pen.box(0, 0.48, 1, 0.72, colour, 0.06)
    for left in (0.12, 0.64):
        pen.ellipse(left, 0.58, left + 0.24, 0.82, _DARK)
        pen.ellipse(left + 0.07, 0.65, left + 0.17, 0.75, (200, 200, 200))


def _boat(pen: Pen, colour: Colour) -> None:
    pen.polygon((0.02, 0.68, 0.98, 0.68, 0.8, 0.94, 0.2, 0.94), colour)
    pen.box(0.47, 0.04, 0.52, 0.68, _BROWN)
    pen.polygon((0.55, 0.06, 0.55, 0.62, 0.96, 0.62), (196, 206, 222))
    pen.polygon((0.44, 0.16, 0.44, 0.62, 0.1, 0.62), (170, 182, 204))


def _cup(pen: Pen, colour: Colour) -> None:
    pen.ellipse(0.58, 0.34, 0.96, 0.74, colour)
    pen.ellipse(0.66, 0.42, 0.88, 0.66, (236, 236, 236))
    pen.box(0.1, 0.24, 0.74, 0.88, colour, 0.1)
    pen.ellipse(0.1, 0.16, 0.74, 0.34, shade(colour, 0.7))
    pen.ellipse(0.16, 0.19, 0.68, 0.31, _BROWN)


def _umbrella(pen: Pen, colour: Colour) -> None:
    pen.line((0.5, 0.4, 0.5, 0.9, 0.56, 0.96, 0.63, 0.94, 0.66, 0.86), _DARK, 0.05)
    pen.pie((0, 0.06, 1, 1.02), 180, 360, colour)
    for left, right in ((0.25, 0.5), (0.75, 1.0)):
        pen.polygon((left, 0.54, 0.5, 0.06, right, 0.54), shade(colour, 0.78))


def _snowman(pen: Pen, colour: Colour) -> None:
    for left, top, size in ((0.2, 0.46, 0.54), (0.29, 0.18, 0.36)):
        pen.ellipse(left - 0.015, top - 0.015, left + size + 0.015, top + size + 0.015, (140, 160, 186))
        pen.ellipse(left, top, left + size, top + size, _WHITE)
    pen.box(0.3, 0.16, 0.64, 0.21, _DARK)
    pen.box(0.36, 0, 0.58, 0.18, _DARK)
    for x, y in ((0.39, 0.29), (0.51, 0.29), (0.45, 0.6), (0.45, 0.74), (0.45, 0.87)):
        pen.ellipse(x, y, x + 0.05, y + 0.05, _DARK)
    pen.polygon((0.47, 0.36, 0.66, 0.39, 0.47, 0.42), (246, 130, 20))


def _mushroom(pen: Pen, colour: Colour) -> None:
    pen.box(0.36, 0.46, 0.64, 0.98, (222, 196, 158), 0.1)
    pen.pie((0.02, 0.06, 0.98, 1.04), 180, 360, _RED)
    for x, y, size in ((0.2, 0.34, 0.15), (0.44, 0.14, 0.16), (0.68, 0.34, 0.14), (0.45, 0.38, 0.11)):
        pen.ellipse(x, y, x + size, y + size, _WHITE)


def _apple(pen: Pen, colour: Colour) -> None:
    pen.line((0.5, 0.3, 0.54, 0.04), _BROWN, 0.06)
    pen.ellipse(0.54, 0.06, 0.84, 0.2, _GREEN)
    pen.ellipse(0.06, 0.2, 0.64, 0.94, _RED)
    pen.ellipse(0.36, 0.2, 0.94, 0.94, _RED)
    pen.ellipse(0.18, 0.34, 0.28, 0.52, shade(_RED, 1.5))


def _balloon(pen: Pen, colour: Colour) -> None:
    pen.line((0.5, 0.7, 0.46, 0.82, 0.54, 0.9, 0.5, 1), _DARK, 0.025)
    pen.ellipse(0.2, 0, 0.8, 0.7, colour)
    pen.polygon((0.5, 0.66, 0.56, 0.75, 0.44, 0.75), colour)
    pen.ellipse(0.32, 0.12, 0.42, 0.28, shade(colour, 1.6))


def _candle(pen: Pen, colour: Colour) -> None:
    pen.ellipse(0.41, 0.02, 0.59, 0.34, (250, 150, 20))
    pen.ellipse(0.45, 0.12, 0.55, 0.32, (255, 236, 120))
    pen.line((0.5, 0.28, 0.5, 0.42), _DARK, 0.03)
    pen.box(0.36, 0.4, 0.64, 0.92, colour, 0.03)
    pen.ellipse(0.2, 0.86, 0.8, 0.99, (160, 140, 60))


THINGS: dict[str, Callable[[Pen, Colour], None]] = {
    "sun": _sun,
    "moon": _moon,
    "house": _house,
    "tree": _tree,
    "cloud": _cloud,
    "fish": _fish,
    "flower": _flower,
    "car": _car,
    "boat": _boat,
    "cup": _cup,
    "umbrella": _umbrella,
    "snowman": _snowman,
    "mushroom": _mushroom,
    "apple": _apple,
    "balloon": _balloon,
    "candle": _candle,
}


def draw_thing(image: Image.Image, kind: str, box: Box, colour: Colour) -> None:
    """One of `THINGS` in a square; `colour` is that of its larger part, where the thing has no colour of its own."""
    THINGS[kind](Pen(image, box), colour)
