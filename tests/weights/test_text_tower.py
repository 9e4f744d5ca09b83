"""Text encoders as they lie in diffusers repositories, as lone files, and as parts of whole CLIPs."""

import json
import shutil

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file
from support import conditioning_toys as toys
from support import hub_server

from tandem.errors import ConfigError, HubError, WeightsError
from tandem.model import SHIPPED
from tandem.weights import read
from tandem.weights.text_tower import read_text_tower


@pytest.fixture(scope="module")
def pipeline(tmp_path_factory):
    """A repository of SDXL's kind, with toys in it."""
    root = tmp_path_factory.mktemp("hub") / "who" / "pipe"
    toys.save(toys.tower("clip_l", projection=False), root / "text_encoder", prefix="")
    toys.save(toys.tower("clip_g", pad_id=0), root / "text_encoder_2", pad="!")
    (root / "model_index.json").write_text("{}")
    return root


def same(found, toy):
    assert set(found.tensors) == set(toy.tensors)
    assert all(np.array_equal(found.tensors[name], toy.tensors[name]) for name in toy.tensors)
    assert found.embed_dim == toy.embed_dim
    assert found.text == toy.text


@pytest.mark.slow
def test_both_encoders_of_a_repository(pipeline):
    first = read_text_tower(pipeline, subfolder="text_encoder")
    same(first, toys.tower("clip_l", projection=False))
    assert not first.has_projection
    second = read_text_tower(pipeline / "text_encoder_2")
    same(second, toys.tower("clip_g", pad_id=0))
    assert second.text.pad_id == second.tokenizer.pad_id == 0  # "!", as its tokenizer says
    assert first.tokenizer.pad_id == 49407
    same(read_text_tower(pipeline / "text_encoder_2" / "model.safetensors"), toys.tower("clip_g", pad_id=0))
    assert second.tokenizer.encode("a fox!") == toys.tower("clip_g").tokenizer.encode("a fox!")


def test_the_text_tower_of_a_whole_clip():
    whole, found = read(SHIPPED), read_text_tower(SHIPPED)
    assert found.text == whole.config.text
    assert "visual.conv1.weight" not in found.tensors
    assert not [name for name in found.tensors if name.startswith(("visual.", "logit_"))]
    assert found.embed_dim == whole.config.embed_dim


def test_a_lone_file(tmp_path, pipeline):
    file = tmp_path / "clip_g.safetensors"
    shutil.copy(pipeline / "text_encoder_2" / "model.safetensors", file)
    toy = toys.tower("clip_g")
    (layer_norm, *_) = [name for name in toy.tensors if "ln_1.weight" in name]
    found = read_text_tower(file)
    assert np.array_equal(found.tensors[layer_norm], toy.tensors[layer_norm])
    assert (found.text.width, found.text.layers, found.text.activation) == (48, 4, "gelu")
    assert read_text_tower(file, activation="quick_gelu").text.activation == "quick_gelu"


def test_what_lies_in_parts_is_not_stacked(pipeline):
    """Queries, keys and values lie apart in the file: a stacked copy would be a third of the weights, in memory."""
    found = read_text_tower(pipeline / "text_encoder_2").tensors
    parts = found.parts("transformer.resblocks.0.attn.in_proj_weight")
    assert len(parts) == 3
    assert not any(part.flags.owndata for part in parts)


def test_a_whole_image_generator_in_one_file_is_refused(tmp_path):
    save_file({"cond_stage_model.transformer.text_model.x": np.zeros(1, np.float32)}, tmp_path / "v1-5.safetensors")
    with pytest.raises(WeightsError, match="a whole image generator in one file"):
        read_text_tower(tmp_path / "v1-5.safetensors")


@pytest.mark.slow
def test_from_the_hub_only_what_is_needed(pipeline, tmp_path, monkeypatch):
    server = hub_server.Server(pipeline.parent.parent)
    monkeypatch.setenv("HF_ENDPOINT", server.url)
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    found = read_text_tower("who/pipe", subfolder="text_encoder_2")
    same(found, toys.tower("clip_g", pad_id=0))
    assert not [path for _, path in server.requests if "/text_encoder/" in path]
    # The hub's client asks for more than files: once a day, for names of programs that it may be used by
    fetched = [path for method, path in server.requests if method == "GET" and "/resolve/" in path]
    assert fetched
    assert all(f"/resolve/{hub_server.COMMIT}/" in path for path in fetched[1:])  # all of one commit
    with pytest.raises(HubError, match=r"text_encoder_3/config\.json"):
        read_text_tower("who/pipe", subfolder="text_encoder_3")
    server.http.shutdown()


def test_what_is_wrong_is_named(pipeline, tmp_path):
    with pytest.raises(WeightsError, match="a whole pipeline: name one of its folders"):
        read_text_tower(pipeline)
    with pytest.raises(WeightsError, match="expected a folder text_encoder_3 in it"):
        read_text_tower(pipeline, subfolder="text_encoder_3")
    broken = tmp_path / "text_encoder"
    shutil.copytree(pipeline / "text_encoder", broken)
    shutil.copytree(pipeline / "tokenizer", tmp_path / "tokenizer")
    tensors = load_file(broken / "model.safetensors")
    gone = tensors.pop("final_layer_norm.bias")
    save_file(tensors, broken / "model.safetensors")
    with pytest.raises(WeightsError, match=r"1 missing: text_model.final_layer_norm.bias \(expected \[32\]\)"):
        read_text_tower(broken)
    save_file({**tensors, "final_layer_norm.bias": gone}, broken / "model.safetensors")
    config = json.loads((broken / "config.json").read_text())
    (broken / "config.json").write_text(json.dumps({**config, "num_attention_heads": 5}))
    with pytest.raises(ConfigError, match="width = 32 is not divisible by heads = 5"):
        read_text_tower(broken)
    (broken / "config.json").write_text(json.dumps({**config, "hidden_act": "relu"}))
    with pytest.raises(ConfigError, match="hidden_act"):
        read_text_tower(broken)
    (broken / "model.safetensors").unlink()
    with pytest.raises(WeightsError, match=r"expected one of model\.safetensors"):
        read_text_tower(broken)
