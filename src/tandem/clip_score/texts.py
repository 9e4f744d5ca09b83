"""Prompts -> vectors, with a report of what was cut. A text that comes again soon is not encoded again.

Shapes: n texts, d dimensions.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from tandem.arrays import Vectors
from tandem.defaults import LongTexts
from tandem.long_texts import check_long

if TYPE_CHECKING:
    from tandem.model import Model

KEPT = 4096  # texts whose vectors are kept: one prompt for a folder is encoded once


class TextVectors:
    """The vectors of prompts and references of one run."""

    def __init__(self, model: "Model", *, prefix: str = "", long: LongTexts = "truncate") -> None:
        self.model, self.long = model, check_long(long)
        self.prefix = f"{prefix.rstrip()} " if prefix.strip() else ""
        self._room = model.tokenizer.room(model.config.text.context_length)
        self._vectors: dict[str, Vectors] = {}  # [d]
        self._tokens: dict[str, int] = {}  # of texts that were cut

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
        ids = self.model.tokenizer.encode(written)
        for text, row in zip(texts, ids, strict=True):
            if len(row) > self._room:
                self._tokens[text] = len(row)
                del row[self._room :]  # `rows` adds the end token after the cut: it is what the vector is read from
        return self.model.encode_token_ids(self.model.tokenizer.rows(ids))

    def cut(self, text: str) -> tuple[int, int] | None:
        """How many tokens a text has with its prefix, and how many of them were cut; None where it fits."""
        tokens = self._tokens.get(text)
        return None if tokens is None else (tokens, tokens - self._room)
