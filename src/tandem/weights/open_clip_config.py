"""open_clip_config.json, to and from a `ModelConfig`: pure, on plain values.

Fields of `model_cfg` that would make another network than CLIP's are refused by name, never skipped.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from tandem.config import (
    CLIP_MEAN,
    CLIP_STD,
    Activation,
    Interpolation,
    ModelConfig,
    NaFlex,
    Preprocessing,
    ResizeMode,
    ResNet,
    VisionTransformer,
)
from tandem.errors import ConfigError, WeightsError
from tandem.fields import Positive, Range, shown
from tandem.towers import tower_part
from tandem.towers.parts.description import NORM_EPSILON
from tandem.towers.parts.shapes import Shapes
from tandem.weights.checkpoint import CANNOT_BUILD, activation_note
from tandem.weights.config_values import channels
from tandem.weights.open_clip_text import is_original, text_from, text_to
from tandem.weights.open_clip_timm import (
    BY_NAME_ONLY,
    check_head,
    image_activation_beside,
    restated,
    timm_model_of,
    tower_of,
)
from tandem.weights.open_clip_values import Ratio, activation_of, ratio_of, read_values
from tandem.weights.tokenizer_files import SpecialTokens

_APPROXIMATIONS: tuple[dict[str, str], ...] = ({}, {"approximate": "tanh"}, {"approximate": "none"})  # of GELU
# What CLIP has; a field that says otherwise makes another network. None and absent mean the default everywhere.
_AS_CLIP: dict[str, dict[str, tuple[Any, ...]]] = {
    "model_cfg": {"multimodal_cfg": (), "nonscalar_logit_scale": (False,)},
    "vision_cfg": {
        "ls_init_value": (),
        "attentional_pool": (False, ""),
        "pos_embed_type": ("learnable", "sin_cos_2d"),  # the table is stored either way
        "pool_type": ("tok", "avg"),
        "act_kwargs": _APPROXIMATIONS,
        "block_type": ("default",),
    },
    "text_cfg": {
        "tokenizer_mode": ("",),
        "ls_init_value": (),
        "embed_cls": (False,),
        "pool_type": ("argmax", "eos", "last"),
        "proj_type": ("linear",),
        "act_kwargs": _APPROXIMATIONS,
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
        "hf_model_pretrained",
        "eos_id",
    },
}
_READ = {
    "model_cfg": {"embed_dim", "quick_gelu", "vision_cfg", "text_cfg", "init_logit_bias", "logit_bias"},
    "vision_cfg": {
        *("layers", "width", "head_width", "mlp_ratio", "patch_size", "image_size"),
        *("timm_model_name", "no_ln_pre", "final_ln_after_pool", "norm_kwargs"),
    },
    "text_cfg": {
        *("context_length", "vocab_size", "width", "heads", "layers", "mlp_ratio", "pad_id"),
        *("no_causal_mask", "proj_bias", "norm_kwargs", "tokenizer_kwargs", "hf_tokenizer_name"),
        *("hf_model_name", "hf_proj_type", "hf_pooler_type"),
    },
}


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
    mlp_ratio: Ratio = 4.0
    pool_type: Literal["tok", "avg"] = "tok"
    no_ln_pre: bool = False
    final_ln_after_pool: bool = False
    norm_kwargs: Mapping[str, float] = field(default_factory=dict)
    act_kwargs: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class _ResNet:
    """What is read of `vision_cfg` where `layers` is a list."""

    layers: tuple[Positive, Positive, Positive, Positive]
    image_size: Positive = 224
    width: Positive = 768
    head_width: Positive = 64


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


def config_from(
    plain: Mapping[str, Any],
    tokens: SpecialTokens,
    source: str,
    shapes: Shapes | None = None,
    language_model: Mapping[str, Any] | None = None,
) -> ModelConfig:
    """`open_clip_config.json` as a `ModelConfig`; keys left out mean open_clip's defaults.

    shapes: of the tensors under our names, which tell the sizes of towers that are described by a name alone.
    language_model: the own configuration of a language model that is the text tower, where it lies beside.
    Raises `ConfigError` that names the source and the field that Tandem cannot build.
    """
    model = _mapping(plain, "model_cfg", source)
    vision, text = _mapping(model, "vision_cfg", source), _mapping(model, "text_cfg", source)
    for where, values in (("model_cfg", model), ("vision_cfg", vision), ("text_cfg", text)):
        _refuse_others(values, where, source)
    activation: Activation = "quick_gelu" if model.get("quick_gelu") else "gelu"
    timm_model = vision.get("timm_model_name") or ""
    if not isinstance(timm_model, str):
        raise ConfigError(f"{source}: vision_cfg.timm_model_name: expected a text, got {shown(timm_model)}")
    notes = {}
    if "quick_gelu" not in model and not timm_model:
        notes["activation"] = activation_note(source, "gelu", "which is open_clip's default")
    embed_dim = read_values(_Model, model, source, "model_cfg").embed_dim
    try:
        if timm_model:
            size = read_values(_Vision, vision, source, "vision_cfg").image_size
            tower = restated(tower_of(timm_model, size, shapes or {}, source), plain, source)
            check_head(timm_model, tower, vision, source)
        else:
            tower = _vision(vision, activation, source)
        return ModelConfig(
            embed_dim,
            tower,
            text_from(text, activation, tokens, source, shapes or {}, language_model),
            preprocessing_from(plain.get("preprocess_cfg") or {}, tower.image_size, source),
            notes=notes,
            timm_model=timm_model,
            logit_bias="logit_bias" in (shapes or {}),
        )
    except ConfigError as error:
        raise ConfigError(str(error) if str(error).startswith(source) else f"{source}: {error}") from None


def _vision(values: Mapping[str, Any], activation: Activation, source: str) -> VisionTransformer | ResNet:
    if isinstance(values.get("layers"), list):
        net = read_values(_ResNet, values, source, "vision_cfg")
        return ResNet(net.image_size, net.layers, net.width, net.width * 32 // net.head_width)
    tower = read_values(_Vision, values, source, "vision_cfg")
    return VisionTransformer(
        tower.image_size,
        tower.patch_size,
        tower.width,
        tower.layers,
        tower.width // tower.head_width,
        int(tower.width * tower.mlp_ratio),
        activation_of(activation, tower.act_kwargs),
        first_norm=not tower.no_ln_pre,
        pooling="mean" if tower.pool_type == "avg" else "class",
        norm_after_pooling=tower.final_ln_after_pool and tower.pool_type == "avg",
        norm_epsilon=tower.norm_kwargs.get("eps", NORM_EPSILON),
    )


def _refuse_others(values: Mapping[str, Any], where: str, source: str) -> None:
    for key, value in values.items():
        allowed = _AS_CLIP[where].get(key, (False,) if key in _NEVER else None)
        if allowed is None:
            if key not in _READ[where] and key not in _HARMLESS[where]:
                raise ConfigError(f"{source}: {where}.{key} = {shown(value)}: a field that Tandem does not know")
        elif value is not None and value not in allowed:
            wanted = " or ".join(repr(one) for one in allowed) or "no such field"
            raise ConfigError(f"{source}: {where}.{key} = {shown(value)}: {CANNOT_BUILD}; expected {wanted}")


def _mapping(plain: Mapping[str, Any], key: str, source: str) -> dict[str, Any]:
    value = plain.get(key)
    if not isinstance(value, dict):
        raise ConfigError(f"{source}: {key}: expected a mapping, got {shown(value)}")
    return value


# --- preprocessing -------------------------------------------------------------------------------------------------


def preprocessing_from(plain: Mapping[str, Any], image_size: int, source: str) -> Preprocessing:
    """`preprocess_cfg` as `Preprocessing`; keys left out mean open_clip's defaults, which are CLIP's own."""
    if not isinstance(plain, Mapping):
        raise ConfigError(f"{source}: preprocess_cfg: expected a mapping, got {shown(plain)}")
    given = read_values(_Preprocess, plain, source, "preprocess_cfg")
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
    vision, text, preprocessing = config.vision, config.text, config.preprocessing
    # `quick_gelu` speaks of both towers, unless the text tower is a language model
    stated = getattr(text if text.activation_may_be_assumed else vision, "activation", None)
    model: dict[str, Any] = {
        "embed_dim": config.embed_dim,
        "quick_gelu": stated == "quick_gelu",
        "vision_cfg": _vision_to(config),
        "text_cfg": text_to(text),
    }
    if config.logit_bias:
        model["init_logit_bias"] = -10
    if is_custom(config):
        model["custom_text"] = True
    named = "timm_model_name" in model["vision_cfg"]
    mine = vision.activation if isinstance(vision, VisionTransformer) and not named else stated
    if "quick_gelu" in (mine, stated) and mine != stated:
        raise WeightsError("open_clip has one activation for both towers: write it as 'tandem' or 'transformers'")
    beside = image_activation_beside(config)
    return {
        **({"tandem": {"image_activation": beside}} if beside else {}),  # open_clip reads what it knows
        "model_cfg": model,
        "preprocess_cfg": {
            "size": preprocessing.image_size,
            "mean": list(preprocessing.mean),
            "std": list(preprocessing.std),
            "interpolation": preprocessing.interpolation,
            "resize_mode": preprocessing.resize_mode,
            "fill_color": preprocessing.fill,
        },
    }


def is_custom(config: ModelConfig) -> bool:
    """Whether open_clip keeps the text tower apart, under `text.`: in every model but the first ones."""
    return timm_model_of(config) is not None or not is_original(config.text)


def _vision_to(config: ModelConfig) -> dict[str, Any]:
    vision = config.vision
    if timm_model := timm_model_of(config):
        return {
            "image_size": vision.image_size,
            "timm_model_name": timm_model,
            "timm_model_pretrained": False,
            **tower_part(vision, "timm").settings(vision),
        }
    if isinstance(vision, NaFlex):
        raise WeightsError("open_clip's layout has no NaFlex tower here: write it as 'tandem' or 'transformers'")
    shape: dict[str, Any] = {"image_size": vision.image_size, "width": vision.width}
    if isinstance(vision, VisionTransformer):
        if vision.pooling == "attention" or vision.projection != "linear" or not vision.class_token:
            raise WeightsError(f"{BY_NAME_ONLY} or 'transformers'")
        shape |= {
            "layers": vision.layers,
            "patch_size": vision.patch_size,
            "head_width": vision.width // vision.heads,
            "mlp_ratio": ratio_of(vision.mlp_width, vision.width),
        }
        if not vision.first_norm:
            shape["no_ln_pre"] = True
        if vision.pooling == "mean":
            shape |= {"pool_type": "avg", "final_ln_after_pool": vision.norm_after_pooling}
        if vision.norm_epsilon != NORM_EPSILON:
            shape["norm_kwargs"] = {"eps": vision.norm_epsilon}
        if vision.activation == "gelu_tanh":
            shape["act_kwargs"] = {"approximate": "tanh"}
        return shape
    if not isinstance(vision, ResNet):
        raise WeightsError(BY_NAME_ONLY)
    if vision.block != "bottleneck" or vision.stem_stride != 4:
        raise WeightsError("open_clip has no ResNet of basic blocks or with a stem of stride 2: write it as 'tandem'")
    head_width = vision.width * 32 // vision.heads
    if vision.width * 32 // head_width != vision.heads:
        raise WeightsError(f"open_clip cannot give {vision.heads} heads to {vision.width * 32} channels")
    return shape | {"layers": list(vision.layers), "patch_size": None, "head_width": head_width}
