"""A collection of eight photos, and two models that are alike: fixtures.

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


@pytest.fixture
def image_folder(tmp_path: Path) -> Path:
    folder = tmp_path / "images"
    folder.mkdir()
    for i in range(8):
        toy.random_image(i, (40 + 10 * i, 60)).save(folder / f"{i}.png")
    return folder


@pytest.fixture
def photos(tmp_path: Path, image_folder: Path, models: tuple[Path, Path]) -> tandem.Collection:
    collection = tandem.open(tmp_path / "photos.tandem", models[0])
    assert collection.add(image_folder).added == 8
    return collection
