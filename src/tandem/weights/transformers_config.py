"""transformers' config.json and preprocessor_config.json, to and from a `ModelConfig`: pure, on plain values.

What transformers means by a key that is left out counts; what is no CLIP is refused by the field's name.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal, TypeGuard, TypeVar

from tandem import fields
from tandem.config import (
    CLIP_MEAN,
    CLIP_STD,
    Activation,
    Interpolation,
    ModelConfig,
    Preprocessing,
    ResizeMode,
    TextTransformer,
    VisionTransformer,
)
from tandem.errors import ConfigError, WeightsError
from tandem.fields import Positive, Range
from tandem.weights.checkpoint import activation_note
from tandem.weights.tokenizer_files import SpecialTokens

_LEGACY_END_ID = 2  # what old configurations say; transformers then pools at the largest id
_INTERPOLATIONS: dict[int, Interpolation] = {0: "nearest", 1: "lanczos", 2: "bilinear", 3: "bicubic"}  # Pillow's codes


_Kind = TypeVar("_Kind")
_Epsilon = Annotated[float, Range(1e-5, 1e-5)]  # another one makes another network than CLIP's


@dataclass(frozen=True)
class _Whole:
    """What is read of `config.json`; the defaults here and below are transformers' own."""

    projection_dim: Positive = 512


@dataclass(frozen=True)
class _Vision:
    """What is read of `vision_config`, a square's two sides made one."""

    image_size: Positive = 224
    patch_size: Positive = 32
    hidden_size: Positive = 768
    num_hidden_layers: Positive = 12
    num_attention_heads: Positive = 12
    intermediate_size: Positive = 3072
    hidden_act: Activation | None = None
    layer_norm_eps: _Epsilon = 1e-5
    num_channels: Literal[3] = 3


@dataclass(frozen=True)
class _Text:
    """What is read of `text_config`. The ids are whatever a file says: see `_start_and_end`."""

    max_position_embeddings: Positive = 77
    vocab_size: Positive = 49408
    hidden_size: Positive = 512
    num_hidden_layers: Positive = 12
    num_attention_heads: Positive = 8
    intermediate_size: Positive = 2048
    hidden_act: Activation | None = None
    layer_norm_eps: _Epsilon = 1e-5
    bos_token_id: Any = 49406
    eos_token_id: Any = 49407


def config_from(
    plain: Mapping[str, Any],
    preprocessor: Mapping[str, Any] | None,
    tokens: SpecialTokens,
    source: str,
    preprocessor_source: str = "preprocessor_config.json",
) -> ModelConfig:
    """`config.json` and `preprocessor_config.json` as a `ModelConfig`; keys left out mean transformers' defaults.

    Raises `ConfigError` that names the source and the field that is not as CLIP's.
    """
    if plain.get("model_type") != "clip":
        raise ConfigError(
            f"{source}: model_type: expected 'clip' (both towers), got {plain.get('model_type')!r}; "
            "Tandem reads CLIP models only"
        )
    notes: dict[str, str] = {}
    whole = _read(_Whole, plain, source)
    vision = _read(_Vision, squares(_tower(plain, "vision_config", source)), source, "vision_config")
    text = _read(_Text, _tower(plain, "text_config", source), source, "text_config")
    if vision.hidden_act is None or text.hidden_act is None:
        notes["activation"] = activation_note(source, "quick_gelu", "which is transformers' default")
    start_id, end_id = _start_and_end(text, tokens, notes)
    if preprocessor is None:
        notes["preprocessing"] = f"{source} has no preprocessor_config.json beside it: CLIP's mean and std are assumed"
    preprocessing = preprocessing_from(preprocessor or {}, vision.image_size, preprocessor_source)
    try:
        return ModelConfig(
            whole.projection_dim,
            VisionTransformer(
                vision.image_size,
                vision.patch_size,
                vision.hidden_size,
                vision.num_hidden_layers,
                vision.num_attention_heads,
                vision.intermediate_size,
                vision.hidden_act or "quick_gelu",
            ),
            TextTransformer(
                text.max_position_embeddings,
                text.vocab_size,
                text.hidden_size,
                text.num_hidden_layers,
                text.num_attention_heads,
                text.intermediate_size,
                text.hidden_act or "quick_gelu",
                start_id,
                end_id,
                _pad_id(plain, end_id, tokens),
            ),
            preprocessing,
            notes=notes,
        )
    except ConfigError as error:
        raise ConfigError(f"{source}: {error}") from None


def _read(kind: type[_Kind], plain: Mapping[str, Any], source: str, path: str = "") -> _Kind:
    try:
        return fields.read(kind, plain, path=path, ignore_unknown=True)
    except ConfigError as error:
        raise ConfigError(f"{source}: {error}") from None


def _tower(plain: Mapping[str, Any], name: str, source: str) -> dict[str, Any]:
    merged: dict[str, Any] = {}
    # Old files repeat a tower under `..._dict`, and transformers lets that one win.
    for key in (name, f"{name}_dict"):
        values = plain.get(key)
        if values is not None and not isinstance(values, dict):
            raise ConfigError(f"{source}: {key}: expected a mapping, got {values!r}")
        merged.update(values or {})
    return merged


def _start_and_end(text: _Text, tokens: SpecialTokens, notes: dict[str, str]) -> tuple[int, int]:
    """The tokenizer's ids where it has them, else the configuration's, unless they are legacy or impossible."""
    start, end = text.bos_token_id, text.eos_token_id
    end = end[0] if isinstance(end, list) and end else end
    legacy = end == _LEGACY_END_ID
    if tokens.start_id is not None and tokens.end_id is not None:
        return tokens.start_id, tokens.end_id
    if not legacy and _is_id(start, text.vocab_size) and _is_id(end, text.vocab_size):
        return start, end
    last = text.vocab_size - 2, text.vocab_size - 1
    if not legacy:
        notes["tokens"] = (
            f"text_config names start and end ids outside its vocabulary of {text.vocab_size}: "
            f"the last two, {last[0]} and {last[1]}, are assumed"
        )
    return last


def _is_id(value: Any, vocabulary_size: int) -> TypeGuard[int]:
    return isinstance(value, int) and 0 <= value < vocabulary_size


def _pad_id(plain: Mapping[str, Any], end_id: int, tokens: SpecialTokens) -> int:
    """The tokenizer's padding: `pad_token_id` of the configuration is 1 in most files, and nothing pads with it.

    A folder that Tandem wrote says the id under a key of its own: see `write_tokenizer` for why the tokenizer cannot.
    """
    ours = plain.get("tandem")
    if isinstance(ours, dict) and isinstance(ours.get("pad_id"), int):
        return int(ours["pad_id"])
    return end_id if tokens.pad_id is None else tokens.pad_id


def squares(values: Mapping[str, Any]) -> dict[str, Any]:
    """The same values, with `[224, 224]` as 224: some files give a square, or a grey, by each side or channel."""

    def is_square(key: str, value: Any) -> bool:
        return key != "layers" and isinstance(value, list) and bool(value) and value == value[:1] * len(value)

    return {key: value[0] if is_square(key, value) else value for key, value in values.items()}


# --- preprocessing -------------------------------------------------------------------------------------------------


def preprocessing_from(plain: Mapping[str, Any], image_size: int, source: str) -> Preprocessing:
    """`preprocessor_config.json` as `Preprocessing`. Raises `ConfigError` for steps that are not CLIP's."""
    nested = plain.get("image_processor")
    plain = nested if isinstance(nested, dict) else plain
    for key in ("do_resize", "do_rescale"):
        if not plain.get(key, True):
            raise ConfigError(f"{source}: {key}: expected true, got false; Tandem always resizes and rescales")
    if abs(float(plain.get("rescale_factor") or 1 / 255) * 255 - 1) > 1e-4:
        raise ConfigError(f"{source}: rescale_factor: expected 1/255, got {plain['rescale_factor']!r}")
    size = plain.get("size", image_size)
    size = {"shortest_edge": size} if isinstance(size, int) else size
    crops = bool(plain.get("do_center_crop", True))
    crop = plain.get("crop_size", image_size)
    crop = {"height": crop, "width": crop} if isinstance(crop, int) else crop
    mode: ResizeMode
    if size == {"shortest_edge": image_size} and crops and crop == {"height": image_size, "width": image_size}:
        mode = "shortest"
    elif size == {"height": image_size, "width": image_size} and (not crops or crop == size):
        mode = "squash"
    else:
        raise ConfigError(
            f"{source}: size, crop_size: expected the shorter side, or both sides, resized to the model's "
            f"{image_size} pixels; got size {size}, crop_size {crop if crops else None}"
        )
    resample = plain.get("resample", 3)
    if resample not in _INTERPOLATIONS:
        raise ConfigError(f"{source}: resample: expected one of {list(_INTERPOLATIONS)}, got {resample!r}")
    normalises = bool(plain.get("do_normalize", True))
    return Preprocessing(
        image_size,
        channels(plain.get("image_mean", CLIP_MEAN), f"{source}: image_mean") if normalises else (0.0, 0.0, 0.0),
        channels(plain.get("image_std", CLIP_STD), f"{source}: image_std") if normalises else (1.0, 1.0, 1.0),
        mode,
        _INTERPOLATIONS[resample],
    )


def channels(value: Any, where: str) -> tuple[float, float, float]:
    """Three numbers, one for each of red, green and blue."""
    listed = list(value) if isinstance(value, list | tuple) else [value] * 3
    if len(listed) != 3 or not all(isinstance(x, int | float) and not isinstance(x, bool) for x in listed):
        raise ConfigError(f"{where}: expected three numbers, got {value!r}")
    return float(listed[0]), float(listed[1]), float(listed[2])


# --- writing ---------------------------------------------------------------------------------------------------------


def config_to(config: ModelConfig) -> dict[str, Any]:
    """`config.json` for transformers. Raises `WeightsError` for a model that it has no class for."""
    vision, text = config.vision, config.text
    if not isinstance(vision, VisionTransformer):
        raise WeightsError("transformers has no CLIP with a ResNet: write it as 'tandem' or 'open_clip'")
    if text.end_id == _LEGACY_END_ID:
        raise WeightsError(
            "transformers treats the end id 2 as a legacy value and pools elsewhere: write it as 'tandem'"
        )
    return {
        "architectures": ["CLIPModel"],
        "model_type": "clip",
        "projection_dim": config.embed_dim,
        "logit_scale_init_value": 2.6592,
        "initializer_factor": 1.0,
        "tandem": {"pad_id": text.pad_id},
        "text_config": {
            "model_type": "clip_text_model",
            "vocab_size": text.vocabulary_size,
            "max_position_embeddings": text.context_length,
            "hidden_size": text.width,
            "intermediate_size": text.mlp_width,
            "num_hidden_layers": text.layers,
            "num_attention_heads": text.heads,
            "hidden_act": text.activation,
            "layer_norm_eps": 1e-5,
            "projection_dim": config.embed_dim,
            "bos_token_id": text.start_id,
            "eos_token_id": text.end_id,
            "pad_token_id": text.pad_id,
        },
        "vision_config": {
            "model_type": "clip_vision_model",
            "image_size": vision.image_size,
            "patch_size": vision.patch_size,
            "num_channels": 3,
            "hidden_size": vision.width,
            "intermediate_size": vision.mlp_width,
            "num_hidden_layers": vision.layers,
            "num_attention_heads": vision.heads,
            "hidden_act": vision.activation,
            "layer_norm_eps": 1e-5,
            "projection_dim": config.embed_dim,
        },
    }


def preprocessing_to(preprocessing: Preprocessing) -> dict[str, Any]:
    """`preprocessor_config.json`. Raises `WeightsError` for a resize mode that transformers' CLIP does not have."""
    square = {"height": preprocessing.image_size, "width": preprocessing.image_size}
    if preprocessing.resize_mode == "longest":
        raise WeightsError("transformers' CLIP cannot pad to the longer side: write it as 'tandem' or 'open_clip'")
    squash = preprocessing.resize_mode == "squash"
    return {
        "image_processor_type": "CLIPImageProcessor",
        "feature_extractor_type": "CLIPFeatureExtractor",
        "do_convert_rgb": True,
        "do_resize": True,
        "size": square if squash else {"shortest_edge": preprocessing.image_size},
        "resample": next(code for code, name in _INTERPOLATIONS.items() if name == preprocessing.interpolation),
        "do_center_crop": not squash,
        "crop_size": square,
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": True,
        "image_mean": list(preprocessing.mean),
        "image_std": list(preprocessing.std),
    }
