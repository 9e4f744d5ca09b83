"""Every layout: a round trip keeps every bit, other libraries open what we write, bad input is named."""

import dataclasses
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file, save_file
from support import weights_toys as toys

from tandem import weights
from tandem.config import PUBLISHED, ModelConfig, ResNet
from tandem.errors import ConfigError, HubError, WeightsError
from tandem.tokenizer import Tokenizer
from tandem.weights import Checkpoint
from tandem.weights.names import to_transformers
from tandem.weights.open_clip_config import config_from as from_open_clip
from tandem.weights.safetensors_file import read_safetensors, write_safetensors
from tandem.weights.tokenizer_files import SpecialTokens
from tandem.weights.transformers_config import config_from as from_transformers
from tandem.weights.transformers_config import preprocessing_from

bfloat16 = pytest.importorskip("ml_dtypes").bfloat16
VIT_LAYOUTS: list[Any] = ["tandem", "transformers", "open_clip"]
MODELS = {"vit": toys.vit(), "gelu": toys.vit(activation="gelu"), "resnet": toys.resnet(), "basic": toys.basic()}


def edit(path: Path, **changes: Any) -> None:
    """Change keys of a JSON file; `a__b` goes one mapping deeper; None removes."""
    content = json.loads(path.read_text())
    for key, value in changes.items():
        *parents, leaf = key.split("__")
        inner = content
        for parent in parents:
            inner = inner[parent]
        if value is None:
            inner.pop(leaf, None)
        else:
            inner[leaf] = value
    path.write_text(json.dumps(content))


# --- round trips -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.float32, np.float16, bfloat16], ids=["float32", "float16", "bfloat16"])
@pytest.mark.parametrize(
    ("model", "to"),
    [(m, to) for m in ("vit", "gelu") for to in VIT_LAYOUTS]
    + [("resnet", "tandem"), ("resnet", "open_clip"), ("basic", "tandem")],
)
def test_a_round_trip_keeps_every_bit_and_the_fingerprint(tmp_path: Path, model: str, to: Any, dtype: Any) -> None:
    checkpoint = toys.checkpoint(MODELS[model], dtype)
    folder = weights.write(checkpoint, tmp_path / "out", to)
    back = weights.read(folder)
    toys.same(back.tensors, checkpoint.tensors)
    for field in ("embed_dim", "vision", "text", "preprocessing"):
        assert getattr(back.config, field) == getattr(checkpoint.config, field), field
    assert back.config.notes == {}
    assert back.tokenizer(["a cat and a dog"]).tolist() == checkpoint.tokenizer(["a cat and a dog"]).tolist()
    assert weights.fingerprint(back) == weights.fingerprint(checkpoint)


def test_mixed_precision_is_kept(tmp_path: Path) -> None:
    checkpoint = toys.checkpoint()
    checkpoint.tensors["visual.proj"] = checkpoint.tensors["visual.proj"].astype(np.float16)
    for to in VIT_LAYOUTS:
        toys.same(weights.read(weights.write(checkpoint, tmp_path / to, to)).tensors, checkpoint.tensors)


def test_a_chain_through_all_formats_ends_where_it_began(tmp_path: Path) -> None:
    checkpoint = toys.checkpoint(dtype=np.float16)
    current = checkpoint
    for i, to in enumerate([*VIT_LAYOUTS, *reversed(VIT_LAYOUTS)]):
        current = weights.read(weights.write(current, tmp_path / str(i), to))
    toys.same(current.tensors, checkpoint.tensors)
    assert weights.fingerprint(current) == weights.fingerprint(checkpoint)


@pytest.mark.parametrize("to", VIT_LAYOUTS)
def test_unusual_settings_travel(tmp_path: Path, to: Any) -> None:
    config = toys.vit(pad_id=7, start_id=toys.VOCABULARY - 1, end_id=toys.VOCABULARY - 2, mlp_width=133)
    config = dataclasses.replace(
        config,
        vision=dataclasses.replace(config.vision, heads=4),
        preprocessing=dataclasses.replace(
            config.preprocessing,
            mean=(0.5, 0.4, 0.3),
            std=(0.1, 0.2, 0.3),
            resize_mode="squash",
            interpolation="bilinear",
        ),
    )
    back = weights.read(weights.write(toys.checkpoint(config), tmp_path / "out", to)).config
    assert (back.vision, back.text, back.preprocessing) == (config.vision, config.text, config.preprocessing)


def test_our_folder_keeps_name_licence_data_and_notes(tmp_path: Path) -> None:
    config = dataclasses.replace(toys.vit(), name="n", licence="CC0-1.0", data="toys", notes={"activation": "assumed"})
    folder = weights.write(toys.checkpoint(config), tmp_path / "out")
    assert weights.read(folder).config == config
    card = (folder / "README.md").read_text()
    assert "license: cc0-1.0" in card
    assert "| trained on | toys |" in card
    assert "- assumed" in card


@pytest.mark.parametrize("model", ["vit", "resnet"])
def test_golden_models_are_read_from_one_file(shared: Path, model: str) -> None:
    path = shared / "golden" / f"{model}-tiny.safetensors"
    config, tensors = weights.read_tensors(path)
    stored = {n: a for n, a in load_file(path).items() if not n.endswith("num_batches_tracked")}
    toys.same(tensors, stored)
    assert (config.text.context_length, config.text.vocabulary_size, config.embed_dim) == (20, 600, 48)
    assert config.notes == {}  # the original's own arguments stand in the header
    if model == "resnet":
        assert config.vision == ResNet(96, (1, 2, 1, 1), 16, 8)


# --- fingerprint -----------------------------------------------------------------------------------------------------


def test_the_fingerprint_covers_what_changes_vectors_and_nothing_else() -> None:
    base = toys.checkpoint()
    config = base.config
    same = [
        dataclasses.replace(base, source="elsewhere", tensors=dict(reversed(base.tensors.items()))),
        dataclasses.replace(
            base, config=dataclasses.replace(config, name="x", licence="y", data="z", notes={"a": "b"})
        ),
    ]
    assert {weights.fingerprint(one) for one in same} == {weights.fingerprint(base)}
    changed = dict(base.tensors)
    changed["logit_scale"] = np.nextafter(changed["logit_scale"], np.float32(9))
    half = {name: array.astype(np.float16) for name, array in base.tensors.items()}
    other_words = Tokenizer.clip()
    different = [
        dataclasses.replace(base, tensors=changed),
        dataclasses.replace(base, tensors=half),
        dataclasses.replace(base, config=toys.vit(activation="gelu")),
        dataclasses.replace(base, config=toys.vit(pad_id=3)),
        dataclasses.replace(base, tokenizer=other_words),
        dataclasses.replace(
            base,
            config=dataclasses.replace(
                config, preprocessing=dataclasses.replace(config.preprocessing, interpolation="bilinear")
            ),
        ),
    ]
    prints = [weights.fingerprint(one) for one in [base, *different]]
    assert len(set(prints)) == len(prints)
    assert all(len(value) == 64 and int(value, 16) for value in prints)


# --- transformers ----------------------------------------------------------------------------------------------------


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
    toys.same(theirs, to_transformers(checkpoint.tensors))
    processor = transformers.CLIPProcessor.from_pretrained(folder)
    sentences = ["a cat and a dog", "Dog!  cats", ""]
    assert processor.tokenizer(sentences)["input_ids"] == [
        [checkpoint.config.text.start_id, *ids, checkpoint.config.text.end_id]
        for ids in checkpoint.tokenizer.encode(sentences)
    ]
    picture = np.random.default_rng(0).integers(0, 256, (40, 50, 3), dtype=np.uint8)
    inputs = processor(images=picture, text=sentences, padding=True, return_tensors="pt")
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
        ({"model_type": "siglip"}, "model_type: expected 'clip'"),
        ({"vision_config__hidden_act": "relu"}, "vision_config.hidden_act: expected one of quick_gelu, gelu"),
        ({"text_config__layer_norm_eps": 1e-6}, "text_config.layer_norm_eps"),
        ({"vision_config__num_channels": 4}, "vision_config.num_channels"),
        ({"vision_config__image_size": [224, 336]}, "vision_config.image_size"),
        ({"vision_config__hidden_size": "768"}, "hidden_size: expected a whole number"),
        ({"vision_config__num_attention_heads": 7}, "vision.heads"),
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
        {"rescale_factor": 1.0},
        {"do_rescale": False},
        {"image_mean": [0.5]},
    ):
        with pytest.raises(ConfigError, match=r"^p: "):
            preprocessing_from(wrong, 32, "p")


def test_missing_preprocessing_and_activation_are_said_aloud(tmp_path: Path) -> None:
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


# --- open_clip -------------------------------------------------------------------------------------------------------


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
        ("vision_cfg__no_ln_pre", True),
        ("vision_cfg__pool_type", "avg"),
        ("vision_cfg__norm_kwargs", {"eps": 1e-6}),
        ("vision_cfg__qk_norm", True),
        ("vision_cfg__image_size", [224, 448]),
        ("text_cfg__hf_model_name", "roberta-base"),
        ("text_cfg__hf_tokenizer_name", "bert-base-uncased"),
        ("text_cfg__tokenizer_kwargs", {"clean": "canonicalize"}),
        ("text_cfg__no_causal_mask", True),
        ("text_cfg__embed_cls", True),
        ("text_cfg__pool_type", "last"),
        ("text_cfg__proj_bias", True),
        ("text_cfg__proj_type", "none"),
        ("text_cfg__act_kwargs", {"approximate": "tanh"}),
        ("text_cfg__mlp_ratio", "4"),
        ("model_cfg__init_logit_bias", -10),
        ("model_cfg__multimodal_cfg", {"width": 512}),
        ("model_cfg__something_new", 1),
        ("model_cfg__embed_dim", None),
        ("preprocess_cfg__interpolation", "random"),
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


def test_open_clips_missing_activation_is_said_aloud_unless_transformers_names_it(tmp_path: Path) -> None:
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


# --- one file --------------------------------------------------------------------------------------------------------


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
        torch.save(toys.to_torch(to_transformers(arrays)), path)
    else:
        save_file(to_transformers(arrays), path)
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


# --- bad input -------------------------------------------------------------------------------------------------------


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


@pytest.mark.parametrize("first", [0x80, 0x50], ids=["a pickle", "a zip"])
def test_a_header_length_that_looks_like_another_container(tmp_path: Path, first: int) -> None:
    path = tmp_path / "model.weights"
    arrays = toys.tensors(toys.vit())
    for padding in range(40_000):
        if padding % 256 and padding % 8:
            continue
        save_file(arrays, path, metadata={"x": "x" * padding})
        start = path.read_bytes()[:2]
        if start[0] == first and (first != 0x50 or start[1] == ord("K")):
            break
    else:
        pytest.fail("no such length")
    toys.same(weights.read_tensors(path)[1], arrays)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("{", "config.json: expected JSON"),
        ("[]", "config.json: expected a JSON object"),
        ('{"format": "tandem", "version": 99}', "a newer Tandem wrote it"),
        ('{"format": "tandem", "vision": {"type": "convnext"}}', "vision.type: expected one of"),
        ('{"model_type": "bert"}', "model_type: expected 'clip'"),
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


# --- writing ---------------------------------------------------------------------------------------------------------


def test_nothing_is_overwritten_unless_told_and_never_a_strangers_folder(tmp_path: Path) -> None:
    target = tmp_path / "out"
    first = toys.checkpoint()
    weights.write(first, target)
    second = Checkpoint(first.config, toys.tensors(first.config, seed=1), first.tokenizer, "second")
    with pytest.raises(WeightsError, match="not empty"):
        weights.write(second, target)
    toys.same(weights.read(target).tensors, first.tensors)
    weights.write(second, target, "transformers", overwrite=True)
    toys.same(weights.read(target).tensors, second.tensors)
    (target / "thesis.tex").write_text("years of work")
    with pytest.raises(WeightsError, match=r"thesis.tex is no part of a model"):
        weights.write(first, target, overwrite=True)
    assert (target / "thesis.tex").read_text() == "years of work"
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    file = tmp_path / "file"
    file.write_text("x")
    with pytest.raises(WeightsError, match="it is a file"):
        weights.write(first, file, overwrite=True)


def test_a_model_can_be_written_over_the_folder_it_was_read_from(tmp_path: Path) -> None:
    folder = weights.write(toys.checkpoint(), tmp_path / "out")
    read = weights.read(folder)
    before = {name: array.copy() for name, array in read.tensors.items()}
    weights.write(read, folder, overwrite=True)
    toys.same(weights.read(folder).tensors, before)


def test_a_write_that_fails_leaves_what_was_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = weights.write(toys.checkpoint(), tmp_path / "out")
    before = {path.name: path.read_bytes() for path in target.iterdir()}

    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("tandem.weights.folder.write_safetensors", full)
    with pytest.raises(WeightsError, match=r"out: cannot be written: No space left on device"):
        weights.write(toys.checkpoint(), target, overwrite=True)
    assert {path.name: path.read_bytes() for path in target.iterdir()} == before
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_tensors_that_do_not_fit_are_not_written(tmp_path: Path) -> None:
    checkpoint = toys.checkpoint()
    del checkpoint.tensors["logit_scale"]
    with pytest.raises(WeightsError, match="missing: logit_scale"):
        weights.write(checkpoint, tmp_path / "out")
    with pytest.raises(WeightsError, match="expected one of tandem, transformers, open_clip"):
        weights.write(toys.checkpoint(), tmp_path / "out", "onnx")  # type: ignore[arg-type]
    assert list(tmp_path.iterdir()) == []


def test_weights_can_be_read_by_whoever_can_read_the_folder(tmp_path: Path) -> None:
    folder = weights.write(toys.checkpoint(MODELS["vit"], np.float16), tmp_path / "out")
    assert (folder / "model.safetensors").stat().st_mode == (folder / "config.json").stat().st_mode


def test_an_activation_that_contradicts_the_file_is_said_aloud(tmp_path: Path) -> None:
    folder = weights.write(toys.checkpoint(MODELS["gelu"], np.float32), tmp_path / "out")
    note = weights.read(folder, activation="quick_gelu").config.notes["activation"]
    assert "quick_gelu, as asked, although the model states gelu" in note
    assert "activation" not in weights.read(folder, activation="gelu").config.notes
