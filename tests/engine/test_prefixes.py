"""Texts that begin alike: their groups, and vectors that are those of each text by itself."""

import numpy as np
import pytest
from support import engine_toys, toy

from tandem.engine import openvino, prefixes
from tandem.engine.prefixes import shared_prefixes


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prefixes, "LEAST_TEXTS", 3)
    monkeypatch.setattr(prefixes, "LEAST_SAVED", 1)
    monkeypatch.setattr(openvino, "LEAST_TEXTS", 3)


def rows(*texts: list[int]) -> tuple[np.ndarray, np.ndarray]:
    """Ids padded with 0, and where each text ends."""
    ids = np.zeros((len(texts), max(map(len, texts))), np.int32)
    for row, text in zip(ids, texts, strict=True):
        row[: len(text)] = text
    return ids, np.array([len(text) - 1 for text in texts], np.int32)


def test_each_text_is_with_the_longest_beginning_that_enough_of_them_share() -> None:
    found, rest = shared_prefixes(
        *rows([7, 1, 2, 3, 9], [7, 1, 2, 4, 9], [7, 1, 2, 5, 9], [7, 1, 6, 9], [7, 8, 9], [7, 8, 5, 9], [3, 1, 9])
    )
    groups = {(tuple(group.rows.tolist()), group.tokens) for group in found}
    assert groups == {((0, 1, 2), 3), ((3,), 2), ((4, 5), 1)}  # of the others, too few share more
    assert rest.tolist() == [6]


def test_the_last_token_is_never_shared() -> None:
    found, rest = shared_prefixes(*rows([7, 1, 9], [7, 1, 9], [7, 1, 9], [7, 9]))
    assert {(tuple(group.rows.tolist()), group.tokens) for group in found} == {((0, 1, 2), 2), ((3,), 1)}
    assert not len(rest)


def test_little_is_not_worth_a_graph(monkeypatch: pytest.MonkeyPatch) -> None:
    texts = rows([7, 1, 9], [7, 2, 9], [7, 3, 9])
    assert len(shared_prefixes(*texts)[0]) == 1
    monkeypatch.setattr(prefixes, "LEAST_SAVED", 3)  # two tokens are saved
    found, rest = shared_prefixes(*texts)
    assert not found
    assert rest.tolist() == [0, 1, 2]
    assert shared_prefixes(np.zeros((0, 5), np.int32), np.zeros(0, np.int32))[0] == []


@pytest.mark.parametrize("activation", ["gelu", "quick_gelu"])
def test_vectors_are_those_of_each_text_by_itself(activation: str, monkeypatch: pytest.MonkeyPatch) -> None:
    config = toy.config(activation=activation)  # type: ignore[arg-type]
    engine = openvino.OpenVinoEngine(config, toy.tensors(config))
    names = ("cat", "dog", "old cat", "a very old dog", "do", "fish")
    texts = [t.format(name) for t in ("a photo of a {}.", "a drawing of the {}.") for name in names] + ["x", "cat"]
    ids = toy.tokenizer()(texts)
    together = engine.encode_texts(ids)
    assert ("prefixed text", True) in engine._towers
    with monkeypatch.context() as alone:
        alone.setattr(openvino, "LEAST_TEXTS", 1000)
        each = np.concatenate([engine.encode_texts(row[None]) for row in ids])
    assert np.abs(together - each).max() < 1e-5
    assert np.linalg.norm(each[0] - each[1]) > 1e-3  # they are not all the same


def test_a_tower_that_sees_padding_shares_nothing() -> None:
    config = engine_toys.TOYS["siglip"]
    engine = openvino.OpenVinoEngine(config, engine_toys.random_tensors(config))
    ids = np.tile(engine_toys.random_ids(config)[:1], (5, 1))
    assert len(engine.encode_texts(ids)) == 5
    assert ("prefixed text", True) not in engine._towers
