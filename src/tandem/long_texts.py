"""Texts longer than a model's context: refused, cut, or split into parts whose vectors are averaged.

Knows tokens and vectors; the encoder is passed in.

Shapes: n texts, p parts of them, t tokens, d dimensions.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import get_args

import numpy as np
from numpy.typing import NDArray

from tandem.arrays import Vectors
from tandem.defaults import LongTexts
from tandem.errors import TextError
from tandem.tokenizer import Tokenizer

_BATCH_PARTS = 8192  # encoded at once: bounds memory for books


def check_long(long: str, truncate: bool = False) -> LongTexts:
    """What to do with texts that are too long; `truncate=True` is the same as "truncate". Raises `TextError`."""
    if long not in get_args(LongTexts):
        raise TextError(f"long: expected one of {', '.join(get_args(LongTexts))}, got {long!r}")
    if truncate and long == "split":
        raise TextError("long, truncate: expected one of the two, got both")
    return "truncate" if truncate else long  # type: ignore[return-value]  # checked above


@dataclass(frozen=True)
class TextParts:
    """The parts of several texts, in order. A text that fits is one part, whose vector is that of the text."""

    ids: list[list[int]]  # [p] of tokens, start and end not included
    text: NDArray[np.intp]  # [p]: which text each is of
    texts: int  # n

    @property
    def is_whole(self) -> NDArray[np.bool_]:
        """Which parts are all of their text, [p]."""
        return np.asarray(np.bincount(self.text, minlength=self.texts)[self.text] == 1)

    def average(self, vectors: Vectors) -> Vectors:
        """Vectors of the parts [p d] -> unit vectors of the texts [n d]: their means weighted by numbers of tokens."""
        means = np.zeros((self.texts, vectors.shape[1]), np.float32)
        weights = np.fromiter(map(len, self.ids), np.float32, len(self.ids))
        np.add.at(means, self.text, vectors * weights[:, None])
        lengths = np.linalg.norm(means, axis=1, keepdims=True)
        np.divide(means, lengths, out=means, where=lengths > 0)
        whole = self.is_whole
        means[self.text[whole]] = vectors[whole]  # to the bit
        return means


def split_texts(texts: Sequence[str], tokenizer: Tokenizer, context_length: int) -> TextParts:
    """Every text as parts that the context takes. Raises `TextError` for a context too small for one character."""
    room = tokenizer.room(context_length)
    ids: list[list[int]] = []
    owner: list[int] = []
    for i, row in enumerate(tokenizer.encode(texts)):
        parts = [row] if len(row) <= room else _split(texts[i], tokenizer, room)
        ids += parts
        owner += [i] * len(parts)
    return TextParts(ids, np.array(owner, dtype=np.intp), len(texts))


def _split(text: str, tokenizer: Tokenizer, room: int) -> list[list[int]]:
    from tandem.tokenizer.splitting import split_text

    try:
        parts = split_text(text, lambda part: len(tokenizer.encode(part)[0]) <= room)
    except ValueError as error:
        raise TextError(f"a context of {room} tokens is too small to split a text: {error}") from None
    return [row for row in tokenizer.encode(parts) if row]  # cleaning may leave nothing of a part


def embed_split(
    texts: Sequence[str], tokenizer: Tokenizer, context_length: int, encode: Callable[[NDArray[np.int32]], Vectors]
) -> Vectors:
    """Vectors of texts of any length, float32 [n d]; `encode` turns rows of ids [p t] into vectors [p d].

    Texts that fit are encoded apart from the parts of others, as if those were not there.
    """
    parts = split_texts(texts, tokenizer, context_length)
    whole = parts.is_whole
    vectors: Vectors | None = None
    for group in (np.flatnonzero(whole), np.flatnonzero(~whole)):
        for start in range(0, len(group), _BATCH_PARTS):
            rows = group[start : start + _BATCH_PARTS]
            some = encode(tokenizer.rows([parts.ids[i] for i in rows]))
            if vectors is None:
                vectors = np.empty((len(parts.ids), some.shape[1]), np.float32)
            vectors[rows] = some
    if vectors is None:
        return encode(tokenizer.rows([]))
    return parts.average(vectors)
