"""BERT-like models as Hugging Face names and configures them, to and from descriptions: what open_clip refers to.

A name, or a `config.json` of the language model, tells what tensors do not show: heads, epsilon, special tokens. Sizes
are read from the tensors.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from tandem import fields
from tandem.errors import ConfigError
from tandem.fields import NonNegative, Positive, Range
from tandem.towers.bert.description import Bert, Pooling, Projection
from tandem.towers.bert.shapes import EMBEDDING
from tandem.towers.parts.description import NORM_EPSILON, Activation
from tandem.towers.parts.shapes import Shapes

# Beside open_clip_config.json: the language model's own config.json, for sizes that no name stands for
CONFIG = "hf_text_config.json"

_ROBERTA: dict[str, Any] = {"bos_token_id": 0, "pad_token_id": 1, "eos_token_id": 2, "layer_norm_eps": 1e-5}
_BERT: dict[str, Any] = {"bos_token_id": 101, "pad_token_id": 0, "eos_token_id": 102, "layer_norm_eps": 1e-12}
# The defaults of each model type, where config.json leaves a key out
_TYPES = {"xlm-roberta": _ROBERTA, "roberta": _ROBERTA, "bert": _BERT}
# Repositories, without the name of who publishes them -> model type and heads
_NAMES = {
    "xlm-roberta-base": ("xlm-roberta", 12),
    "xlm-roberta-large": ("xlm-roberta", 16),
    "roberta-base": ("roberta", 12),
    "roberta-large": ("roberta", 16),
    "bert-base-uncased": ("bert", 12),
    "bert-base-cased": ("bert", 12),
    "bert-base-multilingual-cased": ("bert", 12),
    "bert-base-multilingual-uncased": ("bert", 12),
    "bert-large-uncased": ("bert", 16),
    "bert-large-cased": ("bert", 16),
    "BiomedNLP-BiomedBERT-base-uncased-abstract": ("bert", 12),
    "BiomedNLP-PubMedBERT-base-uncased-abstract": ("bert", 12),
}
_VOCABULARIES = {250002: "xlm-roberta", 50265: "roberta"}
_SIZES = {(768, 12, 12, 3072): "base", (1024, 24, 16, 4096): "large"}
_POOLINGS: dict[str, Pooling] = {
    "mean_pooler": "mean",
    "cls_last_hidden_state_pooler": "class",
    "cls_pooler": "pooler",
}
_ACTIVATIONS: dict[str, Activation] = {
    "gelu": "gelu",
    "gelu_new": "gelu_tanh",
    "gelu_pytorch_tanh": "gelu_tanh",
    "quick_gelu": "quick_gelu",
}


@dataclass(frozen=True)
class _TextCfg:
    """What is read of `text_cfg`; None is a choice of its own."""

    hf_model_name: str
    context_length: Positive | None = None
    hf_pooler_type: Literal["mean_pooler", "cls_last_hidden_state_pooler", "cls_pooler"] | None = "mean_pooler"
    hf_proj_type: Literal["mlp", "linear", ""] | None = "mlp"


@dataclass(frozen=True)
class _LanguageModel:
    """What is read of a language model's own configuration. The last three make another network if they differ."""

    num_attention_heads: Positive
    layer_norm_eps: Annotated[float, Range(above=0, most=1)]
    bos_token_id: NonNegative
    eos_token_id: NonNegative
    pad_token_id: NonNegative
    hidden_act: Literal["gelu", "gelu_new", "gelu_pytorch_tanh", "quick_gelu"] = "gelu"
    position_embedding_type: Literal["absolute"] = "absolute"
    is_decoder: Literal[False] = False
    add_cross_attention: Literal[False] = False


def description(
    text_cfg: Mapping[str, Any],
    hf_config: Mapping[str, Any] | None,
    tokens: tuple[int | None, int | None],
    shapes: Shapes,
) -> Bert | None:
    """The tower that open_clip's `text_cfg` with an `hf_model_name` and tensors under our names describe.

    hf_config: the language model's own configuration, where it lies beside. tokens: ids of the start and end tokens,
    None where the tokenizer does not say. None for a language model of another kind. Raises `ConfigError`.
    """
    cfg = fields.read(_TextCfg, text_cfg, path="text_cfg", ignore_unknown=True)
    model_type, heads = _NAMES.get(cfg.hf_model_name.rpartition("/")[2], (None, None))
    if hf_config is None and model_type is None:
        return None
    given = {key: value for key, value in (hf_config or {}).items() if value is not None}
    if hf_config is not None:
        model_type = given.get("model_type")
        if not isinstance(model_type, str) or model_type not in _TYPES:
            raise ConfigError(f"{CONFIG}: model_type: expected one of {', '.join(_TYPES)}, got {model_type!r}")
    assert model_type is not None  # by its name, or just checked
    named = {} if heads is None else {"num_attention_heads": heads}
    try:
        model = fields.read(_LanguageModel, {**_TYPES[model_type], **named, **given}, ignore_unknown=True)
    except ConfigError as error:
        raise ConfigError(f"{CONFIG}: {error}") from None
    start_id, end_id = (
        own if token is None or given.get(key) is not None else token
        for key, own, token in zip(
            ("bos_token_id", "eos_token_id"), (model.bos_token_id, model.eos_token_id), tokens, strict=True
        )
    )
    vocabulary_size, width = _of(EMBEDDING, shapes)
    positions = _of("transformer.embeddings.position_embeddings.weight", shapes)[0]
    from_zero = model_type == "bert"
    # Where open_clip's configuration leaves the pooling open, each model type has its own
    pooler = cfg.hf_pooler_type or ("cls_pooler" if from_zero else "mean_pooler")
    return Bert(
        cfg.context_length or min(77, positions - (0 if from_zero else model.pad_token_id + 1)),
        vocabulary_size,
        width,
        _layers(shapes),
        model.num_attention_heads,
        _of("transformer.encoder.layer.0.intermediate.dense.weight", shapes)[0],
        positions,
        _ACTIVATIONS[model.hidden_act],
        start_id,
        end_id,
        model.pad_token_id,  # what the model masks is the model's, whatever the tokenizer pads with
        positions_from_zero=from_zero,
        token_types=_of("transformer.embeddings.token_type_embeddings.weight", shapes)[0],
        pooling=_POOLINGS[pooler],
        projection=cfg.hf_proj_type or "none",
        norm_epsilon=model.layer_norm_eps,
    )


def from_shapes(shapes: Shapes) -> tuple[Bert, int]:
    """The tower of tensors without a configuration, and the shared dimension. RoBERTa's kind alone, pooled by the mean.

    Raises `ConfigError` for BERT's: its pooling leaves no trace, and open_clip's models differ in it.
    """
    vocabulary_size, width = _of(EMBEDDING, shapes)
    token_types = _of("transformer.embeddings.token_type_embeddings.weight", shapes)[0]
    if token_types != 1:
        raise ConfigError(
            "its text tower is a BERT, whose pooling cannot be seen in its tensors; put its open_clip_config.json "
            "beside it"
        )
    projection: Projection = "mlp" if "proj.2.weight" in shapes else "linear" if "proj.weight" in shapes else "none"
    last = {"mlp": "proj.2.weight", "linear": "proj.weight", "none": ""}[projection]
    positions = _of("transformer.embeddings.position_embeddings.weight", shapes)[0]
    tower = Bert(
        min(77, positions - 2),
        vocabulary_size,
        width,
        _layers(shapes),
        max(1, width // 64),
        _of("transformer.encoder.layer.0.intermediate.dense.weight", shapes)[0],
        positions,
        pooling="pooler" if "transformer.pooler.dense.weight" in shapes else "mean",
        projection=projection,
    )
    return tower, _of(last, shapes)[0] if last else width


def settings(text: Bert) -> dict[str, Any]:
    """`text_cfg` of open_clip's configuration."""
    name = name_of(text) or ("bert-base-uncased" if text.positions_from_zero else "xlm-roberta-base")
    return {
        "context_length": text.context_length,
        "hf_model_name": name,
        "hf_tokenizer_name": name,
        "hf_pooler_type": next(theirs for theirs, ours in _POOLINGS.items() if ours == text.pooling),
        "hf_proj_type": None if text.projection == "none" else text.projection,
    }


def name_of(text: Bert) -> str | None:
    """The published model of RoBERTa's kind that has the tower's sizes; None where there is none."""
    size = _SIZES.get((text.width, text.layers, text.heads, text.mlp_width))
    family = _VOCABULARIES.get(text.vocabulary_size)
    as_named = (text.positions, text.activation, text.positions_from_zero, text.token_types, text.norm_epsilon)
    ids = (text.start_id, text.end_id, text.pad_id)
    if size is None or family is None or as_named != (514, "gelu", False, 1, NORM_EPSILON) or ids != (0, 2, 1):
        return None
    return f"{family}-{size}"


def config_to(text: Bert) -> dict[str, Any]:
    """The language model's own configuration."""
    return {
        "model_type": "bert" if text.positions_from_zero else "xlm-roberta",
        "vocab_size": text.vocabulary_size,
        "hidden_size": text.width,
        "num_hidden_layers": text.layers,
        "num_attention_heads": text.heads,
        "intermediate_size": text.mlp_width,
        "hidden_act": next(theirs for theirs, ours in _ACTIVATIONS.items() if ours == text.activation),
        "max_position_embeddings": text.positions,
        "type_vocab_size": text.token_types,
        "layer_norm_eps": text.norm_epsilon,
        "pad_token_id": text.pad_id,
        "bos_token_id": text.start_id,
        "eos_token_id": text.end_id,
    }


def _layers(shapes: Shapes) -> int:
    return len({found[1] for name in shapes if (found := re.match(r"transformer\.encoder\.layer\.(\d+)\.", name))})


def _of(name: str, shapes: Shapes) -> tuple[int, ...]:
    shape = shapes.get(name, ())
    if len(shape) != 2 or min(shape) < 1:
        raise ConfigError(f"tensor text.{name}: expected 2 dimensions, got {list(shape) or 'none'}")
    return shape
