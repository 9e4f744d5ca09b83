"""Only what the crop is made of is resized, and every pixel is the one of resizing all of the image."""

import random

import numpy as np
import pytest
from PIL import Image

from tandem import pixels
from tandem.config import Preprocessing

SIZES = [(640, 480), (480, 640), (97, 31), (31, 97), (224, 300), (300, 224), (50, 70), (70, 50), (500, 375), (375, 501)]


def whole(image: Image.Image, size: int, resample: Image.Resampling) -> np.ndarray:
    """As the original CLIP does it: all of the image is resized, then cropped."""
    shorter, longer = min(image.size), max(image.size)
    length = int(size * longer / shorter)
    wide = image.width >= image.height
    start = round((length - size) / 2)
    left, top = (start, 0) if wide else (0, start)
    resized = image.resize((length, size) if wide else (size, length), resample)
    return np.array(resized.crop((left, top, left + size, top + size)).convert("RGB"))


@pytest.mark.parametrize("interpolation", ["bicubic", "bilinear", "lanczos", "nearest"])
@pytest.mark.parametrize("size", SIZES, ids=str)
def test_every_pixel_is_that_of_the_whole_image(interpolation: str, size: tuple[int, int]) -> None:
    noise = np.random.default_rng(sum(size)).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    for mode in ("RGB", "L", "RGBA", "P") if size == SIZES[2] else ("RGB",):
        image = Image.fromarray(noise).convert(mode)
        for model_size in (64, 224):
            preprocessing = Preprocessing(model_size, interpolation=interpolation)  # type: ignore[arg-type]
            expected = whole(image, model_size, pixels._FILTERS[interpolation])
            assert np.array_equal(pixels.preprocess(image, preprocessing), expected), (mode, model_size)


@pytest.mark.parametrize("interpolation", ["bicubic", "bilinear", "lanczos"])
@pytest.mark.parametrize(("mode", "channels"), [("RGBA", 4), ("LA", 2)])
def test_what_is_transparent_weighs_nothing_while_it_is_resized(interpolation: str, mode: str, channels: int) -> None:
    """PIL multiplies colours by alpha for that, and divides again: two resizes would round twice in between."""
    for width, height in ((97, 31), (31, 97)):
        noise = np.random.default_rng(width).integers(0, 256, (height, width, channels), dtype=np.uint8)
        image = Image.fromarray(noise, mode)
        made = pixels.preprocess(image, Preprocessing(24, interpolation=interpolation))  # type: ignore[arg-type]
        assert np.array_equal(made, whole(image, 24, pixels._FILTERS[interpolation]))
        opaque = image.copy()
        opaque.putalpha(255)
        beside = pixels.preprocess(opaque, Preprocessing(24, interpolation=interpolation))  # type: ignore[arg-type]
        assert (made != beside).mean() > 0.5  # so that alpha is seen to matter


def shapes() -> list[tuple[int, int, int, str, str]]:
    """Width, height, model's size, filter and mode: tiny and long ones by chance, and screens of phones."""
    chance = random.Random(15)
    drawn = [(540, 1200, 64, "bicubic", "L"), (270, 600, 112, "bicubic", "RGB"), (180, 400, 64, "lanczos", "RGB")]
    while len(drawn) < 150:
        short = chance.choice([1, 2, 3, 5, chance.randint(1, 40), chance.randint(40, 150)])
        long = min(int(short * chance.choice([1, 1.06, 1.07, 1.5, 2, 2.2, chance.uniform(1, 32), 32])), 500)
        size = chance.choice([1, 2, 3, 16, 17, 64, chance.randint(1, 100)])
        if size * size * long < 60_000 * short and long <= 32 * short:
            width, height = chance.choice([(short, long), (short, long), (long, short)])
            interpolation, mode = chance.choice(["bicubic", "bilinear", "lanczos"]), chance.choice(["RGB", "L"])
            drawn.append((width, height, size, interpolation, mode))
    return drawn


def test_tall_wide_and_tiny_images_are_resized_in_the_order_of_pillow() -> None:
    noise = np.random.default_rng(15)
    ordered = {True: 0, False: 0}
    for width, height, size, interpolation, mode in shapes():
        values = noise.integers(0, 256, (height, width, 3)[: 3 if mode == "RGB" else 2], dtype=np.uint8)
        image, resample = Image.fromarray(values), pixels._FILTERS[interpolation]
        made = pixels.preprocess(image, Preprocessing(size, interpolation=interpolation))  # type: ignore[arg-type]
        assert np.array_equal(made, whole(image, size, resample)), (width, height, size, interpolation, mode)
        if width < height:
            ordered[pixels._down_first(image, size, int(size * height / width))] += 1
    assert min(ordered.values()) >= 15, ordered  # both sides of the line that Pillow draws


def test_a_pillow_whose_order_is_unknown_resizes_all_of_an_image(monkeypatch: pytest.MonkeyPatch) -> None:
    assert pixels._KNOWN_ORDER, "look at which axis this Pillow resizes first, and see that the test above passes"
    monkeypatch.setattr(pixels, "_KNOWN_ORDER", False)
    monkeypatch.setattr(pixels, "_cut_tall", None)
    pixels.preprocess(Image.new("RGB", (30, 60)), Preprocessing(16))


def test_rows_beyond_the_crop_are_not_resized(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[int, int]] = []
    real = Image.Image.resize

    def noted(self: Image.Image, size: tuple[int, int], *given: object, **named: object) -> Image.Image:
        asked.append((self.width, self.height))
        return real(self, size, *given, **named)  # type: ignore[arg-type]

    monkeypatch.setattr(Image.Image, "resize", noted)
    pixels.preprocess(Image.new("RGB", (300, 500)), Preprocessing(100))
    assert asked[0][0] == 300
    assert asked[0][1] < 330
    asked.clear()
    pixels.preprocess(Image.new("RGB", (300, 900)), Preprocessing(100))
    assert asked == [(300, 900), (300, 100)]  # down first
    asked.clear()
    pixels.preprocess(Image.new("RGB", (900, 300)), Preprocessing(100))
    assert asked == [(900, 300), (100, 300)]
