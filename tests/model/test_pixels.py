"""From a decoded image to the model's square: the original's pixels bit for bit, every shape and mode."""

import hashlib
import json
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from support.images import SQUARE, encoded, scene

from tandem.config import Preprocessing
from tandem.image import load_image, preprocess
from tandem.pixels import _shortest


@pytest.fixture(scope="module")
def photos() -> dict[str, Image.Image]:
    data = pytest.importorskip("skimage.data", reason="needs scikit-image's sample photos")
    datasets = pytest.importorskip("sklearn.datasets", reason="needs scikit-learn's sample photos")
    try:
        arrays = {name: getattr(data, name)() for name in ("chelsea", "astronaut", "coffee", "rocket")}
    except Exception as error:  # scikit-image downloads some
        pytest.skip(f"needs scikit-image's sample photos: {error}")
    arrays |= {name: datasets.load_sample_image(f"{name}.jpg") for name in ("china", "flower")}
    return {name: Image.fromarray(array) for name, array in arrays.items()}


VARIANTS: dict[str, Callable[[Image.Image], Image.Image]] = {
    "": lambda im: im,
    "tall": lambda im: im.crop((37, 0, 37 + im.height // 3, im.height)),
    "small": lambda im: im.resize((97, 61), Image.Resampling.BILINEAR),
    "gray": lambda im: im.convert("L"),
    "palette": lambda im: im.convert("P"),
}


def test_the_originals_pixels_bit_for_bit(shared: Path, photos: dict[str, Image.Image]) -> None:
    golden = json.loads((shared / "golden" / "preprocess.json").read_text())
    assert len(golden) == 30
    wrong = []
    for key, expected in golden.items():
        photo, _, variant = key.partition("-")
        pixels = preprocess(load_image(VARIANTS[variant](photos[photo])), Preprocessing(224))
        if hashlib.sha256(pixels.tobytes()).hexdigest() != expected:
            wrong.append(key)
    assert wrong == []


@pytest.mark.parametrize("mode", ["shortest", "squash", "longest"])
@pytest.mark.parametrize("interpolation", ["bicubic", "bilinear", "nearest", "lanczos"])
@pytest.mark.parametrize("size", [(60, 40), (40, 61), (32, 32), (1, 1), (7, 300), (1, 10_000), (10_000, 1)])
def test_every_shape_becomes_a_square(mode: str, interpolation: str, size: tuple[int, int]) -> None:
    preprocessing = Preprocessing(32, resize_mode=mode, interpolation=interpolation)  # type: ignore[arg-type]
    pixels = preprocess(scene(*size), preprocessing)
    assert pixels.shape == (32, 32, 3)
    assert pixels.dtype == np.uint8
    assert pixels.flags.writeable


def test_shortest_keeps_the_centre_and_longest_keeps_all() -> None:
    image = Image.new("RGB", (90, 30), "red")
    image.paste("blue", (30, 0, 60, 30))
    centre = preprocess(image, Preprocessing(30))
    assert (centre == [0, 0, 255]).all()
    whole = preprocess(image, Preprocessing(30, resize_mode="longest", interpolation="nearest", fill=7))
    assert (whole[:10] == 7).all()
    assert (whole[20:] == 7).all()
    assert whole[15, [5, 15, 25]].tolist() == [[255, 0, 0], [0, 0, 255], [255, 0, 0]]
    squashed = preprocess(image, Preprocessing(30, resize_mode="squash", interpolation="nearest"))
    assert squashed[15, [5, 15, 25]].tolist() == [[255, 0, 0], [0, 0, 255], [255, 0, 0]]


@pytest.mark.parametrize("turned", [False, True])
def test_a_ribbon_gets_the_same_pixels_without_the_image_that_is_mostly_cropped(
    monkeypatch: pytest.MonkeyPatch, turned: bool
) -> None:
    ribbon = scene(1501, 23)
    ribbon = ribbon.transpose(Image.Transpose.ROTATE_90) if turned else ribbon
    direct = np.asarray(_shortest(ribbon, 64, Image.Resampling.BICUBIC), np.int16)
    monkeypatch.setattr("tandem.pixels._LONGEST_ASPECT", 1000)
    whole = np.asarray(_shortest(ribbon, 64, Image.Resampling.BICUBIC), np.int16)
    difference = np.abs(direct - whole)
    # PIL may filter rows and columns in another order, and clips overshoot at hard edges between the two
    assert difference.max() <= 24
    assert difference.mean() <= 0.1


@pytest.mark.parametrize(
    "mode", ["1", "L", "LA", "P", "PA", "RGB", "RGBA", "CMYK", "YCbCr", "LAB", "HSV", "La", "RGBa", "RGBX"]
)
def test_every_mode(mode: str) -> None:
    if mode == "LAB":
        image = Image.merge("LAB", [Image.new("L", (60, 40), value) for value in (128, 128, 128)])  # a middle grey
    elif mode in ("La", "RGBa"):
        image = scene(mode={"La": "LA", "RGBa": "RGBA"}[mode]).convert(mode)
    else:
        image = scene(mode=mode)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        pixels = preprocess(load_image(image), SQUARE)
    expected = preprocess(scene(mode="L" if mode in ("1", "L", "LA", "La") else "RGB"), SQUARE)
    if mode == "LAB":
        expected = np.full_like(expected, 119)
    if mode == "1":  # black and white dots: right on the whole
        pixels, expected = pixels.mean(keepdims=True), expected.mean(keepdims=True)
    # 256 colours, and hues that are averaged across red, differ in places
    tolerance = {"1": 8, "P": 20, "PA": 30, "HSV": 10}.get(mode, 2)
    assert np.abs(pixels.astype(int) - expected.astype(int)).mean() <= tolerance


@pytest.mark.parametrize("mode", ["I;16", "I;16B", "I"])
def test_sixteen_bits_are_scaled_not_clipped(mode: str) -> None:
    grey = np.arange(256, dtype=np.uint8).reshape(16, 16)
    dtype = {"I;16": "<u2", "I;16B": ">u2", "I": "<i4"}[mode]
    deep = (grey.astype(np.uint32) * 257).astype(dtype)
    image = Image.frombytes(mode, (16, 16), deep.tobytes())
    assert (preprocess(image, Preprocessing(16))[:, :, 0] == grey).all()


def test_a_sixteen_bit_png_file() -> None:
    deep = (np.arange(256, dtype=np.uint16) * 257).reshape(16, 16)
    pixels = preprocess(load_image(encoded(Image.fromarray(deep), "PNG")), Preprocessing(16))
    assert pixels[:, :, 1].ravel().tolist() == list(range(256))


@pytest.mark.parametrize(("low", "high"), [(0.0, 1.0), (0.0, 255.0), (-3.0, 9000.0)])
def test_floats_fill_the_range(low: float, high: float) -> None:
    values = np.linspace(low, high, 256, dtype=np.float32).reshape(16, 16)
    pixels = preprocess(Image.fromarray(values), Preprocessing(16))
    assert pixels[0, 0, 0] == 0
    assert pixels[-1, -1, 0] == 255
    assert (np.diff(pixels[:, :, 0].ravel().astype(int)) >= 0).all()


def test_floats_with_holes_and_flat_ones_are_images_too() -> None:
    values = np.full((8, 8), np.nan, np.float32)
    assert preprocess(Image.fromarray(values), SQUARE).max() == 0
    assert preprocess(Image.fromarray(np.full((8, 8), 7000, np.float32)), SQUARE).shape == (32, 32, 3)


def test_the_image_handed_in_is_left_as_it_is() -> None:
    image = scene(mode="P")
    image.info["transparency"] = b"\0" * 256
    preprocess(image, Preprocessing(40, resize_mode="longest"))
    preprocess(image, SQUARE)
    assert image.info["transparency"] == b"\0" * 256
    assert image.mode == "P"
