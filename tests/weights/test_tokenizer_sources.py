"""Tokenizers of other kinds with their models: every layout, the hub, and the repository that a configuration names."""

import dataclasses
import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest
from support import weights_toys as toys
from support.hub_server import Server, endpoint, server

from tandem import weights
from tandem.errors import ConfigError, HubError, WeightsError
from tandem.tokenizer import TextFormat, Tokenizer
from tandem.tokenizer.vocabularies import wordpiece
from tandem.weights import Checkpoint
from tandem.weights.tokenizer_files import write_tokenizer
from tandem.weights.transformers_preprocessing import preprocessing_to
from tandem.weights.transformers_types import MODEL_TYPES

pytestmark = pytest.mark.slow

__all__ = ["endpoint", "server"]  # fixtures

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "black", "dog", "##s", "ein", "hund", ",", "."]
TEXTS = ["A black dogs, ein Hund.", "", "zebra  a"]
SPIECE_IDS = {"pad_id": 0, "eos_id": 1, "unk_id": 2, "bos_id": -1}


def words(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "vocab.txt").write_text("\n".join(WORDS) + "\n", encoding="utf-8")
    return folder


def bert_checkpoint(tmp_path: Path) -> Checkpoint:
    """CLIP's towers with BERT's tokenizer: read at the first [SEP]."""
    config = toys.vit(start_id=2, end_id=3, pad_id=0, cleaning="whitespace", activation="gelu")
    tokenizer = Tokenizer(wordpiece(words(tmp_path / "words") / "vocab.txt", {}), TextFormat.of(config.text))
    return Checkpoint(config, toys.tensors(config), tokenizer, "toy")


@pytest.mark.parametrize("to", ["tandem", "open_clip"])
def test_a_model_keeps_its_tokenizer(tmp_path: Path, to: Any) -> None:
    checkpoint = bert_checkpoint(tmp_path)
    weights.write(checkpoint, tmp_path / "model", to)
    read = weights.read(tmp_path / "model")
    assert read.config.text == checkpoint.config.text
    assert read.tokenizer.format == checkpoint.tokenizer.format
    assert read.tokenizer(TEXTS).tolist() == checkpoint.tokenizer(TEXTS).tolist()
    assert weights.fingerprint(read) == weights.fingerprint(checkpoint)
    weights.write(read, tmp_path / "again", to)
    for file in (tmp_path / "model").iterdir():
        if file.name != "README.md":
            assert (tmp_path / "again" / file.name).read_bytes() == file.read_bytes(), file.name


@pytest.mark.parametrize("kind", ["tokenizer.json", "vocab.txt"])
def test_the_tokenizer_of_another_repository(
    endpoint: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    """As most of open_clip's configurations of other families name one."""
    checkpoint = bert_checkpoint(tmp_path)
    model, other = endpoint.root / "org/model", endpoint.root / "org/words"
    weights.write(checkpoint, model, "open_clip")
    if kind == "tokenizer.json":
        other.mkdir()
        for name in ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json"):
            shutil.move(model / name, other / name)
    else:
        words(other)
        for name in ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json"):
            (model / name).unlink()
    config = model / "open_clip_config.json"
    plain = json.loads(config.read_text())
    plain["model_cfg"]["text_cfg"]["hf_tokenizer_name"] = "org/words"
    config.write_text(json.dumps(plain))
    read = weights.read("org/model")
    assert read.config.text == checkpoint.config.text
    assert read.tokenizer(TEXTS).tolist() == checkpoint.tokenizer(TEXTS).tolist()
    assert kind in endpoint.downloaded()
    toys.same(read.tensors, checkpoint.tensors)

    local = tmp_path / "local"
    shutil.copytree(model, local)
    assert weights.read(local).tokenizer(TEXTS).tolist() == checkpoint.tokenizer(TEXTS).tolist()

    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert weights.read("org/model").tokenizer(TEXTS).tolist() == checkpoint.tokenizer(TEXTS).tolist()
    monkeypatch.setenv("HF_HOME", str(tmp_path / "empty"))
    with pytest.raises(
        HubError,
        match=r"local: its tokenizer, org/words, is neither beside .* nor cached, and HF_HUB_OFFLINE is set; put",
    ) as e:
        weights.read(local)
    assert "\n" not in str(e.value)
    assert "tokenizer.json" in str(e.value)
    assert len(str(e.value).replace(str(local), "")) < 200
    words(local)
    assert weights.read(local).tokenizer(TEXTS).tolist() == checkpoint.tokenizer(TEXTS).tolist()


def test_a_sentencepiece_model_on_the_hub(endpoint: Server, tmp_path: Path) -> None:
    """transformers' SigLIP with spiece.model: downloaded, written as Tandem's folder, read again."""
    spm = pytest.importorskip("sentencepiece")
    transformers = pytest.importorskip("transformers")
    import torch

    folder = endpoint.root / "org/siglip"
    torch.manual_seed(0)
    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 2}
    text = {**sizes, "vocab_size": 120, "max_position_embeddings": 16, "projection_size": 32}
    vision = {**sizes, "image_size": 32, "patch_size": 16}
    transformers.SiglipModel(transformers.SiglipConfig(text_config=text, vision_config=vision)).save_pretrained(folder)
    spm.SentencePieceTrainer.train(
        sentence_iterator=iter(["a black dog", "ein schwarzer Hund"] * 8), model_prefix=str(folder / "spiece"),
        vocab_size=60, hard_vocab_limit=False, minloglevel=2, **SPIECE_IDS,
    )  # fmt: skip
    tokenizer = transformers.SiglipTokenizer(str(folder / "spiece.model"))
    tokenizer.save_pretrained(folder)
    (folder / "tokenizer.json").unlink(missing_ok=True)
    read = weights.read("org/siglip")
    assert "spiece.model" in endpoint.downloaded()
    assert read.tokenizer.format == TextFormat(None, 1, 1, "canonical")
    texts = ["A black dog!", "ein Hund", "dog"]
    expected = tokenizer(texts, padding="max_length", max_length=16)["input_ids"]
    assert read.tokenizer(texts, 16, pad_to=16).tolist() == expected
    for to in ("tandem", "transformers"):
        weights.write(read, tmp_path / to, to)  # type: ignore[arg-type]
        assert (tmp_path / to / "spiece.model").read_bytes() == (folder / "spiece.model").read_bytes()
        again = weights.read(tmp_path / to)
        assert again.config.text == read.config.text
        assert weights.fingerprint(again) == weights.fingerprint(read)
        weights.write(read, tmp_path / to, to, overwrite=True)  # type: ignore[arg-type]
    processor = transformers.AutoProcessor.from_pretrained(tmp_path / "transformers")
    assert processor(text=texts, padding="max_length", max_length=16)["input_ids"] == expected


@pytest.mark.parametrize("kind", ["siglip", "metaclip_2"])
def test_what_is_written_opens_as_the_models_processor(tmp_path: Path, kind: str) -> None:
    """transformers' processor of the family, from our files, gives our ids."""
    transformers = pytest.importorskip("transformers")
    if kind == "siglip":
        text = toys.text(start_id=None, end_id=3, pad_id=0, causal=False, pooling="last", projection_bias=True,
                         cleaning="canonical", activation="gelu_tanh")  # fmt: skip
    else:
        text = toys.text(start_id=2, end_id=3, pad_id=0, cleaning="whitespace")
    tokenizer = Tokenizer(wordpiece(words(tmp_path / "words") / "vocab.txt", {}), TextFormat.of(text))
    folder = tmp_path / "model"
    folder.mkdir()
    model_type = MODEL_TYPES[kind]
    (folder / "config.json").write_text(json.dumps({"model_type": kind}))
    (folder / "preprocessor_config.json").write_text(json.dumps(preprocessing_to(toys.vit().preprocessing, model_type)))
    write_tokenizer(tokenizer, text, folder)
    processor = transformers.AutoProcessor.from_pretrained(folder)
    cleaned = ["a black dogs ein hund", "zebra a"]
    found = processor(text=cleaned, padding="max_length", max_length=16)["input_ids"]
    assert found == tokenizer(cleaned, 16, pad_to=16).tolist()


def test_a_tokenizer_that_is_too_large_or_missing(tmp_path: Path) -> None:
    checkpoint = bert_checkpoint(tmp_path)
    weights.write(checkpoint, tmp_path / "model", "tandem")
    os.remove(tmp_path / "model" / "tokenizer.json")
    with pytest.raises(WeightsError, match=r"no tokenizer beside it .*a SentencePiece \.model, or") as error:
        weights.read(tmp_path / "model")
    assert "of photos too, covers the tokenizer" in str(error.value), "why photos alone need one"
    assert "tokenizer=" not in str(error.value), "commands show it too"
    small = dataclasses.replace(checkpoint.config.text, vocabulary_size=12)
    config = dataclasses.replace(checkpoint.config, text=small)
    weights.write(Checkpoint(config, toys.tensors(config), checkpoint.tokenizer, "toy"), tmp_path / "small", "tandem")
    with pytest.raises(ConfigError, match="has 13 entries, but the text encoder has only 12"):
        weights.read(tmp_path / "small")


@pytest.mark.parametrize("name", ["../../etc", "/etc", "http://127.0.0.1:1/x", "a@b/c", "a/b%2f..", "x" * 500])
def test_a_tokenizer_repository_that_is_no_name(endpoint: Server, tmp_path: Path, name: str) -> None:
    """Nothing is asked of the hub, nor read from anywhere else."""
    weights.write(bert_checkpoint(tmp_path), tmp_path / "model", "open_clip")
    for file in ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json"):
        (tmp_path / "model" / file).unlink()
    config = tmp_path / "model/open_clip_config.json"
    plain = json.loads(config.read_text())
    plain["model_cfg"]["text_cfg"]["hf_tokenizer_name"] = name
    config.write_text(json.dumps(plain))
    with pytest.raises(HubError, match=r"not a valid hub name"):
        weights.read(tmp_path / "model")
    assert not endpoint.downloaded()


def test_names_of_models_are_no_hint_at_a_tokenizer(endpoint: Server) -> None:
    """As xlm-roberta-base is not xlm-roberta-base-ViT-B-32."""
    from tandem.weights.repository import fetch_tokenizer

    with pytest.raises(HubError, match="patch33: not found on") as error:
        fetch_tokenizer("openai/clip-vit-base-patch33")
    assert "near" not in str(error.value)
