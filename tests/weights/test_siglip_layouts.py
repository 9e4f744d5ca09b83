"""SigLIP and SigLIP 2 in every layout: round trips keep every bit; real names, lone files, the hub, the commands."""

import dataclasses
import hashlib
import json
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file
from support import weights_toys as toys
from support.commands import run_process
from support.hub_server import Server, endpoint, server
from support.weights_toys import edit

from tandem import weights
from tandem.config import ModelConfig, Preprocessing, TextTransformer, VisionTransformer, to_dict
from tandem.errors import ConfigError, WeightsError
from tandem.model import Model, load
from tandem.towers.vision_transformer import timm
from tandem.weights import Checkpoint, expected_shapes, siglip_file
from tandem.weights.names import renamed_to
from tandem.weights.open_clip_config import config_from as from_open_clip
from tandem.weights.open_clip_config import config_to as to_open_clip
from tandem.weights.tokenizer_files import SpecialTokens
from tandem.weights.transformers_types import MODEL_TYPES

__all__ = ["endpoint", "server"]  # fixtures

bfloat16 = pytest.importorskip("ml_dtypes").bfloat16
LAYOUTS: list[Any] = ["tandem", "transformers", "open_clip"]
BASE = "vit_base_patch16_siglip_256"
# Small towers under real names, which tell the width of heads and the activation
NAMED = {
    BASE: toys.siglip(timm_model=BASE, image_activation="gelu"),
    "vit_base_patch32_siglip_256": toys.siglip(timm_model="vit_base_patch32_siglip_256", activation="gelu",
                                               image_activation="gelu_tanh"),
    "vit_so400m_patch14_siglip_384": toys.siglip(timm_model="vit_so400m_patch14_siglip_384", image_width=144,
                                                 activation="gelu"),
    "vit_giantopt_patch16_siglip_384": toys.siglip(timm_model="vit_giantopt_patch16_siglip_384", image_width=192,
                                                   pad_id=3),
}  # fmt: skip


def equal(back: Checkpoint, checkpoint: Checkpoint) -> None:
    toys.same(back.tensors, checkpoint.tensors)
    for field in ("embed_dim", "vision", "text", "preprocessing", "logit_bias"):
        assert getattr(back.config, field) == getattr(checkpoint.config, field), field
    assert back.config.notes == {}
    assert weights.fingerprint(back) == weights.fingerprint(checkpoint)


@pytest.mark.parametrize("dtype", [np.float32, np.float16, bfloat16], ids=["float32", "float16", "bfloat16"])
@pytest.mark.parametrize("name", NAMED)
@pytest.mark.slow
def test_a_chain_through_all_layouts_keeps_every_bit(tmp_path: Path, name: str, dtype: Any) -> None:
    checkpoint = toys.checkpoint(NAMED[name], dtype)
    current = checkpoint
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for i, to in enumerate([*LAYOUTS, *reversed(LAYOUTS)]):
            current = weights.read(weights.write(current, tmp_path / str(i), to))
            equal(current, checkpoint)


@pytest.mark.parametrize("name", ["siglip-tiny", "siglip2-tiny"])
def test_golden_models_go_through_all_layouts(shared: Path, tmp_path: Path, name: str) -> None:
    folder = shared / "golden" / "families" / name
    config, tensors = weights.read_tensors(folder)
    vocabulary = 519  # larger than the golden one: its tokenizer cannot be had
    config = dataclasses.replace(config, text=dataclasses.replace(config.text, vocabulary_size=vocabulary, end_id=518))
    tensors = {key: np.array(array) for key, array in tensors.items()}
    tensors["token_embedding.weight"] = np.resize(tensors["token_embedding.weight"], (vocabulary, config.text.width))
    checkpoint = current = Checkpoint(config, tensors, toys.tokenizer(config), "golden")
    for i, to in enumerate(["transformers", "open_clip", "tandem", "transformers"]):
        current = weights.read(weights.write(current, tmp_path / str(i), to))  # type: ignore[arg-type]
        equal(current, checkpoint)
    theirs = load_file(tmp_path / "1" / "open_clip_model.safetensors")
    stored = load_file(folder / "open_clip_model.safetensors")
    words = "text.token_embedding.weight"
    toys.same({k: v for k, v in theirs.items() if k != words}, {k: v for k, v in stored.items() if k != words})


def test_a_tanh_tower_under_an_exact_name_keeps_its_activation(tmp_path: Path) -> None:
    """transformers computes tanh everywhere, timm's base and large towers the exact GELU."""
    checkpoint = toys.checkpoint(toys.siglip(timm_model=BASE))
    with pytest.warns(UserWarning, match=f"open_clip computes {BASE} with another activation than .* gelu_tanh"):
        folder = weights.write(checkpoint, tmp_path / "out", "open_clip")
    assert set(json.loads((folder / "open_clip_config.json").read_text())) == {"tandem", "model_cfg", "preprocess_cfg"}
    equal(weights.read(folder), checkpoint)
    edit(folder / "open_clip_config.json", tandem__image_activation="relu")
    with pytest.raises(ConfigError, match=r"tandem.image_activation: expected one of quick_gelu, gelu, .* got 'relu'"):
        weights.read(folder)


def test_a_name_that_describes_another_tower_is_not_written(tmp_path: Path) -> None:
    wrong = toys.siglip(timm_model="vit_so400m_patch14_siglip_384", image_width=128)  # heads of 64, not 72
    with pytest.raises(WeightsError, match="by timm's name only, and timm has none of these sizes"):
        weights.write(toys.checkpoint(wrong), tmp_path / "out", "open_clip")
    assert not (tmp_path / "out").exists()


# --- real names and sizes ------------------------------------------------------------------------------------------

REAL = {  # timm's name: width, layers, heads, MLP, activation; the text tower's width, layers, heads, MLP
    BASE: ((768, 12, 12, 3072, "gelu"), (768, 12, 12, 3072)),
    "vit_base_patch16_siglip_512": ((768, 12, 12, 3072, "gelu"), (768, 12, 12, 3072)),
    "vit_base_patch32_siglip_256": ((768, 12, 12, 3072, "gelu_tanh"), (768, 12, 12, 3072)),
    "vit_large_patch16_siglip_384": ((1024, 24, 16, 4096, "gelu"), (1024, 24, 16, 4096)),
    "vit_so400m_patch14_siglip_224": ((1152, 27, 16, 4304, "gelu"), (1152, 27, 16, 4304)),
    "vit_so400m_patch16_siglip_256": ((1152, 27, 16, 4304, "gelu"), (1152, 27, 16, 4304)),
    "vit_so400m_patch14_siglip_384": ((1152, 27, 16, 4304, "gelu"), (1152, 27, 16, 4304)),
    "vit_giantopt_patch16_siglip_384": ((1536, 40, 16, 6144, "gelu_tanh"), (1152, 27, 16, 4304)),
}


def published(name: str, vocabulary_size: int = 256_000) -> ModelConfig:
    (width, layers, heads, mlp, activation), (text_width, text_layers, text_heads, text_mlp) = REAL[name]
    patch, size = int(name.partition("patch")[2].partition("_")[0]), int(name.rpartition("_")[2])
    vision = VisionTransformer(
        size, patch, width, layers, heads, mlp, activation, class_token=False, patch_bias=True,  # type: ignore[arg-type]
        first_norm=False, pooling="attention", pool_heads=heads, pool_mlp_width=mlp, projection="none",
        norm_epsilon=1e-6,
    )  # fmt: skip
    second = vocabulary_size == 256_000
    text = TextTransformer(
        64, vocabulary_size, text_width, text_layers, text_heads, text_mlp, "gelu_tanh" if second else "gelu",
        None, 1, 0 if second else 1, causal=False, pooling="last", projection_bias=True, norm_epsilon=1e-6,
        cleaning="canonical",
    )  # fmt: skip
    half = (0.5, 0.5, 0.5)
    return ModelConfig(width, vision, text, Preprocessing(size, half, half, "squash"), timm_model=name, logit_bias=True)


@pytest.mark.parametrize("name", REAL)
def test_published_sizes_are_described_by_their_names(name: str) -> None:
    config = published(name)
    assert timm.name_of(config.vision) == name  # type: ignore[arg-type]
    assert timm.description(name, config.vision.image_size, expected_shapes(config)) == config.vision
    plain = to_open_clip(dataclasses.replace(config, timm_model=""))
    assert "tandem" not in plain
    assert plain["model_cfg"]["vision_cfg"]["timm_model_name"] == name
    back = from_open_clip(plain, SpecialTokens(None, 1, 0), "c", expected_shapes(config))
    assert back == config


def test_the_configuration_that_open_clip_publishes() -> None:
    """ViT-SO400M-16-SigLIP2-256 as open_clip has it, but for the tokenizer, whose files lie beside it on the hub."""
    plain = {
        "model_cfg": {
            "embed_dim": 1152,
            "init_logit_bias": -10,
            "custom_text": True,
            "vision_cfg": {
                "image_size": 256,
                "timm_model_name": "vit_so400m_patch16_siglip_256",
                "timm_model_pretrained": False,
                "timm_pool": "map",
                "timm_proj": "none",
            },
            "text_cfg": {
                "context_length": 64,
                "vocab_size": 256000,
                "hf_tokenizer_name": "timm/ViT-SO400M-16-SigLIP2-256",
                "tokenizer_kwargs": {"clean": "canonicalize"},
                "width": 1152,
                "heads": 16,
                "layers": 27,
                "mlp_ratio": 3.7362,
                "no_causal_mask": True,
                "proj_bias": True,
                "pool_type": "last",
                "norm_kwargs": {"eps": 1e-06},
                "act_kwargs": {"approximate": "tanh"},
            },
        },
        "preprocess_cfg": {"mean": [0.5, 0.5, 0.5], "std": [0.5, 0.5, 0.5], "interpolation": "bicubic",
                           "resize_mode": "squash"},
    }  # fmt: skip
    expected = published("vit_so400m_patch16_siglip_256")
    assert from_open_clip(plain, SpecialTokens(None, 1, 0), "c", expected_shapes(expected)) == expected


# --- lone files ----------------------------------------------------------------------------------------------------


def sparse_file(path: Path, shapes: Mapping[str, tuple[int, ...]]) -> Path:
    """A safetensors file of float16 zeros that takes no space."""
    header, at = {}, 0
    for name, shape in shapes.items():
        size = 2 * int(np.prod(shape, dtype=np.int64))
        header[name] = {"dtype": "F16", "shape": list(shape), "data_offsets": [at, at + size]}
        at += size
    encoded = json.dumps(header).encode()
    encoded += b" " * (-len(encoded) % 8)
    with path.open("wb") as file:
        file.write(len(encoded).to_bytes(8, "little") + encoded)
        file.truncate(8 + len(encoded) + at)
    return path


def zeros(config: ModelConfig) -> dict[str, np.ndarray]:
    zero = np.zeros((), np.float16)
    return {name: np.broadcast_to(zero, shape) for name, shape in expected_shapes(config).items()}


def test_a_lone_published_file_of_transformers_is_recognised(tmp_path: Path) -> None:
    config = published(BASE, 32_000)
    theirs = {name: array.shape for name, array in renamed_to(zeros(config), MODEL_TYPES["siglip"].names).items()}
    read, tensors = weights.read_tensors(sparse_file(tmp_path / "siglip.safetensors", theirs))
    tanh = dataclasses.replace(config.vision, activation="gelu_tanh")
    text = dataclasses.replace(config.text, activation="gelu_tanh")
    assert read == dataclasses.replace(config, vision=tanh, text=text, timm_model="")
    assert tensors.keys() == expected_shapes(config).keys()


@pytest.mark.parametrize("vocabulary_size", [32_000, 250_000, 256_000])
@pytest.mark.parametrize("name", [name for name in REAL if name != "vit_so400m_patch14_siglip_384"])
def test_lone_published_files_of_open_clip_are_recognised(name: str, vocabulary_size: int) -> None:
    config = published(name, vocabulary_size)
    shapes = expected_shapes(config)
    assert siglip_file.is_siglip(shapes)
    assert siglip_file.published_config(shapes, "open_clip", "file") == config


@pytest.mark.parametrize(
    ("config", "naming", "says"),
    [
        (published("vit_so400m_patch14_siglip_384"), "open_clip", "which image tower it has .* its open_clip_config"),
        (published(BASE, 50_000), "transformers", "how a vocabulary of 50000 entries pads .* its config.json"),
        (toys.siglip(), "transformers", "which image tower it has .* its config.json, and name it model.safetensors"),
        (published(BASE), "original", "its activation cannot be seen .* its config.json"),
    ],
)
def test_what_lone_files_do_not_tell_is_named(config: ModelConfig, naming: Any, says: str) -> None:
    with pytest.raises(ConfigError, match=f"^file: a SigLIP model, but {says}"):
        siglip_file.published_config(expected_shapes(config), naming, "file")


@pytest.mark.parametrize("to", LAYOUTS)
def test_a_file_beside_its_configuration_and_alone(tmp_path: Path, to: Any) -> None:
    checkpoint = toys.checkpoint(NAMED[BASE])
    folder = weights.write(checkpoint, tmp_path / "out", to)
    (file,) = folder.glob("*.safetensors")
    equal(weights.read(file), checkpoint)
    alone = tmp_path / "alone" / "some.safetensors"
    alone.parent.mkdir()
    save_file(load_file(file), alone)
    wanted = "open_clip_config.json" if to == "open_clip" else "config.json"
    with pytest.raises(ConfigError, match=rf"some.safetensors: a SigLIP model.* put the file beside its {wanted}"):
        weights.read(alone)


# --- hub, commands, logits -----------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("to", LAYOUTS)
def test_a_hub_name(endpoint: Server, to: Any) -> None:
    checkpoint = toys.checkpoint(NAMED[BASE])
    weights.write(checkpoint, endpoint.root / "org/siglip", to)
    read = weights.read("org/siglip")
    equal(read, checkpoint)
    assert read.config.name == "org/siglip"


@pytest.mark.slow
def test_verify_certifies_every_layout_and_convert_writes_graphs(tmp_path: Path) -> None:
    source = weights.write(toys.checkpoint(NAMED[BASE]), tmp_path / "source", "open_clip")
    for to in ("transformers", "tandem"):
        target = tmp_path / to
        assert run_process("convert", source, target, "--to", to).code == 0
        outcome = run_process("verify", source, "--against", target, "--json")
        assert outcome.code == 0, outcome.err
        assert {comparison["verdict"] for comparison in outcome.json["comparisons"]} == {"identical"}
    checkpoint = toys.checkpoint(NAMED[BASE])
    changed = dataclasses.replace(checkpoint, tensors=toys.tensors(checkpoint.config, seed=1))
    other = weights.write(changed, tmp_path / "other")
    assert run_process("verify", source, "--against", other).code == 1
    assert run_process("convert", source, tmp_path / "ir", "--to", "openvino").code == 0
    assert {"image.xml", "text.xml"} <= {entry.name for entry in (tmp_path / "ir").iterdir()}


def test_logits_include_the_bias(tmp_path: Path) -> None:
    model = load(weights.write(toys.checkpoint(toys.siglip()), tmp_path / "out"))
    assert isinstance(model, Model)
    tensors = model.tensors
    assert model.logit_bias == pytest.approx(float(tensors["logit_bias"]))
    a, b = np.eye(3, 128, dtype=np.float32), np.eye(2, 128, dtype=np.float32)
    expected = np.exp(tensors["logit_scale"]) * a @ b.T + tensors["logit_bias"]
    np.testing.assert_allclose(model.logits(a, b), expected, rtol=1e-6)
    assert load().logit_bias == 0


# --- older models --------------------------------------------------------------------------------------------------

# Computed as before models had other families' fields; vectors in people's collections are known by these
BASIC_RESNET = "c0d17372dff9034f56c49708b9e43c2022ab8309f937b8b63fe860fd7126748f"  # a tower of tandem-mini's kind
GOLDEN_VIT = "7f727cad5805fb39deadcdf5b234225bd8de9814be01aaf1a5b584fc22750127"
GOLDEN_VIT_CONFIG = "db9443ecf19e99d8f199184ef57d4b4939c3730a70228591e6ecef331d9b1087"


def test_the_fingerprints_of_older_models_are_unchanged(shared: Path) -> None:
    basic = toys.basic()
    arrays = {
        name: ((np.arange(np.prod(shape)) % 251 - 125) / 1000).reshape(shape).astype(np.float16)
        for name, shape in expected_shapes(basic).items()
    }
    assert weights.fingerprint(Checkpoint(basic, arrays, toys.tokenizer(basic), "basic")) == BASIC_RESNET
    config, tensors = weights.read_tensors(shared / "golden" / "vit-tiny.safetensors")
    golden = Checkpoint(config, tensors, toys.tokenizer(toys.vit()), "golden")
    assert weights.fingerprint(golden) == GOLDEN_VIT
    plain = json.dumps(to_dict(config), sort_keys=True)
    assert hashlib.sha256(plain.encode()).hexdigest() == GOLDEN_VIT_CONFIG
