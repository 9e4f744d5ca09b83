"""MobileCLIP's checkpoints: read from a folder and from a file, written back bit for bit, refused by name."""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file, save_file
from support import weights_toys as toys
from support.weights_toys import edit

from tandem import weights
from tandem.config import CLIP_MEAN, FastViT, ModelConfig, Preprocessing, VisionTransformer
from tandem.errors import ConfigError, WeightsError
from tandem.weights import open_clip
from tandem.weights.json_files import read_json
from tandem.weights.open_clip_config import config_from
from tandem.weights.tokenizer_files import SpecialTokens

bfloat16 = pytest.importorskip("ml_dtypes").bfloat16
DTYPES = pytest.mark.parametrize("dtype", [np.float32, np.float16, bfloat16], ids=["float32", "float16", "bfloat16"])
SCALED = Preprocessing(64, (0.0,) * 3, (1.0,) * 3, interpolation="bilinear")
TEXT = toys.text(activation="gelu", causal=False)
MODELS = {
    "s0": ModelConfig(48, FastViT(64, (1, 2, 1, 2), 8), TEXT, SCALED, timm_model="fastvit_mci0"),
    "s3": ModelConfig(
        48,
        FastViT(64, (1, 1, 1, 2, 1), 8, 4, 2, "layer", 0, stem_scale=False),
        TEXT,
        Preprocessing(64),
        timm_model="fastvit_mci3",
    ),
    "b": ModelConfig(
        48,
        VisionTransformer(
            *(64, 16, 64, 2, 1, 128, "gelu"),
            class_position=False,
            patch_bias=True,
            stem_width=8,
            first_norm=False,
            projection="biased",
            norm_epsilon=1e-6,
        ),
        dataclasses.replace(TEXT, causal=True),
        SCALED,
        timm_model="vit_base_mci_224",
    ),
    "l": ModelConfig(
        48,
        VisionTransformer(64, 16, 64, 2, 1, 128, "gelu", projection="biased"),
        TEXT,
        Preprocessing(64),
        timm_model="vit_large_patch14_clip_224",
    ),
}


@pytest.mark.parametrize("which", ["mobileclip2-s0-tiny", "mobileclip2-s3-tiny"])
def test_the_reference_is_read_and_written_back_bit_for_bit(shared: Path, tmp_path: Path, which: str) -> None:
    folder = shared / "golden" / "families" / which
    config, tensors = weights.read_tensors(folder)
    small = which == "mobileclip2-s0-tiny"
    assert isinstance(config.vision, FastViT)
    assert (config.vision.image_size, config.vision.width, config.vision.stem_scale) == (128, 16, small)
    assert (config.vision.layers, config.vision.squeezed_stages) == (((1,) * 4, 2) if small else ((1,) * 5, 0))
    assert (config.text.causal, config.text.pad_id, config.text.cleaning, config.notes) == (False, 0, "clip", {})
    read = config.preprocessing
    assert (read.mean, read.interpolation) == (((0.0,) * 3, "bilinear") if small else (CLIP_MEAN, "bicubic"))
    checkpoint = weights.Checkpoint(config, tensors, toys.tokenizer(toys.vit()), "golden")
    open_clip.write(checkpoint, tmp_path)  # without its own tokenizer, which the reference has not
    stored = load_file(folder / "open_clip_model.safetensors")
    stored = {name: array for name, array in stored.items() if not name.endswith("num_batches_tracked")}
    toys.same(load_file(tmp_path / "open_clip_model.safetensors"), stored)
    theirs, ours = (read_json(path / "open_clip_config.json") for path in (folder, tmp_path))
    for key in ("timm_model_name", "timm_pool", "timm_proj", "image_size"):
        assert ours["model_cfg"]["vision_cfg"][key] == theirs["model_cfg"]["vision_cfg"][key]
    assert config_from(ours, SpecialTokens(), "c", {name: array.shape for name, array in tensors.items()}) == config


@DTYPES
@pytest.mark.parametrize("to", ["tandem", "open_clip"])
@pytest.mark.parametrize("model", MODELS)
def test_a_round_trip_keeps_every_bit_and_the_fingerprint(tmp_path: Path, model: str, to: Any, dtype: Any) -> None:
    checkpoint = toys.checkpoint(MODELS[model], dtype)
    back = weights.read(weights.write(checkpoint, tmp_path / "out", to))
    toys.same(back.tensors, checkpoint.tensors)
    assert dataclasses.replace(back.config, name="", notes={}) == checkpoint.config
    assert back.config.notes == {}
    assert weights.fingerprint(back) == weights.fingerprint(checkpoint)


@pytest.mark.parametrize("model", ["s0", "s3", "b"])
def test_a_file_alone_tells_its_sizes_and_says_what_is_assumed(tmp_path: Path, model: str) -> None:
    """As Apple publishes MobileCLIP 2: a state dict with open_clip's names."""
    checkpoint = toys.checkpoint(MODELS[model])
    folder = weights.write(checkpoint, tmp_path / "out", "open_clip")
    state = toys.to_torch(load_file(folder / "open_clip_model.safetensors"))
    state["visual.trunk.stem.0.conv_kxk.0.bn.num_batches_tracked"] = torch.tensor(3)
    torch.save(state, tmp_path / "mobileclip.pt")
    config, tensors = weights.read_tensors(tmp_path / "mobileclip.pt")
    toys.same(tensors, checkpoint.tensors)
    expected = MODELS[model]
    size = 64 if model == "b" else 256
    assert config.vision == dataclasses.replace(expected.vision, image_size=size)
    assert config.preprocessing == dataclasses.replace(expected.preprocessing, image_size=size)
    assert config.text == expected.text
    assert sorted(config.notes) == ["activation", "heads", "preprocessing"]
    assert f"{size} pixels" in config.notes["preprocessing"]


def test_a_file_of_a_folder_belongs_to_its_layout(tmp_path: Path) -> None:
    checkpoint = toys.checkpoint(MODELS["s0"])
    folder = weights.write(checkpoint, tmp_path / "out", "open_clip")
    read = weights.read(folder / "open_clip_model.safetensors")
    assert weights.fingerprint(read) == weights.fingerprint(checkpoint)


def test_transformers_and_sizes_without_a_name_are_refused(tmp_path: Path) -> None:
    with pytest.raises(
        WeightsError, match="transformers has no CLIP with a FastViT: write it as 'tandem' or 'open_clip'"
    ):
        weights.write(toys.checkpoint(MODELS["s0"]), tmp_path / "a", "transformers")
    with pytest.raises(WeightsError, match="transformers has no model type for this combination of towers"):
        weights.write(toys.checkpoint(MODELS["b"]), tmp_path / "b", "transformers")
    nameless = dataclasses.replace(MODELS["s0"], timm_model="")
    with pytest.raises(WeightsError, match=r"by timm's name only.*write it as 'tandem'$"):
        weights.write(toys.checkpoint(nameless), tmp_path / "c", "open_clip")


@pytest.mark.parametrize(
    ("key", "value"), [("timm_pool", "max"), ("timm_proj", "linear"), ("timm_model_name", "fastvit_ma36")]
)
def test_heads_and_towers_that_cannot_be_built_are_named(tmp_path: Path, key: str, value: str) -> None:
    folder = weights.write(toys.checkpoint(MODELS["s0"]), tmp_path / "out", "open_clip")
    edit(folder / "open_clip_config.json", **{f"model_cfg__vision_cfg__{key}": value})
    with pytest.raises(ConfigError, match=f"open_clip_config.json: vision_cfg.{key} = '{value}': Tandem cannot build"):
        weights.read(folder)


def test_a_missing_tensor_is_named_as_in_the_file(tmp_path: Path) -> None:
    folder = weights.write(toys.checkpoint(MODELS["s0"]), tmp_path / "out", "open_clip")
    arrays = load_file(folder / "open_clip_model.safetensors")
    del arrays["visual.trunk.stages.1.blocks.1.mlp.fc2.bias"]
    save_file(arrays, folder / "open_clip_model.safetensors")
    with pytest.raises(
        WeightsError, match=r"missing: visual\.trunk\.stages\.1\.blocks\.1\.mlp\.fc2\.bias \(expected \[16\]"
    ):
        weights.read(folder)


@pytest.mark.slow
def test_the_openvino_graph_computes_what_the_engine_computes(tmp_path: Path) -> None:
    from tandem import engine
    from tandem.engine.openvino import save_ir
    from tandem.openvino_import import ov

    config = MODELS["s0"]
    checkpoint = toys.checkpoint(config)
    pixels = np.random.default_rng(0).integers(0, 256, (3, 64, 64, 3), dtype=np.uint8)
    save_ir(config, checkpoint.tensors, tmp_path)
    compiled = ov.Core().compile_model(tmp_path / "image.xml", "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    expected = engine.build(config, checkpoint.tensors).encode_images(pixels)
    np.testing.assert_allclose(compiled(pixels)[0], expected, atol=1e-5)


def test_folded_files_and_those_of_the_original_code_are_refused_by_their_tensors(tmp_path: Path) -> None:
    folder = weights.write(toys.checkpoint(MODELS["s0"]), tmp_path / "out", "open_clip")
    file = folder / "open_clip_model.safetensors"
    arrays = load_file(file)
    branch = "visual.trunk.stages.0.blocks.0.token_mixer."
    folded = {name: array for name, array in arrays.items() if not name.startswith(branch)}
    save_file({**folded, f"{branch}reparam_conv.weight": np.zeros((8, 1, 3, 3), np.float32)}, file)
    with pytest.raises(
        WeightsError, match=r"missing: .*token_mixer.*; 1 surplus: .*reparam_conv\.weight \[8, 1, 3, 3\]"
    ):
        weights.read(folder)
    state = {"image_encoder.model.patch_embed.0.rbr_conv.0.conv.weight": torch.zeros(8, 3, 3, 3)}
    torch.save(state, tmp_path / "mobileclip_s0.pt")
    with pytest.raises(ConfigError, match="MobileCLIP's original code; take the model in open_clip's layout"):
        weights.read(tmp_path / "mobileclip_s0.pt")
