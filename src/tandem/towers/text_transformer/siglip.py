"""The text transformer of SigLIP and SigLIP 2: what it is beside its sizes. Pure."""

from typing import Any

from tandem.towers.parts.description import Activation
from tandem.towers.text_transformer.description import TextTransformer

# What is not CLIP's: every position sees every other, and the last one, which is usually padding, is read
VARIATIONS: dict[str, Any] = {"causal": False, "pooling": "last", "projection_bias": True, "cleaning": "canonical"}
NORM_EPSILON = 1e-6
END_ID = 1
# By the size of the vocabulary: English, multilingual, and SigLIP 2
PAD_IDS = {32_000: 1, 250_000: 1, 256_000: 0}


def described(
    context_length: int,
    vocabulary_size: int,
    width: int,
    layers: int,
    heads: int,
    mlp_width: int,
    activation: Activation,
) -> TextTransformer:
    """The tower of these sizes. Raises `KeyError` for a vocabulary of no published model."""
    return TextTransformer(
        context_length,
        vocabulary_size,
        width,
        layers,
        heads,
        mlp_width,
        activation,
        start_id=None,
        end_id=END_ID,
        pad_id=PAD_IDS[vocabulary_size],
        norm_epsilon=NORM_EPSILON,
        **VARIATIONS,
    )
