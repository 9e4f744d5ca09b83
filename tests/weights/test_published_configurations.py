"""Published configurations: plain CLIPs are read for what they are, other architectures are refused by name."""

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from support import weights_toys as toys

from tandem import engine as engines
from tandem import weights
from tandem.config import CLIP_MEAN, CLIP_STD, ModelConfig, VisionTransformer
from tandem.errors import ConfigError, TandemError, WeightsError
from tandem.weights import open_clip_config, transformers_config
from tandem.weights.architectures import architecture
from tandem.weights.tokenizer_files import SpecialTokens

PAGE = Path(__file__).resolve().parents[2] / "docs" / "families.md"
HALF = (0.5, 0.5, 0.5)
TEXT = {"context_length": 77, "vocab_size": 49408, "width": 512, "heads": 8, "layers": 12}
L_14 = {
    "embed_dim": 768,
    "vision_cfg": {"image_size": 224, "layers": 24, "width": 1024, "patch_size": 14},
    "text_cfg": {**TEXT, "width": 768, "heads": 12},
}
B_32 = {
    "embed_dim": 512,
    "vision_cfg": {"image_size": 224, "layers": 12, "width": 768, "patch_size": 32},
    "text_cfg": TEXT,
}
B_16 = {**B_32, "vision_cfg": {"image_size": 224, "layers": 12, "width": 768, "patch_size": 16}}
H_14 = {
    "embed_dim": 1024,
    "vision_cfg": {"image_size": 224, "layers": 32, "width": 1280, "head_width": 80, "patch_size": 14},
    "text_cfg": {**TEXT, "width": 1024, "heads": 16, "layers": 24},
}


def preprocess(**changes: Any) -> dict[str, Any]:
    """`preprocess_cfg` as open_clip writes it for its hub folders."""
    plain = {"mean": list(CLIP_MEAN), "std": list(CLIP_STD), "interpolation": "bicubic", "resize_mode": "shortest"}
    return {**plain, **changes}


def from_open_clip(model: dict[str, Any], **preprocessing: Any) -> ModelConfig:
    plain = {"model_cfg": model, "preprocess_cfg": preprocess(**preprocessing)}
    return open_clip_config.config_from(plain, SpecialTokens(49406, 49407, None), "c")


# --- plain CLIP: open_clip ---------------------------------------------------------------------------------------


def test_laion_2b_l_14_has_a_mean_of_its_own() -> None:
    config = from_open_clip(L_14, mean=list(HALF), std=list(HALF))
    assert (config.preprocessing.mean, config.preprocessing.std) == (HALF, HALF)
    assert config.activation == "gelu"
    assert (config.preprocessing.resize_mode, config.preprocessing.interpolation) == ("shortest", "bicubic")


@pytest.mark.parametrize(("model", "quick"), [(B_16, True), (L_14, True), (L_14, False)], ids=["B", "L", "L-39B"])
def test_dfn_2b_has_quick_gelu_but_for_its_longest_training(model: dict[str, Any], quick: bool) -> None:
    config = from_open_clip({**model, "quick_gelu": True} if quick else model)
    assert config.activation == ("quick_gelu" if quick else "gelu")
    assert (config.preprocessing.mean, config.preprocessing.std) == (CLIP_MEAN, CLIP_STD)
    assert ("activation" in config.notes) is not quick  # what is left out is warned of


def test_dfn_5b_squashes() -> None:
    config = from_open_clip({**H_14, "quick_gelu": True}, resize_mode="squash")
    assert config.activation == "quick_gelu"
    assert config.preprocessing.resize_mode == "squash"
    assert (config.vision.heads, config.vision.mlp_width) == (16, 5120)


@pytest.mark.parametrize("model", [B_32, H_14, L_14], ids=["DataComp", "LAION-2B H", "BioCLIP 2"])
def test_datacomp_laion_and_bioclip_are_read_with_exact_gelu_and_clips_tokenizer(model: dict[str, Any]) -> None:
    config = from_open_clip(model)
    assert config.activation == "gelu"
    text = config.text
    assert (text.start_id, text.end_id, text.pad_id, text.cleaning) == (49406, 49407, 0, "clip")
    assert (text.causal, text.pooling, text.fixed_length) == (True, "end", False)


def test_tinyclip_has_towers_of_other_depths_and_heads_of_64() -> None:
    """As its own repository configures it."""
    config = from_open_clip(
        {
            "embed_dim": 512,
            "vision_cfg": {"image_size": 224, "layers": 10, "width": 256, "patch_size": 16},
            "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 256, "heads": 4, "layers": 3},
            "quick_gelu": True,
        }
    )
    assert config.vision == VisionTransformer(224, 16, 256, 10, 4, 1024, "quick_gelu")
    assert (config.text.layers, config.text.heads, config.text.mlp_width) == (3, 4, 1024)


def test_remoteclip_is_a_lone_file_that_names_no_activation(tmp_path: Path) -> None:
    """A state dict under OpenAI's names, for open_clip's plain ViT-B-32, whose activation is the exact GELU."""
    config = toys.vit(activation="gelu")
    torch.save(toys.to_torch(toys.tensors(config)), tmp_path / "RemoteCLIP-ViT-B-32.pt")
    assumed, _ = weights.read_tensors(tmp_path / "RemoteCLIP-ViT-B-32.pt")
    assert "activation='gelu'" in assumed.notes["activation"]
    asked, _ = weights.read_tensors(tmp_path / "RemoteCLIP-ViT-B-32.pt", activation="gelu")
    assert (asked.vision, asked.text) == (config.vision, config.text)
    assert "activation" not in asked.notes


# --- plain CLIP: transformers ------------------------------------------------------------------------------------


def transformers(vision: dict[str, Any], text: dict[str, Any], **whole: Any) -> dict[str, Any]:
    """config.json as transformers 4 wrote most of them: the ids are its old defaults, not CLIP's."""
    return {
        "architectures": ["CLIPModel"],
        "initializer_factor": 1.0,
        "logit_scale_init_value": 2.6592,
        "model_type": "clip",
        "projection_dim": 512,
        "text_config": {
            "model_type": "clip_text_model",
            "bos_token_id": 0,
            "eos_token_id": 2,
            "pad_token_id": 1,
            **text,
        },
        "vision_config": {"model_type": "clip_vision_model", **vision},
        **whole,
    }


def preprocessor(size: int = 224, **changes: Any) -> dict[str, Any]:
    return {
        "crop_size": {"height": size, "width": size},
        "do_center_crop": True,
        "do_convert_rgb": True,
        "do_normalize": True,
        "do_rescale": True,
        "do_resize": True,
        "image_mean": list(CLIP_MEAN),
        "image_processor_type": "CLIPImageProcessor",
        "image_std": list(CLIP_STD),
        "resample": 3,
        "rescale_factor": 0.00392156862745098,
        "size": {"shortest_edge": size},
        **changes,
    }


IN_TRANSFORMERS = {
    # FashionCLIP and PubMedCLIP: ViT-B/32 with every size left to transformers' defaults
    "FashionCLIP": (transformers({}, {}), preprocessor(), VisionTransformer(224, 32, 768, 12, 12, 3072, "quick_gelu")),
    # PubMedCLIP's processor is of an older version: sizes are numbers
    "PubMedCLIP": (
        transformers({"hidden_act": "quick_gelu"}, {"hidden_act": "quick_gelu"}),
        {
            "crop_size": 224, "do_center_crop": True, "do_normalize": True, "do_resize": True,
            "feature_extractor_type": "CLIPFeatureExtractor", "image_mean": list(CLIP_MEAN),
            "image_std": list(CLIP_STD), "resample": 3, "size": 224,
        },
        VisionTransformer(224, 32, 768, 12, 12, 3072, "quick_gelu"),
    ),
    "StreetCLIP": (
        transformers(
            {
                "image_size": 336, "patch_size": 14, "hidden_size": 1024, "intermediate_size": 4096,
                "num_attention_heads": 16, "num_hidden_layers": 24, "hidden_act": "quick_gelu",
            },
            {
                "hidden_size": 768, "intermediate_size": 3072, "num_attention_heads": 12, "hidden_act": "quick_gelu",
            },
            projection_dim=768,
        ),
        preprocessor(336),
        VisionTransformer(336, 14, 1024, 24, 16, 4096, "quick_gelu"),
    ),
    "TinyCLIP": (
        transformers(
            {
                "patch_size": 16, "hidden_size": 256, "intermediate_size": 1024, "num_attention_heads": 4,
                "num_hidden_layers": 10, "hidden_act": "quick_gelu",
            },
            {
                "hidden_size": 256, "intermediate_size": 1024, "num_attention_heads": 4, "num_hidden_layers": 3,
                "hidden_act": "quick_gelu",
            },
        ),
        preprocessor(),
        VisionTransformer(224, 16, 256, 10, 4, 1024, "quick_gelu"),
    ),
    # Its heads are wider than 64: they are what the file says, never a guess from the width
    "wide heads": (
        transformers({"hidden_size": 768, "num_attention_heads": 6, "hidden_act": "gelu"}, {"hidden_act": "gelu"}),
        preprocessor(),
        VisionTransformer(224, 32, 768, 12, 6, 3072, "gelu"),
    ),
    "MetaCLIP 1": (
        transformers(
            {"patch_size": 16, "hidden_act": "quick_gelu"}, {"hidden_act": "quick_gelu", "eos_token_id": 49407}
        ),
        preprocessor(),
        VisionTransformer(224, 16, 768, 12, 12, 3072, "quick_gelu"),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", IN_TRANSFORMERS)
def test_published_transformers_configurations_are_read(name: str) -> None:
    plain, processor, vision = IN_TRANSFORMERS[name]
    config = transformers_config.config_from(plain, processor, SpecialTokens(49406, 49407, None), "c")
    assert config.vision == vision
    assert config.text.activation == vision.activation
    assert (config.text.start_id, config.text.end_id, config.text.pooling) == (49406, 49407, "end")
    made = config.preprocessing
    assert (made.mean, made.std, made.resize_mode, made.interpolation) == (CLIP_MEAN, CLIP_STD, "shortest", "bicubic")
    assert made.image_size == vision.image_size


# --- LongCLIP ----------------------------------------------------------------------------------------------------


def test_longclips_two_tables_of_positions_are_read_as_one(tmp_path: Path) -> None:
    """x + table * (position < 20) + other table * (position >= 20), as it is published."""
    config = toys.vit(context_length=248)
    tensors = toys.tensors(config)
    first, second = tensors["positional_embedding"], toys.tensors(config, seed=1)["positional_embedding"]
    torch.save(toys.to_torch({**tensors, "positional_embedding_res": second}), tmp_path / "longclip-B.pt")
    read, found = weights.read_tensors(tmp_path / "longclip-B.pt", activation="quick_gelu")
    early = np.arange(248)[:, None] < 20
    np.testing.assert_array_equal(found["positional_embedding"], first * early + second * ~early)
    toys.same({**found, "positional_embedding": first}, tensors)
    assert read.text == config.text

    long = np.array([[config.text.start_id, *[5] * 200, config.text.end_id]], np.int32)
    changed = long.copy()
    changed[0, 150] = 6
    engine = engines.build(read, found)
    assert abs(engine.encode_texts(long) - engine.encode_texts(changed)).max() > 1e-6


def test_longclip_in_transformers_layout(tmp_path: Path) -> None:
    checkpoint = toys.checkpoint(toys.vit(context_length=248))
    for to in ("transformers", "open_clip", "tandem"):
        back = weights.read(weights.write(checkpoint, tmp_path / to, to))
        assert back.config.text.context_length == 248
        toys.same(back.tensors, checkpoint.tensors)


def test_a_second_table_of_another_length_is_named(tmp_path: Path) -> None:
    tensors = toys.tensors(toys.vit())
    tensors["positional_embedding_res"] = tensors["positional_embedding"][:9]
    torch.save(toys.to_torch(tensors), tmp_path / "odd.pt")
    with pytest.raises(WeightsError, match=r"1 surplus: positional_embedding_res \[9, 64\]"):
        weights.read_tensors(tmp_path / "odd.pt")


# --- other architectures -----------------------------------------------------------------------------------------


def timm_model(name: str, **vision: Any) -> dict[str, Any]:
    cfg = {"image_size": 224, "timm_model_name": name, "timm_model_pretrained": False, **vision}
    return {"embed_dim": 512, "vision_cfg": cfg, "text_cfg": TEXT, "custom_text": True}


def hugging_face_text(name: str, **model: Any) -> dict[str, Any]:
    text = {"hf_model_name": name, "hf_tokenizer_name": name, "hf_proj_type": "linear", "hf_pooler_type": "cls_pooler"}
    return {**B_32, "text_cfg": text, **model}


# As open_clip's own configurations have them
REFUSED_BY_OPEN_CLIPS_FIELDS = {
    "EVA01-g-14": (
        timm_model("eva_giant_patch14_224", timm_pool="token", timm_proj=None),
        "vision_cfg.timm_model_name",
    ),
    "EVA02-B-16": (
        timm_model("eva02_base_patch16_clip_224", timm_pool="token", timm_proj=None),
        "vision_cfg.timm_model_name",
    ),
    "EVA02-L-14-336": (
        timm_model("eva02_large_patch14_clip_336", timm_pool="token", timm_proj=None),
        "vision_cfg.timm_model_name",
    ),
    "convnext_base_w": (
        timm_model("convnext_base", timm_pool="", timm_proj="linear", timm_drop=0.0, timm_drop_path=0.1),
        "vision_cfg.timm_model_name",
    ),
    "ViTamin-L": (
        timm_model("vitamin_large_224", timm_pool="", timm_proj="linear", timm_drop=0.0, timm_drop_path=0.1),
        "vision_cfg.timm_model_name",
    ),
    "swin_base_patch4_window7_224": (
        timm_model("swin_base_patch4_window7_224", timm_pool="", timm_proj="linear"),
        "vision_cfg.timm_model_name",
    ),
    "coca_ViT-B-32": (
        {
            "embed_dim": 512,
            "vision_cfg": {
                "image_size": 224, "layers": 12, "width": 768, "patch_size": 32, "attentional_pool": True,
                "attn_pooler_heads": 8, "output_tokens": True,
            },
            "text_cfg": {**TEXT, "context_length": 76, "embed_cls": True, "output_tokens": True},
            "multimodal_cfg": {
                "context_length": 76, "vocab_size": 49408, "width": 512, "heads": 8, "layers": 12,
                "attn_pooler_heads": 8,
            },
            "custom_text": True,
        },
        "model_cfg.multimodal_cfg",
    ),
    "nllb-clip-base": (hugging_face_text("facebook/nllb-200-distilled-600M"), "text_cfg.hf_model_name"),
    "nllb-clip-base-siglip": (
        {
            **timm_model("vit_base_patch16_siglip_384", timm_pool="map", timm_proj="none"),
            "text_cfg": hugging_face_text("facebook/nllb-200-distilled-600M")["text_cfg"],
            "init_logit_bias": -10,
        },
        "text_cfg.hf_model_name",
    ),
    "mt5-base-ViT-B-32": (
        hugging_face_text("google/mt5-base") | {"embed_dim": 512},
        "text_cfg.hf_model_name",
    ),
    "ViT-M-16-alt": (
        {
            "embed_dim": 384,
            "vision_cfg": {
                "image_size": 224, "layers": 12, "width": 512, "patch_size": 16, "ls_init_value": 1e-4,
            },
            "text_cfg": {**TEXT, "width": 384, "heads": 6},
        },
        "vision_cfg.ls_init_value",
    ),
    "ViT-L-14-CLIPS-224": (
        {
            **L_14,
            "text_cfg": {**TEXT, "width": 768, "heads": 12, "context_length": 80, "tokenizer_mode": "clips"},
        },
        "text_cfg.tokenizer_mode",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED_BY_OPEN_CLIPS_FIELDS)
def test_other_architectures_of_open_clip_are_refused_by_their_field(name: str, tmp_path: Path) -> None:
    model, field = REFUSED_BY_OPEN_CLIPS_FIELDS[name]
    source = str(tmp_path / "open_clip_config.json")
    shapes = weights.expected_shapes(architecture("ViT-B-16-SigLIP-384")) if name.endswith("-siglip") else {}
    with pytest.raises(ConfigError) as error:
        open_clip_config.config_from(
            {"model_cfg": model, "preprocess_cfg": preprocess()}, SpecialTokens(0, 2, 1), source, shapes
        )
    message = str(error.value)
    assert message.startswith(f"{source}: {field}")
    assert "docs/families.md" in message
    assert "\n" not in message
    assert f"`{field.rpartition('.')[2]}`" in PAGE.read_text()


REFUSED_MODEL_TYPES = {
    "jina_clip": {"add_projections": False, "architectures": ["JinaCLIPModel"], "projection_dim": 1024},
    "nomic_bert": {"architectures": ["NomicVisionModel"], "n_embd": 768, "n_head": 12, "patch_size": 16},
    "align": {"architectures": ["AlignModel"], "projection_dim": 640},
    "altclip": {"architectures": ["AltCLIPModel"], "projection_dim": 768},
    "blip": {"architectures": ["BlipForImageTextRetrieval"], "projection_dim": 512},
    "chinese_clip": {"architectures": ["ChineseCLIPModel"], "projection_dim": 512},
    "clipseg": {"architectures": ["CLIPSegForImageSegmentation"], "projection_dim": 512},
    "flava": {"architectures": ["FlavaForPreTraining"], "projection_dim": 768},
    "groupvit": {"architectures": ["GroupViTModel"], "projection_dim": 256},
    "vision-text-dual-encoder": {"architectures": ["VisionTextDualEncoderModel"], "projection_dim": 512},
    "clip_vision_model": {"architectures": ["CLIPVisionModelWithProjection"], "hidden_size": 1024},
}


@pytest.mark.parametrize("model_type", REFUSED_MODEL_TYPES)
def test_other_model_types_of_transformers_are_refused_by_name(model_type: str, tmp_path: Path) -> None:
    plain = {"model_type": model_type, "vision_config": {}, "text_config": {}, **REFUSED_MODEL_TYPES[model_type]}
    (tmp_path / "config.json").write_text(json.dumps(plain))
    (tmp_path / "model.safetensors").write_bytes(b"")
    with pytest.raises(TandemError) as error:
        weights.read(tmp_path)
    message = str(error.value)
    assert message.startswith(f"{tmp_path / 'config.json'}: model_type: expected one of clip, ")
    assert f"got '{model_type}'" in message
    assert "docs/families.md" in message


def test_every_field_and_family_of_the_page_is_one_that_is_refused() -> None:
    """The table of refusals names no field that no test holds."""
    table = PAGE.read_text().partition("## What is refused")[2]
    fields = {
        name for row in table.splitlines() if row.startswith("| ") for name in re.findall(r"`(\w+)`", row.split("|")[2])
    }
    tested = {field.rpartition(".")[2] for _, field in REFUSED_BY_OPEN_CLIPS_FIELDS.values()}
    assert fields == tested | {"model_type", "jina_clip", "nomic_bert"}
