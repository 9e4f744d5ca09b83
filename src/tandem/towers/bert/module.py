"""The BERT-like text tower in torch. Its parameters have transformers' names.

No dropout: the published checkpoints were trained with 0.1, which fine-tuning here leaves out, as everywhere in Tandem.

Shapes: n texts, t tokens, w width, h heads, d shared dimension.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn

from tandem.towers.bert.description import Bert
from tandem.towers.parts.description import Activation, Wanted
from tandem.towers.parts.torch import (
    LayerNorm,
    activate,
    attend,
    embed_with,
    empty_embedding,
    normal,
    stretch_positions,
)


class _SelfAttention(nn.Module):
    def __init__(self, text: Bert) -> None:
        super().__init__()
        self.heads = text.heads
        self.query, self.key, self.value = (nn.Linear(text.width, text.width) for _ in range(3))

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """x [n t w], mask [n 1 1 t] -> [n t w]"""
        n, t, w = x.shape
        q, k, v = (
            project(x).view(n, t, self.heads, w // self.heads).transpose(1, 2)
            for project in (self.query, self.key, self.value)
        )
        return attend(q, k, v, causal=False, mask=mask).transpose(1, 2).reshape(n, t, w)


class _Output(nn.Module):
    """A linear layer, what it is added to, and the norm of the sum."""

    def __init__(self, entering: int, text: Bert) -> None:
        super().__init__()
        self.dense = nn.Linear(entering, text.width)
        self.LayerNorm = LayerNorm(text.width, text.norm_epsilon)

    def forward(self, x: Tensor, residual: Tensor) -> Tensor:
        return self.LayerNorm(self.dense(x) + residual)  # type: ignore[no-any-return]


class _Attention(nn.Module):
    def __init__(self, text: Bert) -> None:
        super().__init__()
        self.self = _SelfAttention(text)
        self.output = _Output(text.width, text)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        return self.output(self.self(x, mask), x)  # type: ignore[no-any-return]


class _Intermediate(nn.Module):
    def __init__(self, text: Bert) -> None:
        super().__init__()
        self.activation: Activation = text.activation
        self.dense = nn.Linear(text.width, text.mlp_width)

    def forward(self, x: Tensor) -> Tensor:
        return activate(self.dense(x), self.activation)


class Layer(nn.Module):
    """Attention, then two linear layers; each is added to what enters it, and the sum is normalised."""

    def __init__(self, text: Bert) -> None:
        super().__init__()
        self.attention = _Attention(text)
        self.intermediate = _Intermediate(text)
        self.output = _Output(text.mlp_width, text)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """x [n t w], mask [n 1 1 t], True where there is a token -> [n t w]"""
        x = self.attention(x, mask)
        return self.output(self.intermediate(x), x)  # type: ignore[no-any-return]


class _Embeddings(nn.Module):
    def __init__(self, text: Bert) -> None:
        super().__init__()
        self.text = text
        self.word_embeddings = empty_embedding(text.vocabulary_size, text.width)
        self.position_embeddings = empty_embedding(text.positions, text.width)
        self.token_type_embeddings = empty_embedding(text.token_types, text.width)
        self.LayerNorm = LayerNorm(text.width, text.norm_epsilon)

    def forward(self, ids: Tensor, added: Tensor | None = None) -> Tensor:
        """[n t] -> [n t w]"""
        x = embed_with(self.word_embeddings, ids, added) + self.token_type_embeddings.weight[0]
        return self.LayerNorm(x + self.position_embeddings(self._positions(ids)))  # type: ignore[no-any-return]

    def _positions(self, ids: Tensor) -> Tensor:
        """[n t], or [t] where they do not depend on the text. RoBERTa's padding is at the position `pad_id`."""
        if self.text.positions_from_zero:
            return torch.arange(ids.shape[1], device=ids.device)
        is_token = (ids != self.text.pad_id).long()
        return is_token.cumsum(1) * is_token + self.text.pad_id


class _Encoder(nn.Module):
    def __init__(self, text: Bert) -> None:
        super().__init__()
        self.layer = nn.ModuleList(Layer(text) for _ in range(text.layers))


class _Pooler(nn.Module):
    def __init__(self, text: Bert) -> None:
        super().__init__()
        self.dense = nn.Linear(text.width, text.width)


class _Transformer(nn.Module):
    def __init__(self, text: Bert) -> None:
        super().__init__()
        self.embeddings = _Embeddings(text)
        self.encoder = _Encoder(text)
        self.pooler = _Pooler(text) if text.pooling == "pooler" else None


def fit_context(text: Bert, wanted: Bert, tensors: dict[str, Tensor]) -> tuple[Bert, dict[str, Tensor], str]:
    """A tower and its tensors with the context length and the positions of `wanted`, and what was changed, for people.

    A context that the table has positions for changes nothing in it.
    """
    text = replace(text, context_length=wanted.context_length, positions=wanted.positions)
    name, first = "transformer.embeddings.position_embeddings.weight", text.first_position
    before, after = len(tensors[name]) - first, text.positions - first
    if before == after:
        return text, tensors, ""
    table = torch.cat([tensors[name][:first], stretch_positions(tensors[name][first:], after)])
    done = f"cut from {before}" if after < before else f"stretched from {before}"
    return text, {**tensors, name: table}, f"positions of the text tower {done} to {after}"


class Module(nn.Module):
    """Tokens, layers, pooling, perhaps a projection."""

    def __init__(self, text: Bert, embed_dim: int) -> None:
        super().__init__()
        self.text = text
        self.transformer = _Transformer(text)
        self.proj: nn.Module | None = None
        if text.projection == "mlp":
            between = (text.width + embed_dim) // 2
            self.proj = nn.Sequential(
                nn.Linear(text.width, between, bias=False), nn.GELU(), nn.Linear(between, embed_dim, bias=False)
            )
        elif text.projection == "linear":
            self.proj = nn.Linear(text.width, embed_dim, bias=False)

    def forward(self, ids: Tensor) -> Tensor:
        """ids [n t], padded at will -> [n d], not of unit length."""
        x = self._pooled(self.states(ids, [(self.text.layers, True)])[0], ids)
        return x if self.proj is None else self.proj(x)

    def states(self, ids: Tensor, wanted: Wanted, added: Tensor | None = None) -> list[Tensor]:
        """ids [n t] -> for each of `wanted` every token's state [n t w]. Each layer ends with its norm.

        added [m w]: the embeddings of ids from the vocabulary's end on.
        """
        mask = (ids != self.text.pad_id)[:, None, None]  # [n 1 1 t]
        after: list[Tensor] = [self.transformer.embeddings(ids, added)]
        for layer in list(self.transformer.encoder.layer)[: max(blocks for blocks, _ in wanted)]:
            after.append(layer(after[-1], mask))
        return [after[blocks] for blocks, _ in wanted]

    def _pooled(self, x: Tensor, ids: Tensor) -> Tensor:
        if self.text.pooling == "mean":
            is_token = (ids != self.text.pad_id).to(x.dtype)[:, :, None]  # [n t 1]
            return (x * is_token).sum(1) / is_token.sum(1)
        if self.transformer.pooler is None:
            return x[:, 0]
        return torch.tanh(self.transformer.pooler.dense(x[:, 0]))

    def blocks(self) -> Sequence[nn.Module]:
        """What is checkpointed, compiled and sharded one by one, in order."""
        return list(self.transformer.encoder.layer)

    def after_blocks(self) -> Iterator[nn.Parameter]:
        """Parameters of what follows the last block."""
        for module in (self.transformer.pooler, self.proj):
            if module is not None:
                yield from module.parameters()

    def initialise(self, draw: torch.Generator) -> None:
        """Draw every weight in place: a deviation of 0.02 throughout, biases 0 (Devlin et al. 2019)."""
        for module in self.modules():
            if isinstance(module, nn.Linear | nn.Embedding):
                normal(module.weight, 0.02, draw)
            if isinstance(module, nn.Linear) and module.bias is not None:
                module.bias.zero_()
        embeddings = self.transformer.embeddings
        embeddings.word_embeddings.weight[self.text.pad_id].zero_()
        if not self.text.positions_from_zero:
            embeddings.position_embeddings.weight[self.text.pad_id].zero_()
