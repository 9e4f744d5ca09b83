"""Which ids mark the start, the end and the padding, as a folder's tokenizer files say.

Foreign configurations are unreliable here: transformers' old ones give start 0 and end 2, open_clip's give none. Reads
the ids only; what a sentence becomes is the tokenizer's business.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tandem.weights.tensor_files import read_json

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
