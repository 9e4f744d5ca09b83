"""The tensors of a BERT-like text tower, under the names that open_clip and transformers share."""

from tandem.towers.bert.description import Bert
from tandem.towers.parts.shapes import Shapes, linear, norm

EMBEDDING = "transformer.embeddings.word_embeddings.weight"  # a row for each entry of the vocabulary
# The tensors of every kind of projection into the shared space, which a run with another space learns anew
PROJECTION = ("proj.0.weight", "proj.2.weight", "proj.weight")


def layer(i: int) -> str:
    """The name of a layer, that of its tensors before the dot."""
    return f"transformer.encoder.layer.{i}"


def shapes(text: Bert, embed_dim: int) -> Shapes:
    """Every tensor of the tower, with its shape."""
    width, hidden = text.width, text.mlp_width
    found: Shapes = {
        EMBEDDING: (text.vocabulary_size, width),
        "transformer.embeddings.position_embeddings.weight": (text.positions, width),
        "transformer.embeddings.token_type_embeddings.weight": (text.token_types, width),
        **norm("transformer.embeddings.LayerNorm", width),
    }
    for name in map(layer, range(text.layers)):
        for projection in ("query", "key", "value"):
            found |= linear(f"{name}.attention.self.{projection}", width, width)
        found |= linear(f"{name}.attention.output.dense", width, width)
        found |= norm(f"{name}.attention.output.LayerNorm", width)
        found |= linear(f"{name}.intermediate.dense", hidden, width) | linear(f"{name}.output.dense", width, hidden)
        found |= norm(f"{name}.output.LayerNorm", width)
    if text.pooling == "pooler":
        found |= linear("transformer.pooler.dense", width, width)
    if text.projection == "mlp":
        between = (width + embed_dim) // 2
        found |= {"proj.0.weight": (between, width), "proj.2.weight": (embed_dim, between)}
    elif text.projection == "linear":
        found["proj.weight"] = (embed_dim, width)
    return found
