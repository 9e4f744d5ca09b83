"""A model of random weights, labelled images of two colours that it tells apart, and a policy for them."""

from pathlib import Path

import pytest
from support import toy
from support.moderation_toys import POLICY, draw_labelled

import tandem
from tandem.model import Model


@pytest.fixture(autouse=True)
def _cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TANDEM_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("TANDEM_HOME", str(tmp_path / "home"))


@pytest.fixture(scope="package")
def model_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return toy.folder(tmp_path_factory.mktemp("toy") / "model")


@pytest.fixture(scope="package")
def model(model_folder: Path) -> Model:
    return tandem.load(model_folder)


@pytest.fixture(scope="package")
def labelled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return draw_labelled(tmp_path_factory.mktemp("labelled") / "colours", 26)


@pytest.fixture
def policy(tmp_path: Path) -> Path:
    path = tmp_path / "policies" / "red.toml"
    path.parent.mkdir()
    path.write_text(POLICY)
    return path
