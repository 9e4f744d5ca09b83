"""A tokenizer's files as transformers names them: which ids are special in a foreign folder, and the files of ours.

Foreign configurations are unreliable about ids: transformers' old ones give start 0 and end 2, open_clip's give none.
Tokenizing itself is done by `tandem.tokenizer`.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tandem.config import TextTower
from tandem.files import write_json
from tandem.tokenizer import bounds
from tandem.weights.json_files import read_json

if TYPE_CHECKING:
    from tandem.tokenizer import Tokenizer

START, END = "<|startoftext|>", "<|endoftext|>"
_BEGINNING = 2**20  # characters
_ID_DIGITS = 10  # of an id, at most
_ROLES = (("bos_token", "cls_token"), ("eos_token", "sep_token"), ("pad_token",))
# What tokenizers whose files name no tokens call them, by the file: (start, end, padding)
_DEFAULTS: Mapping[str, tuple[str | None, str | None, str | None]] = {
    "spiece.model": (None, "</s>", None),
    "sentencepiece.bpe.model": ("<s>", "</s>", "<pad>"),
    "tokenizer.model": ("<bos>", "<eos>", "<pad>"),
    "vocab.txt": ("[CLS]", "[SEP]", "[PAD]"),
}


@dataclass(frozen=True)
class SpecialTokens:
    """Ids of the folder's tokenizer; None where it has no such token, or does not say."""

    start_id: int | None = None
    end_id: int | None = None
    pad_id: int | None = None


def special_tokens(folder: Path) -> SpecialTokens:
    """Ids of the tokens that start, end and pad texts, by the folder's tokenizer files.

    The settings `add_bos_token` and `add_eos_token` say whether there are such tokens; then the post-processor of
    tokenizer.json does, which puts them there; then the names of tokens.
    """
    settings: dict[str, Any] = {}
    for file in ("special_tokens_map.json", "tokenizer_config.json"):
        if (folder / file).is_file():
            settings.update({key: value for key, value in read_json(folder / file).items() if value is not None})
    ids = _Ids(folder, settings)
    default = next((names for file, names in _DEFAULTS.items() if (folder / file).is_file()), (START, END, None))
    start, end, pad = (
        next((name for key in keys if (name := _text(settings.get(key)))), other)
        for keys, other in zip(_ROLES, default, strict=True)
    )
    framed = _frame_of(_part(folder, "post_processor"), ids)

    def chosen(flag: str, named: str | None, place: int) -> int | None:
        if settings.get(flag) is False:
            return None
        if framed is None or settings.get(flag) is True:
            return ids.of(named)
        return framed[place]

    return SpecialTokens(chosen("add_bos_token", start, 0), chosen("add_eos_token", end, 1), ids.of(pad))


class _Ids:
    """Looks tokens up in the small files first: a vocabulary may take a second to read."""

    def __init__(self, folder: Path, settings: Mapping[str, Any]) -> None:
        self._folder = folder
        self._known: dict[str, int] = {}
        decoder = settings.get("added_tokens_decoder")
        for index, token in decoder.items() if isinstance(decoder, dict) else ():
            if (name := _text(token)) and len(str(index)) <= _ID_DIGITS and str(index).isdecimal():
                self._known[name] = int(index)
        added = _part(folder, "added_tokens")
        for token in added if isinstance(added, list) else []:
            if isinstance(token, dict) and isinstance(token.get("id"), int) and isinstance(token.get("content"), str):
                self._known[token["content"]] = token["id"]
        self._vocabulary: Any = None

    def of(self, token: str | None) -> int | None:
        if token is None or token in self._known:
            return self._known.get(token or "")
        if self._vocabulary is None:
            from tandem.tokenizer.reading import vocabulary_of_folder

            self._vocabulary = vocabulary_of_folder(self._folder) or False
        return self._vocabulary.id_of(token) if self._vocabulary else None


def _part(folder: Path, key: str) -> Any:
    """One value of tokenizer.json; None where there is none.

    The library writes what is small before the vocabulary, which may have 34 MB: the beginning mostly does.
    """
    path = folder / "tokenizer.json"
    for size in (_BEGINNING, bounds.MAX_BYTES) if path.is_file() else ():
        try:
            with path.open(encoding="utf-8") as file:
                content = file.read(size)
            if found := re.search(rf'"{key}"\s*:\s*', content):
                return json.JSONDecoder().raw_decode(content, found.end())[0]
        except (OSError, ValueError, RecursionError):
            pass  # cut in its middle; or the tokenizer says what is wrong with it when it is read
    return None


def _frame_of(post_processor: Any, ids: _Ids) -> tuple[int | None, int | None] | None:
    """Start and end token of a post-processor; None for one that puts none around texts, as far as is known.

    A malformed one is none: the library says what is wrong with it when the tokenizer is read.
    """
    if not isinstance(post_processor, dict):
        return None
    kind = post_processor.get("type")
    if kind in ("RobertaProcessing", "BertProcessing"):
        return _id_beside(post_processor.get("cls")), _id_beside(post_processor.get("sep"))
    if kind == "TemplateProcessing":
        parts = post_processor.get("single")
        if not isinstance(parts, list) or not all(isinstance(part, dict) for part in parts):
            return None
        names = [_special(part) for part in parts]
        text = names.index(None) if None in names else 0
        return (ids.of(names[0]) if text else None), (ids.of(names[-1]) if names[text + 1 :] else None)
    inside = post_processor.get("processors")
    for inner in inside if isinstance(inside, list) else []:
        if found := _frame_of(inner, ids):
            return found
    return None


def _id_beside(token: Any) -> int | None:
    """The id of a token and its id."""
    i = token[1] if isinstance(token, list) and len(token) == 2 else None
    return i if type(i) is int else None


def _special(part: dict[str, Any]) -> str | None:
    """The name of a special token in a template; None for the text."""
    token = part.get("SpecialToken")
    name = token.get("id") if isinstance(token, dict) else None
    return name if isinstance(name, str) else None


def _text(token: Any) -> str | None:
    """A token is written as its text, or as a mapping with its `content`."""
    content = token.get("content") if isinstance(token, dict) else token
    return content if isinstance(content, str) else None


def write_tokenizer(tokenizer: "Tokenizer", text: TextTower, folder: Path) -> None:
    """Every file that a version of transformers may look for: the tokenizer, its settings, the special tokens.

    In CLIP's style the padding token is the end token unless the model pads with a special one. CLIP's own padding,
    id 0, is an ordinary "!": named as a special token it would turn every "!" of a text into padding.
    """
    tokenizer.save(folder)
    if tokenizer.is_clip_style:
        return _write_clips(tokenizer, text, folder)
    named = {"bos_token": text.start_id, "eos_token": text.end_id, "pad_token": text.pad_id}
    special = {role: name for role, i in named.items() if i is not None and (name := tokenizer.token_of(i)) is not None}
    unknown = next((token for token in ("<unk>", "[UNK]") if tokenizer.id_of(token) is not None), None)
    if unknown:
        special["unk_token"] = unknown
    for role, token in (("cls_token", "[CLS]"), ("sep_token", "[SEP]")):  # BERT's, which open_clip asks for
        if tokenizer.id_of(token) is not None:
            special[role] = token
    write_json(folder / "special_tokens_map.json", special)
    settings: dict[str, Any] = {
        "tokenizer_class": _class_of(tokenizer, folder),
        "model_max_length": text.context_length,
        "padding_side": "right",
    }
    write_json(folder / "tokenizer_config.json", {**settings, **special})


def _class_of(tokenizer: "Tokenizer", folder: Path) -> str:
    """The class of transformers that reads the file as it is."""
    if (folder / "sentencepiece.bpe.model").is_file():
        return "XLMRobertaTokenizer"
    if (folder / "spiece.model").is_file():
        return "SiglipTokenizer" if tokenizer.format.cleaning == "canonical" else "T5Tokenizer"
    return "GemmaTokenizer" if (folder / "tokenizer.model").is_file() else "PreTrainedTokenizerFast"


def _write_clips(tokenizer: "Tokenizer", text: TextTower, folder: Path) -> None:
    parsed = json.loads(tokenizer.to_json())
    added = {str(token["content"]): int(token["id"]) for token in parsed["added_tokens"]}
    vocabulary = {**parsed["model"]["vocab"], **added}
    spelt = {index: token for token, index in vocabulary.items()}
    start = START if text.start_id is None else spelt.get(text.start_id, START)
    end = END if text.end_id is None else spelt.get(text.end_id, END)
    pad = spelt.get(text.pad_id, end)
    write_json(folder / "vocab.json", vocabulary)
    (folder / "merges.txt").write_text("\n".join(["#version: 0.2", *parsed["model"]["merges"], ""]), encoding="utf-8")
    special = {"bos_token": start, "eos_token": end, "unk_token": end, "pad_token": pad if pad in added else end}
    write_json(folder / "special_tokens_map.json", special)
    settings: dict[str, Any] = {"tokenizer_class": "CLIPTokenizer", "model_max_length": text.context_length}
    if text.start_id is None:
        settings["add_bos_token"] = False
    write_json(folder / "tokenizer_config.json", {**settings, **special})
