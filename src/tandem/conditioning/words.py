"""Token ids back to the words that they spell, for telling people which words were cut. Knows vocabularies only."""

import functools
from collections.abc import Sequence

from tandem import bpe
from tandem.tokenizer import Tokenizer


def spelling(ids: Sequence[int], tokenizer: Tokenizer) -> str:
    """The text that ids spell, as the tokenizer knows it: cleaned, and in lower case where it lowers case."""
    return " ".join(word for word, _ in words_of(ids, tokenizer))


def words_of(ids: Sequence[int], tokenizer: Tokenizer) -> list[tuple[str, int]]:
    """The words that ids spell, each with its number of tokens. What ends a word is known for CLIP's vocabularies;
    in others every token is one.
    """
    found: list[tuple[str, int]] = []
    parts: list[str] = []
    for i in ids:
        token = tokenizer.token_of(int(i)) or ""
        parts.append(token)
        if token.endswith(bpe.END_OF_WORD) or not tokenizer.is_clip_style or token in (bpe.START, bpe.END):
            found.append((_spelt("".join(parts)), len(parts)))
            parts = []
    if parts:
        found.append((_spelt("".join(parts)), len(parts)))
    return found


def _spelt(word: str) -> str:
    word = word.removesuffix(bpe.END_OF_WORD)
    table = _bytes()
    if not all(symbol in table for symbol in word):
        return word.replace("▁", " ").replace("##", "").strip()
    return bytes(table[symbol] for symbol in word).decode("utf-8", "replace")


@functools.cache
def _bytes() -> dict[str, int]:
    return bpe.symbol_bytes()
