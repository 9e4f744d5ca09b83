"""The BERT-like text tower in numpy, for the first texts of a process. The mathematics of `graph`.

Shapes: b batch, t tokens, w width, h heads, d shared dimension.
"""

import numpy as np
from numpy.typing import NDArray

from tandem.towers.bert.description import Bert
from tandem.towers.bert.shapes import EMBEDDING, layer
from tandem.towers.parts.numpy import ACTIVATIONS, Array, layer_norm, linear, split_heads, unbiased
from tandem.towers.parts.tensors import Tensors


def features(token_ids: NDArray[np.int32], ends: NDArray[np.int32], text: Bert, tensors: Tensors) -> Array:
    """Token ids [b t] -> [b d], not of unit length. `ends` are of towers that read one position."""
    is_token = token_ids != text.pad_id
    x = _embed(token_ids, is_token, text, tensors)
    mask = np.where(is_token, np.float32(0), np.finfo(np.float32).min)[:, None, None]  # [b 1 1 t]
    for i in range(text.layers):
        # Where only the first token's state leaves the tower, the last layer computes no other
        query = x[:, :1] if i == text.layers - 1 and text.pooling != "mean" else x
        x = _layer(query, x, text, tensors, layer(i), mask)
    if text.pooling == "mean":
        counted = is_token[:, :, None].astype(np.float32)
        x = (x * counted).sum(axis=1) / counted.sum(axis=1)
    else:
        x = x[:, 0]
    if text.pooling == "pooler":
        x = np.tanh(linear(x, tensors, "transformer.pooler.dense"))
    if text.projection == "mlp":
        return unbiased(ACTIVATIONS["gelu"](unbiased(x, tensors, "proj.0.weight")), tensors, "proj.2.weight")
    return unbiased(x, tensors, "proj.weight") if text.projection == "linear" else x


def _embed(token_ids: NDArray[np.int32], is_token: NDArray[np.bool_], text: Bert, tensors: Tensors) -> Array:
    """[b t] -> [b t w]"""
    prefix = "transformer.embeddings."
    if text.positions_from_zero:
        positions = np.arange(token_ids.shape[1])
    else:  # padding is at the position `pad_id`
        positions = np.cumsum(is_token, axis=1) * is_token + text.pad_id
    x: Array = tensors[EMBEDDING][token_ids].astype(np.float32)
    x = x + tensors[prefix + "position_embeddings.weight"][positions].astype(np.float32)
    x = x + tensors[prefix + "token_type_embeddings.weight"][0].astype(np.float32)
    return layer_norm(x, tensors, prefix + "LayerNorm.", text.norm_epsilon)


def _layer(query: Array, x: Array, text: Bert, tensors: Tensors, name: str, mask: Array) -> Array:
    """The new states of `query` [b q w], which are among those of x [b t w] -> [b q w]."""
    q, k, v = (
        split_heads(linear(source, tensors, f"{name}.attention.self.{part}"), text.heads)
        for source, part in ((query, "query"), (x, "key"), (x, "value"))
    )
    scores = q @ k.transpose(0, 1, 3, 2) * np.float32(q.shape[-1] ** -0.5) + mask  # [b h q t]
    scores = np.exp(scores - scores.max(axis=-1, keepdims=True))
    attended = (scores / scores.sum(axis=-1, keepdims=True)) @ v  # [b h q w/h]
    query = _add_norm(
        attended.transpose(0, 2, 1, 3).reshape(query.shape), query, text, tensors, f"{name}.attention.output"
    )
    hidden = ACTIVATIONS[text.activation](linear(query, tensors, f"{name}.intermediate.dense"))
    return _add_norm(hidden, query, text, tensors, f"{name}.output")


def _add_norm(x: Array, residual: Array, text: Bert, tensors: Tensors, name: str) -> Array:
    return layer_norm(linear(x, tensors, f"{name}.dense") + residual, tensors, f"{name}.LayerNorm.", text.norm_epsilon)
