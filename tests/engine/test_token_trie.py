"""Texts as a trie of their tokens: nothing twice, nothing missing, vectors that are those of each text by itself."""

import numpy as np
import pytest
from support import engine_toys, toy

from tandem.engine import numpy_engine, openvino
from tandem.engine.inputs import buckets
from tandem.engine.token_trie import TokenTrie, token_tries


def padded(*texts: list[int]) -> tuple[np.ndarray, np.ndarray]:
    """Ids padded with 0, and where each text ends."""
    ids = np.zeros((len(texts), max(map(len, texts))), np.int32)
    for row, text in zip(ids, texts, strict=True):
        row[: len(text)] = text
    return ids, np.array([len(text) - 1 for text in texts], np.int32)


def texts_of(trie: TokenTrie, lengths: list[int]) -> list[list[int]]:
    """The tokens of each row, read along its path."""
    return [
        trie.token_ids[trie.paths[text]][:length].tolist() for text, length in zip(trie.texts, lengths, strict=True)
    ]


def beginnings(texts: list[list[int]]) -> int:
    """How many different ones there are."""
    return len({tuple(text[: i + 1]) for text in texts for i in range(len(text))})


def test_what_texts_begin_with_alike_is_one_node() -> None:
    (trie,) = token_tries(*padded([7, 2, 9], [7, 1, 3, 9], [7, 1, 9], [7, 2, 9], [3, 1, 9]))
    assert trie.rows.tolist() == [4, 1, 2, 0, 3]
    assert trie.texts.tolist() == [0, 1, 2, 3, 3]  # the same text twice is one
    assert trie.token_ids.tolist() == [3, 1, 9, 7, 1, 3, 9, 9, 2, 9]
    assert trie.positions.tolist() == [0, 1, 2, 0, 1, 2, 3, 2, 1, 2]
    assert trie.paths[[0, 2, 3], :3].tolist() == [[0, 1, 2], [3, 4, 7], [3, 8, 9]]
    assert trie.paths[1].tolist() == [3, 4, 5, 6]
    assert trie.ends.tolist() == [2, 6, 7, 9]
    assert trie.places.tolist() == [0, 1, 2, 4, 5, 6, 7, 10, 13, 14]


@pytest.mark.parametrize(("most_nodes", "most_places"), [(1024, 4096), (40, 4096), (1024, 60), (1, 1)])
def test_tries_hold_every_text_once_within_bounds(most_nodes: int, most_places: int) -> None:
    rng = np.random.default_rng(most_nodes)
    texts = [[98, *rng.integers(1, 4, rng.integers(0, 60)).tolist(), 99] for _ in range(40)]
    texts += [[98, *rng.integers(1, 4, rng.integers(0, 6)).tolist(), 99] for _ in range(80)]
    ids, ends = padded(*texts)
    seen: list[int] = []
    for trie in token_tries(ids, ends, most_nodes, most_places):
        here = [texts[row] for row in trie.rows]
        assert texts_of(trie, [len(text) for text in here]) == here
        assert len(trie.token_ids) == beginnings(here)
        assert len(trie.paths) == len({tuple(text) for text in here})
        assert trie.paths.min() >= 0
        assert trie.paths.max() < len(trie.token_ids)
        assert (trie.paths.reshape(-1)[trie.places] == np.arange(len(trie.token_ids))).all()
        assert (trie.places % trie.paths.shape[1] == trie.positions).all()
        assert (trie.token_ids[trie.ends] == 99).all()
        alone = len(trie.paths) == 1
        assert alone or (len(trie.token_ids) <= most_nodes and trie.paths.size <= most_places)
        seen += trie.rows.tolist()
    assert sorted(seen) == list(range(len(texts)))


def test_a_long_text_makes_no_places_for_short_ones() -> None:
    ids, ends = padded([98, *range(1, 60), 99], *([98, i, 99] for i in range(1, 30)))
    assert [trie.paths.shape for trie in token_tries(ids, ends)] == [(29, 3), (1, 61)]


@pytest.mark.parametrize(("activation", "nodes"), [("gelu", 512), ("quick_gelu", 512), ("quick_gelu", 30)])
def test_vectors_are_those_of_each_text_by_itself(activation: str, nodes: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(openvino, "NODES_OF_STREAM", nodes)
    monkeypatch.setattr(openvino, "TOKENS_BEFORE_COMPILING", 0)
    config = toy.config(activation=activation)  # type: ignore[arg-type]
    tensors = toy.tensors(config)
    engine = openvino.OpenVinoEngine(config, tensors)
    names = ("cat", "dog", "old cat", "a very old dog", "do", "fish, " * 8)
    texts = [t.format(name) for t in ("a photo of a {}.", "a drawing of the {}.") for name in names] + ["x", "cat", "x"]
    ids = toy.tokenizer()(texts)
    together = engine.encode_texts(ids)
    assert list(engine._towers) == [("text", "trie", True)]
    each = np.concatenate([engine.encode_texts(row[None]) for row in ids])
    plain = np.empty_like(together)
    for rows, some, ends in buckets(ids, config.text):
        plain[rows] = numpy_engine.encode_texts(config, tensors, some, ends)
    assert np.abs(together - each).max() < 1e-5
    assert np.abs(together - plain).max() < 1e-5
    assert np.array_equal(together[-1], together[-3])
    assert np.linalg.norm(each[0] - each[1]) > 1e-3  # they are not all the same


def test_a_tower_that_sees_padding_shares_nothing() -> None:
    config = engine_toys.TOYS["siglip"]
    engine = openvino.OpenVinoEngine(config, engine_toys.random_tensors(config))
    ids = np.tile(engine_toys.random_ids(config)[:1], (14, 1))
    assert len(engine.encode_texts(ids)) == 14
    assert list(engine._towers) == [("text", True)]
