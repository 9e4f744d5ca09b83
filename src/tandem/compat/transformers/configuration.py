"""Configurations as transformers has them: what scripts read of `model.config`. Knows descriptions; no weights."""

from typing import Any

from tandem.config import ModelConfig, to_dict
from tandem.errors import WeightsError


class Config(dict[str, Any]):
    """A configuration by name, also as attributes, part in part."""

    def __getattr__(self, name: str) -> Any:
        if name not in self:
            raise AttributeError(f"the configuration has no {name!r}; it has {', '.join(self)}")
        value = self[name]
        return Config(value) if isinstance(value, dict) else value

    def to_dict(self) -> dict[str, Any]:
        """As a plain dict."""
        return dict(self)


def configuration(config: ModelConfig) -> Config:
    """As transformers' `config.json` says it. Of towers that transformers has no class for: sizes under its names,
    beside Tandem's own description.
    """
    from tandem.weights.transformers_config import config_to

    try:
        return Config(config_to(config))
    except WeightsError:
        plain, text = to_dict(config), config.text
        theirs = {
            "projection_dim": config.embed_dim,
            "text_config": {
                "hidden_size": text.width,
                "num_hidden_layers": text.layers,
                "num_attention_heads": text.heads,
                "max_position_embeddings": text.context_length,
                "vocab_size": text.vocabulary_size,
                "bos_token_id": text.start_id,
                "eos_token_id": text.end_id,
                "pad_token_id": text.pad_id,
                "projection_dim": config.embed_dim,
            },
            "vision_config": {"image_size": config.preprocessing.image_size, "projection_dim": config.embed_dim},
        }
        return Config({**plain, **theirs})
