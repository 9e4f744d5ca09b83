"""What a vocabulary is, and those of the library `tokenizers`: any `tokenizer.json`, BERT's WordPiece.

A vocabulary turns texts into ids, without start, end and padding.
"""

import copy
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from tandem.errors import ConfigError, TextError
from tandem.files import write_text
from tandem.tokenizer.cleaning import cleaning_of_others
from tandem.tokenizer.text_format import TextFormat

if TYPE_CHECKING:
    import tokenizers

_MOST_ENTRIES = 2**24  # as of text encoders
_WRITING = threading.Lock()


class Vocabulary(Protocol):
    """One kind of vocabulary, in the format of one model."""

    size: int

    def formatted(self, format: TextFormat) -> "Vocabulary":
        """The same vocabulary for texts of this format, built only once."""
        ...

    def encode(self, texts: list[str]) -> list[list[int]]:
        """Cleaned, split and merged: the ids of each text."""
        ...

    def id_of(self, token: str) -> int | None:
        """The id of a token, special ones included; None for one that is not in the vocabulary."""
        ...

    def token_of(self, id: int) -> str | None:
        """The inverse of `id_of`."""
        ...

    def to_json(self) -> str:
        """The whole vocabulary as JSON that `vocabulary_from_json` reads."""
        ...

    def save(self, folder: Path) -> None:
        """Write the one file that `Tokenizer.from_folder` reads."""
        ...


class JsonVocabulary:
    """Any `tokenizer.json`: its normalizer, splitting and merges. What texts stand between is the model's format."""

    def __init__(self, core: "tokenizers.Tokenizer") -> None:
        core.no_padding()
        core.no_truncation()
        self._core = core
        self.size = core.get_vocab_size(with_added_tokens=True)
        if core.id_to_token(self.size - 1) is None or core.id_to_token(self.size) is not None:  # ids with gaps
            self.size = max(core.get_vocab(with_added_tokens=True).values()) + 1
        self._format: TextFormat | None = None
        self._clean = cleaning_of_others("clip")

    def formatted(self, format: TextFormat) -> "JsonVocabulary":
        for role, i in (("start", format.start_id), ("end", format.end_id)):
            if i is not None and self._core.id_to_token(i) is None:
                raise ConfigError(f"the {role} token is {i}, which no entry of the vocabulary has")
        other = copy.copy(self)
        other._format = format
        other._clean = cleaning_of_others(format.cleaning)
        return other

    def encode(self, texts: list[str]) -> list[list[int]]:
        cleaned = texts if self._clean is None else list(map(self._clean, texts))
        try:
            return [row.ids for row in self._core.encode_batch_fast(cleaned, add_special_tokens=False)]
        except Exception as error:  # the library's plain Exception: no entry for what is unknown
            for i, text in enumerate(texts):
                if any("\ud800" <= sign <= "\udfff" for sign in text):
                    raise TextError(f"text {i}: half of a surrogate pair is in it, which is no character") from None
            raise ConfigError(f"this tokenizer cannot split the texts: {str(error) or type(error).__name__}") from None
        except BaseException as error:
            if type(error).__name__ != "PanicException":  # of Rust, which is no Exception and cannot be imported
                raise
            raise ConfigError(f"this tokenizer cannot split the texts: it is damaged ({str(error)[:200]})") from None

    def id_of(self, token: str) -> int | None:
        try:
            found: int | None = self._core.token_to_id(token)
        except UnicodeEncodeError:  # half of a surrogate pair, which is no entry of any vocabulary
            return None
        return found

    def token_of(self, id: int) -> str | None:
        found: str | None = self._core.id_to_token(id)
        return found

    def to_json(self) -> str:
        # The library lists every id between, in gigabytes, and ends the process where memory does
        largest = max(self._core.get_vocab(with_added_tokens=True).values(), default=0)
        if largest >= _MOST_ENTRIES:
            raise ConfigError(f"a token has the id {largest}: expected ids below {_MOST_ENTRIES}")
        with _WRITING:  # formats of one vocabulary share the library's object
            if self._format is not None:
                self._core.post_processor = self._template(self._format)
            written: str = self._core.to_str()  # compact, entries by id: the same for whatever file it was read from
        return written

    def _template(self, format: TextFormat) -> Any:
        """What other readers of the file put around texts: the model's tokens, whatever the file said before."""
        from tokenizers import processors

        ids = [i for i in (format.start_id, format.end_id) if i is not None]
        names = {i: self._core.id_to_token(i) for i in ids}
        start, end = ([] if i is None else [names[i]] for i in (format.start_id, format.end_id))
        return processors.TemplateProcessing(
            single=[*start, "$A", *end],
            pair=[*start, "$A", *end, *start, "$B", *end],
            special_tokens=[(name, i) for i, name in names.items()],
        )

    def save(self, folder: Path) -> None:
        write_text(folder / "tokenizer.json", self.to_json())


def wordpiece(words: Path, settings: Mapping[str, Any]) -> JsonVocabulary:
    """BERT's WordPiece of a `vocab.txt`; `settings` is what `tokenizer_config.json` beside it says."""
    from tokenizers import Tokenizer as Core
    from tokenizers import models, normalizers, pre_tokenizers

    try:
        lines = words.read_text(encoding="utf-8").splitlines()
        unknown = str(settings.get("unk_token") or "[UNK]")
        core = Core(models.WordPiece({line: i for i, line in enumerate(lines)}, unk_token=unknown))
        core.normalizer = normalizers.BertNormalizer(
            handle_chinese_chars=bool(settings.get("tokenize_chinese_chars", True)),
            strip_accents=settings.get("strip_accents"),
            lowercase=bool(settings.get("do_lower_case", True)),
        )
        core.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
        core.add_special_tokens([token for token in ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]") if token in lines])
        return JsonVocabulary(core)
    except Exception as error:  # unreadable, or the library's plain Exception
        raise ConfigError(f"{words}: cannot read this vocabulary: {error}") from None
