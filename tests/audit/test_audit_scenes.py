"""Scenes show what they say, at 64 pixels; pairs differ in one thing; the same seed draws the same."""

from collections.abc import Callable

import numpy as np
import pytest
from PIL import Image

from tandem.audit import scenes
from tandem.audit.drawing import COLOURS, SHAPES
from tandem.audit.image_sample import draw_things
from tandem.audit.things import THINGS

PAIRS: dict[str, Callable[[np.random.Generator], scenes.Pair]] = {
    "colours": scenes.colour_pair,
    "attributes": scenes.attribute_pair,
    "left and right": lambda random: scenes.position_pair(random, ("to the left of", "to the right of")),
    "above and below": lambda random: scenes.position_pair(random, ("above", "below")),
    "relations": scenes.relation_pair,
}


def pixels(image: Image.Image) -> np.ndarray:
    return np.asarray(image).astype(int)


def blobs(image: Image.Image) -> int:
    """How many separate areas differ from the ground, which is the colour of a corner."""
    drawn = np.abs(pixels(image) - pixels(image)[0, 0]).sum(2) > 60
    count = 0
    while drawn.any():
        stack = [tuple(np.argwhere(drawn)[0])]
        count += 1
        while stack:
            y, x = stack.pop()
            if 0 <= y < drawn.shape[0] and 0 <= x < drawn.shape[1] and drawn[y, x]:
                drawn[y, x] = False
                stack += [(y + dy, x + dx) for dy in (-1, 0, 1) for dx in (-1, 0, 1)]
    return count


def middle(image: Image.Image, colour: str) -> tuple[float, float]:
    """The mean place (x, y) of the pixels of a colour."""
    near = np.abs(pixels(image) - np.array(COLOURS[colour])).sum(2) < 30
    y, x = np.nonzero(near)
    return float(x.mean()), float(y.mean())


@pytest.mark.parametrize("number", [1, 2, 3, 4, 5])
def test_as_many_shapes_are_drawn_as_the_caption_says(number: int) -> None:
    random = np.random.default_rng(number)
    for kind in SHAPES:
        image = scenes.counted(random, number, kind)
        assert blobs(image.pixels) == number
        assert image.shows.split()[0] == scenes.NUMBERS[number - 1]


def test_what_is_painted_does_not_tell_the_number() -> None:
    random = np.random.default_rng(0)
    areas = []
    for number in (1, 2, 3, 4, 5):
        images = [pixels(scenes.counted(random, number, "square").pixels) for _ in range(30)]
        areas.append(np.mean([(np.abs(image - image[0, 0]).sum(2) > 60).mean() for image in images]))
    assert max(areas) < 1.35 * min(areas)


@pytest.mark.parametrize("name", PAIRS)
def test_a_pair_differs_clearly_and_its_captions_little(name: str) -> None:
    random, again = np.random.default_rng(7), np.random.default_rng(7)
    for _ in range(20):
        first, second = PAIRS[name](random)
        assert first.pixels.size == (64, 64)
        assert np.abs(pixels(first.pixels) - pixels(second.pixels)).mean() > 2
        assert first.shows != second.shows
        assert len(set(first.shows.split()) ^ set(second.shows.split())) <= 2  # "left" and "right", "a" and "an"
        assert np.array_equal(pixels(PAIRS[name](again)[0].pixels), pixels(first.pixels))


@pytest.mark.parametrize("name", ["attributes", "relations"])
def test_captions_of_a_pair_are_the_same_words(name: str) -> None:
    random = np.random.default_rng(1)
    assert all(scenes.same_words(a.shows, b.shows) for a, b in (PAIRS[name](random) for _ in range(30)))
    assert not scenes.same_words("a red cube", "a red ball")
    assert not scenes.same_words("a cube a", "a cube cube")


def test_swapped_colours_are_where_the_caption_says() -> None:
    random = np.random.default_rng(2)
    for _ in range(10):
        first, second = scenes.colour_pair(random)
        colours = [word for word in first.shows.split() if word in COLOURS]
        assert [word for word in second.shows.split() if word in COLOURS] == colours[::-1]
        assert middle(first.pixels, colours[0])[0] == pytest.approx(middle(second.pixels, colours[1])[0], abs=6)


def test_left_is_left_and_above_is_above(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        scenes, "_choose", lambda random, names, count: list(names)[:count]
    )  # red squares, blue circles
    random = np.random.default_rng(3)
    for _ in range(10):
        left, right = scenes.position_pair(random, ("to the left of", "to the right of"))
        assert (left.shows, right.shows) == ("a square to the left of a circle", "a square to the right of a circle")
        assert middle(left.pixels, "red")[0] < middle(left.pixels, "blue")[0]
        assert middle(right.pixels, "red")[0] > middle(right.pixels, "blue")[0]
        above, below = scenes.position_pair(random, ("above", "below"))
        assert middle(above.pixels, "red")[1] < middle(above.pixels, "blue")[1]
        assert middle(below.pixels, "red")[1] > middle(below.pixels, "blue")[1]


def test_relations_are_drawn_as_they_are_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scenes, "_choose", lambda random, names, count: list(names)[:count])
    random, seen = np.random.default_rng(4), set()
    whole = {"square": 1.0, "circle": np.pi / 4}  # of the box around it

    def box(colour: str) -> tuple[np.ndarray, np.ndarray, float]:
        """The corners of what is seen of a shape, and how much of the box between them."""
        near = np.abs(pixels(image.pixels) - np.array(COLOURS[colour])).sum(2) < 60
        places = np.argwhere(near)
        low, high = places.min(0), places.max(0) + 1
        return low, high, near.sum() / np.prod(high - low)

    names = ("square", "red"), ("circle", "blue")
    for _ in range(12):
        for image, (first, second) in zip(scenes.relation_pair(random), (names, names[::-1]), strict=True):
            relation = image.shows.removeprefix(f"a {first[0]} ").removesuffix(f" a {second[0]}")
            seen.add(relation)
            mine, other = box(first[1]), box(second[1])
            assert mine[2] == pytest.approx(whole[first[0]], abs=0.1)  # seen whole
            if relation == "above":
                assert mine[1][0] <= other[0][0] + 1
            elif relation == "inside":
                assert (other[0] < mine[0]).all()
                assert (mine[1] < other[1]).all()
            else:
                assert other[2] < whole[second[0]] - 0.1  # partly hidden
    assert seen == {"inside", "above", "in front of"}


def test_things_are_drawn_in_turn_and_by_seed() -> None:
    first, again, other = draw_things(0, 0.2), draw_things(0, 0.2), draw_things(1, 0.2)
    assert len(first) == 2 * len(THINGS)
    assert np.bincount(first.some(len(THINGS)).labels).tolist() == [1] * len(THINGS)
    assert first.hash == again.hash != other.hash
    assert all(image.shows == first.names[label] for image, label in zip(first.images, first.labels, strict=True))
    assert (
        min(np.abs(pixels(p.pixels) - pixels(p.pixels)[0, 0]).sum(2).astype(bool).mean() for p in first.images) > 0.08
    )
