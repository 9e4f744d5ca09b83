"""Prompts -> vectors, with a report of what was cut. A text that comes again soon is not encoded again.

Shapes: n texts, d dimensions.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, TypeAlias

import numpy as np

from tandem.arrays import Vectors
from tandem.defaults import LongTexts
from tandem.long_texts import check_long

if TYPE_CHECKING:
    from tandem.model import Model
    from tandem.tokenizer import Tokenizer

KEPT = 4096  # texts whose vectors are kept: one prompt for a folder is encoded once
Tokens: TypeAlias = tuple[int, int]  # how many a text has with its prefix, and how many of them were cut


class Texts(Protocol):
    """Vectors of prompts and references, and what of them was cut."""

    def embed(self, texts: Sequence[str]) -> Vectors: ...

    def cut(self, text: str) -> Tokens | None: ...


def before_texts(prefix: str) -> str:
    """What is put before every text: the prefix and a space, or nothing."""
    return f"{prefix.rstrip()} " if prefix.strip() else ""


def cut_to(room: int, tokenizer: "Tokenizer", texts: Sequence[str]) -> tuple[list[list[int]], list[Tokens | None]]:
    """Token ids of each text, without start and end, `room` at most; and of those that have more, what was cut."""
    ids = tokenizer.encode(texts)
    tokens = [(len(row), len(row) - room) if len(row) > room else None for row in ids]
    return [row[:room] for row in ids], tokens


@dataclass(frozen=True)
class KnownTexts:
    """Vectors [d] that were computed elsewhere, by text."""

    vectors: Mapping[str, Vectors]
    tokens: Mapping[str, Tokens | None]

    def embed(self, texts: Sequence[str]) -> Vectors:
        """float32 [n d], at least one."""
        return np.stack([self.vectors[text] for text in texts])

    def cut(self, text: str) -> Tokens | None:
        return self.tokens.get(text)


class TextVectors:
    """The vectors of prompts and references of one run."""

    def __init__(self, model: "Model", *, prefix: str = "", long: LongTexts = "truncate") -> None:
        self.model, self.long = model, check_long(long)
        self.prefix = before_texts(prefix)
        self._room = model.tokenizer.room(model.config.text.context_length)
        self._vectors: dict[str, Vectors] = {}  # [d]
        self._tokens: dict[str, Tokens | None] = {}

    def embed(self, texts: Sequence[str]) -> Vectors:
        """float32 [n d] of unit length, each text behind the prefix. Raises `TextError` as `long` says."""
        fresh = [text for text in dict.fromkeys(texts) if text not in self._vectors]
        if len(self._vectors) + len(fresh) > KEPT:
            self._vectors, self._tokens = {}, {}
            fresh = list(dict.fromkeys(texts))
        if fresh:
            self._vectors.update(zip(fresh, self._encoded(fresh), strict=True))
        return np.stack([self._vectors[text] for text in texts]) if texts else self.model.embed_texts([])

    def _encoded(self, texts: Sequence[str]) -> Vectors:
        written = [self.prefix + text for text in texts]
        if self.long != "truncate":
            return self.model.embed_texts(written, long=self.long)
        ids, tokens = cut_to(self._room, self.model.tokenizer, written)
        self._tokens.update(zip(texts, tokens, strict=True))
        # `rows` adds the end token after the cut: it is what the vector is read from
        return self.model.encode_token_ids(self.model.tokenizer.rows(ids))

    def cut(self, text: str) -> Tokens | None:
        """What was cut of a text that was embedded last; None where it fits."""
        return self._tokens.get(text)
