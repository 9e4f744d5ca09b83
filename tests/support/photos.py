"""A collection of eight photos, and two models that are alike: fixtures. `kept_photos` is for tests that only read it.

Test files name it in `pytest_plugins`.
"""

from pathlib import Path

import pytest

import tandem
from support import toy
from tandem import weights


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Two models that are alike in all but their weights."""
    folder = tmp_path_factory.mktemp("models")
    for seed, name in enumerate(("one", "other")):
        weights.write(toy.checkpoint(seed=seed, name=name), folder / name, "tandem")
    return folder / "one", folder / "other"


def _images(folder: Path) -> Path:
    folder.mkdir()
    for i in range(8):
        toy.random_image(i, (40 + 10 * i, 60)).save(folder / f"{i}.png")
    return folder


def _photos(url: Path, images: Path, model: Path) -> tandem.Collection:
    collection = tandem.open(url, model)
    assert collection.add(images).added == 8
    return collection


@pytest.fixture
def image_folder(tmp_path: Path) -> Path:
    return _images(tmp_path / "images")


@pytest.fixture
def photos(tmp_path: Path, image_folder: Path, models: tuple[Path, Path]) -> tandem.Collection:
    return _photos(tmp_path / "photos.tandem", image_folder, models[0])


@pytest.fixture(scope="module")
def kept_images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return _images(tmp_path_factory.mktemp("kept") / "images")


@pytest.fixture(scope="module")
def kept_photos(kept_images: Path, models: tuple[Path, Path]) -> tandem.Collection:
    return _photos(kept_images.parent / "photos.tandem", kept_images, models[0])
