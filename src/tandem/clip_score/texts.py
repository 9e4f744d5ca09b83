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
        self._known: dict[str, tuple[Vectors, Tokens | None]] = {}  # those used last at the end

    def embed(self, texts: Sequence[str]) -> Vectors:
        """float32 [n d] of unit length, each text behind the prefix. Raises `TextError` as `long` says."""
        wanted = list(dict.fromkeys(texts))
        fresh = [text for text in wanted if text not in self._known]
        if fresh:
            self._known.update(zip(fresh, zip(*self._encoded(fresh), strict=True), strict=True))
        for text in wanted:
            self._known[text] = self._known.pop(text)
        found = np.stack([self._known[text][0] for text in texts]) if texts else self.model.embed_texts([])
        for text in list(self._known)[: max(len(self._known) - max(KEPT, len(wanted)), 0)]:
            del self._known[text]
        return found

    def _encoded(self, texts: Sequence[str]) -> "_Encoded":
        written = [self.prefix + text for text in texts]
        if self.long != "truncate":
            return self.model.embed_texts(written, long=self.long), [None] * len(texts)
        ids, tokens = cut_to(self._room, self.model.tokenizer, written)
        # `rows` adds the end token after the cut: it is what the vector is read from
        return self.model.encode_token_ids(self.model.tokenizer.rows(ids)), tokens

    def cut(self, text: str) -> Tokens | None:
        """What was cut of a text that was embedded last; None where it fits."""
        return self._known[text][1] if text in self._known else None


_Encoded: TypeAlias = tuple[Vectors, Sequence[Tokens | None]]  # [n d], and of each text what was cut
