"""Texts to token ids: exactly those of the original, from every source of a vocabulary."""

import html
import itertools
import json
import random
from pathlib import Path

import numpy as np
import pytest

from tandem import bpe
from tandem.config import TextTransformer, clip_text
from tandem.errors import ConfigError, DataError, TextError
from tandem.tokenizer import TextFormat, Tokenizer
from tandem.tokenizer.cleaning import clean
from tandem.train.data.vocabulary import train_bpe

START, END = 49406, 49407
TEXTS = [
    f"{article} {colour} {animal} {does} near the {place}, isn't it?"
    for article in ("a", "one", "The")
    for colour in ("red", "black", "spotted")
    for animal in ("cat", "dog", "zebra", "bird")
    for does in ("sits", "runs", "sleeps")
    for place in ("river", "house", "café")
]


@pytest.fixture(scope="module")
def small() -> Tokenizer:
    return train_bpe(TEXTS, 560)


def text_tower(tokenizer: Tokenizer) -> TextTransformer:
    return TextTransformer(
        77, tokenizer.vocabulary_size, 8, 1, 1, 32, "gelu", tokenizer.start_id, tokenizer.end_id, tokenizer.pad_id
    )


# --- the original's ids --------------------------------------------------------------------------------------------


def test_all_golden_strings(shared: Path) -> None:
    golden = json.loads((shared / "golden" / "tokens.json").read_text())
    assert len(golden) == 344
    tokenizer = Tokenizer.clip()
    together = tokenizer.encode([row["text"] for row in golden])
    wrong = [row["text"] for row, ids in zip(golden, together, strict=True) if ids != row["ids"]]
    assert wrong == []
    assert all(tokenizer.encode([row["text"]]) == [row["ids"]] for row in golden)


@pytest.mark.slow
def test_a_second_reading_of_the_definition_agrees() -> None:
    """The algorithm as it is described (scan, then merge the best pair until none is left), on hostile strings."""
    ftfy = pytest.importorskip("ftfy")
    regex = pytest.importorskip("regex")
    table = bpe.shipped()
    ranks = {pair: rank for rank, pair in enumerate(table.merges)}
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    codes = printable + [byte for byte in range(256) if byte not in printable]
    symbol = dict(zip(codes, bpe.byte_symbols(), strict=True))
    scan = regex.compile(
        r"<\|startoftext\|>|<\|endoftext\|>|'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+",
        regex.IGNORECASE,
    )

    def reference(text: str) -> list[int]:
        text = html.unescape(html.unescape(ftfy.fix_text(text))).strip()
        text = regex.sub(r"\s+", " ", text).strip().lower()
        ids = []
        for piece in scan.findall(text):
            if piece in (bpe.START, bpe.END):
                ids.append(table.vocabulary[piece])
                continue
            parts = [symbol[byte] for byte in piece.encode()]
            parts[-1] += "</w>"
            while len(parts) > 1:
                best = min(itertools.pairwise(parts), key=lambda pair: ranks.get(pair, 10**9))
                if best not in ranks:
                    break
                merged = []
                while parts:
                    if tuple(parts[:2]) == best:
                        merged.append(parts[0] + parts[1])
                        del parts[:2]
                    else:
                        merged.append(parts.pop(0))
                parts = merged
            ids += [table.vocabulary[part] for part in parts]
        return ids

    chance = random.Random(7)
    alphabet = [
        *"aAbzZ19 .!?'&;#-_",
        *"éßİſΣςǅ½٣ⅷ日😀\u200b\u0301\ufeff\xa0\u2028\x85\u3000",
        *"\t\n\r\x0b\x0c\x1c\x7f\x00",
    ]
    alphabet += [
        "<|startoftext|>",
        "<|ENDOFTEXT|>",
        "<|",
        "|>",
        "'S",
        "'ſ",
        "'ll",
        "&amp;",
        "&#x41;",
        "&#11;",
        "&nbsp;",
    ]
    alphabet += ["cat", "Photo", "\x1b[31m", "â€™", "\ud800", "ﬀ", "<b>"]
    texts = ["".join(chance.choices(alphabet, k=chance.randrange(12))) for _ in range(3000)]
    ids = Tokenizer.clip().encode(texts)
    wrong = [(text, mine) for text, mine in zip(texts, ids, strict=True) if mine != reference(text)]
    assert wrong == []


@pytest.mark.parametrize(
    ("text", "ids"),
    [
        ("<|endoftext|>", [END]),
        ("a<|ENDOFTEXT|>", [320, END]),
        ("<|startoftext|><|endoftext|>", [START, END]),
        # punctuation before it swallows it, as in the original's scan
        ("!<|endoftext|>", [0, 27, 347, 40786, 4160, 91, 285]),
    ],
)
def test_special_strings_in_a_text(text: str, ids: list[int]) -> None:
    encoded = Tokenizer.clip().encode([text])[0]
    if text.startswith("!"):
        assert END not in encoded
        assert START not in encoded
    else:
        assert encoded == ids


def test_cleaning() -> None:
    assert clean("  A\tPhoto\r\n of  a CAT ") == "a photo of a cat"
    assert clean("AT&amp;amp;T") == "at&t"
    assert clean("donâ€™t") == "don't"
    assert clean("bell\x07 and colour \x1b[31mred") == "bell and colour red"
    assert clean("ΣΑΣ") == "σας"


# --- rows of ids ---------------------------------------------------------------------------------------------------


def test_rows_have_start_end_and_padding() -> None:
    rows = Tokenizer.clip()(["a photo of a cat", "", "a cat"])
    assert rows.dtype == np.int32
    assert rows.tolist() == [
        [START, 320, 1125, 539, 320, 2368, END],
        [START, END, 0, 0, 0, 0, 0],
        [START, 320, 2368, END, 0, 0, 0],
    ]
    assert Tokenizer.clip()("a cat").tolist() == [[START, 320, 2368, END]]
    assert Tokenizer.clip()("a cat", pad_to=77).shape == (1, 77)
    assert Tokenizer.clip()([]).shape == (0, 2)
    with pytest.raises(TextError, match="pad_to: the longest text has 4 tokens"):
        Tokenizer.clip()("a cat", pad_to=3)


def test_past_the_context_length() -> None:
    tokenizer = Tokenizer.clip()
    fits = " ".join(["cat"] * 75)
    assert tokenizer(fits).shape == (1, 77)
    with pytest.raises(TextError) as caught:
        tokenizer(["short", fits + " cat"])
    message = str(caught.value)
    assert "text 1 ('cat cat cat" in message
    assert "78 tokens" in message
    assert "at most 77 tokens (not characters)" in message
    assert "truncate=True" in message
    cut = tokenizer(["short", fits + " cat"], truncate=True)
    assert cut.shape == (2, 77)
    assert cut[1].tolist() == [START, *[2368] * 75, END]
    assert tokenizer("a cat", context_length=2, truncate=True).tolist() == [[START, END]]
    with pytest.raises(TextError, match="context_length: expected at least 2"):
        tokenizer("a cat", context_length=1)


def test_the_same_vocabulary_in_another_frame() -> None:
    padded_with_end = Tokenizer.clip().with_format(TextFormat(START, END, END))
    assert padded_with_end(["a cat", ""]).tolist() == [[START, 320, 2368, END], [START, END, END, END]]
    assert Tokenizer.clip().pad_id == 0
    with pytest.raises(ConfigError, match="padding token is 49408"):
        Tokenizer.clip().with_format(TextFormat(pad_id=49408))


@pytest.mark.parametrize("text", [None, 7, b"bytes", ["nested"], np.array(["a"])])
def test_what_is_no_text(text: object) -> None:
    with pytest.raises(TextError, match=r"text 1: expected str, got"):
        Tokenizer.clip()(["fine", text])  # type: ignore[list-item]


def test_numpy_strings_and_tuples_are_texts() -> None:
    assert (Tokenizer.clip()(np.array(["a cat", "dog"])) == Tokenizer.clip()(("a cat", "dog"))).all()  # type: ignore[arg-type]


# --- vocabularies from elsewhere -----------------------------------------------------------------------------------


def test_the_shipped_table() -> None:
    tokenizer = Tokenizer.clip()
    assert tokenizer is Tokenizer.clip()
    assert (tokenizer.start_id, tokenizer.end_id, tokenizer.pad_id) == (START, END, 0)
    assert tokenizer.vocabulary_size == 49408
    assert bpe.from_merges(bpe.shipped().merges) == bpe.shipped()
    notice = bpe.SHIPPED_MERGES.with_name("bpe_clip.LICENSE").read_text()
    assert "Permission is hereby granted" in notice
    assert "OpenAI" in notice


def test_a_learnt_vocabulary(small: Tokenizer) -> None:
    assert small.vocabulary_size == 560
    assert (small.start_id, small.end_id, small.pad_id) == (558, 559, 0)
    assert len(small.encode(["the cat"])[0]) < len("the cat")
    assert small.to_json() == train_bpe(iter(TEXTS), 560).to_json()
    with pytest.raises(DataError, match="ask for fewer"):
        train_bpe(["a cat", "a cat"], 6000)
    with pytest.raises(DataError, match="expected more than 514"):
        train_bpe(TEXTS, 514)


def test_every_byte_can_be_encoded(small: Tokenizer) -> None:
    for tokenizer in (small, Tokenizer.clip()):
        for text in ("日本語", "😀", "ŋ ẁ Ω"):
            ids = tokenizer.encode([text])[0]
            assert len(ids) >= 1
            assert max(ids) < tokenizer.vocabulary_size - 2


@pytest.mark.parametrize("which", ["clip", "small"])
def test_through_a_folder_and_back(tmp_path: Path, small: Tokenizer, which: str) -> None:
    tokenizer = small if which == "small" else Tokenizer.clip()
    tokenizer.save(tmp_path)
    for again in (Tokenizer.from_folder(tmp_path, text_tower(tokenizer)), Tokenizer.from_folder(tmp_path)):
        assert again is not None
        assert again.to_json() == tokenizer.to_json()
        assert again.vocabulary_size == tokenizer.vocabulary_size
        hostile = ["a cat <|endoftext|> !<|endoftext|>", "AT&amp;T's İstanbul", "<|startoftext|>"]
        assert (again(hostile) == tokenizer(hostile)).all()


def test_saving_replaces_the_file_in_one_step(tmp_path: Path, small: Tokenizer) -> None:
    """Whoever has the old one open reads it to its end: it is never written over in place."""
    small.save(tmp_path)
    with (tmp_path / "tokenizer.json").open(encoding="utf-8") as old:
        Tokenizer.clip().save(tmp_path)
        assert old.read() == small.to_json()
    assert (tmp_path / "tokenizer.json").read_text(encoding="utf-8") == Tokenizer.clip().to_json()
    assert [path.name for path in tmp_path.iterdir()] == ["tokenizer.json"]


def test_a_folder_without_a_tokenizer(tmp_path: Path) -> None:
    assert Tokenizer.from_folder(tmp_path, clip_text(512)) is None
    (tmp_path / "vocab.json").write_text("{}")
    assert Tokenizer.from_folder(tmp_path, clip_text(512)) is None


def test_a_tokenizer_larger_than_the_text_encoder(tmp_path: Path, small: Tokenizer) -> None:
    small.save(tmp_path)
    text = TextTransformer(77, 559, 8, 1, 1, 32, "gelu", small.start_id, end_id=1)
    with pytest.raises(ConfigError, match="has 560 entries, but the text encoder has only 559"):
        Tokenizer.from_folder(tmp_path, text)


def test_vocab_json_and_merges_txt(tmp_path: Path, small: Tokenizer) -> None:
    plain = json.loads(small.to_json())
    (tmp_path / "vocab.json").write_text(json.dumps(plain["model"]["vocab"]))
    (tmp_path / "merges.txt").write_text("\n".join(["#version: 0.2", *plain["model"]["merges"], ""]))
    again = Tokenizer.from_folder(tmp_path, text_tower(small))
    assert again is not None
    assert again.to_json() == small.to_json()


@pytest.mark.slow
def test_files_of_transformers_give_the_originals_ids(tmp_path: Path, shared: Path) -> None:
    """transformers' own normaliser knows no ftfy and no HTML; the original's ids come out all the same."""
    transformers = pytest.importorskip("transformers")
    table = bpe.shipped()
    theirs = transformers.CLIPTokenizer(vocab=dict(table.vocabulary), merges=table.merges)
    theirs.save_pretrained(tmp_path)
    assert (tmp_path / "tokenizer.json").is_file()
    ours = Tokenizer.from_folder(tmp_path, clip_text(512))
    assert ours is not None
    golden = json.loads((shared / "golden" / "tokens.json").read_text())
    assert ours.encode([row["text"] for row in golden]) == [row["ids"] for row in golden]
    assert ours.to_json() == Tokenizer.clip().to_json()


@pytest.mark.slow
def test_what_we_write_opens_in_transformers_and_tokenizers(tmp_path: Path, small: Tokenizer) -> None:
    transformers = pytest.importorskip("transformers")
    from tokenizers import Tokenizer as Core

    for tokenizer in (small, Tokenizer.clip()):
        tokenizer.save(tmp_path)
        expected = tokenizer("A photo of  a Cat, isn't it?").tolist()
        assert [
            transformers.CLIPTokenizer.from_pretrained(tmp_path)("A photo of  a Cat, isn't it?")["input_ids"]
        ] == expected
        core = Core.from_file(str(tmp_path / "tokenizer.json"))
        assert [core.encode("A photo of  a Cat, isn't it?").ids] == expected
        assert core.decode(expected[0]) == "a photo of a cat , isn 't it ?"


def test_further_added_tokens_count_wherever_they_stand(small: Tokenizer) -> None:
    plain = json.loads(small.to_json())
    plain["added_tokens"].append({**plain["added_tokens"][0], "id": 560, "content": "<My-Cat>"})
    tokenizer = Tokenizer.from_json(json.dumps(plain), small.format)
    assert tokenizer.vocabulary_size == 561
    cat = small.encode(["cat"])[0]
    assert tokenizer.encode(["cat!<my-cat>cat"])[0] == [*cat, *small.encode(["!"])[0], 560, *cat]
    assert Tokenizer.from_json(tokenizer.to_json(), TextFormat(558, 559)).to_json() == tokenizer.to_json()


def test_a_tokenizer_of_another_kind_keeps_its_own_ways(tmp_path: Path) -> None:
    from tokenizers import Tokenizer as Core
    from tokenizers import models, normalizers, pre_tokenizers

    words = Core(
        models.WordLevel({"[PAD]": 0, "[CLS]": 1, "[SEP]": 2, "a": 3, "Cat": 4, "[UNK]": 5}, unk_token="[UNK]")
    )
    words.normalizer = normalizers.Strip()
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    words.enable_padding(length=9)
    words.enable_truncation(3)
    words.save(str(tmp_path / "tokenizer.json"))
    text = TextTransformer(77, 6, 8, 1, 1, 32, "gelu", start_id=1, end_id=2, pad_id=0)
    tokenizer = Tokenizer.from_folder(tmp_path, text)
    assert tokenizer is not None
    assert tokenizer([" a Cat", "a a a a dog"]).tolist() == [[1, 3, 4, 2, 0, 0, 0], [1, 3, 3, 3, 3, 5, 2]]
    assert Tokenizer.from_json(tokenizer.to_json(), TextFormat(1, 2)).to_json() == tokenizer.to_json()
    with pytest.raises(ConfigError, match="expected tokens that start and end"):
        Tokenizer.from_folder(tmp_path)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("", "expected JSON"),
        ("[]", "expected a JSON object, got list"),
        ("{}", "cannot read this tokenizer"),
        ('{"model": {"type": "BPE", "vocab": 7}}', "cannot read this tokenizer"),
    ],
)
def test_damaged_files_are_named(tmp_path: Path, content: str, reason: str) -> None:
    (tmp_path / "tokenizer.json").write_text(content)
    with pytest.raises(ConfigError) as caught:
        Tokenizer.from_folder(tmp_path, clip_text(512))
    assert str(tmp_path / "tokenizer.json") in str(caught.value)
    assert reason in str(caught.value)


def test_tables_that_do_not_hold_together(small: Tokenizer) -> None:
    plain = json.loads(small.to_json())

    def altered(**model: object) -> str:
        return json.dumps({**plain, "model": {**plain["model"], **model}})

    for text, reason in (
        (altered(merges=["a b c"]), "two parts"),
        (altered(merges=["zz qq"]), "the BPE table is inconsistent"),
        (altered(vocab={"a": 0, "b": 1}), "not a byte-level vocabulary"),
        (altered(vocab={**plain["model"]["vocab"], "a": "0"}), "whole numbers"),
        (altered(vocab=["a"]), "tokenizer.json: "),
    ):
        with pytest.raises(ConfigError, match=reason):
            Tokenizer.from_json(text, small.format)
    with pytest.raises(ConfigError, match="start token is 49406, but the vocabulary has 560"):
        Tokenizer.from_json(small.to_json(), TextFormat())
