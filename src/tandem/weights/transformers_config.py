"""transformers' config.json and preprocessor_config.json, to and from a `ModelConfig`: pure, on plain values.

What transformers means by a key that is left out counts; what is no CLIP is refused by the field's name.
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
    TextTransformer,
    VisionTransformer,
)
from tandem.errors import ConfigError, WeightsError
from tandem.weights.checkpoint import activation_note
from tandem.weights.tokenizer_files import SpecialTokens

_LEGACY_END_ID = 2  # what old configurations say; transformers then pools at the largest id
_INTERPOLATIONS: dict[int, Interpolation] = {0: "nearest", 1: "lanczos", 2: "bilinear", 3: "bicubic"}  # Pillow's codes


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
    vision, text = _tower(plain, "vision_config", source), _tower(plain, "text_config", source)
    activations = []
    for tower, values in (("vision_config", vision), ("text_config", text)):
        _as_clip(values, source, tower)
        if "hidden_act" not in values:
            notes["activation"] = activation_note(source, "quick_gelu", "which is transformers' default")
        activations.append(_activation(values.get("hidden_act", "quick_gelu"), f"{source}: {tower}.hidden_act"))
    vocabulary_size = _whole(text, "vocab_size", 49408, source)
    start_id, end_id = _start_and_end(text, vocabulary_size, tokens, notes)
    width, text_width = _whole(vision, "hidden_size", 768, source), _whole(text, "hidden_size", 512, source)
    image_size = _side(vision.get("image_size", 224), f"{source}: vision_config.image_size")
    if preprocessor is None:
        notes["preprocessing"] = f"{source} has no preprocessor_config.json beside it: CLIP's mean and std are assumed"
    try:
        return ModelConfig(
            _whole(plain, "projection_dim", 512, source),
            VisionTransformer(
                image_size,
                _side(vision.get("patch_size", 32), f"{source}: vision_config.patch_size"),
                width,
                _whole(vision, "num_hidden_layers", 12, source),
                _whole(vision, "num_attention_heads", 12, source),
                _whole(vision, "intermediate_size", 3072, source),
                activations[0],
            ),
            TextTransformer(
                _whole(text, "max_position_embeddings", 77, source),
                vocabulary_size,
                text_width,
                _whole(text, "num_hidden_layers", 12, source),
                _whole(text, "num_attention_heads", 8, source),
                _whole(text, "intermediate_size", 2048, source),
                activations[1],
                start_id,
                end_id,
                _pad_id(plain, end_id, tokens),
            ),
            preprocessing_from(preprocessor or {}, image_size, preprocessor_source),
            notes=notes,
        )
    except ConfigError as error:
        raise ConfigError(_once(source, error)) from None


def _once(source: str, error: ConfigError) -> str:
    """The message with its file; those of the preprocessing name their own."""
    return str(error) if ".json: " in str(error) else f"{source}: {error}"


def _tower(plain: Mapping[str, Any], name: str, source: str) -> dict[str, Any]:
    merged: dict[str, Any] = {}
    # Old files repeat a tower under `..._dict`, and transformers lets that one win.
    for key in (name, f"{name}_dict"):
        values = plain.get(key)
        if values is not None and not isinstance(values, dict):
            raise ConfigError(f"{source}: {key}: expected a mapping, got {values!r}")
        merged.update(values or {})
    return merged


def _as_clip(values: Mapping[str, Any], source: str, tower: str) -> None:
    for key, clip in (("layer_norm_eps", 1e-5), ("num_channels", 3)):
        if values.get(key, clip) != clip:
            raise ConfigError(f"{source}: {tower}.{key}: expected {clip}, got {values[key]!r}")


def _activation(value: Any, where: str) -> Activation:
    if value == "quick_gelu":
        return "quick_gelu"
    if value == "gelu":
        return "gelu"
    raise ConfigError(f"{where}: expected one of {', '.join(get_args(Activation))}, got {value!r}")


def _start_and_end(
    text: Mapping[str, Any], vocabulary_size: int, tokens: SpecialTokens, notes: dict[str, str]
) -> tuple[int, int]:
    """The tokenizer's ids where it has them, else the configuration's, unless they are legacy or impossible."""
    start, end = text.get("bos_token_id", 49406), text.get("eos_token_id", 49407)
    end = end[0] if isinstance(end, list) and end else end
    legacy = end == _LEGACY_END_ID
    possible = all(isinstance(token, int) and 0 <= token < vocabulary_size for token in (start, end))
    if legacy or not possible:
        start, end = vocabulary_size - 2, vocabulary_size - 1
    if tokens.start_id is not None and tokens.end_id is not None:
        return tokens.start_id, tokens.end_id
    if not legacy and not possible:
        notes["tokens"] = (
            f"text_config names start and end ids outside its vocabulary of {vocabulary_size}: "
            f"the last two, {start} and {end}, are assumed"
        )
    return start, end


def _pad_id(plain: Mapping[str, Any], end_id: int, tokens: SpecialTokens) -> int:
    """The tokenizer's padding: `pad_token_id` of the configuration is 1 in most files, and nothing pads with it.

    A folder that Tandem wrote says the id under a key of its own: see `write_tokenizer` for why the tokenizer cannot.
    """
    ours = plain.get("tandem")
    if isinstance(ours, dict) and isinstance(ours.get("pad_id"), int):
        return int(ours["pad_id"])
    return end_id if tokens.pad_id is None else tokens.pad_id


def _whole(values: Mapping[str, Any], key: str, default: int, source: str) -> int:
    value = values.get(key, default)
    if not isinstance(value, int) or isinstance(value, bool):
        raise ConfigError(f"{source}: {key}: expected a whole number, got {value!r}")
    return value


def _side(value: Any, where: str) -> int:
    sides = set(value) if isinstance(value, list) else {value}
    side = sides.pop() if len(sides) == 1 else None
    if not isinstance(side, int) or isinstance(side, bool):
        raise ConfigError(f"{where}: expected the side of a square in pixels, got {value!r}")
    return side


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
        raise WeightsError("transformers takes the end id 2 for an old mark and pools elsewhere: write it as 'tandem'")
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
