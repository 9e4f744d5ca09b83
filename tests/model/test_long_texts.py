"""Texts longer than the context: parts at natural borders, and vectors that are their weighted average."""

import unicodedata

import numpy as np
import pytest
from support import toy

from tandem import engine
from tandem.errors import TextError
from tandem.long_texts import check_long, split_texts
from tandem.model import Model
from tandem.tokenizer import TextFormat, Tokenizer
from tandem.tokenizer.splitting import split_text


@pytest.fixture(scope="module")
def model() -> Model:
    checkpoint = toy.checkpoint()
    return Model(checkpoint, engine.build(checkpoint.config, checkpoint.tensors))


# --- borders ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "limit", "parts"),
    [
        ("One two. Three four! Five?", 100, ["One two. Three four! Five?"]),
        ("One two. Three four! Five?", 21, ["One two. Three four!", "Five?"]),
        ("One two. Three four! Five?", 12, ["One two.", "Three four!", "Five?"]),
        ('He said: "Go!" Then he left.', 16, ['He said: "Go!"', "Then he left."]),
        ("It costs 3.50 euros. Fine.", 22, ["It costs 3.50 euros.", "Fine."]),  # a point inside is no border
        ("first line\nsecond line", 12, ["first line", "second line"]),
        ("a sentence longer than that. B.", 12, ["a sentence", "longer than", "that. B."]),
        ("  spaces \t around  ", 7, ["spaces", "around"]),
        ("一只狗在跑。两只猫在睡觉！三", 8, ["一只狗在跑。", "两只猫在睡觉！三"]),
        ("一只狗在跑两只猫在睡觉", 4, ["一只狗在", "跑两只猫", "在睡觉"]),
        ("สุนัขวิ่ง", 4, ["สุนั", "ขวิ่", "ง"]),  # marks stay with their letters
        ("unbreakable", 4, ["unbr", "eaka", "ble"]),
        ("👩‍👩‍👧‍👧👍🏽", 7, ["👩‍👩‍👧‍👧", "👍🏽"]),
        ("👩‍👩‍👧‍👧", 3, ["👩‍👩", "‍👧‍", "👧"]),  # longer than any part may be
    ],
)
def test_where_a_text_is_cut(text: str, limit: int, parts: list[str]) -> None:
    assert split_text(text, lambda part: len(part) <= limit) == parts


@pytest.mark.slow
def test_nothing_is_lost_and_everything_fits() -> None:
    chance = np.random.default_rng(3)
    alphabet = [*"abc .,!?\n", "。", "犬", "é", "e\u0301", "👍🏽", "ส\u0e38", " " * 5]
    for limit in (2, 5, 40):
        for _ in range(60):
            text = "".join(chance.choice(alphabet, size=200))
            parts = split_text(text, lambda part, limit=limit: len(part) <= limit)
            assert "".join("".join(parts).split()) == "".join(text.split())
            assert all(part and len(part) <= limit for part in parts)
            if limit > 2:
                assert not any(unicodedata.combining(part[0]) for part in parts)


def test_a_book_is_tokenized_a_few_times_only() -> None:
    text, seen = "The dog runs. " * 20_000, 0

    def fits(part: str) -> bool:
        nonlocal seen
        seen += len(part)
        return len(part) <= 300

    parts = split_text(text, fits)
    assert len(parts) > 900
    assert seen < 40 * len(text)  # not once for each of its parts


def test_not_even_a_character_fits() -> None:
    with pytest.raises(ValueError, match="not even '👍' fits"):
        split_text("👍", lambda part: False)
    narrow = Tokenizer.clip().with_format(TextFormat())
    with pytest.raises(TextError, match="too small to split a text"):
        split_texts(["𓀀𓀁𓀂"], narrow, 3)


# --- vectors ---------------------------------------------------------------------------------------------------------


SENTENCES = [f"the cat number {i} runs." for i in range(12)]


def test_texts_that_fit_keep_every_bit(model: Model) -> None:
    long = " ".join(SENTENCES * 3)
    model.embed_texts(SENTENCES)  # an engine's very first batch of a shape may round otherwise
    assert (model.embed_texts(SENTENCES, long="split") == model.embed_texts(SENTENCES)).all()
    mixed = model.embed_texts([*SENTENCES, long], long="split")
    assert (mixed[:-1] == model.embed_texts(SENTENCES)).all()
    assert (model.embed_texts("", long="split") == model.embed_texts("")).all()
    assert model.embed_texts([], long="split").shape == (0, toy.DIMENSIONS)
    assert (model.embed_texts(long, long="truncate") == model.embed_texts(long, truncate=True)).all()


def test_the_average_is_weighted_by_tokens(model: Model) -> None:
    text = " ".join(SENTENCES)
    parts = split_texts([text], model.tokenizer, 77)
    assert len(parts.ids) > 2
    assert all(len(ids) <= 75 for ids in parts.ids)
    joined = [i for ids in parts.ids for i in ids]
    assert joined == model.tokenizer.encode(text)[0], "cut between sentences, the tokens are the same"
    vectors = [model.encode_token_ids(model.tokenizer.rows([ids]))[0] for ids in parts.ids]
    expected = sum(len(ids) * vector.astype(np.float64) for ids, vector in zip(parts.ids, vectors, strict=True))
    expected /= np.linalg.norm(expected)
    found = model.embed_texts(["short", text], long="split")[1]
    np.testing.assert_allclose(found, expected, atol=1e-6)
    np.testing.assert_allclose(np.linalg.norm(found), 1, atol=1e-6)


def test_scripts_without_spaces(model: Model) -> None:
    for text in ("一只黑狗在雪地里奔跑" * 30, "สุนัขสีดำวิ่งผ่านหิมะ" * 20):
        vector = model.embed_texts(text, long="split")
        assert vector.shape == (1, toy.DIMENSIONS)
        np.testing.assert_allclose(np.linalg.norm(vector), 1, atol=1e-6)
        parts = split_texts([text], model.tokenizer, 77)
        assert len(parts.ids) > 3
        assert sum(len(ids) > 60 for ids in parts.ids) >= len(parts.ids) - 1, "as long as the context allows"


def test_what_to_do_is_one_of_three(model: Model) -> None:
    assert check_long("error", truncate=True) == "truncate"
    with pytest.raises(TextError, match="long: expected one of error, truncate, split, got 'cut'"):
        model.embed_texts("a", long="cut")  # type: ignore[arg-type]
    with pytest.raises(TextError, match="expected one of the two, got both"):
        model.embed_texts("a", truncate=True, long="split")
    with pytest.raises(TextError, match='long="split"'):
        model.embed_texts(" ".join(SENTENCES))


def test_labels_may_be_long(model: Model) -> None:
    labels = [" ".join(SENTENCES), "a cat"]
    with pytest.raises(TextError, match="tokens"):
        model.class_vectors(labels)
    vectors = model.class_vectors(labels, "{}", long="split")
    np.testing.assert_allclose(vectors, model.embed_texts(labels, long="split"), atol=1e-6)
    answer = model.classify(toy.random_image(), labels, templates="{}", long="split")
    assert answer.labels == tuple(labels)
    assert (model.class_vectors(labels, "{}", long="truncate") != vectors)[0].any()
