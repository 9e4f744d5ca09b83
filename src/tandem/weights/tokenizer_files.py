"""A tokenizer's files as transformers names them: which ids are special in a foreign folder, and the files of ours.

Foreign configurations are unreliable about ids: transformers' old ones give start 0 and end 2, open_clip's give none.
Tokenizing itself is done by `tandem.tokenizer`.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tandem.config import TextTransformer
from tandem.files import write_json
from tandem.weights.tensor_files import read_json

if TYPE_CHECKING:
    from tandem.tokenizer import Tokenizer

START, END = "<|startoftext|>", "<|endoftext|>"


@dataclass(frozen=True)
class SpecialTokens:
    """Ids of the folder's tokenizer; None where it does not say."""

    start_id: int | None = None
    end_id: int | None = None
    pad_id: int | None = None


def special_tokens(folder: Path) -> SpecialTokens:
    """Ids of the start, end and padding tokens named by the folder's tokenizer files."""
    names: dict[str, Any] = {}
    for file in ("special_tokens_map.json", "tokenizer_config.json"):
        if (folder / file).is_file():
            names.update(read_json(folder / file))
    ids = _ids(folder)
    pad = _text(names.get("pad_token"))
    return SpecialTokens(
        ids.get(_text(names.get("bos_token")) or START),
        ids.get(_text(names.get("eos_token")) or END),
        ids.get(pad) if pad else None,
    )


def _text(token: Any) -> str | None:
    """A token is written as its text, or as a mapping with its `content`."""
    content = token.get("content") if isinstance(token, dict) else token
    return content if isinstance(content, str) else None


def _ids(folder: Path) -> dict[str, int]:
    ids: dict[str, int] = {}
    if (folder / "vocab.json").is_file():
        ids.update(_whole(read_json(folder / "vocab.json")))
    if (folder / "tokenizer.json").is_file():
        content = read_json(folder / "tokenizer.json")
        model = content.get("model")
        if isinstance(model, dict) and isinstance(model.get("vocab"), dict):
            ids.update(_whole(model["vocab"]))
        added = content.get("added_tokens")
        for token in added if isinstance(added, list) else []:
            if isinstance(token, dict) and isinstance(token.get("id"), int) and isinstance(token.get("content"), str):
                ids[token["content"]] = token["id"]
    return ids


def _whole(vocabulary: dict[str, Any]) -> dict[str, int]:
    return {token: index for token, index in vocabulary.items() if isinstance(index, int)}


def write_tokenizer(tokenizer: "Tokenizer", text: TextTransformer, folder: Path) -> None:
    """Every file that a version of transformers may look for: tokenizer.json, vocab.json with merges.txt, settings.

    The padding token is the end token unless the model pads with a special one. CLIP's own padding, id 0, is an
    ordinary "!": named as a special token it would turn every "!" of a text into padding.
    """
    content = tokenizer.to_json()
    (folder / "tokenizer.json").write_text(content, encoding="utf-8")
    parsed = json.loads(content)
    model = parsed.get("model", {})
    added = {str(token["content"]): int(token["id"]) for token in parsed.get("added_tokens", [])}
    is_bpe = model.get("type", "BPE") == "BPE" and isinstance(model.get("vocab"), dict)
    vocabulary = {**(_whole(model["vocab"]) if is_bpe else {}), **added}
    spelt = {index: token for token, index in vocabulary.items()}
    start = START if text.start_id is None else spelt.get(text.start_id, START)
    end = END if text.end_id is None else spelt.get(text.end_id, END)
    pad = spelt.get(text.pad_id, end)
    if is_bpe:
        write_json(folder / "vocab.json", vocabulary)
        merges = [merge if isinstance(merge, str) else " ".join(merge) for merge in model.get("merges", [])]
        (folder / "merges.txt").write_text("\n".join(["#version: 0.2", *merges, ""]), encoding="utf-8")
    special = {"bos_token": start, "eos_token": end, "unk_token": end, "pad_token": pad if pad in added else end}
    write_json(folder / "special_tokens_map.json", special)
    settings = {
        "tokenizer_class": "CLIPTokenizer" if is_bpe else "PreTrainedTokenizerFast",
        "model_max_length": text.context_length,
    }
    write_json(folder / "tokenizer_config.json", {**settings, **special})
