"""Seeded scenes that differ in exactly one thing. Knows drawing and words, and no model.

Scenes come in pairs wherever they can: the same objects, ground and places, with one property swapped. Each caption is
then right for one image and wrong for the other, so whoever always prefers a caption, or an image, is right half of
the time.
"""

from collections import Counter

import numpy as np
from PIL import Image

from tandem.audit import drawing
from tandem.audit.drawing import COLOURS, GROUNDS, SHAPES, SOLIDS, Box, Colour
from tandem.audit.labelled_images import CaptionedImage
from tandem.audit.things import draw_thing

Pair = tuple[CaptionedImage, CaptionedImage]

NUMBERS = ("one", "two", "three", "four", "five")
_PLURALS = {"cross": "crosses"}
_PALETTE = tuple(COLOURS.values())


def a(noun: str) -> str:
    """`a star`, `an apple`."""
    return f"{'an' if noun[0] in 'aeiou' else 'a'} {noun}"


def same_words(first: str, second: str) -> bool:
    """Whether two captions are the same bag of words: then order alone tells them apart."""
    return Counter(first.lower().split()) == Counter(second.lower().split())


def _choose(random: np.random.Generator, names: object, count: int) -> list[str]:
    return [str(name) for name in random.choice(list(names), count, replace=False)]  # type: ignore[call-overload]


def _ground(random: np.random.Generator) -> Colour:
    return GROUNDS[int(random.integers(len(GROUNDS)))]


def _colour(random: np.random.Generator) -> Colour:
    return _PALETTE[int(random.integers(len(_PALETTE)))]


def _square(x: float, y: float, size: float) -> Box:
    """A square around a middle, all in shares of the scene."""
    whole = drawing.SIDE * drawing.SHARPNESS
    return ((x - size / 2) * whole, (y - size / 2) * whole, (x + size / 2) * whole, (y + size / 2) * whole)


def _beside(random: np.random.Generator, size: float, upright: bool = False) -> list[Box]:
    """Two squares beside one another, or one above the other."""
    shift, near, far = random.uniform(-0.08, 0.08), random.uniform(0.25, 0.29), random.uniform(0.71, 0.75)
    places = [(near, 0.5 + shift), (far, 0.5 - shift)]
    return [_square(y, x, size) if upright else _square(x, y, size) for x, y in places]


# --- pairs ---------------------------------------------------------------------------------------------------------


def colour_pair(random: np.random.Generator) -> Pair:
    """Such as "a red cube and a blue ball", and "a blue cube and a red ball"."""
    kinds, colours = _choose(random, SOLIDS, 2), _choose(random, COLOURS, 2)
    ground, order = _ground(random), random.permutation(2)
    boxes = _beside(random, random.uniform(0.38, 0.44))

    def scene(colours: list[str]) -> CaptionedImage:
        image = drawing.canvas(ground)
        for place, box in zip(order, boxes, strict=True):
            drawing.draw_solid(image, kinds[place], box, COLOURS[colours[place]])
        said = " and ".join(a(f"{colour} {kind}") for colour, kind in zip(colours, kinds, strict=True))
        return CaptionedImage(drawing.finished(image), said)

    return scene(colours), scene(colours[::-1])


_ATTRIBUTES = (("big", "small"), ("striped", "spotted"), ("filled", "hollow"))


def attribute_pair(random: np.random.Generator) -> Pair:
    """Such as "a big star and a small heart"; or striped and spotted, or filled and hollow, in one colour."""
    kinds, colour = _choose(random, SHAPES, 2), _colour(random)
    ground = GROUNDS[int(random.integers(1, len(GROUNDS)))]  # not white, which is that of stripes and spots
    attributes = list(_ATTRIBUTES[int(random.integers(len(_ATTRIBUTES)))])
    if random.integers(2):
        attributes.reverse()
    order, boxes = random.permutation(2), _beside(random, 0.4)

    def scene(attributes: list[str]) -> CaptionedImage:
        image = drawing.canvas(ground)
        for place, box in zip(order, boxes, strict=True):
            attribute = attributes[place]
            if attribute in ("big", "small"):
                whole = drawing.SIDE * drawing.SHARPNESS
                x, y = (box[0] + box[2]) / 2 / whole, (box[1] + box[3]) / 2 / whole
                sized = _square(x, y, 0.46 if attribute == "big" else 0.2)
            else:
                sized = box
            style = attribute if attribute in ("striped", "spotted", "hollow") else "plain"
            drawing.draw_shape(image, kinds[place], sized, colour, style)
        said = " and ".join(a(f"{attribute} {kind}") for attribute, kind in zip(attributes, kinds, strict=True))
        return CaptionedImage(drawing.finished(image), said)

    return scene(attributes), scene(attributes[::-1])


def other_things_pair(random: np.random.Generator) -> Pair:
    """Two solids in two colours, and two others in two others: told apart without knowing what belongs to what."""
    kinds, colours, ground = _choose(random, SOLIDS, 4), _choose(random, COLOURS, 4), _ground(random)
    boxes = _beside(random, 0.42)

    def scene(places: tuple[int, int]) -> CaptionedImage:
        image = drawing.canvas(ground)
        for place, box in zip(places, boxes, strict=True):
            drawing.draw_solid(image, kinds[place], box, COLOURS[colours[place]])
        return CaptionedImage(drawing.finished(image), " and ".join(a(f"{colours[p]} {kinds[p]}") for p in places))

    return scene((0, 1)), scene((2, 3))


def other_shapes_pair(random: np.random.Generator) -> Pair:
    """The same with flat shapes."""
    kinds, colours, ground = _choose(random, SHAPES, 4), _choose(random, COLOURS, 4), _ground(random)
    boxes = _beside(random, 0.38)

    def scene(places: tuple[int, int]) -> CaptionedImage:
        image = drawing.canvas(ground)
        for place, box in zip(places, boxes, strict=True):
            drawing.draw_shape(image, kinds[place], box, COLOURS[colours[place]])
        return CaptionedImage(drawing.finished(image), f"{a(kinds[places[0]])} and {a(kinds[places[1]])}")

    return scene((0, 1)), scene((2, 3))


def position_pair(random: np.random.Generator, words: tuple[str, str]) -> Pair:
    """Such as "a star to the left of a heart" and "a star to the right of a heart"; or `words` above and below."""
    kinds, ground, colours = _choose(random, SHAPES, 2), _ground(random), _choose(random, COLOURS, 2)
    boxes = _beside(random, random.uniform(0.34, 0.42), upright=words[0] == "above")

    def scene(word: str, boxes: list[Box]) -> CaptionedImage:
        image = drawing.canvas(ground)
        for kind, colour, box in zip(kinds, colours, boxes, strict=True):
            drawing.draw_shape(image, kind, box, COLOURS[colour])
        return CaptionedImage(drawing.finished(image), f"{a(kinds[0])} {word} {a(kinds[1])}")

    return scene(words[0], boxes), scene(words[1], boxes[::-1])


_RELATIONS = ("inside", "above", "in front of")


def relation_pair(random: np.random.Generator) -> Pair:
    """Such as "a star inside a circle" and "a circle inside a star": the same words, so that only their order tells."""
    kinds, colours, ground = _choose(random, SHAPES, 2), _choose(random, COLOURS, 2), _ground(random)
    relation = _RELATIONS[int(random.integers(len(_RELATIONS)))]
    lean = 0.14 * (1 if random.integers(2) else -1)

    def scene(first: int) -> CaptionedImage:
        second = 1 - first
        places = {  # which is drawn first, and where
            "inside": ((second, _square(0.5, 0.5, 0.84)), (first, _square(0.5, 0.54, 0.27))),
            "above": ((first, _square(0.5, 0.27, 0.4)), (second, _square(0.5, 0.74, 0.4))),
            "in front of": ((second, _square(0.5 + lean, 0.42, 0.55)), (first, _square(0.5 - lean, 0.6, 0.5))),
        }[relation]
        image = drawing.canvas(ground)
        for place, box in places:
            drawing.draw_shape(image, kinds[place], box, COLOURS[colours[place]])
        return CaptionedImage(drawing.finished(image), f"{a(kinds[first])} {relation} {a(kinds[second])}")

    return scene(0), scene(1)


# --- single scenes -------------------------------------------------------------------------------------------------


def counted(random: np.random.Generator, number: int, kind: str) -> CaptionedImage:
    """`number` equal shapes apart from one another. How much is covered does not tell how many they are."""
    colour, ground = _colour(random), _ground(random)
    # The total area has the same distribution for every number.
    size = float(np.sqrt(random.uniform(0.1, 0.2) / number))
    cells = [(x, y) for y in (1 / 6, 0.5, 5 / 6) for x in (1 / 6, 0.5, 5 / 6)]
    image = drawing.canvas(ground)
    if number == 1:
        middles = [(random.uniform(0.3, 0.7), random.uniform(0.3, 0.7))]
    else:
        size = min(size, 0.3)
        slack = (1 / 3 - size) / 2
        middles = []
        for place in random.choice(len(cells), number, replace=False):
            x, y = cells[int(place)]
            middles.append((x + random.uniform(-slack, slack), y + random.uniform(-slack, slack)))
    for x, y in middles:
        drawing.draw_shape(image, kind, _square(x, y, size), colour)
    return CaptionedImage(drawing.finished(image), number_of(number, kind))


def number_of(number: int, kind: str) -> str:
    """`one star`, `three crosses`."""
    return f"{NUMBERS[number - 1]} {kind if number == 1 else _PLURALS.get(kind, f'{kind}s')}"


def thing(random: np.random.Generator, kind: str) -> CaptionedImage:
    """An everyday thing on a plain ground, somewhere near the middle."""
    image: Image.Image = drawing.canvas(_ground(random))
    size = random.uniform(0.55, 0.85)
    slack = (1 - size) / 2 * 0.9
    box = _square(0.5 + random.uniform(-slack, slack), 0.5 + random.uniform(-slack, slack), size)
    draw_thing(image, kind, box, _colour(random))
    return CaptionedImage(drawing.finished(image), kind)
