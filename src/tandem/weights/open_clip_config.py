"""open_clip_config.json, to and from a `ModelConfig`: pure, on plain values.

Fields of `model_cfg` that would make another network than CLIP's are refused by name, never skipped.
"""

from collections.abc import Mapping
from typing import Any, get_args

from tandem.config import (
    CLIP_MEAN,
    CLIP_STD,
    Activation,
    Interpolation,
    ModelConfig,
    Preprocessing,
    ResizeMode,
    ResNet,
    TextTransformer,
    VisionTransformer,
)
from tandem.errors import ConfigError, WeightsError
from tandem.weights.checkpoint import activation_note
from tandem.weights.tokenizer_files import SpecialTokens
from tandem.weights.transformers_config import channels

# What CLIP has; a field that says otherwise makes another network. None and absent mean the default everywhere.
_AS_CLIP: dict[str, dict[str, tuple[Any, ...]]] = {
    "model_cfg": {"multimodal_cfg": (), "init_logit_bias": (), "logit_bias": (), "nonscalar_logit_scale": (False,)},
    "vision_cfg": {
        "timm_model_name": ("",),
        "ls_init_value": (),
        "attentional_pool": (False, ""),
        "no_ln_pre": (False,),
        "pos_embed_type": ("learnable", "sin_cos_2d"),  # the table is stored either way
        "pool_type": ("tok",),
        "act_kwargs": ({},),
        "norm_kwargs": ({}, {"eps": 1e-5}),
        "block_type": ("default",),
    },
    "text_cfg": {
        "hf_model_name": ("",),
        "tokenizer_mode": ("",),
        "tokenizer_kwargs": ({}, {"clean": "lower"}),
        "ls_init_value": (),
        "embed_cls": (False,),
        "no_causal_mask": (False,),
        "pool_type": ("argmax", "eos"),
        "proj_bias": (False,),
        "proj_type": ("linear",),
        "act_kwargs": ({},),
        "norm_kwargs": ({}, {"eps": 1e-5}),
        "block_type": ("default",),
    },
}
_NEVER = ("qk_norm", "scaled_cosine_attn", "scale_heads", "scale_attn_inner", "scale_attn", "scale_fc")
# Fields that change no vector of a trained CLIP (or nothing without a field above), beside those that are read.
_HARMLESS = {
    "model_cfg": {"custom_text", "init_logit_scale", "cast_dtype", "output_dict"},
    "vision_cfg": {
        "patch_dropout",
        "output_tokens",
        "final_ln_after_pool",
        "attn_pooler_queries",
        "attn_pooler_heads",
        "timm_model_pretrained",
        "timm_pool",
        "timm_proj",
        "timm_proj_bias",
        "timm_drop",
        "timm_drop_path",
    },
    "text_cfg": {
        "output_tokens",
        "final_ln_after_pool",
        "hf_tokenizer_name",
        "hf_model_pretrained",
        "hf_proj_type",
        "hf_pooler_type",
        "eos_id",
    },
}
_READ = {
    "model_cfg": {"embed_dim", "quick_gelu", "vision_cfg", "text_cfg"},
    "vision_cfg": {"layers", "width", "head_width", "mlp_ratio", "patch_size", "image_size"},
    "text_cfg": {"context_length", "vocab_size", "width", "heads", "layers", "mlp_ratio", "pad_id"},
}


def config_from(plain: Mapping[str, Any], tokens: SpecialTokens, source: str) -> ModelConfig:
    """`open_clip_config.json` as a `ModelConfig`; keys left out mean open_clip's defaults.

    Raises `ConfigError` that names the source and the field that Tandem cannot build.
    """
    model = _mapping(plain, "model_cfg", source)
    vision, text = _mapping(model, "vision_cfg", source), _mapping(model, "text_cfg", source)
    for where, values in (("model_cfg", model), ("vision_cfg", vision), ("text_cfg", text)):
        _refuse_others(values, where, source)
    if text.get("hf_tokenizer_name") and tokens == SpecialTokens():
        raise ConfigError(
            f"{source}: text_cfg.hf_tokenizer_name = {text['hf_tokenizer_name']!r}: expected that tokenizer's files "
            "beside it; put its tokenizer.json there"
        )
    activation: Activation = "quick_gelu" if model.get("quick_gelu") else "gelu"
    notes = {}
    if "quick_gelu" not in model:
        notes["activation"] = activation_note(source, "gelu", "which is open_clip's default")
    image_size = _number(vision, "image_size", 224, source)
    width = _number(vision, "width", 768, source)
    head_width = _number(vision, "head_width", 64, source)
    tower: VisionTransformer | ResNet
    if isinstance(vision.get("layers"), list):
        blocks: Any = tuple(vision["layers"])
        tower = ResNet(image_size, blocks, width, width * 32 // head_width)
    else:
        tower = VisionTransformer(
            image_size,
            _number(vision, "patch_size", 16, source),
            width,
            _number(vision, "layers", 12, source),
            width // head_width,
            int(width * _ratio(vision, source)),
            activation,
        )
    text_width, vocabulary_size = _number(text, "width", 512, source), _number(text, "vocab_size", 49408, source)
    try:
        return ModelConfig(
            _number(model, "embed_dim", None, source),
            tower,
            TextTransformer(
                _number(text, "context_length", 77, source),
                vocabulary_size,
                text_width,
                _number(text, "layers", 12, source),
                _number(text, "heads", 8, source),
                int(text_width * _ratio(text, source)),
                activation,
                vocabulary_size - 2 if tokens.start_id is None else tokens.start_id,
                _end_id(text, vocabulary_size, tokens, source),
                _number(text, "pad_id", 0, source),
            ),
            preprocessing_from(plain.get("preprocess_cfg") or {}, image_size, source),
            notes=notes,
        )
    except ConfigError as error:
        raise ConfigError(str(error) if str(error).startswith(source) else f"{source}: {error}") from None


def _refuse_others(values: Mapping[str, Any], where: str, source: str) -> None:
    for key, value in values.items():
        allowed = _AS_CLIP[where].get(key, (False,) if key in _NEVER else None)
        if allowed is None:
            if key not in _READ[where] and key not in _HARMLESS[where]:
                raise ConfigError(f"{source}: {where}.{key} = {value!r}: a field that Tandem does not know")
        elif value is not None and value not in allowed:
            wanted = " or ".join(repr(one) for one in allowed) or "no such field"
            raise ConfigError(f"{source}: {where}.{key} = {value!r}: Tandem cannot build that (expected {wanted})")


def _mapping(plain: Mapping[str, Any], key: str, source: str) -> dict[str, Any]:
    value = plain.get(key)
    if not isinstance(value, dict):
        raise ConfigError(f"{source}: {key}: expected a mapping, got {value!r}")
    return value


def _number(values: Mapping[str, Any], key: str, default: int | None, source: str) -> int:
    value = values.get(key)
    if isinstance(value, list) and len(set(value)) == 1:  # a square given by both sides
        value = value[0]
    value = default if value is None else value
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise ConfigError(f"{source}: {key}: expected a whole number, got {value!r}")
    return value


def _ratio(values: Mapping[str, Any], source: str) -> float:
    value = values.get("mlp_ratio")
    value = 4.0 if value is None else value
    if not isinstance(value, int | float) or not value > 0:
        raise ConfigError(f"{source}: mlp_ratio: expected a positive number, got {value!r}")
    return float(value)


def _end_id(text: Mapping[str, Any], vocabulary_size: int, tokens: SpecialTokens, source: str) -> int:
    """open_clip pools at the largest id, or, with pool_type eos, at the first `eos_id`; ours is always the latter."""
    if text.get("pool_type") == "eos":
        return _number(text, "eos_id", 2, source)
    if tokens.end_id is not None and tokens.end_id != vocabulary_size - 1:
        raise ConfigError(
            f"{source}: text_cfg.pool_type: open_clip would pool at the largest id, {vocabulary_size - 1}, but the "
            f"tokenizer ends sentences with {tokens.end_id}; expected pool_type 'eos' with that eos_id"
        )
    return vocabulary_size - 1


# --- preprocessing -------------------------------------------------------------------------------------------------


def preprocessing_from(plain: Mapping[str, Any], image_size: int, source: str) -> Preprocessing:
    """`preprocess_cfg` as `Preprocessing`; keys left out mean open_clip's defaults, which are CLIP's own."""
    given = {key: value for key, value in plain.items() if value is not None}
    if given.get("mode", "RGB") != "RGB":
        raise ConfigError(f"{source}: preprocess_cfg.mode: expected 'RGB', got {given['mode']!r}")
    if _number(given, "size", image_size, source) != image_size:
        raise ConfigError(f"{source}: preprocess_cfg.size: expected {image_size} as the model, got {given['size']!r}")
    for key, allowed in (("interpolation", get_args(Interpolation)), ("resize_mode", get_args(ResizeMode))):
        if given.get(key, allowed[0]) not in allowed:
            raise ConfigError(
                f"{source}: preprocess_cfg.{key}: expected one of {', '.join(allowed)}, got {given[key]!r}"
            )
    return Preprocessing(
        image_size,
        channels(given.get("mean", CLIP_MEAN), f"{source}: preprocess_cfg.mean"),
        channels(given.get("std", CLIP_STD), f"{source}: preprocess_cfg.std"),
        given.get("resize_mode", "shortest"),
        given.get("interpolation", "bicubic"),
        _number(given, "fill_color", 0, source),
    )


# --- writing ---------------------------------------------------------------------------------------------------------


def config_to(config: ModelConfig) -> dict[str, Any]:
    """`open_clip_config.json`. Raises `WeightsError` for a model that open_clip has no description for."""
    vision, text = config.vision, config.text
    shape: dict[str, Any] = {"image_size": vision.image_size, "width": vision.width}
    if isinstance(vision, VisionTransformer):
        if vision.activation != text.activation:
            raise WeightsError("open_clip has one activation for both towers: write it as 'tandem' or 'transformers'")
        shape |= {
            "layers": vision.layers,
            "patch_size": vision.patch_size,
            "head_width": vision.width // vision.heads,
            "mlp_ratio": _ratio_of(vision.mlp_width, vision.width),
        }
    else:
        if vision.block != "bottleneck" or vision.stem_stride != 4:
            raise WeightsError(
                "open_clip has no ResNet of basic blocks or with a stem of stride 2: write it as 'tandem'"
            )
        head_width = vision.width * 32 // vision.heads
        if vision.width * 32 // head_width != vision.heads:
            raise WeightsError(f"open_clip cannot give {vision.heads} heads to {vision.width * 32} channels")
        shape |= {"layers": list(vision.layers), "patch_size": None, "head_width": head_width}
    described: dict[str, Any] = {
        "context_length": text.context_length,
        "vocab_size": text.vocabulary_size,
        "width": text.width,
        "heads": text.heads,
        "layers": text.layers,
        "mlp_ratio": _ratio_of(text.mlp_width, text.width),
    }
    if text.pad_id != 0:
        described["pad_id"] = text.pad_id
    if text.end_id != text.vocabulary_size - 1:
        described |= {"pool_type": "eos", "eos_id": text.end_id}
    preprocessing = config.preprocessing
    return {
        "model_cfg": {
            "embed_dim": config.embed_dim,
            "quick_gelu": text.activation == "quick_gelu",
            "vision_cfg": shape,
            "text_cfg": described,
        },
        "preprocess_cfg": {
            "size": preprocessing.image_size,
            "mean": list(preprocessing.mean),
            "std": list(preprocessing.std),
            "interpolation": preprocessing.interpolation,
            "resize_mode": preprocessing.resize_mode,
            "fill_color": preprocessing.fill,
        },
    }


def _ratio_of(mlp_width: int, width: int) -> float:
    """A ratio that gives `mlp_width` back after open_clip's rounding down."""
    ratio = mlp_width / width
    return ratio if int(width * ratio) == mlp_width else (mlp_width + 0.5) / width
