"""Converts texts to token ids exactly as the original CLIP: cleaning, byte-level BPE, start and end tokens, padding.

`Tokenizer.clip()` is that of the published models; `from_folder` reads that of a checkpoint. Knows nothing of models:
the ids of the start, end and padding tokens are passed in.
"""

import copy
import functools
import html
import itertools
import json
import re
import unicodedata
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from tandem import bpe
from tandem.config import TextTransformer
from tandem.errors import ConfigError, TextError
from tandem.files import write_text

if TYPE_CHECKING:
    import tokenizers

CONTEXT_LENGTH = 77
# ftfy deletes these even in plain ASCII (but keeps tab, line feed, form feed, carriage return)
_ASCII_CONTROL = re.compile(r"[\x00-\x08\x0b\x0e-\x1f\x7f]")


def clean(text: str) -> str:
    """Clean a text as the original: fix mojibake, unescape HTML twice, collapse whitespace, lowercase.

    Plain ASCII without `&` skips the first two steps, which saves importing ftfy (70 ms).
    """
    if text.isascii() and "&" not in text and (text.isprintable() or not _ASCII_CONTROL.search(text)):
        return " ".join(text.split()).lower()
    text = html.unescape(html.unescape(_fix_text(text)))
    return " ".join(text.split()).lower()


def _fix_text(text: str) -> str:
    """Fix mojibake with ftfy. Without ftfy (on machines that only train), warns and returns the text unchanged."""
    try:
        import ftfy
    except ImportError:
        warnings.warn("ftfy is not installed: about 3% of unusual texts get different token ids", stacklevel=2)
        return text
    return ftfy.fix_text(text)


class Tokenizer:
    """A vocabulary with the ids of its start, end and padding tokens. Immutable and thread-safe."""

    def __init__(
        self, source: "bpe.Table | tokenizers.Tokenizer", *, start_id: int, end_id: int, pad_id: int = 0
    ) -> None:
        """`source` is a table in CLIP's style, or a foreign tokenizer, which keeps its own cleaning and splitting."""
        self._table = source if isinstance(source, bpe.Table) else None
        if isinstance(source, bpe.Table):
            self._core = bpe.core(source)
            self._ids = {**source.vocabulary, **source.added}
        else:
            self._core = source
            self._ids = source.get_vocab(with_added_tokens=True)
        self.vocabulary_size = max(self._ids.values()) + 1
        self._frame(start_id, end_id, pad_id)

    def _frame(self, start_id: int, end_id: int, pad_id: int) -> None:
        for role, token in (("start", start_id), ("end", end_id), ("padding", pad_id)):
            if not 0 <= token < self.vocabulary_size:
                raise ConfigError(f"the {role} token is {token}, but the vocabulary has {self.vocabulary_size} entries")
        self.start_id, self.end_id, self.pad_id = start_id, end_id, pad_id
        frame = {name: i for name, i in self._ids.items() if i in (start_id, end_id)}
        self._strings = _SpecialStrings({**self._table.added, **frame}, frame) if self._table is not None else None

    def with_ids(self, start_id: int, end_id: int, pad_id: int) -> "Tokenizer":
        """The same vocabulary with other special ids, built only once (transformers pads with the end token)."""
        other = copy.copy(self)
        other._frame(start_id, end_id, pad_id)
        return other

    @staticmethod
    @functools.cache
    def clip() -> "Tokenizer":
        """The tokenizer of the published models: 49,408 entries, padded with 0. Built once in a process."""
        return Tokenizer(bpe.shipped(), start_id=49406, end_id=49407, pad_id=0)

    @staticmethod
    def from_json(
        text: str,
        start_id: int | None = None,
        end_id: int | None = None,
        pad_id: int = 0,
        source: str = "tokenizer.json",
    ) -> "Tokenizer":
        """Read the text of a `tokenizer.json`. A byte-level BPE cleans and splits as CLIP, others as the file says.

        Without ids, start and end are the entries with CLIP's names for them. Raises `ConfigError` that names `source`.
        """
        try:
            plain = json.loads(text)
        except ValueError as error:
            raise ConfigError(f"{source}: expected JSON: {error}") from None
        if not isinstance(plain, dict):
            raise ConfigError(f"{source}: expected a JSON object, got {type(plain).__name__}")
        try:
            table = bpe.from_json(plain, source)
            return _framed(table if table is not None else _foreign(text), start_id, end_id, pad_id, source)
        except ConfigError:
            raise
        except Exception as error:  # the library raises plain Exception; a malformed file, any other
            raise ConfigError(f"{source}: cannot read this tokenizer: {error}") from None

    @staticmethod
    def from_folder(folder: Path, text: TextTransformer | None = None) -> "Tokenizer | None":
        """The tokenizer in a model folder (`tokenizer.json`, or `vocab.json` with `merges.txt`); None without one.

        `text` gives the ids of the start, end and padding tokens and the size of the encoder's vocabulary. Raises
        `ConfigError` where they do not match.
        """
        whole, vocabulary, merges = (folder / name for name in ("tokenizer.json", "vocab.json", "merges.txt"))
        start_id, end_id, pad_id = (text.start_id, text.end_id, text.pad_id) if text else (None, None, 0)
        if whole.is_file():
            try:
                content = whole.read_text(encoding="utf-8")
            except (OSError, ValueError) as error:
                raise ConfigError(f"{whole}: cannot be read: {error}") from None
            tokenizer = Tokenizer.from_json(content, start_id, end_id, pad_id, str(whole))
        elif vocabulary.is_file() and merges.is_file():
            tokenizer = _framed(bpe.from_files(vocabulary, merges), start_id, end_id, pad_id, str(folder))
        else:
            return None
        if text and tokenizer.vocabulary_size > text.vocabulary_size:
            raise ConfigError(
                f"{folder}: its tokenizer has {tokenizer.vocabulary_size} entries, but the text encoder has only "
                f"{text.vocabulary_size}: they do not match"
            )
        return tokenizer

    def to_json(self) -> str:
        """A `tokenizer.json`, with the same bytes for the same vocabulary, whatever file it was read from."""
        if self._table is not None:
            return bpe.to_json(self._table, self.start_id, self.end_id)
        return json.dumps(json.loads(self._core.to_str()), ensure_ascii=False, separators=(",", ":"))

    def save(self, folder: Path) -> None:
        """Write `tokenizer.json` into `folder`."""
        write_text(folder / "tokenizer.json", self.to_json())

    def encode(self, texts: Sequence[str] | str) -> list[list[int]]:
        """The ids of each text without start, end, padding or limit. Raises `TextError` for anything but a text."""
        texts = [texts] if isinstance(texts, str) else list(texts)
        for i, text in enumerate(texts):
            if not isinstance(text, str):
                raise TextError(f"text {i}: expected str, got {type(text).__name__}")
        if self._strings is None:
            return self._merge(texts)
        cleaned = [clean(text) for text in texts]
        ids = self._merge(cleaned)
        for i, text in enumerate(cleaned):
            if self._strings.search(text):
                ids[i] = self._encode_around(text)
        return ids

    def __call__(
        self,
        texts: Sequence[str] | str,
        context_length: int = CONTEXT_LENGTH,
        truncate: bool = False,
        pad_to: int | None = None,
    ) -> np.ndarray:
        """Ids int32 [n t] with start and end tokens, padded to the longest text, or to `pad_to`.

        Raises `TextError` for a text of more than `context_length` tokens, start and end included; `truncate=True`
        cuts it instead and keeps the end token.
        """
        if context_length < 2:
            raise TextError(f"context_length: expected at least 2, for the start and end tokens, got {context_length}")
        texts = [texts] if isinstance(texts, str) else list(texts)
        ids = self.encode(texts)
        room = context_length - 2
        for i, row in enumerate(ids):
            if len(row) > room:
                if not truncate:
                    raise TextError(
                        _too_long(i, len(ids), texts[i], len(row) + 2, context_length),
                        in_python="embed_texts cuts it with truncate=True",
                    )
                del row[room:]
        lengths = np.fromiter(map(len, ids), np.int64, len(ids))
        longest = int(lengths.max(initial=0)) + 2
        width = longest if pad_to is None else pad_to
        if width < longest:
            raise TextError(f"pad_to: the longest text has {longest} tokens, more than {pad_to}")
        # one masked assignment for the whole batch: a loop over rows costs as much as tokenizing
        rows = np.full((len(ids), width), self.pad_id, np.int32)  # [n t]
        column = np.arange(width)
        end = lengths[:, None] + 1
        rows[(column > 0) & (column < end)] = np.fromiter(itertools.chain.from_iterable(ids), np.int32)
        rows[column == end] = self.end_id
        rows[:, 0] = self.start_id
        return rows

    def _merge(self, texts: list[str]) -> list[list[int]]:
        return [row.ids for row in self._core.encode_batch_fast(texts, add_special_tokens=False)]

    def _encode_around(self, text: str) -> list[int]:
        """Encode a cleaned text that contains special strings: these become their ids, the rest is merged."""
        assert self._strings is not None
        ids: list[int] = []
        at = 0
        for start, end, token in self._strings.find(text):
            ids += self._merge([text[at:start]])[0]
            ids.append(token)
            at = end
        return ids + self._merge([text[at:]])[0]


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


def _framed(
    source: "bpe.Table | tokenizers.Tokenizer", start_id: int | None, end_id: int | None, pad_id: int, name: str
) -> Tokenizer:
    vocabulary = source.added if isinstance(source, bpe.Table) else source.get_vocab(with_added_tokens=True)
    start_id = vocabulary.get(bpe.START) if start_id is None else start_id
    end_id = vocabulary.get(bpe.END) if end_id is None else end_id
    if start_id is None or end_id is None:
        raise ConfigError(f"{name}: expected tokens that start and end a text: it has no {bpe.START} and {bpe.END}")
    return Tokenizer(source, start_id=start_id, end_id=end_id, pad_id=pad_id)


def _foreign(text: str) -> "tokenizers.Tokenizer":
    from tokenizers import Tokenizer as Core

    core = Core.from_str(text)
    core.no_padding()
    core.no_truncation()
    return core


def _too_long(index: int, count: int, text: str, tokens: int, limit: int) -> str:
    beginning = text if len(text) <= 40 else text[:39] + "…"
    which = f"text {index} ({beginning!r})" if count > 1 else f"the text {beginning!r}"
    return (
        f"{which} has {tokens} tokens, start and end included; the model reads at most {limit} tokens (not "
        "characters): shorten it"
    )
