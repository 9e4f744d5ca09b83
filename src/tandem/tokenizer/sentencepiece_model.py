"""SentencePiece models (`.model` files), through the library that made them: an extra.

A model is kept as it is. Its own library splits texts as in training; conversions to other libraries differ in corner
cases of normalization.
"""

import base64
import copy
import json
from pathlib import Path
from typing import TYPE_CHECKING

from tandem.errors import ConfigError, MissingExtraError
from tandem.files import write_bytes
from tandem.tokenizer.cleaning import cleaning_of_others
from tandem.tokenizer.text_format import TextFormat

if TYPE_CHECKING:
    import sentencepiece

FAIRSEQ_FILE = "sentencepiece.bpe.model"  # its pieces are numbered as fairseq does: XLM-RoBERTa, XLM-V
SENTENCEPIECE_FILES = ("spiece.model", FAIRSEQ_FILE, "tokenizer.model")
SENTENCEPIECE_JSON = '{"type":"sentencepiece",'  # what `to_json` begins with
_FAIRSEQ_SPECIALS = {"<s>": 0, "<pad>": 1, "</s>": 2, "<unk>": 3}


class SentencePieceVocabulary:
    """A `.model` file of SentencePiece, kept as it is: no other library splits every text as its own does."""

    def __init__(self, model: bytes, file: str) -> None:
        """`file` is the name of the file, which says how its pieces are numbered. Raises `MissingExtraError`."""
        self._model, self._file = model, file
        self._processor = _processor(model, file)
        pieces = self._processor.get_piece_size()
        self._shift = 1 if file == FAIRSEQ_FILE else 0
        # fairseq puts <mask> behind the last piece
        self.size = pieces + (2 if self._shift else 0)
        if self._shift and [self._processor.id_to_piece(i) for i in range(3)] != ["<unk>", "<s>", "</s>"]:
            raise ConfigError(f"{file}: expected a model whose pieces begin with <unk>, <s>, </s>, as fairseq's do")
        self._clean = cleaning_of_others("clip")

    @classmethod
    def from_json(cls, text: str) -> "SentencePieceVocabulary":
        """The inverse of `to_json`."""
        plain = json.loads(text)
        return cls(base64.b64decode(plain["model"]), plain["file"])

    def formatted(self, format: TextFormat) -> "SentencePieceVocabulary":
        other = copy.copy(self)
        other._clean = cleaning_of_others(format.cleaning)
        return other

    def encode(self, texts: list[str]) -> list[list[int]]:
        cleaned = texts if self._clean is None else list(map(self._clean, texts))
        # It takes UTF-8 only: lone surrogates become question marks.
        rows: list[list[int]] = self._processor.encode([text.encode("utf-8", "replace") for text in cleaned])
        if not self._shift:
            return rows
        unknown = _FAIRSEQ_SPECIALS["<unk>"]
        return [[i + 1 if i else unknown for i in row] for row in rows]

    def id_of(self, token: str) -> int | None:
        if self._shift:
            if token in _FAIRSEQ_SPECIALS:
                return _FAIRSEQ_SPECIALS[token]
            if token == "<mask>":
                return self.size - 1
        i: int = self._processor.piece_to_id(token)
        return i + self._shift if self._processor.id_to_piece(i) == token else None

    def token_of(self, id: int) -> str | None:
        if not 0 <= id < self.size:
            return None
        if self._shift:
            specials = {i: token for token, i in _FAIRSEQ_SPECIALS.items()} | {self.size - 1: "<mask>"}
            if id in specials:
                return specials[id]
        piece: str = self._processor.id_to_piece(id - self._shift)
        return piece

    def to_json(self) -> str:
        model = base64.b64encode(self._model).decode("ascii")
        return json.dumps({"type": "sentencepiece", "file": self._file, "model": model}, separators=(",", ":"))

    def save(self, folder: Path) -> None:
        write_bytes(folder / self._file, self._model)


def _processor(model: bytes, file: str) -> "sentencepiece.SentencePieceProcessor":
    try:
        from sentencepiece import SentencePieceProcessor
    except ImportError:
        raise MissingExtraError("sentencepiece", "sentencepiece", f"{file}, the tokenizer of this model,") from None
    processor = SentencePieceProcessor()
    try:
        loaded = processor.LoadFromSerializedProto(model)
    except RuntimeError as error:
        raise ConfigError(f"{file}: not a SentencePiece model: {error}") from None
    if not loaded:
        raise ConfigError(f"{file}: not a SentencePiece model")
    return processor
