"""transformers' config.json, to and from a `ModelConfig`: pure, on plain values.

What transformers means by a key that is left out counts, by its model type; what Tandem cannot build is refused by the
field's name.
"""

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal, TypeGuard, TypeVar

from tandem import fields
from tandem.config import (
    Activation,
    ImageTower,
    ModelConfig,
    NaFlex,
    Preprocessing,
    TextTransformer,
    VisionTransformer,
)
from tandem.errors import ConfigError, WeightsError
from tandem.fields import Positive, Range
from tandem.weights.checkpoint import CANNOT_BUILD, activation_note
from tandem.weights.config_values import squares
from tandem.weights.tokenizer_files import SpecialTokens
from tandem.weights.transformers_preprocessing import preprocessing_from
from tandem.weights.transformers_types import MODEL_TYPES, ModelType

_LEGACY_END_ID = 2  # what old configurations say; transformers then pools at the largest id

_Kind = TypeVar("_Kind")
_Epsilon = Annotated[float, Range(above=0, most=1)]
_HiddenAct = Literal["quick_gelu", "gelu", "gelu_pytorch_tanh"]
_ACTIVATIONS: dict[_HiddenAct, Activation] = {
    "quick_gelu": "quick_gelu",
    "gelu": "gelu",
    "gelu_pytorch_tanh": "gelu_tanh",
}


@dataclass(frozen=True)
class _Whole:
    """What is read of `config.json`; the defaults here and below are transformers' own for CLIP."""

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
    hidden_act: _HiddenAct | None = None
    layer_norm_eps: _Epsilon = 1e-5
    num_channels: Literal[3] = 3
    vision_use_head: Literal[True] = True
    num_patches: Positive = 256  # of the square that positions are learnt for; of NaFlex


@dataclass(frozen=True)
class _Text:
    """What is read of `text_config`. The ids are whatever a file says: see `_start_and_end`."""

    max_position_embeddings: Positive = 77
    vocab_size: Positive = 49408
    hidden_size: Positive = 512
    num_hidden_layers: Positive = 12
    num_attention_heads: Positive = 8
    intermediate_size: Positive = 2048
    hidden_act: _HiddenAct | None = None
    layer_norm_eps: _Epsilon = 1e-5
    bos_token_id: Any = 49406
    eos_token_id: Any = 49407
    pad_token_id: Any = 1
    projection_size: Positive | None = None


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
    kind = model_type_of(plain, source)
    notes: dict[str, str] = {}
    whole = _read(_Whole, plain, source)
    vision = _read(
        _Vision, {**kind.vision_defaults, **squares(_tower(plain, "vision_config", source))}, source, "vision_config"
    )
    text = _read(_Text, {**kind.text_defaults, **_tower(plain, "text_config", source)}, source, "text_config")
    if vision.hidden_act is None or text.hidden_act is None:
        notes["activation"] = activation_note(source, "quick_gelu", "which is transformers' default")
    start_id, end_id, pad_id = _special_ids(kind, plain, text, tokens, notes)
    if preprocessor is None:
        notes["preprocessing"] = (
            f"{source} has no preprocessor_config.json beside it: the mean, std and size of {kind.name} are assumed"
        )
    preprocessing = preprocessing_from(
        preprocessor or {}, vision.image_size, preprocessor_source, kind, vision.patch_size
    )
    embed_dim = whole.projection_dim if kind.projects_images else text.projection_size or text.hidden_size
    try:
        return ModelConfig(
            embed_dim,
            _image_tower(kind, vision, preprocessing),
            TextTransformer(
                text.max_position_embeddings,
                text.vocab_size,
                text.hidden_size,
                text.num_hidden_layers,
                text.num_attention_heads,
                text.intermediate_size,
                _ACTIVATIONS[text.hidden_act or "quick_gelu"],
                start_id,
                end_id,
                pad_id,
                norm_epsilon=text.layer_norm_eps,
                **kind.text,
            ),
            preprocessing,
            notes=notes,
            timm_model=str(_ours(plain).get("timm_model") or ""),
            logit_bias=kind.logit_bias,
        )
    except ConfigError as error:
        raise ConfigError(f"{source}: {error}") from None


def text_tower_from(
    plain: Mapping[str, Any], source: str, start_id: int | None, end_id: int | None, pad_id: int
) -> TextTransformer:
    """The configuration of a text tower alone (`clip_text_model`), with the special tokens of its tokenizer."""
    text = _read(_Text, plain, source)
    return TextTransformer(
        text.max_position_embeddings,
        text.vocab_size,
        text.hidden_size,
        text.num_hidden_layers,
        text.num_attention_heads,
        text.intermediate_size,
        _ACTIVATIONS[text.hidden_act or "quick_gelu"],
        start_id,
        end_id,
        pad_id,
        norm_epsilon=text.layer_norm_eps,
    )


def _image_tower(kind: ModelType, vision: _Vision, preprocessing: Preprocessing) -> ImageTower:
    blocks = (
        vision.hidden_size,
        vision.num_hidden_layers,
        vision.num_attention_heads,
        vision.intermediate_size,
        _ACTIVATIONS[vision.hidden_act or "quick_gelu"],
    )
    epsilon = vision.layer_norm_eps
    if kind.naflex:
        side = math.isqrt(vision.num_patches)
        return NaFlex(vision.patch_size, side, preprocessing.max_patches, *blocks, norm_epsilon=epsilon)
    varied: dict[str, Any] = dict(kind.vision)
    if kind.attention_pooling:
        varied |= _attention_pool(vision.num_attention_heads, vision.intermediate_size)
    return VisionTransformer(vision.image_size, vision.patch_size, *blocks, norm_epsilon=epsilon, **varied)


def model_type_of(plain: Mapping[str, Any], source: str) -> ModelType:
    """The model type that config.json names. Raises `ConfigError` for one that Tandem does not read."""
    kind = MODEL_TYPES.get(str(plain.get("model_type")))
    if kind is None:
        raise ConfigError(
            f"{source}: model_type: expected one of {', '.join(MODEL_TYPES)} (both towers), got "
            f"{plain.get('model_type')!r}; {CANNOT_BUILD}"
        )
    return kind


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


def _special_ids(
    kind: ModelType, plain: Mapping[str, Any], text: _Text, tokens: SpecialTokens, notes: dict[str, str]
) -> tuple[int | None, int | None, int]:
    """Ids of start, end and padding: the tokenizer's where it has them, else the configuration's."""
    if kind.text.get("pooling") == "last":  # SigLIP: no start token; its configurations name ids of CLIP's vocabulary
        end_id = tokens.end_id if tokens.end_id is not None else 1
        return None, end_id, _pad_id(plain, end_id, tokens)
    start_id, end_id = _start_and_end(kind, text, tokens, notes)
    # A CLIP's `pad_token_id` is 1 in most files, and nothing pads with it; others mean theirs
    means_it = not kind.end_id_may_be_legacy and _is_id(text.pad_token_id, text.vocab_size)
    return start_id, end_id, _pad_id(plain, text.pad_token_id if means_it else end_id, tokens)


def _start_and_end(kind: ModelType, text: _Text, tokens: SpecialTokens, notes: dict[str, str]) -> tuple[int, int]:
    """Both where the configuration's are possible; legacy and impossible ones mean the last two of the vocabulary."""
    start, end = text.bos_token_id, text.eos_token_id
    end = end[0] if isinstance(end, list) and end else end
    legacy = end == _LEGACY_END_ID and kind.end_id_may_be_legacy
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


def _pad_id(plain: Mapping[str, Any], otherwise: int, tokens: SpecialTokens) -> int:
    """The tokenizer's padding, where it has one.

    A folder that Tandem wrote says the id under a key of its own: see `write_tokenizer` for why the tokenizer cannot.
    """
    ours = _ours(plain)
    if isinstance(ours.get("pad_id"), int):
        return int(ours["pad_id"])
    return otherwise if tokens.pad_id is None else tokens.pad_id


def _ours(plain: Mapping[str, Any]) -> dict[str, Any]:
    """What only Tandem writes and reads."""
    ours = plain.get("tandem")
    return ours if isinstance(ours, dict) else {}


# --- writing ---------------------------------------------------------------------------------------------------------


def model_type_for(config: ModelConfig) -> ModelType:
    """The model type that describes a model. Raises `WeightsError` where transformers has none for it."""
    vision, text = config.vision, config.text
    if not isinstance(vision, VisionTransformer | NaFlex):
        raise WeightsError(
            f"transformers has no CLIP with a {type(vision).__name__}: write it as 'tandem' or 'open_clip'"
        )
    if not isinstance(text, TextTransformer):
        raise WeightsError(
            f"transformers has no CLIP with a {type(text).__name__}: write it as 'tandem' or 'open_clip'"
        )
    legacy = False
    for kind in MODEL_TYPES.values():
        if kind.naflex != isinstance(vision, NaFlex):
            continue
        expected = (
            _as_of(kind, vision),
            dataclasses.replace(text, **_varied(TextTransformer, kind.text), norm_epsilon=text.norm_epsilon),
            kind.logit_bias,
        )
        if expected == (vision, text, config.logit_bias):
            if not kind.end_id_may_be_legacy or text.end_id != _LEGACY_END_ID:
                return kind
            legacy = True
    if legacy:
        raise WeightsError(
            "transformers treats the end id 2 of a CLIP as a legacy value and pools elsewhere: write it as 'tandem'"
        )
    raise WeightsError("transformers has no model type for this combination of towers: write it as 'tandem'")


def _as_of(kind: ModelType, vision: VisionTransformer | NaFlex) -> ImageTower:
    """A tower of these sizes with everything else as the model type has it."""
    if isinstance(vision, NaFlex):
        return vision
    varied = dict(kind.vision) | (_attention_pool(vision.heads, vision.mlp_width) if kind.attention_pooling else {})
    return dataclasses.replace(vision, **_varied(VisionTransformer, varied), norm_epsilon=vision.norm_epsilon)


def _attention_pool(heads: int, mlp_width: int) -> dict[str, Any]:
    return {"pooling": "attention", "pool_heads": heads, "pool_mlp_width": mlp_width}


def _varied(kind: type, given: Mapping[str, Any]) -> dict[str, Any]:
    """Every field that only some models vary, with the given value or its default."""
    return {
        each.name: given.get(each.name, each.default)
        for each in dataclasses.fields(kind)
        if each.name != "norm_epsilon" and fields.left_out_at_default(kind, each.name)
    }


def config_to(config: ModelConfig) -> dict[str, Any]:
    """`config.json` for transformers. Raises `WeightsError` for a model that it has no class for."""
    kind = model_type_for(config)
    vision, text = config.vision, config.text
    assert isinstance(vision, VisionTransformer | NaFlex)  # every model type has one
    acts = {ours: theirs for theirs, ours in _ACTIVATIONS.items()}
    plain: dict[str, Any] = {
        "architectures": [kind.architecture],
        "model_type": kind.name,
        "projection_dim": config.embed_dim,
        "logit_scale_init_value": 2.6592,
        "initializer_factor": 1.0,
        "tandem": {"pad_id": text.pad_id, **({"timm_model": config.timm_model} if config.timm_model else {})},
        "text_config": {
            "model_type": f"{kind.name}_text_model",
            "vocab_size": text.vocabulary_size,
            "max_position_embeddings": text.context_length,
            "hidden_size": text.width,
            "intermediate_size": text.mlp_width,
            "num_hidden_layers": text.layers,
            "num_attention_heads": text.heads,
            "hidden_act": acts[text.activation],
            "layer_norm_eps": text.norm_epsilon,
            "projection_dim": config.embed_dim,
            "bos_token_id": text.start_id,
            "eos_token_id": text.end_id,
            "pad_token_id": text.pad_id,
        },
        "vision_config": {
            "model_type": f"{kind.name}_vision_model",
            **({"num_patches": vision.grid**2} if isinstance(vision, NaFlex) else {"image_size": vision.image_size}),
            "patch_size": vision.patch_size,
            "num_channels": 3,
            "hidden_size": vision.width,
            "intermediate_size": vision.mlp_width,
            "num_hidden_layers": vision.layers,
            "num_attention_heads": vision.heads,
            "hidden_act": acts[vision.activation],
            "layer_norm_eps": vision.norm_epsilon,
            "projection_dim": config.embed_dim,
        },
    }
    if not kind.projects_images:
        del plain["projection_dim"], plain["logit_scale_init_value"]
        del plain["vision_config"]["projection_dim"], plain["text_config"]["projection_dim"]
        plain["text_config"]["projection_size"] = config.embed_dim
    return plain
