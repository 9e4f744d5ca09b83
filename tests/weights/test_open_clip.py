"""open_clip: its folders and configurations are read, and what Tandem cannot build is named."""

import dataclasses
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file, save_file
from support import weights_toys as toys
from support.weights_toys import edit

from tandem import weights
from tandem.config import PUBLISHED, ResNet
from tandem.errors import ConfigError, WeightsError
from tandem.weights.open_clip_config import config_from as from_open_clip
from tandem.weights.open_clip_config import config_to as to_open_clip
from tandem.weights.tokenizer_files import SpecialTokens

VIT_LAYOUTS: list[Any] = ["tandem", "transformers", "open_clip"]
MODELS = {"vit": toys.vit(), "gelu": toys.vit(activation="gelu"), "resnet": toys.resnet(), "basic": toys.basic()}


def described(**changes: Any) -> dict[str, Any]:
    plain: dict[str, Any] = {
        "model_cfg": {"embed_dim": 512, "vision_cfg": {}, "text_cfg": {}, "quick_gelu": False},
        "preprocess_cfg": {},
    }
    for key, value in changes.items():
        *parents, leaf = key.split("__")
        inner = plain
        for parent in parents:
            inner = inner[parent] if parent in inner else inner["model_cfg"][parent]
        inner[leaf] = value
    return plain


def test_open_clips_defaults() -> None:
    config = from_open_clip(described(), SpecialTokens(), "c")
    expected = PUBLISHED["ViT-B/16"]
    gelu = dataclasses.replace(expected.vision, activation="gelu")
    assert config.vision == gelu
    assert config.text == dataclasses.replace(expected.text, activation="gelu")
    assert config.notes == {}


def test_open_clips_h_14_has_heads_of_80() -> None:
    plain = described(
        vision_cfg__layers=32, vision_cfg__width=1280, vision_cfg__head_width=80, vision_cfg__patch_size=14
    )
    assert from_open_clip(plain, SpecialTokens(), "c").vision.heads == 16


def test_the_epsilon_of_either_tower_is_its_own() -> None:
    plain = described(vision_cfg__norm_kwargs={"eps": 1e-6}, text_cfg__norm_kwargs={"eps": 1e-4})
    config = from_open_clip(plain, SpecialTokens(), "c")
    assert (config.vision.norm_epsilon, config.text.norm_epsilon) == (1e-6, 1e-4)  # type: ignore[union-attr]
    written = to_open_clip(config)
    again = from_open_clip(written, SpecialTokens(), "c")
    assert (again.vision, again.text) == (config.vision, config.text)


def test_open_clips_preprocessing() -> None:
    plain = described(
        preprocess_cfg__mean=[0.5, 0.5, 0.5],
        preprocess_cfg__std=0.25,
        preprocess_cfg__resize_mode="longest",
        preprocess_cfg__interpolation="bilinear",
        preprocess_cfg__fill_color=9,
        preprocess_cfg__size=[224, 224],
    )
    read = from_open_clip(plain, SpecialTokens(), "c").preprocessing
    assert (read.mean[0], read.std, read.resize_mode, read.interpolation, read.fill) == (
        0.5,
        (0.25, 0.25, 0.25),
        "longest",
        "bilinear",
        9,
    )


def test_a_resnet_of_equal_stages_and_nulls_that_mean_the_default() -> None:
    plain = described(
        vision_cfg__layers=[2, 2, 2, 2],
        vision_cfg__image_size=[64, 64],
        vision_cfg__width=32,
        preprocess_cfg__size=None,
        preprocess_cfg__std=None,
    )
    config = from_open_clip(plain, SpecialTokens(), "c")
    assert isinstance(config.vision, ResNet)
    assert (config.vision.layers, config.vision.image_size, config.vision.heads) == ((2, 2, 2, 2), 64, 16)
    assert config.preprocessing.std == (0.26862954, 0.26130258, 0.27577711)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("vision_cfg__layers", 0),
        ("vision_cfg__layers", [3, 4, 0, 3]),
        ("vision_cfg__head_width", True),
        ("text_cfg__heads", 8.0),
        ("vision_cfg__timm_model_name", "convnext_base"),
        ("vision_cfg__attentional_pool", True),
        ("vision_cfg__ls_init_value", 1e-4),
        ("vision_cfg__qk_norm", True),
        ("vision_cfg__image_size", [224, 448]),
        ("text_cfg__hf_model_name", "google/mt5-base"),
        ("text_cfg__tokenizer_kwargs", {"mode": "clips"}),
        ("text_cfg__tokenizer_kwargs", {"clean": "scrub"}),
        ("text_cfg__tokenizer_kwargs", {"clean": ["lower"]}),
        ("text_cfg__tokenizer_kwargs", {"clean": {"lower": True}}),
        ("text_cfg__embed_cls", True),
        ("text_cfg__pool_type", "first"),
        ("text_cfg__proj_type", "none"),
        ("text_cfg__act_kwargs", {"approximate": "sine"}),
        ("text_cfg__mlp_ratio", "4"),
        ("model_cfg__multimodal_cfg", {"width": 512}),
        ("model_cfg__something_new", 1),
        ("model_cfg__embed_dim", None),
        ("preprocess_cfg__interpolation", "random"),
        ("preprocess_cfg", [1]),
        ("vision_cfg__timm_model_name", 1),
        ("vision_cfg__mlp_ratio", 1e308),
        ("text_cfg__tokenizer_kwargs", {"clean": []}),
        ("preprocess_cfg__size", 256),
        ("preprocess_cfg__mode", "L"),
    ],
)
def test_open_clip_fields_that_cannot_be_built_are_named(field: str, value: Any) -> None:
    with pytest.raises(ConfigError) as error:
        from_open_clip(described(**{field: value}), SpecialTokens(), "here/open_clip_config.json")
    assert str(error.value).startswith("here/open_clip_config.json: ")
    assert field.rsplit("__", maxsplit=1)[-1] in str(error.value)


def test_fields_that_say_what_clip_does_are_read() -> None:
    plain = described(
        vision_cfg__patch_dropout=0.5,
        vision_cfg__timm_model_name=None,
        vision_cfg__pool_type="tok",
        text_cfg__output_tokens=True,
        text_cfg__no_causal_mask=False,
        text_cfg__hf_model_name=None,
        model_cfg__custom_text=True,
    )
    from_open_clip(plain, SpecialTokens(), "c")


@pytest.mark.parametrize("naming", ["plain", "text.", "module.", "bin"])
def test_both_namings_of_open_clip(tmp_path: Path, naming: str) -> None:
    checkpoint = toys.checkpoint()
    folder = weights.write(checkpoint, tmp_path / "out", "open_clip")
    file = folder / "open_clip_model.safetensors"
    arrays = dict(load_file(file))
    if naming == "text.":
        arrays = {n if n.startswith(("visual.", "logit")) else f"text.{n}": a for n, a in arrays.items()}
    elif naming == "module.":
        arrays = {f"module.{name}": array for name, array in arrays.items()}
    file.unlink()
    if naming == "bin":
        torch.save(toys.to_torch(arrays), folder / "open_clip_pytorch_model.bin")
    else:
        save_file(arrays, file)
    toys.same(weights.read(folder).tensors, checkpoint.tensors)


def test_texts_that_see_their_padding_keep_its_id(tmp_path: Path) -> None:
    """Their end is the last entry of the vocabulary, so that nothing else speaks of a tokenizer of another kind."""
    checkpoint = toys.checkpoint(toys.vit(causal=False, pad_id=5))
    read = weights.read(weights.write(checkpoint, tmp_path / "out", "open_clip"))
    assert read.config.text == checkpoint.config.text
    assert weights.fingerprint(read) == weights.fingerprint(checkpoint)


def test_errors_spell_names_as_the_file_does(tmp_path: Path) -> None:
    folder = weights.write(toys.checkpoint(), tmp_path / "out", "open_clip")
    file = folder / "open_clip_model.safetensors"
    arrays = {n if n.startswith(("visual.", "logit")) else f"text.{n}": a for n, a in load_file(file).items()}
    del arrays["text.ln_final.bias"]
    save_file(arrays, file)
    with pytest.raises(WeightsError, match=r"open_clip_model.safetensors.*missing: text.ln_final.bias"):
        weights.read(folder)
    theirs = weights.write(toys.checkpoint(), tmp_path / "hf", "transformers")
    arrays = load_file(theirs / "model.safetensors")
    del arrays["vision_model.post_layernorm.bias"]
    save_file(arrays, theirs / "model.safetensors")
    with pytest.raises(WeightsError, match=r"missing: vision_model.post_layernorm.bias \(expected \[64\]\)"):
        weights.read(theirs)


def test_open_clips_missing_activation_is_warned_of_unless_transformers_names_it(tmp_path: Path) -> None:
    checkpoint = toys.checkpoint(toys.vit(activation="gelu"))
    folder = weights.write(checkpoint, tmp_path / "out", "open_clip")
    edit(folder / "open_clip_config.json", model_cfg__quick_gelu=None)
    read = weights.read(folder).config
    assert read.text.activation == "gelu"
    assert "gelu is assumed" in read.notes["activation"]
    assert "activation='quick_gelu'" in read.notes["activation"]
    other = weights.write(checkpoint, tmp_path / "hf", "transformers")
    shutil.copy(other / "config.json", folder / "config.json")
    assert weights.read(folder).config.notes == {}
    edit(folder / "config.json", text_config__hidden_act="quick_gelu")
    assert "activation" in weights.read(folder).config.notes


def test_open_clip_cannot_hold_these(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="basic blocks"):
        weights.write(toys.checkpoint(toys.basic()), tmp_path / "a", "open_clip")
    config = toys.vit()
    mixed = dataclasses.replace(config, text=dataclasses.replace(config.text, activation="gelu"))
    with pytest.raises(WeightsError, match="one activation"):
        weights.write(toys.checkpoint(mixed), tmp_path / "b", "open_clip")


@pytest.mark.parametrize("scale", [np.nan, np.inf, 100.0])
def test_a_logit_scale_that_no_probability_comes_of(tmp_path: Path, scale: float) -> None:
    config = toys.vit()
    checkpoint = toys.checkpoint(config)
    damaged = {**checkpoint.tensors, "logit_scale": np.array(scale, np.float32)}
    weights.write(dataclasses.replace(checkpoint, tensors=damaged), tmp_path / "model", "open_clip")
    with pytest.raises(WeightsError, match=r"logit_scale: expected a finite number"):
        weights.read(tmp_path / "model")
