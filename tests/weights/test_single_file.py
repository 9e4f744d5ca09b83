"""One weights file of any origin, and bad input: truncated, crafted, missing."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file, save_file
from support import weights_toys as toys

from tandem import weights
from tandem.errors import ConfigError, HubError, WeightsError
from tandem.tokenizer import Tokenizer
from tandem.weights.names import renamed_to
from tandem.weights.safetensors_file import read_safetensors, write_safetensors
from tandem.weights.transformers_types import MODEL_TYPES

bfloat16 = pytest.importorskip("ml_dtypes").bfloat16

VIT_LAYOUTS: list[Any] = ["tandem", "transformers", "open_clip"]
MODELS = {"vit": toys.vit(), "gelu": toys.vit(activation="gelu"), "resnet": toys.resnet(), "basic": toys.basic()}


def test_a_training_checkpoint_of_open_clip(tmp_path: Path) -> None:
    checkpoint = toys.checkpoint()
    state = {f"module.{name}": tensor for name, tensor in toys.to_torch(checkpoint.tensors).items()}
    path = tmp_path / "epoch_9.pt"
    torch.save({"epoch": 9, "name": "run", "state_dict": state, "optimizer": {"state": {}}}, path)
    read = weights.read(path, tokenizer=checkpoint.tokenizer)
    toys.same(read.tensors, checkpoint.tensors)
    assert read.config.text.activation == "gelu"
    assert (
        "epoch_9.pt does not name its activation: gelu is assumed, which is open_clip's"
        in read.config.notes["activation"]
    )
    assert "(--activation quick_gelu; in Python activation='quick_gelu')" in read.config.notes["activation"]
    assert "heads" in read.config.notes
    assert (
        weights.read(path, activation="quick_gelu", tokenizer=checkpoint.tokenizer).config.text.activation
        == "quick_gelu"
    )


def test_a_plain_state_dict_says_its_assumption(tmp_path: Path) -> None:
    path = tmp_path / "mine.pt"
    torch.save(toys.to_torch(toys.tensors(toys.vit())), path)
    config, _ = weights.read_tensors(path)
    assert config.text.activation == "quick_gelu"
    assert "quick_gelu is assumed" in config.notes["activation"]
    config, _ = weights.read_tensors(path, activation="quick_gelu")
    assert "activation" not in config.notes


@pytest.mark.parametrize("suffix", [".safetensors", ".bin", ".weights"])
def test_a_lone_file_under_any_name_and_naming(tmp_path: Path, suffix: str) -> None:
    arrays = toys.tensors(toys.vit())
    path = tmp_path / f"model{suffix}"
    if suffix == ".bin":
        torch.save(toys.to_torch(renamed_to(arrays, MODEL_TYPES["clip"].names)), path)
    else:
        save_file(renamed_to(arrays, MODEL_TYPES["clip"].names), path)
    config, tensors = weights.read_tensors(path)
    toys.same(tensors, arrays)
    assert config.vision == toys.vit().vision
    assert "transformers' default" in config.notes["activation"]


def test_a_weights_file_takes_the_configuration_beside_it(tmp_path: Path) -> None:
    for to, name in (("tandem", "model"), ("transformers", "model"), ("open_clip", "open_clip_model")):
        config = toys.vit(activation="gelu")
        folder = weights.write(toys.checkpoint(config), tmp_path / to, to)  # type: ignore[arg-type]
        read = weights.read(folder / f"{name}.safetensors")
        assert read.config.vision == config.vision
        assert read.config.notes == {}


def test_a_folder_with_one_file_is_that_file(tmp_path: Path) -> None:
    arrays = toys.tensors(toys.vit())
    save_file(arrays, tmp_path / "a.safetensors")
    toys.same(weights.read_tensors(tmp_path)[1], arrays)
    save_file(arrays, tmp_path / "b.safetensors")
    with pytest.raises(WeightsError, match=r"found a.safetensors, b.safetensors"):
        weights.read(tmp_path)


@pytest.mark.slow
def test_clips_tokenizer_serves_clips_vocabulary_only(tmp_path: Path) -> None:
    config = toys.vit(vocabulary_size=49408, start_id=49406, end_id=49407)
    save_file(toys.tensors(config, np.float16), tmp_path / "clip.safetensors")
    assert weights.read(tmp_path / "clip.safetensors").tokenizer is Tokenizer.clip()
    save_file(toys.tensors(toys.vit()), tmp_path / "small.safetensors")
    with pytest.raises(WeightsError, match=r"vocabulary of 519 entries is not CLIP's 49408.*tokenizer.json"):
        weights.read(tmp_path / "small.safetensors")
    Tokenizer.clip().save(tmp_path)
    with pytest.raises(ConfigError, match="tokenizer"):
        weights.read(tmp_path / "small.safetensors")


@pytest.mark.parametrize("to", VIT_LAYOUTS)
def test_truncated_safetensors_name_the_file(tmp_path: Path, to: Any) -> None:
    folder = weights.write(toys.checkpoint(), tmp_path / "out", to)
    file = next(folder.glob("*.safetensors"))
    content = file.read_bytes()
    for length in (0, 5, 8, 100, len(content) // 2, len(content) - 1):
        file.write_bytes(content[:length])
        with pytest.raises(WeightsError, match=rf"{file.name}: .*"):
            weights.read(folder)


@pytest.mark.parametrize(
    "entry",
    [
        {"dtype": "F32", "shape": [2], "data_offsets": [0, 4]},
        {"dtype": "F32", "shape": [-2], "data_offsets": [0, -8]},
        {"dtype": "F32", "shape": [2], "data_offsets": [-8, 0]},
        {"dtype": "F32", "shape": [2], "data_offsets": [8, 16]},
        {"dtype": "F8_E4M3", "shape": [8], "data_offsets": [0, 8]},
        {"dtype": "F32", "shape": "x", "data_offsets": [0, 8]},
        {"dtype": "F32", "shape": [2]},
        [],
        None,
    ],
)
def test_crafted_safetensors_headers(tmp_path: Path, entry: Any) -> None:
    header = json.dumps({"w": entry}).encode()
    path = tmp_path / "w.safetensors"
    path.write_bytes(len(header).to_bytes(8, "little") + header + bytes(8))
    with pytest.raises(WeightsError, match=r"w\.safetensors: .*w"):
        read_safetensors(path)


def test_safetensors_agree_with_the_library(tmp_path: Path) -> None:
    draw = np.random.default_rng(0)
    arrays = {
        "scalar": np.array(4.6, np.float32),
        "strided": draw.standard_normal((6, 4)).T,
        "empty": np.zeros((0, 3), np.float16),
        "int": np.arange(5),
        "bfloat": draw.standard_normal(7).astype(bfloat16),
        "odd": np.arange(3, dtype=np.uint8),
        "after": draw.standard_normal(3).astype(np.float32),
    }
    path = tmp_path / "a.safetensors"
    write_safetensors(path, arrays, {"format": "tandem"})
    toys.same(load_file(path), arrays)
    read, metadata = read_safetensors(path)
    toys.same(read, arrays)
    assert metadata == {"format": "tandem"}
    assert all(array.flags.aligned for array in read.values())


@pytest.mark.parametrize("start", [b"\x80K", b"PK"], ids=["a pickle", "a zip"])
def test_a_header_length_that_looks_like_another_container(tmp_path: Path, start: bytes) -> None:
    path = tmp_path / "model.weights"
    arrays = toys.tensors(toys.vit())
    save_file(arrays, path, metadata={"x": ""})
    shortest = int.from_bytes(path.read_bytes()[:8], "little")  # a multiple of 8, as all are
    save_file(arrays, path, metadata={"x": "x" * (int.from_bytes(start, "little") - shortest)})
    assert path.read_bytes()[:2] == start
    toys.same(weights.read_tensors(path)[1], arrays)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("{", "config.json: expected JSON"),
        ("[]", "config.json: expected a JSON object"),
        ('{"format": "tandem", "version": 99}', "a newer Tandem wrote it"),
        ('{"format": "tandem", "vision": {"type": "convnext"}}', "vision.type: expected one of"),
        ('{"model_type": "bert"}', "model_type: expected one of clip, "),
    ],
)
def test_bad_configurations_name_the_file_and_the_field(tmp_path: Path, content: str, says: str) -> None:
    folder = weights.write(toys.checkpoint(), tmp_path / "out")
    (folder / "config.json").write_text(content)
    with pytest.raises((ConfigError, WeightsError), match=says):
        weights.read(folder)


def test_a_folder_without_weights_says_what_it_expected(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"expected config.json or open_clip_config.json.*found no weights"):
        weights.read(tmp_path)
    for to, name in (("tandem", "model"), ("transformers", "model"), ("open_clip", "open_clip_model")):
        folder = weights.write(toys.checkpoint(), tmp_path / to, to)  # type: ignore[arg-type]
        (folder / f"{name}.safetensors").unlink()
        with pytest.raises(WeightsError, match=f"{to}.*expected .*{name}.safetensors"):
            weights.read(folder)


@pytest.mark.parametrize("source", ["./nothing.pt", "nothing.safetensors", "/nowhere", Path("org/name")])
def test_paths_that_do_not_exist(source: str | Path) -> None:
    with pytest.raises(WeightsError, match="no such file or folder"):
        weights.read(source)


def test_an_unknown_name_lists_what_is_accepted_and_near_names() -> None:
    with pytest.raises(HubError, match=r"'ViT-B32' .*org/name.*near: .*ViT-B/32"):
        weights.read("ViT-B32")
    with pytest.raises(HubError, match="expected a path"):
        weights.read("")
