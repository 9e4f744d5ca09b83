"""Where one level, one pixel or one sign would be lost: floats, turned photos, odd padding, large logits."""

import io
import struct

import numpy as np
import pytest
from PIL import Image
from support.images import encoded, scene

from tandem.config import Preprocessing
from tandem.errors import ImageError
from tandem.heads.softmax import cross_entropy
from tandem.image import decode, load_image, load_pixels
from tandem.pixels import patch_grid, preprocess, thumbnail
from tandem.scores.scoring import probabilities, softmax


@pytest.mark.parametrize(("value", "level"), [(0.999, 255), (0.5, 128), (0.001, 0), (0.003, 1), (1.0, 255)])
def test_floats_are_rounded_not_cut(value: float, level: int) -> None:
    array = np.full((8, 8, 3), value, np.float32)
    assert np.asarray(load_image(array)).tolist() == [[[level] * 3] * 8] * 8
    grey = Image.fromarray(np.full((8, 8), value, np.float32))  # mode F
    assert preprocess(grey, Preprocessing(8)).tolist() == [[[level] * 3] * 8] * 8


def test_floats_up_to_255_are_rounded_too() -> None:
    grey = Image.fromarray(np.tile(np.array([[1.6, 254.6]], np.float32), (8, 4)))
    assert preprocess(grey, Preprocessing(8))[0, :2, 0].tolist() == [2, 255]


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("orient", [True, False])
def test_the_size_of_a_turned_photo_is_its_upright_one(orientation: int, orient: bool) -> None:
    """Orientations 5 to 8 swap the sides, the mirrored 5 and 7 among them."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    found = decode(encoded(scene(64, 48), "JPEG", exif=exif), orient=orient)
    upright = (48, 64) if orientation >= 5 else (64, 48)
    assert (found.width, found.height) == upright
    assert found.image.size == (upright if orient else (64, 48))


@pytest.mark.parametrize(("size", "before", "after"), [((8, 5), 1, 2), ((8, 6), 1, 1), ((8, 7), 0, 1), ((8, 8), 0, 0)])
@pytest.mark.parametrize("turned", [False, True])
def test_the_odd_pixel_of_padding_is_at_the_far_end(
    size: tuple[int, int], before: int, after: int, turned: bool
) -> None:
    image = Image.new("RGB", size[::-1] if turned else size, (200, 0, 0))
    pixels = preprocess(image, Preprocessing(8, resize_mode="longest", fill=9))
    line = (pixels[0] if turned else pixels[:, 0])[:, 0]
    assert line.tolist() == [9] * before + [200] * (8 - before - after) + [9] * after


@pytest.mark.parametrize("large", [1e3, 1e5, -1e5])
def test_large_logits_have_probabilities(large: float) -> None:
    found = softmax(np.array([[large, large + 1, large - 1]], np.float32))
    np.testing.assert_allclose(found, softmax(np.array([[0, 1, -1]], np.float32)), rtol=1e-6)
    assert probabilities("softmax", np.array([[large, 0]], np.float32)).tolist() == [[float(large > 0), large < 0]]


@pytest.mark.parametrize("large", [1e3, 1e5, -1e5])
def test_large_logits_have_a_loss_and_a_gradient(large: float) -> None:
    labels = np.array([0, 1])
    loss, gradient = cross_entropy(np.array([[large, large + 1], [large, large + 1]], np.float32), labels)
    plain_loss, plain = cross_entropy(np.array([[0, 1], [0, 1]], np.float32), labels)
    assert loss == pytest.approx(plain_loss)
    np.testing.assert_allclose(gradient, plain, rtol=1e-6)


def test_the_square_of_a_turned_photo_is_upright() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    photo = encoded(scene(64, 48), "PNG", exif=exif)
    upright, stored = load_pixels(photo, Preprocessing(8)), load_pixels(photo, Preprocessing(8), orient=False)
    assert np.array_equal(upright, preprocess(scene(64, 48).transpose(Image.Transpose.ROTATE_270), Preprocessing(8)))
    assert np.array_equal(stored, preprocess(scene(64, 48), Preprocessing(8)))


@pytest.mark.parametrize(
    ("size", "small"),
    [((64, 48), (32, 24)), ((48, 64), (24, 32)), ((1, 3000), (1, 32)), ((3000, 2), (32, 1)), ((32, 5), (32, 5)),
     ((33, 33), (32, 32)), ((5, 5), (5, 5))],
)  # fmt: skip
def test_a_thumbnail_has_its_longer_side_at_most(size: tuple[int, int], small: tuple[int, int]) -> None:
    assert thumbnail(Image.new("RGB", size), 32).size == small


@pytest.mark.parametrize(
    ("width", "height", "most", "grid"),
    [(64, 64, 16, (4, 4)), (128, 64, 16, (3, 5)), (64, 128, 16, (5, 3)), (1, 1, 1, (1, 1)), (10_000, 1, 16, (1, 16)),
     (64, 64, 15, (3, 3)), (640, 480, 256, (14, 18))],
)  # fmt: skip
def test_patches_are_as_many_as_allowed_in_the_shape_of_the_image(
    width: int, height: int, most: int, grid: tuple[int, int]
) -> None:
    assert patch_grid(width, height, 16, most) == grid


@pytest.mark.parametrize("source", [5, None, {"path": "a.png"}, object()])
def test_what_is_no_image_is_refused_by_its_type(source: object) -> None:
    wanted = f"expected a path, bytes, a file, a PIL image or an array, got {type(source).__name__}"
    with pytest.raises(ImageError, match=wanted):
        load_image(source)  # type: ignore[arg-type]


def test_only_what_was_decoded_smaller_is_shrunk() -> None:
    photo = encoded(scene(512, 384), "JPEG")
    found = decode(photo, at_least=64)
    assert (found.shrunk, found.width, found.height) == (True, 512, 384)
    assert found.image.size == (86, 64) or min(found.image.size) >= 64
    assert not decode(photo).shrunk
    assert not decode(photo, at_least=300).shrunk
    assert not decode(encoded(scene(512, 384), "PNG"), at_least=64).shrunk


@pytest.mark.parametrize("most", [4, 6])
def test_patches_stand_in_rows_and_what_is_left_is_zero(most: int) -> None:
    """As many numbers as a patch has, then the rows and columns of the grid, each as two bytes."""
    square = np.random.default_rng(0).integers(1, 256, (8, 8, 3), np.uint8)
    naflex = Preprocessing(8, resize_mode="naflex", patch_size=4, max_patches=most)
    found = preprocess(Image.fromarray(square), naflex)
    assert found.shape == (most, 4 * 4 * 3 + 4)
    for i, (top, left) in enumerate([(0, 0), (0, 4), (4, 0), (4, 4)]):
        assert found[i, :-4].tolist() == square[top : top + 4, left : left + 4].ravel().tolist()
    assert not found[4:, :-4].any()
    assert found[:, -4:].tolist() == [[0, 2, 0, 2]] * most


def test_a_decoder_that_looks_past_a_short_file_is_not_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    def past(head: bytes) -> bool:
        raise struct.error("unpack requires a buffer of 14 bytes")

    Image.init()
    factory, _ = Image.OPEN["QOI"]
    monkeypatch.setitem(Image.OPEN, "QOI", (factory, past))
    with pytest.raises(ImageError, match="not an image"):
        load_image(b"\xfe\xfd")


def test_the_reader_of_heic_is_brought_when_it_is_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    heif = pytest.importorskip("pillow_heif")
    file = io.BytesIO()
    heif.from_pillow(scene(64, 48)).save(file)
    monkeypatch.delitem(Image.OPEN, "HEIF", raising=False)
    assert load_image(file.getvalue()).size == (64, 48)
