"""`tandem convert`, `tandem verify` and `tandem models`."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
from support import toy
from support.commands import Run, one_line

from tandem import weights
from tandem.cli import comparing
from tandem.errors import TandemError
from tandem.model import Model, load
from tandem.weights.checkpoint import with_activation

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("layout", ["tandem", "transformers", "open_clip"])
def test_convert_gives_the_same_vectors(tandem: Run, model_folder: str, tmp_path: Path, layout: str) -> None:
    target = tmp_path / "converted"
    outcome = tandem("convert", model_folder, target, "--to", layout)
    assert outcome.code == 0
    assert str(target) in outcome.out
    verified = tandem("verify", model_folder, "--against", target, "--json")
    assert verified.code == 0
    assert {comparison["verdict"] for comparison in verified.json["comparisons"]} == {"identical"}
    one_line(tandem("convert", model_folder, target, "--to", layout))
    assert tandem("convert", model_folder, target, "--to", layout, "--overwrite", "--json").json["format"] == layout


@pytest.mark.parametrize("layout", ["transformers", "open_clip", "onnx"])
def test_rounded_weights_are_not_written_as_floating_point(
    tandem: Run, model_folder: str, tmp_path: Path, layout: str
) -> None:
    made = weights.write(toy.quantized(weights.read(model_folder)), tmp_path / "int8")
    refused = one_line(tandem("convert", made, tmp_path / "other", "--to", layout))
    assert f"the format {layout} takes weights in floating point" in refused
    assert "take toy, which it was made from" in refused
    assert not (tmp_path / "other").exists()
    assert tandem("convert", made, tmp_path / "copy", "--to", "tandem").code == 0
    assert weights.fingerprint(weights.read(tmp_path / "copy")) == weights.fingerprint(weights.read(made))


def test_convert_to_openvino(tandem: Run, model_folder: str, tmp_path: Path) -> None:
    import openvino

    target = tmp_path / "ir"
    assert tandem("convert", model_folder, target, "--to", "openvino").code == 0
    compiled = openvino.Core().compile_model(target / "image.xml", "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    pixels = np.random.default_rng(0).integers(0, 256, (3, toy.SIZE, toy.SIZE, 3), dtype=np.uint8)
    expected = load(model_folder).engine.encode_images(pixels)
    np.testing.assert_allclose(compiled(pixels)[0], expected, atol=1e-5)
    assert json.loads((target / "config.json").read_text())["embed_dim"] == toy.DIMENSIONS
    assert (target / "tokenizer.json").is_file()
    one_line(tandem("convert", model_folder, target, "--to", "openvino"))
    assert tandem("convert", model_folder, target, "--to", "openvino", "--overwrite").code == 0
    (target / "precious.txt").write_text("mine")
    assert "precious" in one_line(tandem("convert", model_folder, target, "--to", "openvino", "--overwrite"))
    assert (target / "precious.txt").read_text() == "mine"


@pytest.mark.slow
def test_convert_to_onnx(tandem: Run, model_folder: str, tmp_path: Path) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    assert tandem("convert", model_folder, tmp_path / "onnx", "--to", "onnx").code == 0
    names = {entry.name for entry in (tmp_path / "onnx").iterdir()}
    assert names == {"image.onnx", "text.onnx", "config.json", "tokenizer.json"}
    model = load(model_folder)
    ids = model.tokenizer(["a cat", "a dog and a cat", "x"], toy.CONTEXT)
    (vectors,) = onnxruntime.InferenceSession(tmp_path / "onnx" / "text.onnx").run(
        None, {"token_ids": ids.astype("i8")}
    )
    np.testing.assert_allclose(vectors, model.engine.encode_texts(ids), atol=1e-5)
    pixels = np.random.default_rng(0).integers(0, 256, (3, toy.SIZE, toy.SIZE, 3), dtype=np.uint8)
    (vectors,) = onnxruntime.InferenceSession(tmp_path / "onnx" / "image.onnx").run(None, {"pixels": pixels})
    np.testing.assert_allclose(vectors, model.engine.encode_images(pixels), atol=1e-5)


def test_verify_one_model_in_every_way(tandem: Run, model_folder: str, photos: list[str]) -> None:
    outcome = tandem("verify", model_folder, "--images", Path(photos[0]).parent, "--json")
    assert outcome.code == 0
    document = outcome.json
    assert document["same"] is True
    assert {comparison["count"] for comparison in document["comparisons"]} >= {3}
    rows = tandem("verify", model_folder).rows
    assert {row[-1] for row in rows[:-1]} <= {"identical", "the same", "the same up to rounding"}
    assert rows[-1][0].startswith("same: ")


def test_verify_tells_other_weights(tandem: Run, model_folder: str, tmp_path: Path) -> None:
    other = toy.folder(tmp_path / "other", seed=1)
    outcome = tandem("verify", model_folder, "--against", other)
    assert outcome.code == 1
    assert "different" in outcome.out
    assert "tensors of equal shapes differ, most of all " in outcome.out


def test_verify_tells_another_activation(tandem: Run, model_folder: str, tmp_path: Path) -> None:
    """The same weights, read with the wrong activation: no tensor differs, and the vectors do."""
    checkpoint = toy.checkpoint()
    quick = weights.Checkpoint(toy.config(activation="quick_gelu"), checkpoint.tensors, checkpoint.tokenizer, "quick")
    weights.write(quick, tmp_path / "quick", "tandem")
    document = tandem("verify", model_folder, "--against", tmp_path / "quick", "--json")
    assert document.code == 1
    assert document.json["same"] is False
    assert "text.activation: gelu against quick_gelu" in document.json["reasons"]


def test_verify_accepts_weights_rounded_to_half(tandem: Run, model_folder: str, tmp_path: Path) -> None:
    checkpoint = toy.checkpoint()
    halves = {name: array.astype(np.float16) for name, array in checkpoint.tensors.items()}
    weights.write(weights.Checkpoint(checkpoint.config, halves, checkpoint.tokenizer, "h"), tmp_path / "half", "tandem")
    document = tandem("verify", model_folder, "--against", tmp_path / "half", "--json")
    assert document.code == 0
    assert {comparison["verdict"] for comparison in document.json["comparisons"]} <= {
        "the same up to rounding",
        "the same",
    }


def test_verify_judges_a_quantised_model_beside_its_source_by_what_rounding_gives(
    tandem: Run, model_folder: str, tmp_path: Path
) -> None:
    folder = weights.write(toy.quantized(weights.read(model_folder)), tmp_path / "int8")
    found = tandem("verify", model_folder, "--against", folder, "--json")
    assert found.code == 0
    assert found.json["reasons"] == []
    assert {each["least"] for each in found.json["comparisons"]} == {0.99}
    assert f"int8 is int8-weights of {model_folder}: asked are the source's settings" in found.json["judged"]
    assert "tandem quantize measured on 9 images: top-1 100.0%" in found.json["judged"]


def test_what_is_no_rounding_of_the_source_is_found(model_folder: str) -> None:
    """As near in cosine as any quantised model, and yet not what was quantised."""
    source = load(model_folder)
    made = toy.quantized(source.checkpoint)
    name = next(name for name, array in made.tensors.stored.items() if array.dtype == np.int8)
    moved = type(made.tensors)({**made.tensors.stored, name: made.tensors.stored[name] // 2 * 2})
    quick = with_activation(made.config, "quick_gelu")
    expected = {
        f"1 of {len(made.tensors)} tensors are not the source's, rounded or as they are: {name}": {"tensors": moved},
        "text.activation: gelu against quick_gelu": {"config": quick},
    }
    assert not list(comparing.reasons(source, Model(made, source.engine), ("a", "b")))
    for said, change in expected.items():
        other = Model(dataclasses.replace(made, **change), source.engine)
        assert said in list(comparing.reasons(source, other, ("a", "b")))


def test_verify_another_dimension_is_different(tandem: Run, model_folder: str, tmp_path: Path) -> None:
    other = toy.folder(tmp_path / "other", embed_dim=8)
    outcome = tandem("verify", model_folder, "--against", other, "--json")
    assert outcome.code == 1
    assert outcome.json["verdict"] == "different"
    assert "embed_dim: 12 dimensions against 8" in outcome.json["reasons"]


def test_verify_counts_and_names_tensors_of_other_shapes_and_of_one_model(
    tandem: Run, model_folder: str, tmp_path: Path
) -> None:
    clipa = toy.folder(tmp_path / "clipa", "clipa", embed_dim=8)
    reasons = tandem("verify", model_folder, "--against", clipa, "--json").json["reasons"]
    mine, theirs = (weights.read(str(folder)).tensors for folder in (model_folder, clipa))
    shared = mine.keys() & theirs.keys()
    reshaped = sorted(name for name in shared if mine[name].shape != theirs[name].shape)
    assert reshaped == ["text_projection", "visual.proj"]
    assert f"2 of {len(shared)} shared tensors have other shapes: text_projection (16x12 against 16x8), " in str(
        reasons
    )
    assert f"2 of {len(mine)} tensors are only in {model_folder}: visual.ln_pre.bias, visual.ln_pre.weight" in reasons
    assert not any("only in " + str(clipa) in reason for reason in reasons)
    back = tandem("verify", clipa, "--against", model_folder, "--json").json["reasons"]
    assert f"2 of {len(mine)} tensors are only in {model_folder}: visual.ln_pre.bias, visual.ln_pre.weight" in back
    assert "vision.first_norm: True against False" in reasons
    assert not any("None" in reason for reason in reasons)


def test_verify_says_other_architectures_once(tandem: Run, model_folder: str, tmp_path: Path) -> None:
    other = toy.folder(tmp_path / "other", "resnet")
    reasons = tandem("verify", model_folder, "--against", other, "--json").json["reasons"]
    assert "other architectures: vision_transformer against resnet" in reasons
    assert not any("vision." in reason for reason in reasons if "tensors" not in reason)
    assert not any("None" in reason for reason in reasons)
    alone = next(reason for reason in reasons if f"are only in {other}" in reason)
    assert " more" in alone


def test_equal_vectors_have_a_cosine_of_one() -> None:
    vectors = (np.random.default_rng(0).normal(size=(50, 7)) * 0.9).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True) * np.float32(1.000001)
    assert comparing.least_cosine(vectors, vectors.copy()) == 1
    assert comparing.least_cosine(vectors, -vectors) == pytest.approx(-1)


def test_verify_skips_a_broken_image(tandem: Run, model_folder: str, photos: list[str]) -> None:
    folder = Path(photos[0]).parent
    (folder / "broken.png").write_bytes(b"no image")
    outcome = tandem("verify", model_folder, "--against", model_folder, "--images", folder, "--json")
    assert outcome.code == 1
    assert outcome.json["same"] is True
    assert [Path(failure["image"]).name for failure in outcome.json["failures"]] == ["broken.png"]
    assert outcome.json["comparisons"][0]["count"] == 3
    assert "broken.png" in outcome.err


def test_verify_with_a_given_engine_and_precision(tandem: Run, model_folder: str) -> None:
    pytest.importorskip("torch")
    document = tandem("verify", model_folder, "--engine", "torch", "--json").json
    assert {comparison["other"] for comparison in document["comparisons"]} == {"torch float32"}
    assert tandem("verify", model_folder, "--device", "nonsense").code == 2


def test_graphs_are_no_model_to_load(tandem: Run, model_folder: str, tmp_path: Path) -> None:
    target = tmp_path / "ir"
    assert tandem("convert", model_folder, target, "--to", "openvino").code == 0
    assert json.loads((target / "config.json").read_text())["format"] == "tandem-openvino"
    says = f"{target}: this is OpenVINO IR: load the model it was made from"
    assert says in one_line(tandem("verify", model_folder, "--against", target))
    assert says in one_line(tandem("embed", "--text", "a cat", "--json", "--model", target))


def test_any_format_replaces_any_other(tandem: Run, model_folder: str, tmp_path: Path) -> None:
    target = tmp_path / "out"
    for to in ("tandem", "openvino", "transformers", "openvino", "open_clip"):
        assert tandem("convert", model_folder, target, "--to", to, "--overwrite").code == 0
    assert not (target / "image.xml").exists()


@pytest.mark.parametrize("to", ["tandem", "openvino"])
def test_convert_speaks_the_command_line(tandem: Run, model_folder: str, tmp_path: Path, to: str) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    message = one_line(tandem("convert", model_folder, tmp_path, "--to", to))
    assert "--overwrite" in message
    assert "overwrite=True" not in message
    file = tmp_path / "mine.txt" / "x"
    assert f"{file}: cannot be written" in one_line(tandem("convert", model_folder, file, "--to", to))


def test_a_mistyped_published_name_gets_a_suggestion_without_network(
    tandem: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    message = one_line(tandem("embed", "--text", "a cat", "--json", "--model", "ViT-B/99"))
    assert "near: ViT-B/32" in message or "ViT-B/32" in message.partition("near: ")[2]


def test_nothing_kept_of_a_download_is_not_boasted_of(tmp_path: Path) -> None:
    from tandem.fetch import download

    with pytest.raises(TandemError, match="check the network") as refused:
        download("http://127.0.0.1:9/x.pt", tmp_path / "x.pt", "0" * 64, pause_s=0)
    assert "bytes are kept" not in str(refused.value)


def test_targets_are_named_as_they_were_typed(
    tandem: Run, model_folder: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert tandem("convert", model_folder, "./copy", "--to", "tandem").out.startswith("./copy: toy in")
    assert tandem("interpolate", model_folder, "copy", "--to", "between").out.startswith("between: 50% ")
