"""Renaming between formats is pure and reversible, and its names are those that the libraries themselves write."""

from typing import Any

import numpy as np
import pytest
from support import weights_toys as toys

from tandem.config import PUBLISHED, ModelConfig, VisionTransformer
from tandem.errors import ConfigError, WeightsError
from tandem.weights import check_tensors, config_from_shapes, expected_shapes, parameter_count
from tandem.weights.names import naming_of, renamed_to, strip_prefixes, to_original
from tandem.weights.transformers_types import MODEL_TYPES

CLIP_NAMES = MODEL_TYPES["clip"].names


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_transformers_there_and_back_keeps_every_bit(dtype: str) -> None:
    arrays = toys.tensors(toys.vit(), dtype)
    theirs = renamed_to(arrays, CLIP_NAMES)
    assert not set(theirs) & set(arrays) - {"logit_scale"}
    back, naming = to_original(theirs)
    assert naming == "transformers"
    toys.same(back, arrays)


def test_transformers_names_are_those_of_its_own_model() -> None:
    transformers = pytest.importorskip("transformers")
    config = toys.vit()
    vision, text = config.vision, config.text
    assert isinstance(vision, VisionTransformer)
    model = transformers.CLIPModel(
        transformers.CLIPConfig(
            projection_dim=48,
            text_config={
                "vocab_size": text.vocabulary_size,
                "hidden_size": text.width,
                "intermediate_size": text.mlp_width,
                "num_hidden_layers": text.layers,
                "num_attention_heads": text.heads,
                "max_position_embeddings": text.context_length,
            },
            vision_config={
                "image_size": vision.image_size,
                "patch_size": vision.patch_size,
                "hidden_size": vision.width,
                "intermediate_size": vision.mlp_width,
                "num_hidden_layers": vision.layers,
                "num_attention_heads": vision.heads,
            },
        )
    )
    theirs = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items() if "position_ids" not in name}
    ours = {name: array.shape for name, array in renamed_to(toys.tensors(config), CLIP_NAMES).items()}
    assert ours == theirs


def test_the_fused_projection_is_stacked_in_the_order_q_k_v() -> None:
    block = "text_model.encoder.layers.3.self_attn"
    parts = {f"{block}.{part}_proj.weight": np.full((2, 2), i) for i, part in enumerate("qkv")}
    renamed, _ = to_original(dict(reversed(parts.items())))
    fused = renamed["transformer.resblocks.3.attn.in_proj_weight"]
    np.testing.assert_array_equal(fused[:, 0], [0, 0, 1, 1, 2, 2])


def test_a_missing_part_of_the_fused_projection_is_left_for_the_check_to_name() -> None:
    theirs = renamed_to(toys.tensors(toys.vit()), CLIP_NAMES)
    del theirs["vision_model.encoder.layers.1.self_attn.k_proj.bias"]
    renamed, _ = to_original(theirs)
    with pytest.raises(WeightsError, match=r"1 missing: visual.transformer.resblocks.1.attn.in_proj_bias") as error:
        check_tensors(renamed, toys.vit(), "file")
    assert "vision_model.encoder.layers.1.self_attn.q_proj.bias" in str(error.value)


def test_projections_are_transposed_and_position_ids_dropped() -> None:
    theirs = {
        "visual_projection.weight": np.arange(6).reshape(2, 3),
        "vision_model.embeddings.position_ids": np.arange(4),
        "text_model.embeddings.position_ids": np.arange(4),
    }
    renamed, _ = to_original(theirs)
    assert list(renamed) == ["visual.proj"]
    np.testing.assert_array_equal(renamed["visual.proj"], np.arange(6).reshape(2, 3).T)
    assert renamed["visual.proj"].flags.c_contiguous


def test_a_resnet_has_no_place_in_transformers() -> None:
    with pytest.raises(KeyError, match=r"visual\."):
        renamed_to(toys.tensors(toys.resnet()), CLIP_NAMES)
    assert CLIP_NAMES.theirs("visual.layer1.0.conv1.weight") is None


@pytest.mark.parametrize("config", [toys.vit(), toys.resnet()], ids=["vit", "resnet"])
@pytest.mark.parametrize("prefix", ["", "module.", "_orig_mod.", "module._orig_mod.", "model.", "clip_model."])
@pytest.mark.parametrize("in_text", [False, True])
def test_wrappers_and_the_text_prefix_go(config: ModelConfig, prefix: str, in_text: bool) -> None:
    arrays = toys.tensors(config)
    wrapped: dict[str, Any] = {"attn_mask": np.zeros((3, 3))}
    for name, array in arrays.items():
        inside = in_text and name != "logit_scale" and not name.startswith("visual.")
        wrapped[f"text.{name}" if inside else name] = array
    wrapped = {f"{prefix}{name}": array for name, array in wrapped.items()}
    back, naming = to_original(wrapped)
    assert naming == ("open_clip" if in_text else "original")
    toys.same(back, arrays)


def test_prefixes_go_only_where_all_names_have_them() -> None:
    assert strip_prefixes(["module.a", "module.b"]) == {"module.a": "a", "module.b": "b"}
    assert strip_prefixes(["module.a", "b"]) == {"module.a": "module.a", "b": "b"}
    assert strip_prefixes([]) == {}


def test_a_logit_scale_of_one_element_becomes_a_scalar() -> None:
    renamed, _ = to_original({"logit_scale": np.array([4.6], np.float32), "visual.proj": np.zeros((2, 2))})
    assert renamed["logit_scale"].shape == ()


def test_naming_of_unknown_names_is_the_originals() -> None:
    assert naming_of(["a", "b"]) == "original"


# --- shapes ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", list(PUBLISHED))
def test_a_published_configuration_follows_from_its_shapes(name: str) -> None:
    config = PUBLISHED[name]
    read = config_from_shapes(expected_shapes(config), "file", activation="quick_gelu")
    assert (read.embed_dim, read.vision, read.text) == (config.embed_dim, config.vision, config.text)
    assert read.preprocessing == config.preprocessing


def test_parameter_counts_are_the_published_ones() -> None:
    counts = {name: parameter_count(PUBLISHED[name]) for name in ("RN50", "ViT-B/32", "ViT-L/14")}
    assert counts == {"RN50": 102_007_137, "ViT-B/32": 151_277_313, "ViT-L/14": 427_616_513}


@pytest.mark.parametrize("config", [toys.vit(), toys.resnet(), toys.basic()], ids=["vit", "resnet", "basic"])
def test_expected_shapes_are_those_of_the_torch_definition(config: ModelConfig) -> None:
    nn = pytest.importorskip("tandem.nn")
    theirs = {name: tuple(tensor.shape) for name, tensor in nn.CLIP(config).state_dict().items()}
    theirs = {name: shape for name, shape in theirs.items() if not name.endswith("num_batches_tracked")}
    assert expected_shapes(config) == theirs


def test_the_check_names_what_is_missing_surplus_and_misshapen() -> None:
    config = toys.vit()
    arrays = toys.tensors(config)
    del arrays["visual.ln_post.weight"]
    arrays["logit_bias"] = np.zeros(())
    arrays["visual.proj"] = arrays["visual.proj"].T
    arrays["ln_final.bias"] = arrays["ln_final.bias"].astype(np.int64)
    with pytest.raises(WeightsError) as error:
        check_tensors(arrays, config, "model.safetensors", lambda name: name.upper())
    message = str(error.value)
    assert message.startswith("model.safetensors: ")
    assert "1 missing: VISUAL.LN_POST.WEIGHT (expected [64])" in message
    assert "1 surplus: LOGIT_BIAS []" in message
    assert "1 wrong shape: VISUAL.PROJ: expected [64, 48], came [48, 64]" in message
    assert "1 wrong dtype: LN_FINAL.BIAS: expected floating point, came int64" in message


def test_the_check_counts_what_it_does_not_spell_out() -> None:
    with pytest.raises(WeightsError, match=r"missing: .* and \d+ more") as error:
        check_tensors({}, toys.vit(), "file")
    assert len(str(error.value)) < 600


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"visual.trunk.stem.weight": (3, 3), "visual.conv1.weight": None}, "timm"),
        ({"token_embedding.weight": None}, "no tensor 'token_embedding.weight'"),
        ({"visual.positional_embedding": (18, 64)}, "expected a square of positions and one more, got 18"),
        ({"visual.conv1.weight": (64, 3)}, "visual.conv1.weight: expected 4 dimensions"),
    ],
)
def test_shapes_of_another_model_are_refused(change: dict[str, Any], says: str) -> None:
    shapes: dict[str, Any] = {**expected_shapes(toys.vit()), **change}
    shapes = {name: shape for name, shape in shapes.items() if shape is not None}
    with pytest.raises(ConfigError, match=says):
        config_from_shapes(shapes, "file.pt", activation="gelu")


def test_basic_blocks_need_their_configuration() -> None:
    with pytest.raises(ConfigError, match="stem"):
        config_from_shapes(expected_shapes(toys.basic()), "file.pt", activation="gelu")
