"""`text_cfg` of open_clip's configuration, to and from the description of a text tower: pure, on plain values."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from tandem.config import Activation, Cleaning, TextTower, TextTransformer
from tandem.errors import ConfigError
from tandem.fields import NonNegative, Positive, shown
from tandem.towers import TEXT_TOWERS, has_part, tower_part
from tandem.towers.parts.description import NORM_EPSILON
from tandem.towers.parts.shapes import Shapes
from tandem.weights.checkpoint import CANNOT_BUILD
from tandem.weights.open_clip_values import Ratio, activation_of, ratio_of, read_values
from tandem.weights.tokenizer_files import SpecialTokens

_CLEANINGS: dict[str, Cleaning] = {"lower": "clip", "whitespace": "whitespace", "canonicalize": "canonical"}
# What open_clip's first models say of their text tower; any other is kept apart
_SIZES = (
    "context_length",
    "vocabulary_size",
    "width",
    "layers",
    "heads",
    "mlp_width",
    "activation",
    "start_id",
    "end_id",
)


@dataclass(frozen=True)
class _Text:
    """What is read of `text_cfg`; the defaults are open_clip's own."""

    context_length: Positive = 77
    vocab_size: Positive = 49408
    width: Positive = 512
    heads: Positive = 8
    layers: Positive = 12
    mlp_ratio: Ratio = 4.0
    pad_id: NonNegative | None = None
    pool_type: Literal["argmax", "eos", "last"] = "argmax"
    eos_id: NonNegative = 2
    hf_tokenizer_name: str = ""
    no_causal_mask: bool = False
    proj_bias: bool = False
    norm_kwargs: Mapping[str, float] = field(default_factory=dict)
    act_kwargs: Mapping[str, str] = field(default_factory=dict)
    tokenizer_kwargs: Mapping[str, Any] = field(default_factory=dict)


def text_from(
    values: Mapping[str, Any],
    activation: Activation,
    tokens: SpecialTokens,
    source: str,
    shapes: Shapes,
    language_model: Mapping[str, Any] | None,
) -> TextTower:
    """The text tower of a `text_cfg`; `config_from` says what the others are. Raises `ConfigError`."""
    if values.get("hf_model_name"):
        return _hugging_face(values, language_model, tokens, source, shapes)
    return _transformer(read_values(_Text, values, source, "text_cfg"), activation, tokens, source)


def tokenizer_repository(plain: Mapping[str, Any]) -> str | None:
    """The repository of the Hugging Face tokenizer that a configuration names; None for CLIP's own."""
    name = _text_cfg(plain).get("hf_tokenizer_name")
    return name if isinstance(name, str) and name not in ("", "none") else None


def names_language_model(plain: Mapping[str, Any]) -> bool:
    """Whether the text tower is a language model of Hugging Face's."""
    return bool(_text_cfg(plain).get("hf_model_name"))


def _text_cfg(plain: Mapping[str, Any]) -> Mapping[str, Any]:
    model = plain.get("model_cfg")
    text = model.get("text_cfg") if isinstance(model, dict) else None
    return text if isinstance(text, dict) else {}


def _hugging_face(
    values: Mapping[str, Any],
    language_model: Mapping[str, Any] | None,
    tokens: SpecialTokens,
    source: str,
    shapes: Shapes,
) -> TextTower:
    ids = (tokens.start_id, tokens.end_id)
    for kind in TEXT_TOWERS.values():
        if has_part(kind, "hugging_face"):
            found: TextTower | None = tower_part(kind, "hugging_face").description(values, language_model, ids, shapes)
            if found:
                return found
    raise ConfigError(f"{source}: text_cfg.hf_model_name = {values['hf_model_name']!r}: {CANNOT_BUILD}")


def _transformer(text: _Text, activation: Activation, tokens: SpecialTokens, source: str) -> TextTransformer:
    # open_clip's wrapper of Hugging Face tokenizers folds whitespace; its own tokenizer cleans as the original does
    settings = text.tokenizer_kwargs
    clean = settings.get("clean", "whitespace" if text.hf_tokenizer_name else "lower")
    if not isinstance(clean, str) or clean not in _CLEANINGS:
        raise ConfigError(
            f"{source}: text_cfg.tokenizer_kwargs.clean: expected one of {', '.join(_CLEANINGS)}, got {shown(clean)}"
        )
    if others := [key for key in settings if key not in ("clean", "strip_sep_token")]:
        raise ConfigError(f"{source}: text_cfg.tokenizer_kwargs.{others[0]}: a setting that Tandem does not know")
    start_id, pad_id = _start_and_pad(text, tokens)
    return TextTransformer(
        text.context_length,
        text.vocab_size,
        text.width,
        text.layers,
        text.heads,
        int(text.width * text.mlp_ratio),
        activation_of(activation, text.act_kwargs),
        start_id,
        # open_clip writes 0 where the tokenizer put the end token
        0 if settings.get("strip_sep_token") else _end_id(text, tokens, source),
        pad_id,
        causal=not text.no_causal_mask,
        pooling="last" if text.pool_type == "last" else "end",
        projection_bias=text.proj_bias,
        norm_epsilon=text.norm_kwargs.get("eps", NORM_EPSILON),
        cleaning=_CLEANINGS[clean],
    )


def _start_and_pad(text: _Text, tokens: SpecialTokens) -> tuple[int | None, int]:
    """open_clip leaves both to the tokenizer; its own, which is CLIP's, pads with 0 whatever the files name as padding.

    Where there is no tokenizer, an end token 2 speaks of XLM's order: start, padding, end.
    """
    as_xlm = text.pool_type == "eos" and text.eos_id == 2
    start_id, pad_id = tokens.start_id, text.pad_id
    if tokens.pad_id is not None and text.hf_tokenizer_name:
        pad_id = tokens.pad_id
    if start_id is None and text.pool_type != "last":
        start_id = 0 if as_xlm else text.vocab_size - 2
    return start_id, (1 if as_xlm else 0) if pad_id is None else pad_id


def _end_id(text: _Text, tokens: SpecialTokens, source: str) -> int | None:
    """open_clip pools at the largest id, or, with pool_type eos, at the first `eos_id`; ours is always the latter."""
    if text.pool_type == "eos":
        return text.eos_id
    if text.pool_type == "last":
        return 1 if tokens.end_id is None else tokens.end_id
    if tokens.end_id is not None and tokens.end_id != text.vocab_size - 1:
        raise ConfigError(
            f"{source}: text_cfg.pool_type: open_clip would pool at the largest id, {text.vocab_size - 1}, but the "
            f"tokenizer ends texts with {tokens.end_id}; expected pool_type 'eos' with that eos_id"
        )
    return text.vocab_size - 1


# --- writing ---------------------------------------------------------------------------------------------------------


def text_to(text: TextTower) -> dict[str, Any]:
    """`text_cfg` of a text tower."""
    if has_part(text, "hugging_face"):
        return tower_part(text, "hugging_face").settings(text)  # type: ignore[no-any-return]
    described: dict[str, Any] = {
        "context_length": text.context_length,
        "vocab_size": text.vocabulary_size,
        "width": text.width,
        "heads": text.heads,
        "layers": text.layers,
        "mlp_ratio": ratio_of(text.mlp_width, text.width),
    }
    if text.pooling == "last":
        described["pool_type"] = "last"
    elif text.end_id != text.vocabulary_size - 1:
        described |= {"pool_type": "eos", "eos_id": text.end_id}
    if text.pad_id != 0 or "pool_type" in described:
        described["pad_id"] = text.pad_id
    if not text.causal:
        described["no_causal_mask"] = True
    if text.projection_bias:
        described["proj_bias"] = True
    if text.norm_epsilon != NORM_EPSILON:
        described["norm_kwargs"] = {"eps": text.norm_epsilon}
    if text.activation == "gelu_tanh":
        described["act_kwargs"] = {"approximate": "tanh"}
    if text.cleaning != "clip":
        names = {ours: theirs for theirs, ours in _CLEANINGS.items()}
        described["tokenizer_kwargs"] = {"clean": names[text.cleaning]}
    # As CLIPA's: see `_transformer`
    if text.pooling == "last" and text.start_id is not None and text.end_id == text.pad_id:
        described["hf_tokenizer_name"] = "bert-base-uncased"
        described["tokenizer_kwargs"] = {**described.get("tokenizer_kwargs", {}), "strip_sep_token": True}
    return described


def is_original(text: TextTower) -> bool:
    """Whether it is one of open_clip's first models; any other text tower is kept apart, under `text.`."""
    return text == TextTransformer(**{name: getattr(text, name) for name in _SIZES})
