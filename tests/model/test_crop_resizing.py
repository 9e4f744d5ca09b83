"""Only what the crop is made of is resized, and every pixel is the one of resizing all of the image."""

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


def test_rows_beyond_the_crop_are_not_resized(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[int, int]] = []
    real = Image.Image.resize

    def noted(self: Image.Image, size: tuple[int, int], *given: object, **named: object) -> Image.Image:
        asked.append((self.width, self.height))
        return real(self, size, *given, **named)  # type: ignore[arg-type]

    monkeypatch.setattr(Image.Image, "resize", noted)
    pixels.preprocess(Image.new("RGB", (300, 900)), Preprocessing(100))
    assert asked[0][0] == 300
    assert asked[0][1] < 330
    asked.clear()
    pixels.preprocess(Image.new("RGB", (900, 300)), Preprocessing(100))
    assert asked == [(900, 300), (100, 300)]
