"""Ids back to texts, and tokenizer files that are malformed in one place only."""

import json
from pathlib import Path
from typing import Any

import pytest
from support import weights_toys as toys

from tandem import bpe
from tandem.errors import ConfigError, TextError
from tandem.tokenizer import TextFormat, Tokenizer
from tandem.tokenizer.reading import vocabulary_of_folder
from tandem.tokenizer.vocabularies import JsonVocabulary
from tandem.weights.tokenizer_files import SpecialTokens, special_tokens


def test_ids_become_texts_up_to_the_first_end() -> None:
    clip = Tokenizer.clip()
    texts = ["A photo of a  Cat!", "naïve café", "", "don't"]
    decoded = clip.decode(clip(texts, pad_to=20).tolist())
    assert decoded == ["a photo of a cat !", "naïve café", "", "don 't"]
    assert clip(decoded).tolist() == clip(texts).tolist()
    (cat, dog), end = clip.encode(["cat dog"])[0], clip.format.end_id
    assert clip.decode([[cat, end, dog], [end, cat], [cat, dog]]) == ["cat", "", "cat dog"]
    with pytest.raises(TextError, match="ids: 49408 is not in the vocabulary of 49408 entries"):
        clip.decode([[cat, 49408]])


def test_vocabularies_of_other_kinds_do_not_decode() -> None:
    tokenizer = Tokenizer(JsonVocabulary(bpe.whole(bpe.from_merges(toys.MERGES))), TextFormat(None, None))
    with pytest.raises(ConfigError, match="expected a vocabulary in CLIP's style"):
        tokenizer.decode([[1]])


def described(folder: Path, added: Any = (), **settings: Any) -> SpecialTokens:
    (folder / "tokenizer.json").write_text(json.dumps({"version": "1.0", "added_tokens": added}))
    flags = {"add_bos_token": False, "add_eos_token": False}  # else a whole vocabulary is looked into
    (folder / "tokenizer_config.json").write_text(json.dumps({**flags, **settings}))
    return special_tokens(folder)


@pytest.mark.parametrize(
    "odd",
    [5, None, "<pad>", [], {}, {"id": "3", "content": "<pad>"}, {"id": 3}, {"content": "<pad>"},
     {"id": 3, "content": 5}],
)  # fmt: skip
def test_an_added_token_that_is_none_is_passed_over(tmp_path: Path, odd: Any) -> None:
    good = {"id": 7, "content": "<pad>"}
    assert described(tmp_path, [odd, good], pad_token="<pad>").pad_id == 7
    assert described(tmp_path, [good, odd], pad_token="<pad>").pad_id == 7


def test_ids_have_ten_digits_at_most(tmp_path: Path) -> None:
    found = described(
        tmp_path, pad_token="<pad>", added_tokens_decoder={"1234567890": {"content": "<pad>"}, "3": {"content": "<x>"}}
    )
    assert found.pad_id == 1234567890
    many = {"12345678901": {"content": "<pad>"}, "5": {"content": "<pad>"}}
    assert described(tmp_path, pad_token="<pad>", added_tokens_decoder=many).pad_id == 5


@pytest.mark.parametrize("odd", ["a b c", "ab", ["a", "b", "c"], ["a"]])
def test_one_merge_that_has_not_two_parts_is_named(odd: Any) -> None:
    plain = json.loads(bpe.to_json(bpe.from_merges(toys.MERGES), None, None))
    plain["model"]["merges"].insert(1, odd)
    with pytest.raises(ConfigError, match="toy: expected merges of two parts each, got"):
        bpe.from_json(plain, "toy")


def test_a_tokenizer_that_is_no_text_is_named(tmp_path: Path) -> None:
    (tmp_path / "tokenizer.json").write_bytes(b'{"version": "\xff"}')
    with pytest.raises(ConfigError, match=r"tokenizer\.json: cannot be read"):
        vocabulary_of_folder(tmp_path)


def test_a_model_file_that_cannot_be_read_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "spiece.model").write_bytes(b"x")

    def denied(self: Path) -> bytes:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "read_bytes", denied)
    with pytest.raises(ConfigError, match=r"spiece\.model: cannot be read: .*Permission denied"):
        vocabulary_of_folder(tmp_path)
