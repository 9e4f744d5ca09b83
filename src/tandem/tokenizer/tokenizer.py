"""Converts texts to rows of token ids: cleaned, tokenized, between start and end tokens, padded.

`Tokenizer.clip()` is that of the published models, with exactly the original's ids; `from_folder` reads that of a
checkpoint. How a model wants its texts is a `TextFormat`.

Shapes: n texts, t tokens.
"""

import copy
import functools
import itertools
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from tandem import bpe
from tandem.config import TextTower
from tandem.errors import ConfigError, TextError
from tandem.tokenizer.bounds import MAX_CHARACTERS
from tandem.tokenizer.clip_vocabulary import ClipVocabulary
from tandem.tokenizer.reading import vocabulary_from_json, vocabulary_of_folder
from tandem.tokenizer.text_format import TextFormat
from tandem.tokenizer.vocabularies import Vocabulary

CONTEXT_LENGTH = 77


class Tokenizer:
    """A vocabulary in the format of one model. Immutable and thread-safe."""

    def __init__(self, vocabulary: bpe.Table | Vocabulary, format: TextFormat) -> None:
        """Raises `ConfigError` for tokens of `format` that are not in the vocabulary."""
        self._vocabulary = ClipVocabulary(vocabulary) if isinstance(vocabulary, bpe.Table) else vocabulary
        self.vocabulary_size = self._vocabulary.size
        self._set_format(format)

    def _set_format(self, format: TextFormat) -> None:
        for role, token in (("start", format.start_id), ("end", format.end_id), ("padding", format.pad_id)):
            if token is not None and not 0 <= token < self.vocabulary_size:
                raise ConfigError(f"the {role} token is {token}, but the vocabulary has {self.vocabulary_size} entries")
        self.format = format
        self._vocabulary = self._vocabulary.formatted(format)

    @property
    def start_id(self) -> int | None:
        """The token that every text starts with; None for a model that has none."""
        return self.format.start_id

    @property
    def end_id(self) -> int | None:
        """The token that every text ends with; None for a model that has none."""
        return self.format.end_id

    @property
    def pad_id(self) -> int:
        """The token that fills rows."""
        return self.format.pad_id

    def with_format(self, format: TextFormat) -> "Tokenizer":
        """The same vocabulary in another format, built only once (transformers pads with the end token)."""
        if format == self.format:
            return self
        other = copy.copy(self)
        other._set_format(format)
        return other

    def as_read_from_json(self) -> "Tokenizer":
        """The same tokenizer as transformers has it: one in CLIP's style cleans by its `tokenizer.json` alone.

        That is Unicode's composed form, spaces folded, lower case; the original's ftfy and HTML entities are left out,
        which changes the ids of about 3% of unusual texts.
        """
        if not isinstance(self._vocabulary, ClipVocabulary):
            return self
        other = copy.copy(self)
        other._vocabulary = self._vocabulary.as_read_from_json()
        return other

    @staticmethod
    @functools.cache
    def clip() -> "Tokenizer":
        """The tokenizer of the published models: 49,408 entries, padded with 0. Built once in a process."""
        return Tokenizer(bpe.shipped(), TextFormat())

    @property
    def is_clip_style(self) -> bool:
        """Whether it is a byte-level BPE as the published models have."""
        return isinstance(self._vocabulary, ClipVocabulary)

    @property
    def is_clip(self) -> bool:
        """Whether it is the vocabulary of the published models, of English texts."""
        return self.is_clip_style and self.vocabulary_size == bpe.CLIP_VOCABULARY

    @staticmethod
    def from_json(text: str, format: TextFormat | None = None, source: str = "tokenizer.json") -> "Tokenizer":
        """Read the text of a `tokenizer.json`. A byte-level BPE cleans and splits as CLIP, others as the file says.

        Without a format, start and end are the entries with CLIP's names for them. Raises `ConfigError` that names
        `source`.
        """
        vocabulary = vocabulary_from_json(text, source)
        return Tokenizer(vocabulary, format or _named_format(vocabulary, source))

    @staticmethod
    def from_folder(folder: Path, text: TextTower | None = None) -> "Tokenizer | None":
        """The tokenizer in a model folder; None without one.

        Reads `tokenizer.json`, `vocab.json` with `merges.txt`, SentencePiece's `.model` files, BERT's `vocab.txt`.
        `text` gives the format and the size of the encoder's vocabulary. Raises `ConfigError` where they do not match,
        `MissingExtraError` for a SentencePiece model without that library.
        """
        vocabulary = vocabulary_of_folder(folder)
        if vocabulary is None:
            return None
        tokenizer = Tokenizer(vocabulary, TextFormat.of(text) if text else _named_format(vocabulary, str(folder)))
        if text and tokenizer.vocabulary_size > text.vocabulary_size:
            raise ConfigError(
                f"{folder}: its tokenizer has {tokenizer.vocabulary_size} entries, but the text encoder has only "
                f"{text.vocabulary_size}: they do not match"
            )
        return tokenizer

    def to_json(self) -> str:
        """The vocabulary as text that `from_json` reads: the same bytes for the same one, whatever file it came from.

        It is a `tokenizer.json`, but for a SentencePiece model, which is wrapped in JSON as it is.
        """
        return self._vocabulary.to_json()

    def save(self, folder: Path) -> None:
        """Write `tokenizer.json`, or the `.model` file, into `folder`."""
        self._vocabulary.save(folder)

    def id_of(self, token: str) -> int | None:
        """The id of an entry, such as `<|endoftext|>`; None for a string that is no entry."""
        return self._vocabulary.id_of(token)

    def token_of(self, id: int) -> str | None:
        """The entry with an id; None for an id without one."""
        return self._vocabulary.token_of(id)

    def encode(self, texts: Sequence[str] | str) -> list[list[int]]:
        """The ids of each text without start, end, padding or limit. Raises `TextError` for anything but a text."""
        texts = _listed(texts)
        for i, text in enumerate(texts):
            if not isinstance(text, str):
                raise TextError(f"text {i}: expected str, got {type(text).__name__}")
            if len(text) > MAX_CHARACTERS:
                raise TextError(
                    f"text {i}: {len(text):,} characters, more than the {MAX_CHARACTERS:,} that are read: give parts"
                )
        return self._vocabulary.encode(texts)

    def decode(self, ids: Sequence[Sequence[int]]) -> list[str]:
        """The texts that rows of ids stand for, up to their end tokens: cleaned, with spaces around signs.

        They have the same ids again. Raises `ConfigError` for a vocabulary that is not in CLIP's style, and `TextError`
        for an id that is not in it.
        """
        if not isinstance(self._vocabulary, ClipVocabulary):
            raise ConfigError("decode: expected a vocabulary in CLIP's style; token_of gives the token of an id")
        try:
            return self._vocabulary.decode([list(row) for row in ids])
        except KeyError as error:
            raise TextError(
                f"ids: {error.args[0]} is not in the vocabulary of {self.vocabulary_size} entries"
            ) from None

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
        texts = _listed(texts)
        room = self.room(context_length)
        ids = self.encode(texts)
        for i, row in enumerate(ids):
            if len(row) > room:
                if not truncate:
                    raise TextError(
                        _too_long(i, len(ids), texts[i], len(row) + self.format.added, context_length),
                        in_python='embed_texts cuts it with truncate=True, and averages its parts with long="split"',
                    )
                del row[room:]
        return self.rows(ids, pad_to)

    def room(self, context_length: int) -> int:
        """The tokens that a text may have beside its start and end. Raises `TextError` for a context without any."""
        if isinstance(context_length, bool) or not isinstance(context_length, int | np.integer):
            raise TextError(f"context_length: expected a whole number, got {context_length!r:.60}")
        if context_length < max(self.format.added, 1):
            raise TextError(
                f"context_length: expected at least {max(self.format.added, 1)}, for the start and end tokens, "
                f"got {context_length}"
            )
        return context_length - self.format.added

    def rows(self, ids: Sequence[Sequence[int]], pad_to: int | None = None) -> np.ndarray:
        """Encoded texts as int32 [n t], between start and end tokens, padded to the longest, or to `pad_to`."""
        start_id, end_id = self.format.start_id, self.format.end_id
        first = 0 if start_id is None else 1
        lengths = np.fromiter(map(len, ids), np.int64, len(ids))
        longest = max(int(lengths.max(initial=0)) + self.format.added, 1)
        width = longest if pad_to is None else pad_to
        if width < longest:
            raise TextError(f"pad_to: the longest text has {longest} tokens, more than {pad_to}")
        # one masked assignment for the whole batch: a loop over rows costs as much as tokenizing
        rows = np.full((len(ids), width), self.pad_id, np.int32)  # [n t]
        column = np.arange(width)
        end = lengths[:, None] + first
        tokens = np.fromiter(itertools.chain.from_iterable(ids), np.int64)
        if len(tokens) and tokens.max() >= self.vocabulary_size:  # ids with gaps; an encoder has no row for them
            raise ConfigError(
                f"the tokenizer gives the id {tokens.max()}, but its vocabulary has {self.vocabulary_size} entries"
            )
        rows[(column >= first) & (column < end)] = tokens
        if end_id is not None:
            rows[column == end] = end_id
        if start_id is not None:
            rows[:, 0] = start_id
        return rows


def _listed(texts: Sequence[str] | str) -> list[str]:
    """One or several texts as a list. Raises `TextError` for what is neither; the items are not looked at."""
    if isinstance(texts, str):
        return [texts]
    if isinstance(texts, bytes | bytearray) or not isinstance(texts, Iterable):
        raise TextError(f"expected a text or several, got {type(texts).__name__}")
    return list(texts)


def _named_format(vocabulary: Vocabulary, source: str) -> TextFormat:
    start_id, end_id = vocabulary.id_of(bpe.START), vocabulary.id_of(bpe.END)
    if start_id is None or end_id is None:
        raise ConfigError(f"{source}: expected tokens that start and end a text: it has no {bpe.START} and {bpe.END}")
    return TextFormat(start_id, end_id)


def _too_long(index: int, count: int, text: str, tokens: int, limit: int) -> str:
    beginning = text if len(text) <= 40 else text[:39] + "…"
    which = f"text {index} ({beginning!r})" if count > 1 else f"the text {beginning!r}"
    return (
        f"{which} has {tokens} tokens, start and end included; the model reads at most {limit} tokens (not "
        "characters): shorten it"
    )
