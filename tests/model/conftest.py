"""The toy model and the photos that several files here look at."""

from pathlib import Path

import pytest
from support import toy

from tandem import engine
from tandem.model import Model


@pytest.fixture(scope="module")
def model() -> Model:
    checkpoint = toy.checkpoint()
    return Model(checkpoint, engine.build(checkpoint.config, checkpoint.tensors))


@pytest.fixture
def photos(tmp_path: Path) -> list[Path]:
    return toy.write_images(tmp_path / "photos", 5)
