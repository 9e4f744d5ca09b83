"""MetaCLIP 2 in files: all three layouts, bit for bit, and nothing that copies its 901,629 embeddings."""

import dataclasses
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file
from support import weights_toys as toys
from support.weights_toys import edit

from tandem import weights
from tandem.config import ModelConfig, TextTransformer
from tandem.errors import HubError
from tandem.tokenizer import TextFormat, Tokenizer

bfloat16 = pytest.importorskip("ml_dtypes").bfloat16
LAYOUTS: list[Any] = ["tandem", "transformers", "open_clip"]
PIECES = ["<s>", "<pad>", "</s>", "<unk>", "▁", "▁a", "▁cat", "s", "▁schwarz", "er", "▁Hund", "<mask>"]


def tokenizer() -> Tokenizer:
    """In XLM-V's order: start, padding, end, unknown; SentencePiece's pieces as `tokenizers` holds them."""
    from tokenizers import Tokenizer as Core
    from tokenizers import models, pre_tokenizers

    core = Core(models.Unigram([(piece, -float(i)) for i, piece in enumerate(PIECES)], unk_id=3))
    core.pre_tokenizer = pre_tokenizers.Metaspace()
    core.add_special_tokens([piece for piece in PIECES if piece.startswith("<")])
    return Tokenizer.from_json(core.to_str(), TextFormat(0, 2, 1, "whitespace"))


def model(activation: Any = "quick_gelu", **changes: Any) -> ModelConfig:
    base = toys.vit(activation=activation)
    text = TextTransformer(16, 901, 64, 2, 2, 256, activation, start_id=0, end_id=2, pad_id=1, cleaning="whitespace")
    return dataclasses.replace(base, text=dataclasses.replace(text, **changes), name="toy-metaclip2")


def checkpoint(config: ModelConfig, dtype: Any = np.float32) -> weights.Checkpoint:
    return weights.Checkpoint(config, toys.tensors(config, dtype), tokenizer(), "toy")


@pytest.mark.parametrize("dtype", [np.float32, np.float16, bfloat16], ids=["float32", "float16", "bfloat16"])
@pytest.mark.parametrize("to", LAYOUTS)
@pytest.mark.parametrize("activation", ["quick_gelu", "gelu"])
def test_a_round_trip_keeps_every_bit_and_the_fingerprint(tmp_path: Path, activation: str, to: Any, dtype: Any) -> None:
    made = model(activation)
    squashed = dataclasses.replace(made.preprocessing, resize_mode="squash")
    original = checkpoint(dataclasses.replace(made, preprocessing=squashed), dtype)
    back = weights.read(weights.write(original, tmp_path / "out", to))
    toys.same(back.tensors, original.tensors)
    for field in ("embed_dim", "vision", "text", "preprocessing"):
        assert getattr(back.config, field) == getattr(original.config, field), field
    assert back.config.notes == {}
    assert back.tokenizer(["a cat"]).tolist() == original.tokenizer(["a cat"]).tolist() == [[0, 5, 6, 2]]
    assert weights.fingerprint(back) == weights.fingerprint(original)


def test_from_layout_to_layout(tmp_path: Path) -> None:
    original = checkpoint(model(), np.float16)
    current = original
    for i, to in enumerate([*LAYOUTS, *reversed(LAYOUTS)]):
        current = weights.read(weights.write(current, tmp_path / str(i), to))
    toys.same(current.tensors, original.tensors)
    assert weights.fingerprint(current) == weights.fingerprint(original)


def test_open_clips_own_file_comes_back_bit_for_bit(shared: Path, tmp_path: Path) -> None:
    folder = shared / "golden" / "families" / "metaclip2-tiny"
    config, tensors = weights.read_tensors(folder)
    written = weights.write(weights.Checkpoint(config, tensors, tokenizer(), "golden"), tmp_path / "out", "open_clip")
    name = "open_clip_model.safetensors"
    toys.same(load_file(written / name), load_file(folder / name))
    assert weights.read_tensors(written)[0].text == config.text


def test_open_clips_configuration_names_its_tokenizer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As open_clip's ViT-H-14-worldwide: ids of start and padding are the tokenizer's."""
    folder = weights.write(checkpoint(model("gelu")), tmp_path / "out", "open_clip")
    text = {"hf_tokenizer_name": "facebook/xlm-v-base", "tokenizer_kwargs": None, "pad_id": None}
    edit(folder / "open_clip_config.json", **{f"model_cfg__text_cfg__{key}": value for key, value in text.items()})
    assert weights.read(folder).config.text == model("gelu").text
    for file in folder.glob("*token*"):
        file.unlink()
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("HF_HOME", str(tmp_path / "cache"))
    with pytest.raises(HubError, match=r"its tokenizer, facebook/xlm-v-base, is neither beside the weights nor cached"):
        weights.read(folder)


def test_transformers_without_a_tokenizer_takes_the_configurations_ids(tmp_path: Path) -> None:
    folder = weights.write(checkpoint(model()), tmp_path / "out", "transformers")
    edit(folder / "config.json", tandem=None)
    for file in folder.glob("*token*"):
        file.unlink()
    config, _ = weights.read_tensors(folder)
    assert (config.text.start_id, config.text.end_id, config.text.pad_id) == (0, 2, 1)


@pytest.mark.slow
@pytest.mark.parametrize("to", LAYOUTS)
def test_no_embedding_is_copied_between_the_file_and_the_fingerprint(tmp_path: Path, to: Any) -> None:
    """XLM-V's are 3.7 GB in float32. Here 13 MB, and everything else is small."""
    made = model(vocabulary_size=100_000, width=64)
    folder = weights.write(checkpoint(made, np.float16), tmp_path / "out", to)
    weights.fingerprint(weights.read(folder))  # imports
    tracemalloc.start()
    try:
        read = weights.read(folder)
        weights.fingerprint(read)
        weights.write(read, tmp_path / "again", to)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert read.tensors["token_embedding.weight"].nbytes == 12_800_000
    assert peak < 4_000_000
