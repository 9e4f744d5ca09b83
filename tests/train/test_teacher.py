"""A sentence encoder as teacher: its vectors are computed once, and each process learns its own share of the words."""

from pathlib import Path

import numpy as np
import pytest
import torch
from support import toy

from tandem.train.data.batch import Batch
from tandem.train.objective import teacher
from tandem.train.objective.device_batch import to_device_batch
from tandem.train.objective.teacher import TeacherTargets, sample_words


def _vector(text: str) -> np.ndarray:
    return np.array([len(text), 1, 0], np.float16) / np.float16(np.hypot(len(text), 1))


@pytest.fixture
def encoded(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The texts that were encoded, in order."""
    seen: list[str] = []

    def encode(folder: Path, texts: list[str]) -> np.ndarray:
        seen.extend(texts)
        return np.stack([_vector(text) for text in texts])

    monkeypatch.setattr(teacher, "_encode", encode)
    return seen


@pytest.mark.parametrize("key", ["texts", "sentences"])
def test_a_text_is_encoded_once(tmp_path: Path, encoded: list[str], key: str) -> None:
    """`sentences`: what files of before the first release call them."""
    cache = tmp_path / "teacher.npz"
    np.savez(cache, **{key: np.array(["a cat", "b"]), "vectors": np.stack([_vector("a cat"), _vector("b")])})
    found = teacher.vectors(str(tmp_path), ["b", "a dog", "a cat", "a dog"], cache)
    assert encoded == ["a dog"]
    assert set(found) == {"a cat", "b", "a dog"}
    again = teacher.vectors(str(tmp_path), ["a dog"], cache)
    assert encoded == ["a dog"]
    for text in found:
        np.testing.assert_array_equal(again[text], _vector(text))


def _targets(rank: int = 0, processes: int = 1, extra: int = 20) -> TeacherTargets:
    words = [f"word {'x' * i}" for i in range(extra)]
    by_text = {text: 3 * _vector(text) for text in [*words, "a cat", "a dog"]}
    return TeacherTargets(by_text, words, 7, 1, rank, processes)


def test_processes_share_the_words_of_a_step() -> None:
    whole = _targets().words(5)
    assert len(whole) == 7
    parts = [_targets(rank, 3).words(5) for rank in range(3)]
    assert [len(part) for part in parts] == [3, 2, 2]
    assert [word for part in parts for word in part] == whole
    assert whole == _targets().words(5)
    assert len({tuple(_targets().words(step)) for step in range(20)}) == 20
    assert sample_words(whole, 0, 1, 5) == []


def test_vectors_are_of_unit_length() -> None:
    found = _targets().vectors(["a dog", "a cat"])
    assert found.dtype == torch.float32
    np.testing.assert_allclose(found, np.stack([_vector("a dog"), _vector("a cat")]), atol=1e-3)
    np.testing.assert_allclose(torch.linalg.vector_norm(found, dim=1), 1, atol=1e-6)
    assert _targets().vectors([]).shape == (0, 3)


def test_a_share_knows_the_words_of_all_processes() -> None:
    """The denominator of a mean: texts and words of every process, not of this one."""
    words = toy.tokenizer()
    own = ["a cat", "a dog"]
    pixels = np.zeros((2, toy.SIZE, toy.SIZE, 3), np.uint8)
    batch = Batch(4, pixels, words(own, toy.CONTEXT), own, ["0", "1"], None, 2, 2, 6, 6)
    share = to_device_batch(batch, _targets(1, 3), words, toy.CONTEXT, torch.device("cpu"))
    assert (share.texts, share.words, share.total_texts, share.total_words) == (2, 2, 6, 7)
    assert share.teacher_vectors is not None
    every = [*own, *_targets(1, 3).words(batch.step)]
    expected = _targets().vectors(every)
    torch.testing.assert_close(share.teacher_vectors, expected)
    for ids, text in zip(share.ids, every, strict=True):
        length = int((ids == words.end_id).int().argmax()) + 1
        np.testing.assert_array_equal(ids[:length], words([text], toy.CONTEXT, truncate=True)[0, :length])
