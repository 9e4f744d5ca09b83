"""transformers: it opens what we write, its folders and configurations are read, and what is no CLIP is named."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file
from support import weights_toys as toys
from support.weights_toys import edit

from tandem import weights
from tandem.config import PUBLISHED, ModelConfig
from tandem.errors import ConfigError, WeightsError
from tandem.weights.names import renamed_to
from tandem.weights.tokenizer_files import SpecialTokens
from tandem.weights.transformers_config import config_from as from_transformers
from tandem.weights.transformers_preprocessing import preprocessing_from
from tandem.weights.transformers_types import MODEL_TYPES

VIT_LAYOUTS: list[Any] = ["tandem", "transformers", "open_clip"]
MODELS = {"vit": toys.vit(), "gelu": toys.vit(activation="gelu"), "resnet": toys.resnet(), "basic": toys.basic()}


@pytest.fixture
def transformers() -> Any:
    return pytest.importorskip("transformers")


def test_what_we_write_opens_in_transformers(tmp_path: Path, transformers: Any) -> None:
    checkpoint = toys.checkpoint()
    folder = weights.write(checkpoint, tmp_path / "out", "transformers")
    model, report = transformers.CLIPModel.from_pretrained(folder, output_loading_info=True)
    assert not report["missing_keys"]
    assert not report["unexpected_keys"]
    theirs = {
        name: tensor.detach().numpy() for name, tensor in model.state_dict().items() if "position_ids" not in name
    }
    toys.same(theirs, renamed_to(checkpoint.tensors, MODEL_TYPES["clip"].names))
    processor = transformers.CLIPProcessor.from_pretrained(folder)
    texts = ["a cat and a dog", "Dog!  cats", ""]
    assert processor.tokenizer(texts)["input_ids"] == [
        [checkpoint.config.text.start_id, *ids, checkpoint.config.text.end_id]
        for ids in checkpoint.tokenizer.encode(texts)
    ]
    image = np.random.default_rng(0).integers(0, 256, (40, 50, 3), dtype=np.uint8)
    inputs = processor(images=image, text=texts, padding=True, return_tensors="pt")
    assert inputs["pixel_values"].shape == (1, 3, 32, 32)
    assert model(**inputs).logits_per_image.shape == (1, 3)


def save_theirs(transformers: Any, folder: Path, **options: Any) -> tuple[Any, ModelConfig]:
    """A folder that transformers writes itself, of the sizes of our toy."""
    config = toys.vit(pad_id=toys.VOCABULARY - 1)
    plain = json.loads((weights.write(toys.checkpoint(config), folder, "transformers") / "config.json").read_text())
    torch.manual_seed(0)
    model = transformers.CLIPModel(transformers.CLIPConfig.from_dict(plain))
    for file in folder.glob("model*"):
        file.unlink()
    model.save_pretrained(folder, **options)
    return model, config


def as_ours(model: Any) -> dict[str, np.ndarray]:
    from tandem.weights.names import to_original

    return to_original({name: tensor.detach().numpy() for name, tensor in model.state_dict().items()})[0]


@pytest.mark.parametrize("kind", ["single", "sharded", "bin", "sharded bin"])
@pytest.mark.slow
def test_a_folder_of_transformers_is_read(tmp_path: Path, transformers: Any, kind: str) -> None:
    model, config = save_theirs(transformers, tmp_path, max_shard_size="50KB" if "sharded" in kind else "1GB")
    if "bin" in kind:
        names = sorted(path.name for path in tmp_path.glob("model*.safetensors"))
        for name in names:
            tensors = toys.to_torch(load_file(tmp_path / name))
            torch.save(tensors, tmp_path / name.replace("model", "pytorch_model").replace("safetensors", "bin"))
            (tmp_path / name).unlink()
        index = tmp_path / "model.safetensors.index.json"
        if index.exists():
            text = index.read_text().replace("model-", "pytorch_model-").replace(".safetensors", ".bin")
            (tmp_path / "pytorch_model.bin.index.json").write_text(text)
            index.unlink()
    assert bool(list(tmp_path.glob("*index.json"))) == ("sharded" in kind)
    read = weights.read(tmp_path)
    toys.same(read.tensors, as_ours(model))
    assert (read.config.vision, read.config.text) == (config.vision, config.text)


def test_shards_that_are_missing_or_lead_elsewhere_are_named(tmp_path: Path, transformers: Any) -> None:
    save_theirs(transformers, tmp_path, max_shard_size="50KB")
    shard = sorted(tmp_path.glob("model-*.safetensors"))[1]
    index = tmp_path / "model.safetensors.index.json"
    content = index.read_text()
    shard.rename(tmp_path / "gone")
    with pytest.raises(WeightsError, match=f"shard {shard.name} is missing"):
        weights.read(tmp_path)
    index.write_text(content.replace(shard.name, "../../etc/model.safetensors"))
    with pytest.raises(WeightsError, match="expected a file in the same folder"):
        weights.read(tmp_path)
    (tmp_path / "gone").rename(shard)
    added = json.loads(content)
    added["weight_map"]["extra.tensor"] = shard.name
    index.write_text(json.dumps(added))
    with pytest.raises(WeightsError, match=r"1 tensors are in no shard, such as extra.tensor"):
        weights.read(tmp_path)


def theirs(**changes: Any) -> dict[str, Any]:
    plain: dict[str, Any] = {"model_type": "clip", "vision_config": {}, "text_config": {}}
    for key, value in changes.items():
        tower, _, field = key.partition("__")
        if field:
            plain[tower][field] = value
        else:
            plain[tower] = value
    return plain


def test_an_empty_transformers_configuration_is_vit_b_32(transformers: Any) -> None:
    config = from_transformers(theirs(), {}, SpecialTokens(), "config.json")
    expected = PUBLISHED["ViT-B/32"]
    assert config.vision == expected.vision
    assert dataclasses.replace(config.text, pad_id=0) == expected.text
    assert config.embed_dim == 512
    assert "assumed" in config.notes["activation"]
    default = transformers.CLIPConfig().to_dict()
    assert from_transformers(default, {}, SpecialTokens(), "config.json").text == config.text


@pytest.mark.parametrize("kind", ["siglip", "siglip2"])
def test_an_empty_siglip_configuration_is_transformers_own(transformers: Any, kind: str) -> None:
    """Its files leave out what is as it is there."""
    empty = theirs(model_type=kind)
    config = from_transformers(empty, {}, SpecialTokens(), "config.json")
    own = transformers.SiglipConfig if kind == "siglip" else transformers.Siglip2Config
    whole = own().to_dict()
    assert config == from_transformers(whole, {}, SpecialTokens(), "config.json")
    for tower, plain in ((config.vision, whole["vision_config"]), (config.text, whole["text_config"])):
        assert (tower.norm_epsilon, tower.activation) == (plain["layer_norm_eps"], "gelu_tanh")  # type: ignore[union-attr]
        assert (tower.width, tower.layers) == (plain["hidden_size"], plain["num_hidden_layers"])  # type: ignore[union-attr]
    preprocessing = config.preprocessing
    assert (preprocessing.mean, preprocessing.std) == ((0.5,) * 3, (0.5,) * 3)
    assert preprocessing.resize_mode == ("squash" if kind == "siglip" else "naflex")


@pytest.mark.parametrize(
    ("changes", "tokens", "expected"),
    [
        ({"bos_token_id": 0, "eos_token_id": 2}, SpecialTokens(), (49406, 49407, 49407)),
        ({"bos_token_id": 0, "eos_token_id": 2, "vocab_size": 600}, SpecialTokens(), (598, 599, 599)),
        ({"bos_token_id": 0, "eos_token_id": 2, "vocab_size": 600}, SpecialTokens(5, 6, 0), (5, 6, 0)),
        ({"eos_token_id": [49407]}, SpecialTokens(None, None, 0), (49406, 49407, 0)),
        ({"vocab_size": 600}, SpecialTokens(), (598, 599, 599)),
        ({"bos_token_id": 10, "eos_token_id": 11}, SpecialTokens(), (10, 11, 11)),
    ],
)
def test_start_end_and_padding_ids(changes: Any, tokens: SpecialTokens, expected: Any) -> None:
    plain = theirs(**{f"text_config__{key}": value for key, value in changes.items()})
    text = from_transformers(plain, {}, tokens, "config.json").text
    assert (text.start_id, text.end_id, text.pad_id) == expected


def test_ids_outside_the_vocabulary_are_replaced_aloud() -> None:
    config = from_transformers(theirs(text_config__vocab_size=600), {}, SpecialTokens(), "config.json")
    assert "598 and 599, are assumed" in config.notes["tokens"]


def test_the_old_repetition_of_a_tower_wins() -> None:
    plain = theirs(vision_config__hidden_act="quick_gelu", text_config__hidden_act="gelu")
    plain |= {"vision_config_dict": {"hidden_act": "gelu", "hidden_size": 1024, "num_attention_heads": 16}}
    vision = from_transformers(plain, {}, SpecialTokens(), "config.json").vision
    assert (vision.width, vision.heads, getattr(vision, "activation", "")) == (1024, 16, "gelu")


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"model_type": "owlvit"}, "model_type: expected one of clip, "),
        ({"vision_config__hidden_act": "relu"}, "vision_config.hidden_act: expected one of quick_gelu, gelu"),
        ({"text_config__layer_norm_eps": -1e-6}, "text_config.layer_norm_eps"),
        ({"vision_config__num_channels": 4}, "vision_config.num_channels"),
        ({"vision_config__image_size": [224, 336]}, "vision_config.image_size"),
        ({"vision_config__hidden_size": "768"}, "hidden_size: expected a whole number"),
        ({"vision_config__num_attention_heads": 7}, "vision.width = .* heads = 7"),
        ({"vision_config": 3}, "vision_config: expected a mapping"),
    ],
)
def test_transformers_configurations_that_are_refused(changes: Any, says: str) -> None:
    with pytest.raises(ConfigError, match=f"^here/config.json: .*{says}"):
        from_transformers(theirs(**changes), {}, SpecialTokens(), "here/config.json")


def test_preprocessing_of_transformers() -> None:
    plain = {"size": 224, "crop_size": 224, "image_mean": [0.5, 0.5, 0.5], "resample": 2}
    read = preprocessing_from(plain, 224, "p")
    assert (read.mean, read.std[0], read.interpolation, read.resize_mode) == (
        (0.5, 0.5, 0.5),
        0.26862954,
        "bilinear",
        "shortest",
    )
    squash = {"size": {"height": 32, "width": 32}, "do_center_crop": False}
    assert preprocessing_from({"image_processor": squash}, 32, "p").resize_mode == "squash"
    assert preprocessing_from({"do_normalize": False}, 32, "p").std == (1.0, 1.0, 1.0)
    for wrong in (
        {"size": {"shortest_edge": 256}},
        {"size": {"height": 32, "width": 48}},
        {"do_center_crop": False},
        {"resample": 9},
        {"resample": []},
        {"rescale_factor": "x"},
        {"rescale_factor": 10**400},
        {"rescale_factor": float("nan")},
        {"image_mean": 10**400},
        {"rescale_factor": 1.0},
        {"do_rescale": False},
        {"image_mean": [0.5]},
    ):
        with pytest.raises(ConfigError, match=r"^p: "):
            preprocessing_from(wrong, 32, "p")


def test_missing_preprocessing_and_activation_are_warned_of(tmp_path: Path) -> None:
    folder = weights.write(toys.checkpoint(), tmp_path / "out", "transformers")
    (folder / "preprocessor_config.json").unlink()
    edit(folder / "config.json", vision_config__hidden_act=None)
    notes = weights.read(folder).config.notes
    assert "preprocessor_config.json" in notes["preprocessing"]
    assert "quick_gelu is assumed" in notes["activation"]
    chosen = weights.read(folder, activation="gelu").config
    assert "activation" not in chosen.notes
    assert {chosen.text.activation, getattr(chosen.vision, "activation", "")} == {"gelu"}


def test_transformers_cannot_hold_these(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="ResNet"):
        weights.write(toys.checkpoint(toys.resnet()), tmp_path / "a", "transformers")
    longest = dataclasses.replace(toys.vit().preprocessing, resize_mode="longest")
    with pytest.raises(WeightsError, match="longer side"):
        weights.write(toys.checkpoint(dataclasses.replace(toys.vit(), preprocessing=longest)), tmp_path, "transformers")
    with pytest.raises(WeightsError, match="end id 2"):
        weights.write(toys.checkpoint(toys.vit(end_id=2)), tmp_path / "c", "transformers")
    assert list(tmp_path.iterdir()) == []  # nothing half-written is left
