"""Fifteen kinds of damage: each grows with its strength, is repeatable, and keeps the image's size."""

import numpy as np
import pytest
from PIL import Image

from tandem.audit import scenes
from tandem.audit.corrupting import CORRUPTIONS, FAMILIES, STRENGTHS, corrupt


@pytest.fixture(scope="module")
def image() -> Image.Image:
    return scenes.thing(np.random.default_rng(0), "boat").pixels.resize((96, 72))


def test_the_families_are_all_fifteen() -> None:
    assert sorted(kind for kinds in FAMILIES.values() for kind in kinds) == sorted(CORRUPTIONS)
    assert len(CORRUPTIONS) == 15


@pytest.mark.parametrize("kind", CORRUPTIONS)
def test_damage_grows_with_strength(kind: str, image: Image.Image) -> None:
    clean = np.asarray(image).astype(float)
    damage = []
    for strength in STRENGTHS:
        done = [corrupt(image, kind, strength, np.random.default_rng(seed)) for seed in (0, 1, 2, 0)]
        assert {(each.size, each.mode) for each in done} == {(image.size, "RGB")}
        assert np.array_equal(np.asarray(done[0]), np.asarray(done[3]))
        damage.append(np.mean([np.abs(np.asarray(each) - clean).mean() for each in done]))
    assert damage[0] > 0.3
    assert damage[-1] > damage[0]
    assert np.corrcoef(STRENGTHS, damage)[0, 1] > 0.6


def test_tiny_and_grey_images_are_damaged_too() -> None:
    for size in ((1, 1), (7, 3)):
        for kind in CORRUPTIONS:
            assert corrupt(Image.new("L", size, 90), kind, 5, np.random.default_rng(0)).size == size


def test_a_strength_that_is_not_there_is_refused(image: Image.Image) -> None:
    with pytest.raises(ValueError, match="expected 1 to 5, got 0"):
        corrupt(image, "fog", 0, np.random.default_rng(0))
