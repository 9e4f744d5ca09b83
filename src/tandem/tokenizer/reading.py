"""Which kind of vocabulary a text or a folder holds. Knows file names; of contents, what tells the kinds apart."""

import json
import re
from pathlib import Path
from typing import Any

from tandem import bpe
from tandem.errors import ConfigError, MissingExtraError, in_words
from tandem.tokenizer import bounds
from tandem.tokenizer.clip_vocabulary import ClipVocabulary
from tandem.tokenizer.sentencepiece_model import SENTENCEPIECE_FILES, SENTENCEPIECE_JSON, SentencePieceVocabulary
from tandem.tokenizer.vocabularies import JsonVocabulary, Vocabulary, wordpiece

# All of them, in the order in which they are looked for
TOKENIZER_FILES = ("tokenizer.json", "vocab.json", "merges.txt", *SENTENCEPIECE_FILES, "vocab.txt")
_IN_CLIPS_STYLE = re.compile(rf'"end_of_word_suffix"\s*:\s*"{bpe.END_OF_WORD}"')


def vocabulary_from_json(text: str, source: str) -> Vocabulary:
    """The inverse of `to_json`, for any `tokenizer.json`. Raises `ConfigError` that names `source`."""
    bounds.check_text(text, source)
    try:
        # Large vocabularies of other kinds (34 MB) are not parsed a second time, which would take half a second.
        if _IN_CLIPS_STYLE.search(text) and (table := bpe.from_json(_parsed(text, source), source)) is not None:
            return ClipVocabulary(table)
        if text.startswith(SENTENCEPIECE_JSON):
            return SentencePieceVocabulary.from_json(text)
        from tokenizers import Tokenizer as Core

        core = Core.from_str(text)
        bounds.check_steps(core, source)
        return JsonVocabulary(core)
    except (ConfigError, MissingExtraError):
        raise
    except Exception as error:  # the library raises plain Exception; a malformed file, any other
        _parsed(text, source)
        raise ConfigError(f"{source}: cannot read this tokenizer: {error}") from None
    except BaseException as error:
        if type(error).__name__ != "PanicException":  # of Rust, which is no Exception and cannot be imported
            raise
        raise ConfigError(f"{source}: cannot read this tokenizer: {str(error)[:200]}") from None


def _parsed(text: str, source: str) -> dict[str, Any]:
    try:
        plain = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{source}: expected JSON: {in_words(error)}") from None
    if not isinstance(plain, dict):
        raise ConfigError(f"{source}: expected a JSON object, got {type(plain).__name__}")
    return plain


def vocabulary_of_folder(folder: Path) -> Vocabulary | None:
    """The vocabulary of a model folder; None without one. Raises `ConfigError` that names the file."""
    whole, merges, words = (folder / name for name in ("tokenizer.json", "merges.txt", "vocab.txt"))
    if whole.is_file():
        return vocabulary_from_json(_text_of(whole), str(whole))
    if (folder / "vocab.json").is_file() and merges.is_file():
        for file in (folder / "vocab.json", merges):
            bounds.check_file(file)
        return ClipVocabulary(bpe.from_files(folder / "vocab.json", merges))
    for name in SENTENCEPIECE_FILES:
        if (folder / name).is_file():
            bounds.check_file(folder / name)
            try:
                return SentencePieceVocabulary((folder / name).read_bytes(), name)
            except OSError as error:
                raise ConfigError(f"{folder / name}: cannot be read: {error}") from None
            except ConfigError as error:
                raise ConfigError(f"{folder}: {error}") from None
    if words.is_file():
        bounds.check_file(words)
        return wordpiece(words, _settings(folder))
    return None


def _text_of(path: Path) -> str:
    bounds.check_file(path)
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path}: cannot be read: {in_words(error)}") from None


def _settings(folder: Path) -> dict[str, Any]:
    path = folder / "tokenizer_config.json"
    try:
        plain = json.loads(_text_of(path)) if path.is_file() else {}
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{path}: expected JSON: {in_words(error)}") from None
    return plain if isinstance(plain, dict) else {}
