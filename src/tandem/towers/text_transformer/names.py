"""What a text transformer's tensors are called by open_clip (OpenAI's names) and by transformers."""

from tandem.towers.parts.names import Rule, same, transformers_blocks

_TEXT = "text_model"
# A projection with a bias is a linear layer, which open_clip calls by the name of the matrix
OPEN_CLIP = (
    Rule("text_projection", ("text_projection.weight",), transposed=True),
    Rule("text_projection_bias", ("text_projection.bias",)),
)
_SHARED = (
    Rule("token_embedding.weight", (f"{_TEXT}.embeddings.token_embedding.weight",)),
    Rule("positional_embedding", (f"{_TEXT}.embeddings.position_embedding.weight",)),
    *same("ln_final", f"{_TEXT}.final_layer_norm"),
    *transformers_blocks("transformer", f"{_TEXT}.encoder.layers"),
)
TRANSFORMERS_SIGLIP = (
    *_SHARED,
    Rule("text_projection", (f"{_TEXT}.head.weight",), transposed=True),
    Rule("text_projection_bias", (f"{_TEXT}.head.bias",)),
)
TRANSFORMERS = (*_SHARED, Rule("text_projection", ("text_projection.weight",), transposed=True))
# For reading: what is the same in both comes once
RULES = {"open_clip": OPEN_CLIP, "transformers": (*TRANSFORMERS_SIGLIP, *TRANSFORMERS)}
