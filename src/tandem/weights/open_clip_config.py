"""open_clip_config.json, to and from a `ModelConfig`: pure, on plain values.

Fields of `model_cfg` that would make another network than CLIP's are refused by name, never skipped.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal, TypeVar

from tandem import fields
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
from tandem.fields import NonNegative, Positive, Range
from tandem.weights.checkpoint import activation_note
from tandem.weights.tokenizer_files import SpecialTokens
from tandem.weights.transformers_config import channels, squares

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


_Kind = TypeVar("_Kind")
_Ratio = Annotated[float, Range(above=0)]


@dataclass(frozen=True)
class _Model:
    """What is read of `model_cfg`; the defaults here and below are open_clip's own."""

    embed_dim: Positive


@dataclass(frozen=True)
class _Vision:
    """What is read of `vision_cfg` for a Vision Transformer."""

    image_size: Positive = 224
    patch_size: Positive = 16
    width: Positive = 768
    layers: Positive = 12
    head_width: Positive = 64
    mlp_ratio: _Ratio = 4.0


@dataclass(frozen=True)
class _ResNet:
    """What is read of `vision_cfg` where `layers` is a list."""

    layers: tuple[Positive, Positive, Positive, Positive]
    image_size: Positive = 224
    width: Positive = 768
    head_width: Positive = 64


@dataclass(frozen=True)
class _Text:
    """What is read of `text_cfg`."""

    context_length: Positive = 77
    vocab_size: Positive = 49408
    width: Positive = 512
    heads: Positive = 8
    layers: Positive = 12
    mlp_ratio: _Ratio = 4.0
    pad_id: NonNegative = 0
    pool_type: str = "argmax"
    eos_id: NonNegative = 2


@dataclass(frozen=True)
class _Preprocess:
    """What is read of `preprocess_cfg`. Mean and deviation are one number or three."""

    size: Positive | None = None
    mode: Literal["RGB"] = "RGB"
    mean: Any = CLIP_MEAN
    std: Any = CLIP_STD
    interpolation: Interpolation = "bicubic"
    resize_mode: ResizeMode = "shortest"
    fill_color: Annotated[int, Range(0, 255)] = 0


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
    embed_dim = _read(_Model, model, source, "model_cfg").embed_dim
    tower = _vision(vision, activation, source)
    words = _read(_Text, text, source, "text_cfg")
    preprocessing = preprocessing_from(plain.get("preprocess_cfg") or {}, tower.image_size, source)
    try:
        return ModelConfig(
            embed_dim,
            tower,
            TextTransformer(
                words.context_length,
                words.vocab_size,
                words.width,
                words.layers,
                words.heads,
                int(words.width * words.mlp_ratio),
                activation,
                words.vocab_size - 2 if tokens.start_id is None else tokens.start_id,
                _end_id(words, tokens, source),
                words.pad_id,
            ),
            preprocessing,
            notes=notes,
        )
    except ConfigError as error:
        raise ConfigError(str(error) if str(error).startswith(source) else f"{source}: {error}") from None


def _vision(values: Mapping[str, Any], activation: Activation, source: str) -> VisionTransformer | ResNet:
    if isinstance(values.get("layers"), list):
        net = _read(_ResNet, values, source, "vision_cfg")
        return ResNet(net.image_size, net.layers, net.width, net.width * 32 // net.head_width)
    tower = _read(_Vision, values, source, "vision_cfg")
    return VisionTransformer(
        tower.image_size,
        tower.patch_size,
        tower.width,
        tower.layers,
        tower.width // tower.head_width,
        int(tower.width * tower.mlp_ratio),
        activation,
    )


def _read(kind: type[_Kind], values: Mapping[str, Any], source: str, path: str) -> _Kind:
    """None means the default. Fields that are not read here were looked at by `_refuse_others`."""
    given = {key: value for key, value in values.items() if value is not None}
    try:
        return fields.read(kind, squares(given), path=path, ignore_unknown=True)
    except ConfigError as error:
        raise ConfigError(f"{source}: {error}") from None


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


def _end_id(text: _Text, tokens: SpecialTokens, source: str) -> int:
    """open_clip pools at the largest id, or, with pool_type eos, at the first `eos_id`; ours is always the latter."""
    if text.pool_type == "eos":
        return text.eos_id
    if tokens.end_id is not None and tokens.end_id != text.vocab_size - 1:
        raise ConfigError(
            f"{source}: text_cfg.pool_type: open_clip would pool at the largest id, {text.vocab_size - 1}, but the "
            f"tokenizer ends texts with {tokens.end_id}; expected pool_type 'eos' with that eos_id"
        )
    return text.vocab_size - 1


# --- preprocessing -------------------------------------------------------------------------------------------------


def preprocessing_from(plain: Mapping[str, Any], image_size: int, source: str) -> Preprocessing:
    """`preprocess_cfg` as `Preprocessing`; keys left out mean open_clip's defaults, which are CLIP's own."""
    given = _read(_Preprocess, plain, source, "preprocess_cfg")
    if given.size not in (None, image_size):
        raise ConfigError(f"{source}: preprocess_cfg.size: expected {image_size}, the model's size, got {given.size!r}")
    return Preprocessing(
        image_size,
        channels(given.mean, f"{source}: preprocess_cfg.mean"),
        channels(given.std, f"{source}: preprocess_cfg.std"),
        given.resize_mode,
        given.interpolation,
        given.fill_color,
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
