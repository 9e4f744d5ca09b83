"""What the tests of the command line share: a toy model, photos, and a collection of them."""

import io
import shutil
import sys
from pathlib import Path

import pytest
from support import toy
from support.commands import Outcome, Run

from tandem.cli import main, terminal


@pytest.fixture(scope="module")
def model_folder(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(toy.folder(tmp_path_factory.mktemp("models") / "toy"))


@pytest.fixture
def photos(tmp_path: Path) -> list[str]:
    return [str(photo) for photo in toy.write_images(tmp_path / "photos", 3)]


@pytest.fixture(autouse=True)
def home(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder for this account's data."""
    folder = tmp_path_factory.mktemp("home")
    monkeypatch.setenv("TANDEM_HOME", str(folder))
    return folder


@pytest.fixture
def tandem(capsysbinary: pytest.CaptureFixture[bytes], monkeypatch: pytest.MonkeyPatch) -> Run:
    """Runs a command in this process; `stdin` is what it reads."""

    def run(*arguments: str | Path, stdin: bytes | None = None) -> Outcome:
        if stdin is not None:
            monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BufferedReader(io.BytesIO(stdin))))
        try:
            code = main([str(argument) for argument in arguments])
        except SystemExit as leaving:  # argparse leaves by itself
            code = int(leaving.code or 0)
        finally:
            terminal.set_loudness(quiet=False, verbose=False)
        captured = capsysbinary.readouterr()
        return Outcome(code, captured.out.decode(), captured.err.decode())

    return run


@pytest.fixture(scope="module")
def made_collection(model_folder: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eight photos, indexed once: copied for each test that asks for `collection`."""
    folder = tmp_path_factory.mktemp("collection")
    toy.write_images(folder / "photos", 8)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TANDEM_HOME", str(folder / "home"))
        made = ["-q", "index", str(folder / "photos"), "--to", str(folder / "c.tandem"), "--model", model_folder]
        assert main(made) == 0
    terminal.set_loudness(quiet=False, verbose=False)
    return folder / "c.tandem"


@pytest.fixture
def collection(made_collection: Path, tmp_path: Path) -> Path:
    """A collection of eight photos with a toy model."""
    target = tmp_path / "photos.tandem"
    shutil.copytree(made_collection, target)
    return target
