"""Vocabularies of every kind give the ids of the libraries that made them: tokenizer.json, SentencePiece, vocab.txt."""

import builtins
import io
import json
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tandem.config import Cleaning, TextTransformer
from tandem.errors import ConfigError, MissingExtraError, TextError
from tandem.tokenizer import TextFormat, Tokenizer
from tandem.tokenizer.cleaning import CLEANINGS, clean
from tandem.weights.tokenizer_files import SpecialTokens, special_tokens, write_tokenizer

transformers = pytest.importorskip("transformers")
spm = pytest.importorskip("sentencepiece")

SENTENCES = [
    "a black dog runs through the snow, and a child laughs at it",
    "Ein schwarzer Hund läuft durch den Schnee. Größe: 12,5 cm; Straße 7!",
    "un chien noir court dans la neige près de l'école, n'est-ce pas ?",
    "черная собака бежит по снегу — и ребенок смеется",
    "一只黑狗在雪地里奔跑。两只猫在沙发上睡觉！",
    "黒い犬が雪の中を走っています。猫はソファで寝ています。",
    "สุนัขสีดำวิ่งผ่านหิมะ",
    "검은 개가 눈 속을 달린다",
    "कुत्ता बर्फ में दौड़ रहा है",
    "كلب أسود يركض في الثلج",
    "Numbers 0123456789 and signs @#$%&*()[]{}<>|/\\ \"'`~^ :;,.?!-_=+",
]
CONTEXT = 40


@pytest.fixture(scope="module")
def golden(shared: Path) -> list[str]:
    return [row["text"] for row in json.loads((shared / "golden" / "tokens.json").read_text())]


def tower(tokenizer_size: int, format: TextFormat) -> TextTransformer:
    return TextTransformer(
        CONTEXT,
        tokenizer_size,
        8,
        1,
        1,
        32,
        "gelu",
        format.start_id,
        format.end_id,
        format.pad_id,
        causal=False,
        pooling="last",
        cleaning=format.cleaning,
    )


def saved(folder: Path, format: TextFormat) -> Tokenizer:
    """The tokenizer of a folder that transformers wrote."""
    found = Tokenizer.from_folder(folder, tower(100_000, format))
    assert found is not None
    return found


# --- cleaning --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("ours", "theirs"), [("whitespace", "whitespace"), ("clip", "lower"), ("canonical", "canonicalize")]
)
def test_cleaning_is_open_clips(shared: Path, golden: list[str], ours: Cleaning, theirs: str) -> None:
    expected = json.loads((shared / "golden" / "families" / "clean.json").read_text())[theirs]
    assert len(golden) == 344
    assert expected.keys() == set(golden)
    assert {text: CLEANINGS[ours](text) for text in golden} == expected


# --- tokenizer.json --------------------------------------------------------------------------------------------------


def unigram(specials: list[str]) -> list[tuple[str, float]]:
    from tokenizers import Tokenizer as Core
    from tokenizers import models, pre_tokenizers, trainers

    core = Core(models.Unigram())
    core.pre_tokenizer = pre_tokenizers.Metaspace()
    trainer = trainers.UnigramTrainer(vocab_size=300, show_progress=False, special_tokens=specials, unk_token="<unk>")
    core.train_from_iterator(SENTENCES * 4, trainer)
    model = json.loads(core.to_str())["model"]
    return [(piece, score) for piece, score in model["vocab"]]


def xlm_roberta() -> Any:
    return transformers.XLMRobertaTokenizer(vocab=[*unigram(["<s>", "<pad>", "</s>", "<unk>"]), ("<mask>", 0.0)])


def t5() -> Any:
    return transformers.T5Tokenizer(vocab=unigram(["<pad>", "</s>", "<unk>"]), extra_ids=0)


def gemma_vocabulary() -> tuple[dict[str, int], list[tuple[str, str]]]:
    from tokenizers import Tokenizer as Core
    from tokenizers import models, normalizers, trainers

    specials = ["<pad>", "<eos>", "<bos>", "<unk>", "<mask>", *(f"<0x{byte:02X}>" for byte in range(256))]
    core = Core(models.BPE(unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    core.normalizer = normalizers.Replace(" ", "▁")
    trainer = trainers.BpeTrainer(vocab_size=700, show_progress=False, special_tokens=specials)
    core.train_from_iterator(SENTENCES * 4, trainer)
    model = json.loads(core.to_str())["model"]
    return model["vocab"], [tuple(pair) for pair in model["merges"]]


def siglip2() -> Any:
    vocabulary, merges = gemma_vocabulary()
    return transformers.Siglip2Tokenizer(
        vocab=vocabulary, merges=merges, add_bos_token=False, add_eos_token=True, padding_side="right"
    )


def gemma() -> Any:
    vocabulary, merges = gemma_vocabulary()
    return transformers.GemmaTokenizer(
        vocab=vocabulary, merges=merges, add_bos_token=True, add_eos_token=True, padding_side="right"
    )


def bert() -> Any:
    from tokenizers import Tokenizer as Core
    from tokenizers import models, normalizers, pre_tokenizers, trainers

    specials = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    core = Core(models.WordPiece(unk_token="[UNK]"))
    core.normalizer, core.pre_tokenizer = normalizers.BertNormalizer(), pre_tokenizers.BertPreTokenizer()
    trainer = trainers.WordPieceTrainer(vocab_size=400, show_progress=False, special_tokens=specials)
    core.train_from_iterator(SENTENCES * 4, trainer)
    return transformers.BertTokenizer(vocab=core.get_vocab())


@pytest.mark.parametrize(
    ("make", "format"),
    [
        (xlm_roberta, TextFormat(0, 2, 1, "whitespace")),
        (siglip2, TextFormat(None, 1, 0, "canonical")),
        (gemma, TextFormat(2, 1, 0, "whitespace")),
        (t5, TextFormat(None, 1, 0, "canonical")),
        (bert, TextFormat(2, 3, 0, "whitespace")),
    ],
    ids=lambda value: value.__name__ if callable(value) else "",
)
@pytest.mark.slow_if("xlm_roberta")
def test_ids_are_those_of_transformers(
    tmp_path: Path, golden: list[str], make: Callable[[], Any], format: TextFormat
) -> None:
    """Read from the files that transformers writes, padded to the context, and written for it again."""
    theirs = make()
    theirs.save_pretrained(tmp_path / "theirs")
    assert special_tokens(tmp_path / "theirs") == SpecialTokens(format.start_id, format.end_id, format.pad_id)
    ours = saved(tmp_path / "theirs", format)
    texts = [CLEANINGS[format.cleaning](text) for text in [*golden, *SENTENCES]]
    expected = theirs(texts, padding="max_length", truncation=True, max_length=CONTEXT)["input_ids"]
    assert ours([*golden, *SENTENCES], CONTEXT, truncate=True, pad_to=CONTEXT).tolist() == expected

    assert Tokenizer.from_json(ours.to_json(), format).to_json() == ours.to_json()
    (tmp_path / "ours").mkdir()
    write_tokenizer(ours, tower(ours.vocabulary_size, format), tmp_path / "ours")
    again = transformers.AutoTokenizer.from_pretrained(tmp_path / "ours")
    written = again(texts, padding="max_length", truncation=True, max_length=CONTEXT)["input_ids"]
    assert written == expected
    assert special_tokens(tmp_path / "ours") == SpecialTokens(format.start_id, format.end_id, format.pad_id)


def test_clipa_has_a_start_and_no_end(tmp_path: Path, golden: list[str]) -> None:
    theirs = bert()
    theirs.save_pretrained(tmp_path)
    ours = saved(tmp_path, TextFormat(2, None, 0, "whitespace"))
    texts = [CLEANINGS["whitespace"](text) for text in golden]
    short = [i for i, ids in enumerate(theirs(texts)["input_ids"]) if len(ids) <= CONTEXT]
    expected = theirs([texts[i] for i in short], padding="max_length", max_length=CONTEXT)["input_ids"]
    stripped = [[0 if i == 3 else i for i in row] for row in expected]  # as open_clip's strip_sep_token
    assert ours([golden[i] for i in short], CONTEXT, pad_to=CONTEXT).tolist() == stripped
    assert ours("a dog", pad_to=CONTEXT)[0, 0] == 2
    assert ours("").tolist() == [[2]]
    with pytest.raises(TextError, match="context_length: expected at least 1"):
        ours("a", context_length=0)


def test_vocab_txt(tmp_path: Path, golden: list[str]) -> None:
    theirs = bert()
    ordered = sorted(theirs.get_vocab().items(), key=lambda item: item[1])
    (tmp_path / "vocab.txt").write_text("\n".join(word for word, _ in ordered) + "\n", encoding="utf-8")
    assert special_tokens(tmp_path) == SpecialTokens(2, 3, 0)
    format = TextFormat(2, 3, 0, "whitespace")
    ours = saved(tmp_path, format)
    texts = [CLEANINGS["whitespace"](text) for text in golden]
    assert ours(golden, 512).tolist() == theirs(texts, padding=True)["input_ids"]
    (tmp_path / "new").mkdir()
    ours.save(tmp_path / "new")
    assert (saved(tmp_path / "new", format)(golden, 512) == ours(golden, 512)).all()


# --- SentencePiece ---------------------------------------------------------------------------------------------------


def trained(kind: str, **settings: Any) -> bytes:
    model = io.BytesIO()
    options = {"vocab_size": 360, "hard_vocab_limit": False, "minloglevel": 2, **settings}
    spm.SentencePieceTrainer.train(
        sentence_iterator=iter(SENTENCES * 4), model_writer=model, model_type=kind, **options
    )
    return model.getvalue()


T5_IDS = {"pad_id": 0, "eos_id": 1, "unk_id": 2, "bos_id": -1}
GEMMA_IDS = {"pad_id": 0, "eos_id": 1, "bos_id": 2, "unk_id": 3, "byte_fallback": True, "vocab_size": 700}


@pytest.mark.parametrize("kind", ["unigram", "bpe"])
def test_siglips_spiece_model(tmp_path: Path, golden: list[str], kind: str) -> None:
    (tmp_path / "spiece.model").write_bytes(trained(kind, **T5_IDS))
    theirs = transformers.SiglipTokenizer(str(tmp_path / "spiece.model"))
    format = TextFormat(None, 1, 1, "canonical")
    ours = saved(tmp_path, format)
    texts = [text for text in [*golden, *SENTENCES] if CLEANINGS["canonical"](text)]
    canonical = [CLEANINGS["canonical"](text) for text in texts]
    expected = theirs(canonical, padding="max_length", truncation=True, max_length=CONTEXT)["input_ids"]
    assert ours(texts, CONTEXT, truncate=True, pad_to=CONTEXT).tolist() == expected
    assert ours([""]).tolist() == [[1]]
    assert special_tokens(tmp_path) == SpecialTokens(None, 1, None)

    write_folder = tmp_path / "written"
    write_folder.mkdir()
    write_tokenizer(ours, tower(ours.vocabulary_size, format), write_folder)
    assert special_tokens(write_folder) == SpecialTokens(None, 1, 1)
    again = transformers.AutoTokenizer.from_pretrained(write_folder)
    assert again(canonical, padding="max_length", truncation=True, max_length=CONTEXT)["input_ids"] == expected


def test_xlm_robertas_numbers(tmp_path: Path, golden: list[str]) -> None:
    """fairseq's ids: <s> 0, <pad> 1, </s> 2, <unk> 3, all others one more than in the model."""
    model = trained("unigram")
    (tmp_path / "sentencepiece.bpe.model").write_bytes(model)
    assert special_tokens(tmp_path) == SpecialTokens(0, 2, 1)
    ours = saved(tmp_path, TextFormat(0, 2, 1, "whitespace"))
    processor = spm.SentencePieceProcessor(model_proto=model)
    texts = [CLEANINGS["whitespace"](text) for text in golden]
    expected = [[0, *(i + 1 if i else 3 for i in processor.encode(text)), 2] for text in texts]
    width = max(map(len, expected))
    assert ours(golden, 512).tolist() == [row + [1] * (width - len(row)) for row in expected]
    assert ours.vocabulary_size == processor.get_piece_size() + 2
    assert [ours.id_of(token) for token in ("<s>", "<pad>", "</s>", "<unk>")] == [0, 1, 2, 3]
    assert ours.id_of("<mask>") == ours.vocabulary_size - 1
    assert [ours.token_of(i) for i in (0, 1, 2, 3, 4)] == ["<s>", "<pad>", "</s>", "<unk>", processor.id_to_piece(3)]
    assert ours.id_of("no such piece") is None
    assert [ours.id_of(str(ours.token_of(i))) for i in range(4, 30)] == list(range(4, 30))

    (tmp_path / "written").mkdir()
    write_tokenizer(ours, tower(ours.vocabulary_size, ours.format), tmp_path / "written")
    theirs = transformers.AutoTokenizer.from_pretrained(tmp_path / "written")
    assert theirs(SENTENCES)["input_ids"] == [row.tolist() for row in (ours([s], 512)[0] for s in SENTENCES)]


def test_gemmas_tokenizer_model(tmp_path: Path) -> None:
    model = trained("bpe", **GEMMA_IDS)
    (tmp_path / "tokenizer.model").write_bytes(model)
    ours = saved(tmp_path, TextFormat(None, 1, 0, "canonical"))
    processor = spm.SentencePieceProcessor(model_proto=model)
    for text in [*SENTENCES, "ein \U0001f9a9 und ☂"]:
        assert ours.encode(text) == [processor.encode(CLEANINGS["canonical"](text))]
    assert all(i != 3 for i in ours.encode("\U0001f9a9")[0]), "what has no piece is spelt in bytes"


def test_a_sentencepiece_model_through_files_and_back(tmp_path: Path, golden: list[str]) -> None:
    model = trained("unigram", **T5_IDS)
    (tmp_path / "spiece.model").write_bytes(model)
    format = TextFormat(None, 1, 1, "canonical")
    tokenizer = saved(tmp_path, format)
    again = Tokenizer.from_json(tokenizer.to_json(), format)
    assert again.to_json() == tokenizer.to_json()
    (tmp_path / "new").mkdir()
    again.save(tmp_path / "new")
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["spiece.model"]
    assert (tmp_path / "new" / "spiece.model").read_bytes() == model
    for other in (again, saved(tmp_path / "new", format), pickle.loads(pickle.dumps(tokenizer))):
        assert (other(golden, 512) == tokenizer(golden, 512)).all()


def test_without_the_library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "spiece.model").write_bytes(trained("unigram", **T5_IDS))
    real = builtins.__import__

    def without(name: str, *args: Any, **others: Any) -> Any:
        if name == "sentencepiece":
            raise ImportError(name)
        return real(name, *args, **others)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(MissingExtraError, match=r"spiece.model.*needs sentencepiece.*tandem-clip\[sentencepiece\]"):
        Tokenizer.from_folder(tmp_path, tower(400, TextFormat(None, 1, 1)))


def test_damaged_models_are_named(tmp_path: Path) -> None:
    (tmp_path / "spiece.model").write_bytes(b"not a model")
    with pytest.raises(ConfigError, match=r"spiece.model: not a SentencePiece model"):
        saved(tmp_path, TextFormat(None, 1, 1))
    (tmp_path / "spiece.model").rename(tmp_path / "sentencepiece.bpe.model")
    (tmp_path / "sentencepiece.bpe.model").write_bytes(trained("unigram", **T5_IDS))
    with pytest.raises(ConfigError, match=r"expected a model whose pieces begin with <unk>, <s>, </s>"):
        saved(tmp_path, TextFormat(0, 2, 1))


@pytest.mark.slow
def test_clips_own_vocabulary_in_other_formats() -> None:
    """What open_clip names a Hugging Face tokenizer may be CLIP's vocabulary: it is of lower-case texts."""
    whitespace = Tokenizer.clip().with_format(TextFormat(cleaning="whitespace"))
    assert whitespace.encode("A Cat!") == Tokenizer.clip().encode("a cat!")
    canonical = Tokenizer.clip().with_format(TextFormat(cleaning="canonical"))
    assert canonical.encode("A Cat!") == Tokenizer.clip().encode("a cat")
    assert Tokenizer.clip().encode("A Cat!") == [Tokenizer.clip().encode(clean("A Cat!"))[0]]
    bare = Tokenizer.clip().with_format(TextFormat(None, None))
    assert bare("a cat").tolist() == Tokenizer.clip().encode("a cat")
    assert Tokenizer.from_json(bare.to_json(), TextFormat(None, None)).to_json() == bare.to_json()


def word_level(vocabulary: dict[str, int], **others: Any) -> str:
    model = {"type": "WordLevel", "vocab": vocabulary, "unk_token": "<unk>"}
    return json.dumps(
        {"version": "1.0", "added_tokens": [], "pre_tokenizer": {"type": "Whitespace"}} | others | {"model": model}
    )


ENTRIES = {"<unk>": 0, "<s>": 1, "</s>": 2, "a": 3}


def test_an_id_far_away_is_refused() -> None:
    """The library would list all ids between, and end the process for want of memory."""
    tokenizer = Tokenizer.from_json(word_level({**ENTRIES, "b": 2**31}), TextFormat(1, 2))
    with pytest.raises(ConfigError, match=r"the id 2147483648: expected ids below"):
        tokenizer.to_json()
    with pytest.raises(ConfigError, match=r"gives the id 9, but its vocabulary has 4 entries"):
        Tokenizer.from_json(word_level({"<unk>": 0, "<s>": 1, "a": 9, "z": 3}), TextFormat(1, 0))(["a"])


def test_special_tokens_must_be_entries() -> None:
    with pytest.raises(ConfigError, match=r"the start token is 1, which no entry"):
        Tokenizer.from_json(word_level({"<unk>": 0, "</s>": 2, "a": 3}), TextFormat(1, 2))


def test_a_text_that_the_library_cannot_split() -> None:
    tokenizer = Tokenizer.from_json(word_level({"<s>": 0, "</s>": 1, "a": 2}), TextFormat(0, 1))
    with pytest.raises(ConfigError, match=r"cannot split the texts: .*UNK"):
        tokenizer.encode("zebra")


@pytest.mark.parametrize(
    "text",
    [
        '{"a":' * 100_000,
        '{"end_of_word_suffix": "</w>", "x": ' + "[" * 100_000,
        word_level(ENTRIES, normalizer={"type": "Precompiled", "precompiled_charsmap": "AAAA"}),  # panics
    ],
)
def test_a_hostile_tokenizer_is_one_line(text: str) -> None:
    with pytest.raises(ConfigError) as error:
        Tokenizer.from_json(text, TextFormat(1, 2))
    assert "\n" not in str(error.value)


def test_half_of_a_surrogate_pair_is_no_entry() -> None:
    tokenizer = Tokenizer.from_json(word_level({"<unk>": 0, "<s>": 1, "</s>": 2}), TextFormat(1, 2))
    assert tokenizer.id_of("\ud800") is None
