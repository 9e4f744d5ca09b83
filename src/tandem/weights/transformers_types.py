"""The model types of transformers that Tandem reads: their defaults, and how each differs from CLIP.

One line of `MODEL_TYPES` for each. Facts only: files are read by `transformers`, configurations by
`transformers_config`.
"""

import functools
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from tandem.config import CLIP_MEAN, CLIP_STD, INCEPTION_MEAN, INCEPTION_STD
from tandem.towers.parts.names import Names, Rule
from tandem.towers.text_transformer import names as text_names
from tandem.towers.text_transformer import siglip as siglip_text
from tandem.towers.vision_transformer import names as vision_names
from tandem.towers.vision_transformer import siglip


@dataclass(frozen=True, eq=False)
class ModelType:
    """One `model_type` of config.json."""

    name: str
    architecture: str
    image_processor: str
    rules: tuple[Rule, ...]
    vision_defaults: Mapping[str, Any] = field(default_factory=dict)  # transformers' own, where they are not CLIP's
    text_defaults: Mapping[str, Any] = field(default_factory=dict)
    vision: Mapping[str, Any] = field(default_factory=dict)  # fields of the description that are not CLIP's
    text: Mapping[str, Any] = field(default_factory=dict)
    projects_images: bool = True  # by a matrix without a bias, to `projection_dim`; else the towers have one width
    attention_pooling: bool = False
    naflex: bool = False  # images of any aspect ratio, as patches
    logit_bias: bool = False
    mean: tuple[float, float, float] = CLIP_MEAN
    std: tuple[float, float, float] = CLIP_STD
    squashed: bool = False  # both sides resized, where preprocessor_config.json does not say
    end_id_may_be_legacy: bool = False  # old files name the end token 2, and transformers then reads at the largest id

    @functools.cached_property
    def names(self) -> Names:
        """What tensors are called."""
        return Names(self.rules)


_SIGLIP_RULES = (
    *vision_names.TRANSFORMERS,
    *text_names.TRANSFORMERS_SIGLIP,
    Rule("logit_scale", ("logit_scale",), ones=1),
    Rule("logit_bias", ("logit_bias",), ones=1),
)
_SIGLIP: dict[str, Any] = {
    "rules": _SIGLIP_RULES,
    "vision_defaults": {"patch_size": 16, "hidden_act": "gelu_pytorch_tanh", "layer_norm_eps": siglip.NORM_EPSILON},
    "text_defaults": {
        "vocab_size": 32000,
        "max_position_embeddings": 64,
        "hidden_size": 768,
        "intermediate_size": 3072,
        "num_attention_heads": 12,
        "hidden_act": "gelu_pytorch_tanh",
        "layer_norm_eps": siglip_text.NORM_EPSILON,
    },
    "text": siglip_text.VARIATIONS,
    "projects_images": False,
    "logit_bias": True,
    "mean": INCEPTION_MEAN,
    "std": INCEPTION_STD,
}
_CLIP_RULES = (*vision_names.TRANSFORMERS, *text_names.TRANSFORMERS, Rule("logit_scale", ("logit_scale",)))
MODEL_TYPES = {
    model_type.name: model_type
    for model_type in (
        ModelType("clip", "CLIPModel", "CLIPImageProcessor", _CLIP_RULES, end_id_may_be_legacy=True),
        ModelType("metaclip_2", "MetaClip2Model", "CLIPImageProcessor", _CLIP_RULES, text={"cleaning": "whitespace"}),
        # SigLIP, and SigLIP 2 of fixed resolution
        ModelType(
            "siglip",
            "SiglipModel",
            "SiglipImageProcessor",
            vision=siglip.VARIATIONS,
            attention_pooling=True,
            squashed=True,
            **_SIGLIP,
        ),
        ModelType("siglip2", "Siglip2Model", "Siglip2ImageProcessor", naflex=True, **_SIGLIP),
    )
}
