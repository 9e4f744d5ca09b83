"""The tensors of a text transformer, under OpenAI's names."""

from tandem.towers.parts.shapes import Shapes, norm, transformer
from tandem.towers.text_transformer.description import TextTransformer

EMBEDDING = "token_embedding.weight"  # a row for each entry of the vocabulary
# The tensors of every kind of projection into the shared space, which a run with another space learns anew
PROJECTION = ("text_projection", "text_projection_bias")


def shapes(text: TextTransformer, embed_dim: int) -> Shapes:
    """Every tensor of the tower, with its shape."""
    found: Shapes = {
        EMBEDDING: (text.vocabulary_size, text.width),
        "positional_embedding": (text.context_length, text.width),
        "text_projection": (text.width, embed_dim),
        **norm("ln_final", text.width),
        **transformer("transformer", text.layers, text.width, text.mlp_width),
    }
    if text.projection_bias:
        found["text_projection_bias"] = (embed_dim,)
    return found
