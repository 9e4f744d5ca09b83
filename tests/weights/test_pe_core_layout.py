"""PE-Core in open_clip's layout: from a folder, a file and a hub; back again without a changed bit."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors import safe_open
from support import weights_toys as toys
from support.hub_server import Server, endpoint, server

from tandem import weights
from tandem.config import ModelConfig, Preprocessing
from tandem.errors import ConfigError, WeightsError
from tandem.towers.vision_transformer import pe_core
from tandem.weights import Checkpoint
from tandem.weights.safetensors_file import write_safetensors

__all__ = ["endpoint", "server"]  # fixtures
bfloat16 = pytest.importorskip("ml_dtypes").bfloat16
HALF = (0.5, 0.5, 0.5)


def model(name: str, size: int, patch: int, width: int, context: int) -> ModelConfig:
    vision = pe_core.described(name, size, patch, width, 2, 72, 80)
    assert vision is not None
    text = toys.text(context_length=context, activation="gelu")
    return ModelConfig(48, vision, text, Preprocessing(size, HALF, HALF, "squash", "bilinear"), timm_model=name)


MODELS = {
    "B": model("vit_pe_core_base_patch16_224", 48, 16, 64, 32),
    "G": model("vit_pe_core_gigantic_patch14_448", 42, 14, 96, 72),
}


@pytest.mark.parametrize("dtype", [np.float32, np.float16, bfloat16], ids=["float32", "float16", "bfloat16"])
@pytest.mark.parametrize("to", ["open_clip", "tandem"])
@pytest.mark.parametrize("size", MODELS)
def test_a_round_trip_keeps_every_bit_and_the_fingerprint(tmp_path: Path, size: str, to: Any, dtype: Any) -> None:
    checkpoint = toys.checkpoint(MODELS[size], dtype)
    back = weights.read(weights.write(checkpoint, tmp_path / "out", to))
    toys.same(back.tensors, checkpoint.tensors)
    for field in ("embed_dim", "vision", "text", "preprocessing", "timm_model"):
        assert getattr(back.config, field) == getattr(checkpoint.config, field), field
    assert weights.fingerprint(back) == weights.fingerprint(checkpoint)


def test_what_is_written_for_open_clip_is_what_it_writes(tmp_path: Path) -> None:
    folder = weights.write(toys.checkpoint(MODELS["B"]), tmp_path / "out", "open_clip")
    plain = json.loads((folder / "open_clip_config.json").read_text())
    assert plain["model_cfg"]["vision_cfg"] == {
        "image_size": 48,
        "timm_model_name": "vit_pe_core_base_patch16_224",
        "timm_model_pretrained": False,
        "timm_pool": "map",
        "timm_proj": None,
    }
    assert plain["model_cfg"]["custom_text"] is True
    with safe_open(folder / "open_clip_model.safetensors", "np") as file:
        shapes = {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118  no mapping
    expected = {
        "visual.trunk.cls_token": (1, 1, 64),
        "visual.trunk.pos_embed": (1, 10, 64),
        "visual.trunk.norm_pre.weight": (64,),
        "visual.trunk.blocks.1.attn.qkv.weight": (192, 64),
        "visual.trunk.attn_pool.latent": (1, 1, 64),
        "visual.trunk.attn_pool.kv.weight": (128, 64),
        "visual.trunk.attn_pool.mlp.fc1.weight": (80, 64),
        "visual.trunk.head.weight": (48, 64),
        "visual.trunk.head.bias": (48,),
        "text.text_projection": (64, 48),
    }
    assert {name: shapes.get(name) for name in expected} == expected


def test_golden_keeps_every_bit_and_every_name(shared: Path, tmp_path: Path) -> None:
    golden = shared / "golden" / "families" / "pe-core-tiny"
    config, tensors = weights.read_tensors(golden)
    tokenizer = toys.tokenizer(dataclasses.replace(config, text=toys.text()))
    folder = weights.write(Checkpoint(config, tensors, tokenizer, "golden"), tmp_path / "out", "open_clip")
    files = (golden / "open_clip_model.safetensors", folder / "open_clip_model.safetensors")
    theirs, ours = (_arrays(file) for file in files)
    toys.same(ours, theirs)


def _arrays(path: Path) -> dict[str, np.ndarray]:
    with safe_open(path, "np") as file:
        return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  no mapping


def test_transformers_has_no_such_model(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="transformers has no model type for this combination of towers"):
        weights.write(toys.checkpoint(MODELS["B"]), tmp_path / "out", "transformers")
    assert not (tmp_path / "out").exists()


def test_the_weights_file_is_read_with_what_lies_beside_it(tmp_path: Path) -> None:
    checkpoint = toys.checkpoint(MODELS["G"])
    folder = weights.write(checkpoint, tmp_path / "out", "open_clip")
    back = weights.read(folder / "open_clip_model.safetensors")
    assert back.config.vision == checkpoint.config.vision
    toys.same(back.tensors, checkpoint.tensors)


# --- lone files: a published width and depth tell the rest ---------------------------------------------------------


@pytest.fixture
def small_sizes(monkeypatch: pytest.MonkeyPatch) -> None:
    """The toys' widths and depths count as published ones."""
    monkeypatch.setattr(pe_core, "_SIZES", {(64, 2): "base_patch16_224", (96, 2): "gigantic_patch14_448"})


@pytest.mark.usefixtures("small_sizes")
@pytest.mark.parametrize("size", MODELS)
def test_a_lone_file_of_open_clip(tmp_path: Path, size: str) -> None:
    checkpoint = toys.checkpoint(MODELS[size])
    folder = weights.write(checkpoint, tmp_path / "out", "open_clip")
    (folder / "open_clip_model.safetensors").rename(tmp_path / "lone.safetensors")
    config, tensors = weights.read_tensors(tmp_path / "lone.safetensors")
    for field in ("embed_dim", "vision", "text", "preprocessing"):
        assert getattr(config, field) == getattr(checkpoint.config, field), field
    assert config.notes == {}
    toys.same(tensors, checkpoint.tensors)


@pytest.mark.usefixtures("small_sizes")
@pytest.mark.parametrize("size", MODELS)
def test_a_file_as_meta_published_it(tmp_path: Path, size: str) -> None:
    """OpenAI's names, `attn_pool` with a `probe` and a `layernorm`, and no bias of the projection."""
    checkpoint = toys.checkpoint(MODELS[size])
    ours = {name: array for name, array in checkpoint.tensors.items() if name != "visual.proj_bias"}
    state = {}
    for name, array in ours.items():
        theirs = name.replace("visual.pool.ln.", "visual.pool.layernorm.").replace("visual.pool.", "visual.attn_pool.")
        if name == "visual.pool.query":
            theirs, array = "visual.attn_pool.probe", array[None, None]  # noqa: PLW2901
        state[theirs] = array
    torch.save(toys.to_torch(state), tmp_path / "PE-Core.pt")
    config, tensors = weights.read_tensors(tmp_path / "PE-Core.pt")
    toys.same(tensors, ours)
    assert config.vision == dataclasses.replace(checkpoint.config.vision, projection="linear")
    assert config.text == checkpoint.config.text
    assert config.preprocessing == checkpoint.config.preprocessing


def test_a_lone_file_of_another_size_says_what_is_missing(tmp_path: Path) -> None:
    folder = weights.write(toys.checkpoint(MODELS["B"]), tmp_path / "out", "open_clip")
    (folder / "open_clip_model.safetensors").rename(tmp_path / "lone.safetensors")
    says = r"lone\.safetensors: a PE-Core model, but how many heads 2 layers of width 64 have .* open_clip_config\.json"
    with pytest.raises(ConfigError, match=says):
        weights.read_tensors(tmp_path / "lone.safetensors")


def test_a_missing_tensor_has_timms_name(tmp_path: Path) -> None:
    folder = weights.write(toys.checkpoint(MODELS["B"]), tmp_path / "out", "open_clip")
    file = folder / "open_clip_model.safetensors"
    write_safetensors(file, {n: a for n, a in _arrays(file).items() if n != "visual.trunk.head.bias"}, {})
    with pytest.raises(WeightsError, match=r"1 missing: visual\.trunk\.head\.bias \(expected \[48\]\)"):
        weights.read(folder)


@pytest.mark.slow
def test_a_hub_name_is_downloaded_and_read(endpoint: Server) -> None:
    checkpoint = toys.checkpoint(MODELS["B"])
    weights.write(checkpoint, endpoint.root / "timm" / "PE-Core-B-16", "open_clip")
    read = weights.read("timm/PE-Core-B-16")
    toys.same(read.tensors, checkpoint.tensors)
    assert read.config.vision == checkpoint.config.vision


def test_a_patch_of_no_pixels_is_no_name() -> None:
    assert pe_core.described("vit_pe_core_base_patch0_0", 64, 16, 128, 2, 256, 256) is None
