"""`tandem convert` and `tandem verify` for models whose text tower is not CLIP's: the graphs run elsewhere."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
from support import toy
from support.commands import Run, one_line

from tandem import weights
from tandem.config import Bert, ModelConfig
from tandem.model import Model, load
from tandem.tokenizer import TextFormat

pytestmark = pytest.mark.slow
WORDS = toy.tokenizer()
TEXTS = {
    "bert": Bert(
        24, WORDS.vocabulary_size, 16, 2, 2, 32, positions=34, start_id=WORDS.start_id, end_id=WORDS.end_id, pad_id=7
    ),
    "metaclip2": dataclasses.replace(toy.config().text, pad_id=1, start_id=0, end_id=2, cleaning="whitespace"),
}
SENTENCES = ["a cat", "A dog  and a cat", "x", "cat " * 8]


@pytest.fixture(scope="module", params=TEXTS)
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def folder(kind: str, tmp_path_factory: pytest.TempPathFactory) -> str:
    config: ModelConfig = toy.config(text=TEXTS[kind])
    words = WORDS.with_format(TextFormat.of(config.text))
    checkpoint = weights.Checkpoint(config, toy.tensors(config), words, "toy")
    return str(weights.write(checkpoint, tmp_path_factory.mktemp(kind) / "model", "tandem"))


def expected(folder: str) -> tuple[Model, np.ndarray, np.ndarray, np.ndarray]:
    """The model, ids and their vectors, and the vectors of some pixels."""
    model = load(folder)
    ids = model.tokenizer(SENTENCES, model.config.text.context_length)
    assert (ids == model.config.text.pad_id).any()
    return model, ids, model.embed_texts(SENTENCES), model.engine.encode_images(pixels())


def pixels() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (3, toy.SIZE, toy.SIZE, 3), dtype=np.uint8)


def test_openvino_ir_runs_without_us(tandem: Run, folder: str, kind: str, tmp_path: Path) -> None:
    import openvino

    assert tandem("convert", folder, tmp_path / "ir", "--to", "openvino").code == 0
    model, ids, texts, images = expected(folder)
    single = {"INFERENCE_PRECISION_HINT": "f32"}
    image, text = (openvino.compile_model(tmp_path / "ir" / f"{name}.xml", "CPU", single) for name in ("image", "text"))
    np.testing.assert_allclose(image({"pixels": pixels()})["vectors"], images, atol=1e-5)
    given = {"token_ids": ids}
    if kind == "metaclip2":
        given["ends"] = (ids == model.config.text.end_id).argmax(axis=1).astype(np.int32)
    assert {entry.any_name for entry in text.inputs} == set(given)
    np.testing.assert_allclose(text(given)["vectors"], texts, atol=1e-5)
    assert json.loads((tmp_path / "ir" / "config.json").read_text())["text"].get("type") == (
        "bert" if kind == "bert" else None
    )


@pytest.mark.parametrize("layout", ["tandem", "open_clip", "transformers"])
def test_every_layout_verifies(tandem: Run, folder: str, kind: str, tmp_path: Path, layout: str) -> None:
    target = tmp_path / "converted"
    if kind == "bert" and layout == "transformers":
        assert "transformers has no CLIP with a Bert" in one_line(tandem("convert", folder, target, "--to", layout))
        return
    assert tandem("convert", folder, target, "--to", layout).code == 0
    verified = tandem("verify", folder, "--against", target, "--json")
    assert verified.code == 0
    assert {comparison["verdict"] for comparison in verified.json["comparisons"]} == {"identical"}


def test_every_engine_verifies(tandem: Run, folder: str) -> None:
    verified = tandem("verify", folder, "--json")
    assert verified.code == 0
    assert "torch float32" in {comparison["other"] for comparison in verified.json["comparisons"]}
