"""Retrieval on vectors that are given, against brute force over the whole matrix."""

from itertools import permutations
from pathlib import Path

import numpy as np
import pytest
from support import toy
from support.task_toys import GivenModel, features, unit

import tandem
from tandem.errors import DataError
from tandem.evaluate import retrieval_ranks as blocks
from tandem.evaluate.caption_vectors import caption_vectors
from tandem.evaluate.metrics import match_ranks, recall_at_k
from tandem.evaluate.result import TaskResult
from tandem.evaluate.retrieval import retrieval, retrieval_figures
from tandem.evaluate.retrieval_ranks import retrieval_ranks


def drawn(n: int = 40, seed: int = 0, d: int = 8) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Images, one to five captions near each, and the image of each caption, in no order."""
    rng = np.random.default_rng(seed)
    images = unit(rng.standard_normal((n, d)))
    owner = rng.permutation(np.repeat(np.arange(n), rng.integers(1, 6, n)))
    return images, unit(images[owner] + 0.8 * rng.standard_normal((len(owner), d))), owner


def by_matrix(images: np.ndarray, texts: np.ndarray, owner: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    scores = texts.astype(float) @ images.T.astype(float)
    matches = owner[:, None] == np.arange(len(images))
    return match_ranks(scores, matches), match_ranks(scores.T, matches.T)


@pytest.mark.parametrize(("n_images", "n_texts"), [(250, 1 << 15), (7, 11), (1, 1)])
def test_blocks_count_what_the_whole_matrix_would(n_images: int, n_texts: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blocks, "_IMAGES", n_images)
    monkeypatch.setattr(blocks, "_TEXTS", n_texts)
    for seed in range(3):
        data = drawn(15, seed)
        for found, expected in zip(retrieval_ranks(*data), by_matrix(*data), strict=True):
            assert (found == expected).all()


def test_more_images_than_a_byte_counts() -> None:
    """Every image is equal: all others are as good, more than 255 of them in a block."""
    images = np.tile(unit([[1.0, 2.0, 3.0]]), (600, 1))
    texts, owner = images[:3], np.arange(600)
    found = retrieval_ranks(images, np.concatenate([texts, images[3:]]), owner)
    assert (found[0] == 600).all()
    assert (found[1] == 600).all()


def test_ties_count_against_the_model_however_they_are_rounded() -> None:
    """A second copy of an image is as good a find: no order may make it a hit."""
    rng = np.random.default_rng(0)
    images = unit(np.repeat(rng.standard_normal((300, 512)), 2, axis=0))
    found = retrieval_ranks(images, images, np.arange(600))
    assert (found[0] == 2).all()
    assert (found[1] == 2).all()


def test_any_caption_of_an_image_counts_and_its_others_do_not_stand_before_it() -> None:
    images = unit([[1, 0, 0], [0, 1, 0]])
    texts = unit([[0.8, 0.1, 1], [0.9, 0, 0.5], [0, 0, 1], [0.7, 0.5, 0.4]])
    of_texts, of_images = retrieval_ranks(images, texts, np.array([0, 0, 0, 1]))
    assert of_texts.tolist() == [1, 1, 2, 2]  # the third says nothing of either: a tie
    assert of_images.tolist() == [1, 1]


def test_figures_are_those_of_brute_force() -> None:
    images, texts, owner = drawn(60)
    figures, tables, outcomes, ranks = retrieval_figures(images, texts, owner)
    scores, matches = texts @ images.T, owner[:, None] == np.arange(60)
    for direction, where, of in (("text_to_image", scores, matches), ("image_to_text", scores.T, matches.T)):
        for k in (1, 5, 10):
            figure = figures[f"{direction}_recall@{k}"]
            assert figure.value == pytest.approx(recall_at_k(where, of, k), abs=1e-9)
            assert figure.n == len(where)
            assert figure.low < figure.value < figure.high
            assert outcomes[f"{direction}_recall@{k}"].mean() == pytest.approx(figure.value, abs=1e-6)
        rank = ranks[direction == "image_to_text"]
        assert figures[f"{direction}_mean_rank"].value == pytest.approx(rank.mean())
        assert figures[f"{direction}_median_rank"].value == np.sort(rank)[(len(rank) - 1) // 2]
        assert outcomes[f"{direction}_mean_rank"].mean() == pytest.approx(rank.mean(), rel=1e-5)
    assert {len(each) for each in outcomes.values()} == {60}
    assert [row["k"] for row in tables["recall_curve"] if row["direction"] == "text_to_image"] == [1, 2, 5, 10, 20, 50]


def test_chance_is_that_of_all_orders() -> None:
    """One image with three captions and one with one: every order of the gallery, counted."""
    images, texts = unit([[1, 0.1], [0.1, 1]]), unit([[1, 0], [1, 0.2], [1, 0.3], [0, 1]])
    owner = np.array([0, 0, 0, 1])
    figures, *_ = retrieval_figures(images, texts, owner, ks=(1,))
    ranks = [1 + min(order.index(own) for own in np.flatnonzero(owner == image))
             for order in permutations(range(4)) for image in (0, 1)]  # fmt: skip
    assert figures["image_to_text_recall@1"].chance == pytest.approx(np.mean(np.array(ranks) == 1))
    assert figures["image_to_text_mean_rank"].chance == pytest.approx(np.mean(ranks))
    assert figures["image_to_text_median_rank"].chance == np.sort(ranks)[(len(ranks) - 1) // 2]
    assert figures["text_to_image_recall@1"].chance == 0.5
    assert figures["text_to_image_mean_rank"].chance == 1.5


def test_captions_of_one_image_are_drawn_together() -> None:
    """Five equal captions of each image say no more than one: the interval may not shrink."""
    rng = np.random.default_rng(0)
    images = unit(rng.standard_normal((80, 8)))
    texts = unit(images + 0.8 * rng.standard_normal((80, 8)))
    once = retrieval_figures(images, texts, np.arange(80))[0]["text_to_image_recall@1"]
    five = retrieval_figures(images, np.repeat(texts, 5, axis=0), np.repeat(np.arange(80), 5))[0][
        "text_to_image_recall@1"
    ]
    assert (once.value, once.low, once.high) == (five.value, five.low, five.high)
    assert (once.n, five.n) == (80, 400)


def test_intervals_follow_the_seed() -> None:
    images, texts, owner = drawn(100)
    texts = np.random.default_rng(1).permutation(texts)  # ranks all over the gallery
    found = [retrieval_figures(images, texts, owner, seed=seed)[0] for seed in (0, 0, 1, 2, 3)]
    assert found[0] == found[1]
    for name in (f"{way}_{kind}_rank" for way in ("text_to_image", "image_to_text") for kind in ("mean", "median")):
        assert len({(figures[name].low, figures[name].high) for figures in found}) > 1, name


WORDS = {"cat": [1, 0, 0, 0], "dog": [0, 1, 0, 0], "fish": [0, 0, 1, 0]}


@pytest.fixture(scope="module")
def pets() -> TaskResult:
    captions = [["a cat", "the cat sleeps"], ["a dog " * 60, "a fish"], ["a fish"]]
    return retrieval(GivenModel(WORDS, data="pets"), features(np.eye(4)[:3], captions=captions), ks=(1, 2, 10))


def test_the_task_embeds_the_captions(pets: TaskResult) -> None:
    assert pets.task == "retrieval"
    assert pets.figures["text_to_image_recall@1"].value == 4 / 5
    assert pets.figures["image_to_text_recall@1"].value == pytest.approx(2 / 3)  # two captions are the same fish
    assert "text_to_image_recall@10" not in pets.figures  # of three images
    assert pets.tables["worst_queries"][0] == {"caption": "a fish", "key": "1.png", "rank": 3}  # a tie, too
    assert pets.keys == ("0.png", "1.png", "2.png")
    assert pets.settings["captions"] == 5


def test_captions_that_were_cut_are_counted(pets: TaskResult) -> None:
    assert any(note.startswith("1 of 5 captions are longer than 75 tokens") for note in pets.notes)
    assert any("trained on: pets" in note for note in pets.notes)
    room = toy.CONTEXT - 2
    for cats, cut in ((room, False), (room + 1, True)):  # a token each
        found = retrieval(GivenModel(WORDS), features(np.eye(4)[:2], captions=[["cat " * cats], ["a dog"]]), ks=(1,))
        assert any("were cut" in note for note in found.notes) == cut


def test_what_cannot_be_measured_is_refused() -> None:
    model = GivenModel(WORDS)
    with pytest.raises(DataError, match=r"2 images have none, the first is 1\.png"):
        retrieval(model, features(np.eye(4)[:3], captions=[["a cat"], [], []]))
    with pytest.raises(DataError, match="a caption for every image, but it has none"):
        retrieval(model, features(np.eye(4)[:3]))
    with pytest.raises(DataError, match="more images than k, got 1"):
        retrieval(model, features(np.eye(4)[:1], captions=[["a cat"]]))
    images = unit(np.eye(3))
    with pytest.raises(DataError, match="1 images have no text"):
        retrieval_ranks(images, images[:2], np.array([0, 1]))
    images[0] = np.nan
    with pytest.raises(DataError, match="finite"):
        retrieval_ranks(images, images, np.arange(3))


def test_captions_are_encoded_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TANDEM_CACHE", str(tmp_path))
    model = tandem.load(toy.folder(tmp_path / "model"))
    texts = ["a cat", "a dog", "a cat", "a very old dog " * 40]
    first = caption_vectors(model, texts)
    assert np.abs(first - model.embed_texts(texts, long="truncate")).max() < 1e-6
    monkeypatch.setattr(tandem.Model, "embed_texts", lambda *_, **__: pytest.fail("they are kept"))
    again = caption_vectors(model, [*texts[1:], "a cat"])
    assert (again == first[[1, 2, 3, 0]]).all()
    monkeypatch.undo()
    monkeypatch.setenv("TANDEM_CACHE", str(tmp_path))
    calls: list[list[str]] = []
    embed = tandem.Model.embed_texts
    monkeypatch.setattr(tandem.Model, "embed_texts", lambda m, t, **o: (calls.append(t), embed(m, t, **o))[1])
    caption_vectors(model, ["a cat", "a fish"])
    assert calls == [["a fish"]]
    caption_vectors(model, ["a cat"], cache=False)
    assert calls[1:] == [["a cat"]]
