"""Vocabularies in CLIP's style: clean, find special strings as the original does, split, merge bytes.

Shapes and contexts are not known here: texts in, ids out.
"""

import copy
import functools
import itertools
import re
import unicodedata
from collections.abc import Callable, Mapping
from pathlib import Path

from tandem import bpe
from tandem.files import write_text
from tandem.tokenizer.cleaning import CLEANINGS, clean
from tandem.tokenizer.text_format import TextFormat
from tandem.tokenizer.vocabularies import JsonVocabulary


class ClipVocabulary:
    """A byte-level BPE in CLIP's style, which knows lower-case texts only."""

    def __init__(self, table: bpe.Table) -> None:
        self.table = table
        self._core = bpe.core(table)
        self._ids = {**table.vocabulary, **table.added}
        self.size = max(self._ids.values()) + 1
        self._format = TextFormat(None, None)
        self._specials = _SpecialStrings(table.added, {})
        self._clean: Callable[[str], str] = clean

    def formatted(self, format: TextFormat) -> "ClipVocabulary":
        other = copy.copy(self)
        other._format = format
        frame = {name: i for name, i in self._ids.items() if i in (format.start_id, format.end_id)}
        other._specials = _SpecialStrings({**self.table.added, **frame}, frame)
        # The file of such a vocabulary lowercases, too: `whitespace` keeps the case for those that know it.
        other._clean = clean if format.cleaning == "whitespace" else CLEANINGS[format.cleaning]
        return other

    def as_read_from_json(self) -> JsonVocabulary:
        """The vocabulary as other readers of its `tokenizer.json` have it: without ftfy and HTML entities."""
        return JsonVocabulary(bpe.whole(self.table)).formatted(self._format)

    def encode(self, texts: list[str]) -> list[list[int]]:
        cleaner, search = self._clean, self._specials.search
        cleaned = [cleaner(text) for text in texts]
        ids = self._merge(cleaned)
        for i, text in enumerate(cleaned):
            if search(text):
                ids[i] = self._encode_around(text)
        return ids

    def _encode_around(self, text: str) -> list[int]:
        """Encode a cleaned text that contains special strings: these become their ids, the rest is merged."""
        ids: list[int] = []
        at = 0
        for start, end, token in self._specials.find(text):
            ids += self._merge([text[at:start]])[0]
            ids.append(token)
            at = end
        return ids + self._merge([text[at:]])[0]

    def _merge(self, texts: list[str]) -> list[list[int]]:
        return [row.ids for row in self._core.encode_batch_fast(texts, add_special_tokens=False)]

    def id_of(self, token: str) -> int | None:
        return self._ids.get(token)

    def token_of(self, id: int) -> str | None:
        return self._tokens.get(id)

    @functools.cached_property
    def _tokens(self) -> dict[int, str]:
        return {i: token for token, i in reversed(self._ids.items())}

    def decode(self, rows: list[list[int]]) -> list[str]:
        """What ids stand for, up to the first end token: cleaned texts with spaces between their words and signs."""
        format, names = self._format, self._tokens
        frame = (format.start_id, format.end_id, format.pad_id if format.end_id is None else None)
        return [
            bpe.text_of(names[i] for i in itertools.takewhile(lambda i: i != format.end_id, row) if i not in frame)
            for row in rows
        ]

    def to_json(self) -> str:
        return bpe.to_json(self.table, self._format.start_id, self._format.end_id)

    def save(self, folder: Path) -> None:
        write_text(folder / "tokenizer.json", self.to_json())


class _SpecialStrings:
    """Finds strings such as `<|endoftext|>` in a cleaned text, where they are special tokens.

    The original scans for its two specials as alternatives of the split pattern, so one that follows other
    punctuation (`!<|endoftext|>`) is swallowed by the run of punctuation and is no special. Further added tokens
    (fine-tuned vocabularies) count wherever they stand.
    """

    def __init__(self, ids: Mapping[str, int], frame: Mapping[str, int]) -> None:
        self._ids = {name.lower(): i for name, i in ids.items()}
        self._frame = {name.lower() for name in frame}
        longest_first = sorted(self._ids, key=len, reverse=True)
        self._pattern = re.compile("|".join(map(re.escape, longest_first)) or r"(?!)")
        self.search = self._pattern.search

    def find(self, text: str) -> list[tuple[int, int, int]]:
        """Yield (start, end, id) of each, in order."""
        found: list[tuple[int, int, int]] = []
        for match in self._pattern.finditer(text):
            start, end = match.span()
            after_special = bool(found) and found[-1][1] == start
            name = match.group()
            if name not in self._frame or start == 0 or after_special or not _is_punctuation(text[start - 1]):
                found.append((start, end, self._ids[name]))
        return found


def _is_punctuation(character: str) -> bool:
    """Whether it is neither space, letter nor number, as in the split pattern."""
    return not character.isspace() and unicodedata.category(character)[0] not in "LN"
