"""Cuts a text into parts of a limited number of tokens: at the ends of sentences, else between words or characters.

Knows borders in texts of any script; what a token is, it asks.
"""

import re
import unicodedata
from collections.abc import Callable, Iterator

# A line break; full stops of scripts that write without spaces; those of others, where a space follows
_SENTENCE = re.compile(r"\n+|[。．！？｡]+[」』”’）]*|[.!?…؟۔।॥]+[\"'”’»)\]]*(?=\s)")
_SPACE = re.compile(r"\s+")
_JOINER = "\u200d"  # emoji of several parts
_WINDOW = 256  # characters looked at first: longer than the context of most models


def split_text(text: str, fits: Callable[[str], bool]) -> list[str]:
    """The parts of a text, in order, each of which `fits`, and as long as that allows.

    A part ends with a sentence where it can, else with a word, else (in scripts without spaces) with a character.
    Raises `ValueError` where not even one character fits.
    """
    parts: list[str] = []
    text, start = text.strip(), 0  # a position, since copies of the rest would take time quadratic in a book
    while start < len(text):
        width = _WINDOW
        while start + width < len(text) and fits(text[start : start + width]):  # a book is not tokenized for each part
            width *= 2
        window = text[start : start + width]
        if start + width >= len(text) and fits(window):
            return [*parts, window]
        cut = next((at for borders in _BORDERS if (at := _last_that_fits(window, list(borders(window)), fits))), 0)
        if not cut:
            raise ValueError(f"not even {window[0]!r} fits")
        parts.append(window[:cut].rstrip())
        start += cut
        while start < len(text) and text[start].isspace():
            start += 1
    return parts


def _last_that_fits(text: str, borders: list[int], fits: Callable[[str], bool]) -> int:
    """The last border up to which the text fits, by bisection; 0 where none does."""
    low, high = 0, len(borders)
    while low < high:
        middle = (low + high) // 2
        if fits(text[: borders[middle]].rstrip()):
            low = middle + 1
        else:
            high = middle
    return borders[low - 1] if low else 0


def _sentences(text: str) -> Iterator[int]:
    return (match.end() for match in _SENTENCE.finditer(text))


def _words(text: str) -> Iterator[int]:
    return (match.end() for match in _SPACE.finditer(text))


def _characters(text: str) -> Iterator[int]:
    """Between characters as people see them: marks and joined emoji stay with what they belong to."""
    for at in range(1, len(text) + 1):
        if at == len(text) or not (_belongs_before(text[at]) or text[at - 1] == _JOINER):
            yield at


def _code_points(text: str) -> Iterator[int]:
    return iter(range(1, len(text) + 1))


def _belongs_before(character: str) -> bool:
    return (
        character == _JOINER or unicodedata.category(character)[0] == "M" or "\U0001f3fb" <= character <= "\U0001f3ff"
    )


_BORDERS = (_sentences, _words, _characters, _code_points)
