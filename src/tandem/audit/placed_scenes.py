"""Seeded scenes of several things whose places are known. Knows drawing and words, and no model.

What is asked for has a distractor: a thing of the same kind in another colour, or of another kind in the same colour.
What is absent is asked for in words that fit a thing in half, wherever there is such a thing.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageChops

from tandem.audit import drawing
from tandem.audit.drawing import COLOURS, GROUNDS, SHAPES
from tandem.audit.things import THINGS, draw_thing

MOST = 6  # things of a scene
_SIZES = ((320, 240), (240, 320), (288, 288), (400, 200))  # pixels: photos lie, stand, and are wide
_TRIES = 200

PixelBox = tuple[int, int, int, int]  # left, top, right, bottom: right and bottom are just outside


@dataclass(frozen=True)
class PlacedThing:
    """A thing of a scene: what to call it, and the smallest box around what was drawn."""

    words: str
    kind: str
    colour: str
    box: PixelBox


@dataclass(frozen=True, eq=False)
class PlacedScene:
    """A scene, its things, and words for one that fits none of them."""

    pixels: Image.Image
    things: tuple[PlacedThing, ...]
    absent: str


def shapes_scene(random: np.random.Generator, kinds: Sequence[str] = tuple(SHAPES)) -> PlacedScene:
    """Coloured shapes: "red star" beside a blue star and a red heart, and no blue heart."""
    colours = list(COLOURS)
    first_kind, other_kind = _choose(random, kinds, 2)
    first_colour, other_colour = _choose(random, colours, 2)
    wanted = [(first_kind, first_colour), (first_kind, other_colour), (other_kind, first_colour)]
    wanted = wanted[: int(random.integers(2, 4))]
    absent = f"{other_colour} {other_kind}"
    rest = [(kind, colour) for kind in kinds for colour in colours]
    rest = [each for each in rest if each not in wanted and each != (other_kind, other_colour)]
    extra = int(random.integers(0, MOST + 1 - len(wanted)))
    wanted += [rest[int(i)] for i in random.choice(len(rest), extra, replace=False)]
    return _scene(random, wanted, absent, lambda kind, colour: f"{colour} {kind}")


def things_scene(random: np.random.Generator, kinds: Sequence[str] = tuple(THINGS)) -> PlacedScene:
    """Pictograms: a sun beside a house, whose colours recur, and no umbrella. At most one of each kind."""
    count = int(random.integers(2, min(MOST, len(kinds) - 1) + 1))
    *shown, missing = _choose(random, kinds, count + 1)
    few = _choose(random, list(COLOURS), 2)  # colours recur, so that they do not tell the things apart
    wanted = [(kind, few[int(random.integers(2))]) for kind in shown]
    return _scene(random, wanted, missing, lambda kind, colour: kind)


def _scene(
    random: np.random.Generator, wanted: Sequence[tuple[str, str]], absent: str, words: Callable[[str, str], str]
) -> PlacedScene:
    width, height = _SIZES[int(random.integers(len(_SIZES)))]
    ground = GROUNDS[int(random.integers(len(GROUNDS)))]
    image = Image.new("RGB", (width * drawing.SHARPNESS, height * drawing.SHARPNESS), ground)
    largest = {2: 0.55, 3: 0.45, 4: 0.42, 5: 0.38, 6: 0.34}[len(wanted)] * min(width, height)
    things: list[PlacedThing] = []
    taken: list[tuple[float, float, float]] = []
    for kind, colour in wanted:
        left, top, size = _place(random, width, height, largest, taken)
        taken.append((left, top, size))
        before = image.copy()
        sharp = drawing.SHARPNESS
        box = (left * sharp, top * sharp, (left + size) * sharp, (top + size) * sharp)
        draw = draw_thing if kind in THINGS else drawing.draw_shape
        draw(image, kind, box, COLOURS[colour])
        x0, y0, x1, y1 = ImageChops.difference(image, before).getbbox() or (0, 0, 0, 0)
        drawn = (x0 // sharp, y0 // sharp, -(-x1 // sharp), -(-y1 // sharp))
        things.append(PlacedThing(words(kind, colour), kind, colour, drawn))
    return PlacedScene(drawing.finished(image), tuple(things), absent)


def _place(
    random: np.random.Generator, width: int, height: int, largest: float, taken: Sequence[tuple[float, float, float]]
) -> tuple[float, float, float]:
    """A square (left, top, side) apart from those that are taken; smaller ones are tried where there is no room."""
    while True:
        for _ in range(_TRIES):
            size = largest * random.uniform(0.6, 1)
            left, top = random.uniform(2, width - size - 2), random.uniform(2, height - size - 2)
            apart = all(
                left + size + 4 <= x or x + side + 4 <= left or top + size + 4 <= y or y + side + 4 <= top
                for x, y, side in taken
            )
            if apart:
                return left, top, size
        largest *= 0.8


def _choose(random: np.random.Generator, names: Sequence[str], count: int) -> list[str]:
    return [str(names[int(i)]) for i in random.choice(len(names), count, replace=False)]
