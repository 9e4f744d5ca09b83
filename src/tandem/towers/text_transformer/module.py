"""The text transformer in torch.

Shapes: n texts, t tokens, w width, d shared dimension; r rows of several packed texts, m texts in them.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tandem.towers.parts.description import Wanted
from tandem.towers.parts.torch import LayerNorm, Transformer, embed_with, empty_embedding, normal, stretch_positions
from tandem.towers.text_transformer.description import TextTransformer


def fit_context(
    text: TextTransformer, wanted: TextTransformer, tensors: dict[str, Tensor]
) -> tuple[TextTransformer, dict[str, Tensor], str]:
    """A tower and its tensors with the context length of `wanted`, and what was changed, for people; "": nothing."""
    before, after = text.context_length, wanted.context_length
    if before == after:
        return text, tensors, ""
    tensors = {**tensors, "positional_embedding": stretch_positions(tensors["positional_embedding"], after)}
    note = (
        f"the first {after} of {before} positions of the text tower are kept"
        if after < before
        else f"positions of the text tower stretched from {before} to {after}"
    )
    if text.fixed_length:
        note += f"; its texts were padded to {before} tokens, here to {after}: all their vectors change"
    return replace(text, context_length=after), tensors, note


class Module(nn.Module):
    """Tokens, blocks, the state of one position, a projection."""

    def __init__(self, text: TextTransformer, embed_dim: int) -> None:
        super().__init__()
        self.text = text
        self.token_embedding = empty_embedding(text.vocabulary_size, text.width)
        self.positional_embedding = nn.Parameter(torch.empty(text.context_length, text.width))
        self.transformer = Transformer(
            text.width, text.layers, text.heads, text.mlp_width, text.activation, text.norm_epsilon
        )
        self.ln_final = LayerNorm(text.width, text.norm_epsilon)
        self.text_projection = nn.Parameter(torch.empty(text.width, embed_dim))
        self.text_projection_bias = nn.Parameter(torch.zeros(embed_dim)) if text.projection_bias else None

    def forward(self, ids: Tensor) -> Tensor:
        """ids [n t] -> [n d], not of unit length. Texts of a fixed length are padded here."""
        ids = self._padded(ids)
        rows = torch.arange(ids.shape[0], device=ids.device) * ids.shape[1]
        if self.text.pooling == "end":
            is_end: Tensor = ids == self.text.end_id  # type: ignore[assignment]  # a comparison of tensors
            read_at = is_end.int().argmax(dim=1) + rows
        else:
            read_at = rows + ids.shape[1] - 1
        return self._project(self.transformer(self._embed(ids), causal=self.text.causal, chosen=read_at))

    def forward_packed(self, ids: Tensor, positions: Tensor, mask: Tensor, ends: Tensor) -> Tensor:
        """Causal texts that share rows -> [m d], not of unit length.

        ids [r t]; positions [r t]: each token's position in its text; mask [r 1 t t]: True where it may look; ends [m]:
        where each text ends, an index into r*t.
        """
        x = self.token_embedding(ids) + self.positional_embedding[positions]
        return self._project(self.transformer(x, causal=True, mask=mask, chosen=ends))

    def states(self, ids: Tensor, wanted: Wanted, added: Tensor | None = None) -> list[Tensor]:
        """ids [n t] -> for each of `wanted` every token's state [n t w].

        added [m w]: the embeddings of ids from the vocabulary's end on.
        """
        tokens = ids.shape[1]
        after = [self._embed(self._padded(ids), added)]
        for block in list(self.transformer.resblocks)[: max(blocks for blocks, _ in wanted)]:
            after.append(block(after[-1], self.text.causal))
        return [(self.ln_final(after[blocks]) if norm else after[blocks])[:, :tokens] for blocks, norm in wanted]

    def _padded(self, ids: Tensor) -> Tensor:
        if not self.text.fixed_length:
            return ids
        return F.pad(ids, (0, self.text.context_length - ids.shape[1]), value=self.text.pad_id)

    def _embed(self, ids: Tensor, added: Tensor | None = None) -> Tensor:
        return embed_with(self.token_embedding, ids, added) + self.positional_embedding[: ids.shape[1]]

    def _project(self, x: Tensor) -> Tensor:
        x = self.ln_final(x) @ self.text_projection.to(x.dtype)
        return x if self.text_projection_bias is None else x + self.text_projection_bias.to(x.dtype)

    def blocks(self) -> Sequence[nn.Module]:
        """What is checkpointed, compiled and sharded one by one, in order."""
        return list(self.transformer.resblocks)

    def after_blocks(self) -> Iterator[nn.Parameter]:
        """Parameters of what follows the last block."""
        yield from self.ln_final.parameters()
        yield self.text_projection
        if self.text_projection_bias is not None:
            yield self.text_projection_bias

    def initialise(self, draw: torch.Generator) -> None:
        """Draw every weight in place, at the scales of the published code."""
        normal(self.token_embedding.weight, 0.02, draw)
        normal(self.positional_embedding, 0.01, draw)
        normal(self.text_projection, self.text_projection.shape[0] ** -0.5, draw)
        if self.text_projection_bias is not None:
            self.text_projection_bias.zero_()
        self.transformer.initialise(draw)
