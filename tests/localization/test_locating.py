"""`Model.locate`: places, verdicts, bounds, and what is refused."""

import pickle
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
from PIL import Image
from support import toy
from support.engine_toys import TOYS
from support.locating_toys import SMALL, small

import tandem
from tandem.answer import ModelIdentity
from tandem.errors import ImageError, TandemError, TextError
from tandem.localization.baseline import Baseline
from tandem.localization.boxes import Box
from tandem.localization.contrast import Contrast
from tandem.localization.locating import Locator
from tandem.localization.location import painted
from tandem.localization.methods import HEAT_SIZE, METHODS, Method
from tandem.localization.settings import (
    LocateSettings,
    Presence,
    by_architecture,
    from_json,
    load_settings,
    save_settings,
    to_json,
)
from tandem.towers.parts.description import DenseMethod


@pytest.mark.slow
def test_an_answer_is_in_pixels_and_its_maps_in_the_aspect_of_the_image(
    model: tandem.Model, scene: Image.Image
) -> None:
    found = model.locate(scene, ["apple", "house"], heat_size=60)
    assert (found.width, found.height, found.texts) == (300, 150, ("apple", "house"))
    assert found.method == "windows"
    for each in found:
        assert each.heat.shape == (30, 60)
        assert each.heat.dtype == np.float32
        assert 0 <= each.heat.min() <= each.heat.max() <= 1
        assert each.heat_at().shape == (150, 300)
        assert each.heat_at(20, 10).shape == (10, 20)
        assert 0 <= each.point[0] < 300
        assert 0 <= each.point[1] < 150
        assert bool(each.boxes) == each.present
        for box in each.boxes:
            assert 0 <= box.left < box.right <= 300
            assert 0 <= box.top < box.bottom <= 150
    assert (sum(each.heat for each in found) <= 1 + 1e-5).all()  # they compete
    assert found.to_json() == model.locate(scene, ["apple", "house"], heat_size=60).to_json()


def test_a_text_that_wins_a_place_takes_it_from_the_others(model: tandem.Model, scene: Image.Image) -> None:
    alone = small(model, scene, ["red"])[0]
    both = small(model, scene, ["red", "a red square"])
    assert (both[0].heat <= alone.heat + 1e-6).all()
    assert both[0].score == pytest.approx(alone.score, abs=1e-4)  # the verdict does not depend on the company


def test_a_photo_that_lies_on_its_side_is_answered_upright(model: tandem.Model, tmp_path: Path) -> None:
    lying = Image.new("RGB", (120, 60), "white")
    exif = lying.getexif()
    exif[0x0112] = 6
    lying.save(tmp_path / "a.jpg", exif=exif)
    found = small(model, tmp_path / "a.jpg", ["dog"])
    assert (found.width, found.height) == (60, 120)
    assert found[0].heat.shape[0] > found[0].heat.shape[1]


@pytest.mark.parametrize("size", [(1, 1), (3, 2), (1, 400), (900, 5)])
def test_any_size_and_aspect(model: tandem.Model, size: tuple[int, int]) -> None:
    found = small(model, Image.new("RGB", size, "blue"), ["sky", "dog"])
    assert (found.width, found.height) == size
    assert np.isfinite(found[0].heat).all()


@pytest.mark.slow
def test_a_large_photo_is_looked_at_small(model: tandem.Model, tmp_path: Path) -> None:
    Image.new("RGB", (4000, 3000), "green").save(tmp_path / "large.jpg", quality=30)
    features = Locator(model).encode(tmp_path / "large.jpg", SMALL)
    assert features.size == (4000, 3000)
    window = model.config.vision.image_size
    assert min(features.working_size) == 2 * window  # two windows of the model's size
    two = replace(SMALL, scales=(0.5, 0.25))
    assert min(Locator(model).encode(tmp_path / "large.jpg", two).working_size) == 4 * window  # for the smaller windows
    found = small(model, tmp_path / "large.jpg", [f"text {i}" for i in range(8)])
    assert sum(each.heat.nbytes for each in found) <= 8 * HEAT_SIZE**2 * 4


def test_places_of_a_large_photo_are_where_they_are_in_it(model: tandem.Model) -> None:
    """What is measured in working pixels is given in the photo's."""
    photo = Image.new("RGB", (1200, 600), "white")
    photo.paste("red", (900, 100, 1140, 340))
    features = Locator(model).encode(photo, SMALL)
    window = model.config.vision.image_size
    assert features.working_size == (4 * window, 2 * window)  # windows of half the shorter side
    scale = 4 * window / 1200
    text = np.zeros((2, model.config.embed_dim), np.float32)
    text[:, 0] = 1, -1
    hot = tuple(
        replace(each, vectors=np.zeros((*each.vectors.shape[:2], model.config.embed_dim), np.float32))
        for each in features.dense
    )
    for each in hot:
        row, column = np.abs(each.rows - 220 * scale).argmin(), np.abs(each.columns - 1020 * scale).argmin()
        each.vectors[row, column, 0] = 1
    contrast = Contrast(text[:1], text[1:], np.ones((1, 1), bool), 10.0)
    found = Locator(model).find(replace(features, dense=hot), ["red"], contrast, SMALL)[0]
    at = hot[0].columns[np.abs(hot[0].columns - 1020 * scale).argmin()] / scale
    assert abs(found.point[0] - at) < 40
    assert found.heat.shape == (64, 128)


def test_a_text_is_there_from_a_score_of_zero_on_where_nothing_was_measured(model: tandem.Model) -> None:
    photo = Image.new("RGB", (100, 100), "white")
    locator = Locator(model)
    features = locator.encode(photo, SMALL)
    text = np.zeros((2, model.config.embed_dim), np.float32)
    text[:, 0] = 1, -1
    for lean, there in ((0.02, True), (-0.02, False)):
        dense = tuple(replace(each, vectors=np.zeros_like(each.vectors)) for each in features.dense)
        for each in dense:
            each.vectors[..., 0] = lean
        contrast = Contrast(text[:1], text[1:], np.ones((1, 1), bool), 10.0)
        found = locator.find(replace(features, dense=dense), ["it"], contrast, SMALL)[0]
        assert found.score == pytest.approx(20 * lean, abs=1e-3)
        assert found.present == there


def test_templates_are_for_texts_and_not_for_backgrounds(model: tandem.Model) -> None:
    locator = Locator(model)
    plain, other = (locator.contrast(["dog"], SMALL, each) for each in (None, "a drawing of a {}"))
    assert not np.allclose(plain.texts, other.texts)
    assert np.array_equal(plain.words, other.words)


def test_what_cannot_be_located_is_refused(model: tandem.Model, scene: Image.Image, tmp_path: Path) -> None:
    with pytest.raises(TextError, match=r"expected 1\.\.64 to locate at once, got 0"):
        model.locate(scene, [])
    with pytest.raises(TextError, match="'dog' is there twice"):
        model.locate(scene, ["dog", "dog"])
    with pytest.raises(TextError, match="expected words, got ' '"):
        model.locate(scene, " ")
    with pytest.raises(TandemError, match=r"heat_size: expected 1\.\.1024, got 0"):
        model.locate(scene, "dog", heat_size=0)
    with pytest.raises(TandemError, match="this image tower has windows or attention-pool, got 'naclip'"):
        model.locate(scene, "dog", method="naclip")
    with pytest.raises(ImageError, match=r"gone\.jpg"):
        model.locate(tmp_path / "gone.jpg", "dog")


def test_an_answer_is_pickled_without_its_model(model: tandem.Model, scene: Image.Image) -> None:
    found = small(model, scene, ["red"])
    again = pickle.loads(pickle.dumps(found))
    assert isinstance(again.model, ModelIdentity)  # a model would be loaded again
    assert again.to_json() == found.to_json()


def test_a_notebook_shows_the_photo_with_heat_and_box(model: tandem.Model, scene: Image.Image) -> None:
    found = small(model, scene, ["red", "<dog>"])
    html = found._repr_html_()
    assert html.count("data:image/jpeg;base64,") == 2
    assert "&lt;dog&gt;" in html
    assert str(found[0].point[0]) in repr(found) or not found[0].present
    box = Box(40, 20, 80, 60, 0.9)
    heat = np.zeros((15, 30), np.float32)
    heat[3:6, 5:7] = 1
    location = replace(found[0], present=True, boxes=(box,), point=(60, 40), heat=heat)
    white = Image.new("RGB", (150, 75), "white")
    drawn = np.asarray(painted(white, location)).astype(int)
    assert (drawn[10, 20:38] == (232, 89, 12)).all()  # the upper edge, at half the size
    assert (drawn[40:, 80:] == 255).all()
    assert drawn[25, 28, 2] < 128  # hot
    assert "<img" not in replace(found, image=None)._repr_html_()


# --- methods -------------------------------------------------------------------------------------------------------


def test_each_architecture_has_its_method() -> None:
    methods = {which: by_architecture(toy.vision).method for which, toy in TOYS.items()}
    assert methods["resnet-bottleneck"] == "windows"  # its grid is too small
    vit = TOYS["vit"].vision
    assert by_architecture(replace(vit, image_size=64, patch_size=8)).method == "naclip"
    assert by_architecture(replace(vit, image_size=64, patch_size=8), "windows").method == "windows"


def test_the_methods_are_windows_and_what_towers_have() -> None:
    """And their module is light: it is behind `--help`."""
    assert set(METHODS) == set(get_args(Method)) == {"windows", *get_args(DenseMethod)}
    assert all(" " not in method for method in METHODS)
    heavy = "import sys, tandem.localization.methods; sys.exit('numpy' in sys.modules or 'PIL' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", heavy], check=False).returncode == 0


def test_patches_are_places_where_they_lie(model: tandem.Model) -> None:
    """By an engine whose patches are their own mean colour: red is found where it is, across windows."""

    class Colours:
        def __getattr__(self, name: str) -> object:
            return getattr(model.engine, name)

        def encode_dense(self, pixels: np.ndarray) -> np.ndarray:
            grid = model.config.vision.grid
            side = pixels.shape[1] // grid
            cells = pixels.reshape(len(pixels), grid, side, grid, side, 3).mean(axis=(2, 4)).reshape(len(pixels), -1, 3)
            vectors = np.zeros((*cells.shape[:2], model.config.embed_dim), np.float32)
            vectors[..., :3] = cells / 255
            return vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)

    image = Image.new("RGB", (200, 100), "blue")
    image.paste("red", (150, 20, 190, 60))
    seeing = model.__copy__()
    seeing.engine = Colours()  # type: ignore[assignment]
    settings = LocateSettings("attention-pool", (0.5,), 0.5, 0.5, 0.5, best=3)
    text = np.zeros((2, model.config.embed_dim), np.float32)
    text[0, 0] = text[1, 2] = 1
    contrast = Contrast(text[:1], text[1:], np.ones((1, 1), bool), 10.0)
    locator = Locator(seeing)
    found = locator.find(locator.encode(image, settings), ["red"], contrast, settings)[0]
    assert found.present
    assert 150 <= found.point[0] < 190
    assert 20 <= found.point[1] < 60
    assert found.boxes[0].overlap((150, 20, 190, 60)) > 0.6


# --- settings ------------------------------------------------------------------------------------------------------


def measured() -> LocateSettings:
    vectors = np.eye(4, 256, dtype=np.float32)
    return replace(SMALL, baseline=Baseline.of(vectors, 0.9), presence=Presence(-1.0, 2.0, 0.5), figures={"n": 3})


def test_settings_are_kept_and_read_again(model: tandem.Model, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("TANDEM_HOME", str(tmp_path))
    settings = measured()
    save_settings(settings, model.fingerprint)
    found = load_settings(model)
    assert found is not None
    assert found.baseline is not None
    assert settings.baseline is not None
    assert np.array_equal(found.baseline.vectors, settings.baseline.vectors)
    assert replace(found, baseline=None) == replace(settings, baseline=None)


def test_settings_of_other_weights_are_not_used(model: tandem.Model, tmp_path: Path) -> None:
    folder = toy.folder(tmp_path / "toy")
    save_settings(measured(), "00", Path(folder) / "location.json")
    with pytest.warns(UserWarning, match="is for 00, not for "):
        assert load_settings(tandem.load(folder)) is None


@pytest.mark.parametrize("text", ["", "{}", '{"version": 9}', to_json(measured(), "0").replace("0.6", "7.5")])
def test_a_damaged_file_is_an_error(text: str) -> None:
    with pytest.raises(TandemError, match=r"mine\.json: expected settings of locating, version 1; delete it"):
        from_json(text, "mine.json")


def test_a_probability_is_said_only_where_it_was_measured(model: tandem.Model, scene: Image.Image) -> None:
    assert small(model, scene, ["dog"])[0].probability is None
    found = small(model, scene, ["dog"], presence=Presence(0.5, 1.0, 0.25))[0]
    expected = 1 / (1 + np.exp(-(0.5 + found.score + 0.25 * found.whole_score)))
    assert found.probability == pytest.approx(expected, abs=1e-5)
    assert found.heat.max() == pytest.approx(expected, abs=1e-5)
    assert found.present == (expected >= 0.5)


def test_neutral_windows_give_each_text_its_own_zero_and_unit() -> None:
    random = np.random.default_rng(0)
    vectors = random.normal(size=(500, 8)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    plain = Contrast(vectors[:2], vectors[2:4], np.ones((2, 2), bool), 5.0)
    baseline = Baseline.of(vectors, 0.9)
    logits = baseline.standardise(plain).logits(baseline.unit)
    np.testing.assert_allclose(np.quantile(logits, 0.9, axis=0), 0, atol=1e-5)
    np.testing.assert_allclose(logits.std(axis=0), 1, atol=1e-5)


def test_a_text_is_not_held_against_its_own_words() -> None:
    contrast = Contrast.of(
        ["blue walls", "dog"], ["wall", "sky"], lambda texts: np.eye(len(texts), 4, dtype=np.float32), 1.0
    )
    assert contrast.against.tolist() == [[False, True], [True, True]]
