"""BERT-like text towers in files: open_clip's layout and Tandem's, bit for bit, and what is no such tower by name."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file
from support import weights_toys as toys
from support.hub_server import Server, endpoint, server
from support.weights_toys import edit

from tandem import weights
from tandem.config import Bert, ModelConfig
from tandem.errors import ConfigError, WeightsError
from tandem.towers import tower_part
from tandem.towers.bert import hugging_face
from tandem.weights.open_clip_config import config_from, config_to
from tandem.weights.tokenizer_files import SpecialTokens

__all__ = ["endpoint", "server"]  # fixtures
bfloat16 = pytest.importorskip("ml_dtypes").bfloat16
LAYOUTS: list[Any] = ["tandem", "open_clip"]
START, END, PAD = toys.VOCABULARY - 2, toys.VOCABULARY - 1, 5
TEXT = Bert(16, toys.VOCABULARY, 64, 2, 2, 96, positions=30, start_id=START, end_id=END, pad_id=PAD)
TEXTS = {
    "mlp": TEXT,
    "linear": dataclasses.replace(TEXT, projection="linear", pooling="class", heads=4, norm_epsilon=1e-6),
    "pooler": dataclasses.replace(TEXT, pooling="pooler"),
    "bert": dataclasses.replace(
        TEXT, positions_from_zero=True, token_types=2, norm_epsilon=1e-12, activation="gelu_tanh", pooling="class"
    ),
}


def model(text: Bert = TEXT, activation: Any = "gelu") -> ModelConfig:
    return dataclasses.replace(toys.vit(activation=activation), text=text, name="toy-bert")


@pytest.mark.parametrize("dtype", [np.float32, np.float16, bfloat16], ids=["float32", "float16", "bfloat16"])
@pytest.mark.parametrize("to", LAYOUTS)
@pytest.mark.parametrize("text", TEXTS)
def test_a_round_trip_keeps_every_bit_and_the_fingerprint(tmp_path: Path, text: str, to: Any, dtype: Any) -> None:
    checkpoint = toys.checkpoint(model(TEXTS[text]), dtype)
    back = weights.read(weights.write(checkpoint, tmp_path / "out", to))
    toys.same(back.tensors, checkpoint.tensors)
    for field in ("embed_dim", "vision", "text", "preprocessing"):
        assert getattr(back.config, field) == getattr(checkpoint.config, field), field
    assert back.config.notes == {}
    assert weights.fingerprint(back) == weights.fingerprint(checkpoint)


def test_the_golden_folder_goes_through_both_layouts(shared: Path, tmp_path: Path) -> None:
    folder = shared / "golden" / "families" / "xlm-roberta-tiny"
    config, tensors = weights.read_tensors(folder)
    assert config.text == Bert(38, 400, 64, 2, 2, 128, positions=40)
    words = toys.tokenizer(model())
    assert words.vocabulary_size > 400  # a tokenizer of another size: only the tensors are compared
    checkpoint = weights.Checkpoint(config, tensors, words, "golden")
    for to in LAYOUTS:
        written = weights.write(checkpoint, tmp_path / to, to)
        for file in (*written.glob("*token*"), *written.glob("*vocab*")):
            file.unlink()
        back, theirs = weights.read_tensors(written)
        toys.same(theirs, tensors)
        assert (back.vision, back.text) == (config.vision, config.text)
    name = "open_clip_model.safetensors"
    toys.same(load_file(tmp_path / "open_clip" / name), load_file(folder / name))


def test_an_image_tower_with_quick_gelu_keeps_it_beside_a_gelu_of_texts(tmp_path: Path) -> None:
    checkpoint = toys.checkpoint(model(activation="quick_gelu"))
    folder = weights.write(checkpoint, tmp_path / "out", "open_clip")
    back = weights.read(folder).config
    assert (back.vision, back.text) == (checkpoint.config.vision, checkpoint.config.text)
    edit(folder / "open_clip_config.json", model_cfg__quick_gelu=None)
    assert "gelu is assumed" in weights.read(folder).config.notes["activation"]
    stated = weights.read(folder, activation="quick_gelu").config
    assert (stated.vision, stated.text, stated.notes) == (back.vision, back.text, {})  # BERT's own is not in question


@pytest.mark.parametrize("size", ["base", "large"])
@pytest.mark.parametrize(("family", "vocabulary"), [("xlm-roberta", 250002), ("roberta", 50265)])
def test_published_names_tell_heads_and_tokens(family: str, vocabulary: int, size: str) -> None:
    """As in open_clip's own configurations: a name and nothing else; sizes come from the tensors."""
    width, layers, heads = (768, 12, 12) if size == "base" else (1024, 24, 16)
    text = Bert(77, vocabulary, width, layers, heads, 4 * width, positions=514)
    shapes = tower_part(text, "shapes").shapes(text, 512)
    plain = {
        "model_cfg": {
            "embed_dim": 512,
            "quick_gelu": True,
            "vision_cfg": {"image_size": 224, "layers": 12, "width": 768, "patch_size": 32},
            "text_cfg": {
                "hf_model_name": f"{family}-{size}",
                "hf_tokenizer_name": f"{family}-{size}",
                "hf_pooler_type": "mean_pooler",
            },
        },
        "preprocess_cfg": {},
    }
    config = config_from(plain, SpecialTokens(0, 2, 1), "c", shapes)
    assert config.text == text
    assert config.vision.activation == "quick_gelu"  # type: ignore[union-attr]
    written = config_to(config)["model_cfg"]
    assert written["quick_gelu"] is True
    assert written["text_cfg"]["hf_model_name"] == f"{family}-{size}"
    plain["model_cfg"]["text_cfg"]["hf_model_name"] = f"FacebookAI/{family}-{size}"  # type: ignore[index]
    assert config_from(plain, SpecialTokens(), "c", shapes).text == text


@pytest.mark.parametrize(
    "changes", [{"start_id": 3}, {"end_id": 3}, {"pad_id": 3}, {"heads": 8}, {"norm_epsilon": 1e-6}, {"positions": 600}]
)
def test_what_a_published_name_does_not_say_has_no_name(changes: dict[str, Any]) -> None:
    named = Bert(77, 250002, 768, 12, 12, 3072, positions=514)
    assert hugging_face.name_of(named) == "xlm-roberta-base"
    assert hugging_face.name_of(dataclasses.replace(named, **changes)) is None


@pytest.mark.parametrize(
    ("theirs", "ours"), [("gelu", "gelu"), ("gelu_new", "gelu_tanh"), ("gelu_pytorch_tanh", "gelu_tanh")]
)
def test_activations_of_language_models(theirs: str, ours: str) -> None:
    text = dataclasses.replace(TEXT, width=48, heads=12)
    shapes = tower_part(text, "shapes").shapes(text, 48)
    beside = {"model_type": "xlm-roberta", "num_attention_heads": 12, "hidden_act": theirs}
    read = config_from(config_to(model(text)), SpecialTokens(), "c", shapes, beside).text
    assert read.activation == ours


@pytest.mark.parametrize("name", ["bert-base-cased", "bert-large-uncased", "google-bert/bert-large-cased"])
def test_names_of_bert_tell_heads_of_64(name: str) -> None:
    width = 1024 if "large" in name else 768
    text = dataclasses.replace(TEXT, width=width, heads=width // 64)
    plain = config_to(model(text))
    plain["model_cfg"]["text_cfg"]["hf_model_name"] = name
    read = config_from(plain, SpecialTokens(), "c", tower_part(text, "shapes").shapes(text, 48)).text
    assert read.heads == text.heads


@pytest.mark.slow
@pytest.mark.parametrize("text", TEXTS)
def test_the_language_models_configuration_makes_its_tensors_in_transformers(text: str) -> None:
    transformers = pytest.importorskip("transformers")
    plain = hugging_face.config_to(TEXTS[text])
    kind = transformers.BertModel if plain["model_type"] == "bert" else transformers.XLMRobertaModel
    theirs = {name: tuple(tensor.shape) for name, tensor in kind(kind.config_class(**plain)).state_dict().items()}
    ours = tower_part(TEXTS[text], "shapes").shapes(TEXTS[text], 48)
    mine = {name.removeprefix("transformer."): shape for name, shape in ours.items() if name.startswith("transformer.")}
    assert {name: theirs[name] for name in mine} == mine


def test_ids_of_the_tokenizer_come_before_the_names() -> None:
    text = dataclasses.replace(TEXT, width=48, heads=12)  # as many heads as a name stands for
    shapes = tower_part(text, "shapes").shapes(text, 48)
    plain = config_to(model(text))
    read = config_from(plain, SpecialTokens(7, 8, 9), "c", shapes).text
    assert (read.start_id, read.end_id) == (7, 8)
    assert read.pad_id == 1  # what the model masks is the model's
    beside = {"model_type": "roberta", "num_attention_heads": 2, "bos_token_id": 3, "pad_token_id": 4}
    read = config_from(plain, SpecialTokens(7, 8, 9), "c", shapes, beside).text
    assert (read.start_id, read.end_id, read.pad_id) == (3, 8, 4)


@pytest.mark.parametrize(
    ("name", "pooling", "ids", "epsilon"),
    [("bert-base-uncased", "pooler", (101, 102, 0), 1e-12), ("roberta-base", "mean", (0, 2, 1), 1e-5)],
)
def test_what_a_configuration_leaves_open_is_as_its_model_type_has_it(
    name: str, pooling: Any, ids: tuple[int, int, int], epsilon: float
) -> None:
    text = dataclasses.replace(TEXT, width=48, heads=12, pooling=pooling)
    plain = config_to(model(text))
    plain["model_cfg"]["text_cfg"] |= {"hf_model_name": name, "hf_pooler_type": None}
    read = config_from(plain, SpecialTokens(), "c", tower_part(text, "shapes").shapes(text, 48)).text
    assert isinstance(read, Bert)
    assert (read.pooling, (read.start_id, read.end_id, read.pad_id), read.norm_epsilon) == (pooling, ids, epsilon)


@pytest.mark.parametrize("prefix", ["", "module."])
def test_a_lone_file_is_recognized(tmp_path: Path, prefix: str) -> None:
    checkpoint = toys.checkpoint(model(dataclasses.replace(TEXT, heads=1, start_id=0, end_id=2, pad_id=1)))
    state = {
        f"{prefix}{name}" if name.startswith(("visual.", "logit_")) else f"{prefix}text.{name}": array
        for name, array in toys.to_torch(checkpoint.tensors).items()
    }
    state[f"{prefix}text.transformer.embeddings.position_ids"] = torch.arange(30)[None]  # of older files
    torch.save({"epoch": 1, "name": "x", "state_dict": state}, tmp_path / "epoch_1.pt")
    config, tensors = weights.read_tensors(tmp_path / "epoch_1.pt")
    toys.same(tensors, checkpoint.tensors)
    assert config.text == dataclasses.replace(checkpoint.config.text, context_length=28)
    assert config.embed_dim == 48


def test_a_lone_file_of_a_bert_says_what_is_missing(tmp_path: Path) -> None:
    torch.save(toys.to_torch(toys.tensors(model(TEXTS["bert"]))), tmp_path / "x.pt")
    with pytest.raises(ConfigError, match=r"x\.pt: its text tower is a BERT.*put its open_clip_config\.json beside it"):
        weights.read_tensors(tmp_path / "x.pt")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"hf_model_name": "google/mt5-base"}, "text_cfg.hf_model_name = 'google/mt5-base': Tandem cannot build"),
        ({"hf_model_name": "xlm-roberta-xl"}, "text_cfg.hf_model_name = 'xlm-roberta-xl': Tandem cannot build"),
        ({"hf_pooler_type": "max_pooler"}, "text_cfg.hf_pooler_type: expected one of mean_pooler, "),
        ({"hf_proj_type": "glu"}, "text_cfg.hf_proj_type: expected one of mlp, linear, "),
        ({"context_length": 29}, "text.context_length: expected 1..28, as many as there are positions, got 29"),
        ({"hf_config": {"model_type": "mt5"}}, "hf_text_config.json: model_type: expected one of xlm-roberta"),
        ({"hf_config": {"hidden_act": "relu"}}, "hf_text_config.json: hidden_act: expected one of gelu"),
        (
            {"hf_config": {"position_embedding_type": "relative_key"}},
            "hf_text_config.json: position_embedding_type: expected one of absolute",
        ),
        ({"hf_config": {"pad_token_id": "1"}}, "hf_text_config.json: pad_token_id: expected a whole number"),
        ({"hf_config": {"num_attention_heads": [2]}}, "hf_text_config.json: num_attention_heads: expected"),
        ({"hf_config": {"hidden_act": {}}}, "hf_text_config.json: hidden_act: expected one of gelu"),
        ({"hf_config": {"is_decoder": True}}, "hf_text_config.json: is_decoder: expected one of False, got True"),
    ],
)
def test_what_is_no_such_tower_is_named(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    text = dataclasses.replace(TEXT, pad_id=1, start_id=0, end_id=2, width=48, heads=12)
    folder = weights.write(toys.checkpoint(model(text)), tmp_path / "out", "open_clip")
    beside = folder / "hf_text_config.json"
    if "hf_config" in changes:
        edit(beside, **changes["hf_config"])
    else:
        beside.unlink()
        edit(folder / "open_clip_config.json", **{f"model_cfg__text_cfg__{k}": v for k, v in changes.items()})
    with pytest.raises(ConfigError) as error:
        weights.read_tensors(folder)
    assert str(error.value).startswith(f"{folder / 'open_clip_config.json'}: ")
    assert message in str(error.value)


def test_the_other_layouts_refuse_it(tmp_path: Path) -> None:
    with pytest.raises(
        WeightsError, match=r"transformers has no CLIP with a Bert: write it as 'tandem' or 'open_clip'"
    ):
        weights.write(toys.checkpoint(model()), tmp_path / "a", "transformers")


def test_errors_spell_names_as_the_file_does(tmp_path: Path) -> None:
    folder = weights.write(toys.checkpoint(model()), tmp_path / "out", "open_clip")
    from safetensors.numpy import save_file

    file = folder / "open_clip_model.safetensors"
    arrays = load_file(file)
    del arrays["text.proj.2.weight"]
    save_file(arrays, file)
    with pytest.raises(WeightsError, match=r"missing: text\.proj\.2\.weight \(expected \[48, 56\]\)"):
        weights.read(folder)


@pytest.mark.slow
def test_a_hub_name_brings_the_language_models_configuration(endpoint: Server) -> None:
    checkpoint = toys.checkpoint(model())
    weights.write(checkpoint, endpoint.root / "org" / "bert", "open_clip")
    read = weights.read("org/bert")
    toys.same(read.tensors, checkpoint.tensors)
    assert read.config.text == checkpoint.config.text
    assert "hf_text_config.json" in endpoint.downloaded()
    assert json.loads((endpoint.root / "org" / "bert" / "hf_text_config.json").read_text())["num_attention_heads"] == 2
