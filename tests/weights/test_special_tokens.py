"""Which tokens start, end and pad texts, from every way in which a tokenizer's files say so."""

import contextlib
import json
from pathlib import Path
from typing import Any

import pytest

from tandem.errors import ConfigError
from tandem.tokenizer.vocabularies import JsonVocabulary
from tandem.weights.tokenizer_files import SpecialTokens, special_tokens

NAMES = ["<pad>", "<eos>", "<bos>", "<unk>", "a"]


def template(*names: str) -> dict[str, Any]:
    single = [{"Sequence" if name == "A" else "SpecialToken": {"id": name, "type_id": 0}} for name in names]
    special = {name: {"id": name, "ids": [NAMES.index(name)], "tokens": [name]} for name in names if name != "A"}
    return {"type": "TemplateProcessing", "single": single, "pair": single, "special_tokens": special}


def roberta(start: int, end: int) -> dict[str, Any]:
    tokens = {"cls": [NAMES[start], start], "sep": [NAMES[end], end]}
    return {"type": "RobertaProcessing", **tokens, "trim_offsets": True, "add_prefix_space": False}


def write(folder: Path, post_processor: Any = None, listed: bool = True, **settings: Any) -> None:
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    added = [{"id": i, "content": name, **flags} for i, name in enumerate(NAMES[:4])] if listed else []
    model = {"type": "WordLevel", "vocab": {name: i for i, name in enumerate(NAMES)}, "unk_token": "<unk>"}
    plain = {"version": "1.0", "added_tokens": added, "post_processor": post_processor, "model": model}
    (folder / "tokenizer.json").write_text(json.dumps(plain))
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))


BOTH = {"bos_token": "<bos>", "eos_token": {"content": "<eos>"}, "pad_token": "<pad>"}


@pytest.mark.parametrize(
    ("post_processor", "settings", "expected"),
    [
        (None, BOTH, (2, 1, 0)),
        (None, {**BOTH, "add_bos_token": False, "add_eos_token": True}, (None, 1, 0)),  # SigLIP 2
        (template("<bos>", "A"), {**BOTH, "add_bos_token": False, "add_eos_token": True}, (None, 1, 0)),
        (template("A", "<eos>"), BOTH, (None, 1, 0)),
        (template("<bos>", "A"), BOTH, (2, None, 0)),
        (template("<bos>", "A", "<eos>"), {}, (2, 1, None)),
        (roberta(2, 1), {"pad_token": "<pad>"}, (2, 1, 0)),
        (
            {
                "type": "Sequence",
                "processors": [{"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True}, roberta(2, 1)],
            },
            {},
            (2, 1, None),
        ),
        (None, {"cls_token": "<bos>", "sep_token": "<eos>", "bos_token": None}, (2, 1, None)),
        (None, {"eos_token": "<eos>", "pad_token": "<eos>"}, (None, 1, 1)),  # SigLIP 1
        (None, {"bos_token": "<no such>"}, (None, None, None)),
    ],
)
@pytest.mark.parametrize("listed", [True, False], ids=["added", "in-vocabulary"])
def test_what_files_say(
    tmp_path: Path, post_processor: Any, settings: dict[str, Any], expected: tuple[int | None, ...], listed: bool
) -> None:
    write(tmp_path, post_processor, listed, **settings)
    assert special_tokens(tmp_path) == SpecialTokens(*expected)


def test_small_files_are_asked_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A vocabulary of 256,000 entries takes a second to read: nobody reads it for an id that stands elsewhere."""
    write(
        tmp_path, None, listed=False, **BOTH, added_tokens_decoder={str(i): {"content": n} for i, n in enumerate(NAMES)}
    )

    def refuse(*_: object) -> None:
        raise AssertionError("the vocabulary was read")

    monkeypatch.setattr(JsonVocabulary, "__init__", refuse)
    assert special_tokens(tmp_path) == SpecialTokens(2, 1, 0)


@pytest.mark.slow
def test_what_stands_behind_a_large_vocabulary_is_found(tmp_path: Path) -> None:
    """The library writes the vocabulary last; other programs may write it first."""
    write(tmp_path, template("A", "<eos>"), **BOTH)
    plain = json.loads((tmp_path / "tokenizer.json").read_text())
    large = {f"word {i}": i + 10 for i in range(100_000)}
    first = {"model": {**plain["model"], "vocab": {**plain["model"]["vocab"], **large}}}
    (tmp_path / "tokenizer.json").write_text(
        json.dumps({**first, **{key: plain[key] for key in plain if key != "model"}})
    )
    assert special_tokens(tmp_path) == SpecialTokens(None, 1, 0)


def test_a_folder_without_a_tokenizer(tmp_path: Path) -> None:
    assert special_tokens(tmp_path) == SpecialTokens()
    (tmp_path / "tokenizer.json").write_text("{broken")
    assert special_tokens(tmp_path / "none") == SpecialTokens()


@pytest.mark.parametrize(
    "post_processor",
    [
        {"type": "TemplateProcessing"},
        {"type": "TemplateProcessing", "single": 5},
        {"type": "TemplateProcessing", "single": [5]},
        {"type": "TemplateProcessing", "single": [{"SpecialToken": {}}]},
        {"type": "RobertaProcessing", "cls": ["<bos>"], "sep": 5},
        {"type": "RobertaProcessing", "cls": ["<bos>", "x"], "sep": ["<eos>", None]},
        {"type": "Sequence", "processors": 5},
    ],
)
def test_a_malformed_post_processor_is_left_to_the_tokenizer(tmp_path: Path, post_processor: Any) -> None:
    write(tmp_path, post_processor)
    with contextlib.suppress(ConfigError):
        special_tokens(tmp_path)


def test_absurd_ids_and_nesting(tmp_path: Path) -> None:
    write(tmp_path, added_tokens_decoder={"9" * 5000: {"content": "<pad>"}}, **BOTH)
    assert special_tokens(tmp_path) == SpecialTokens(2, 1, 0)
    (tmp_path / "tokenizer.json").write_text('{"post_processor": ' + "[" * 100_000)
    with pytest.raises(ConfigError):
        special_tokens(tmp_path)
