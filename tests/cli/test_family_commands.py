"""`tandem verify` and `tandem convert` with models of other families than the original."""

from pathlib import Path

import numpy as np
import pytest
from support import toy
from support.commands import Run

from tandem.model import load

pytestmark = pytest.mark.slow
FAMILIES = ("pe-core", "clipa")


@pytest.fixture(scope="module", params=FAMILIES)
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return toy.folder(tmp_path_factory.mktemp("models") / request.param, request.param)


PIXELS = np.random.default_rng(0).integers(0, 256, (5, toy.SIZE, toy.SIZE, 3), dtype=np.uint8)


def test_verify_certifies_it(tandem: Run, folder: Path, photos: list[str]) -> None:
    outcome = tandem("verify", folder, "--images", Path(photos[0]).parent, "--json")
    assert outcome.code == 0
    assert outcome.json["same"] is True


def test_converted_to_openvino_it_gives_the_same_vectors(tandem: Run, folder: Path, tmp_path: Path) -> None:
    import openvino

    assert tandem("convert", folder, tmp_path / "ir", "--to", "openvino").code == 0
    compiled = openvino.Core().compile_model(tmp_path / "ir" / "image.xml", "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    expected = load(folder).engine.encode_images(PIXELS)
    np.testing.assert_allclose(compiled(PIXELS)[0], expected, atol=1e-5)
    np.testing.assert_allclose(compiled(PIXELS[:1])[0], expected[:1], atol=1e-5)
