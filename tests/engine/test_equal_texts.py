"""Equal texts are encoded once, in the order in which they came; errors are those of the texts that were given."""

from typing import Any

import numpy as np
import pytest

from tandem.encoding import Encoder
from tandem.errors import EngineError


class _Engine:
    """Vectors are the first two tokens."""

    def __init__(self) -> None:
        self.asked: list[list[list[int]]] = []

    def encode_texts(self, token_ids: np.ndarray, *, normalize: bool = True) -> np.ndarray:
        self.asked.append(token_ids.tolist())
        bad = np.flatnonzero(token_ids[:, 0] < 0)
        if bad.size:
            raise EngineError(f"row {bad[0]}")
        return token_ids[:, :2].astype(np.float32)


class _Model(Encoder):
    name = "toy"

    def __init__(self) -> None:
        self.engine: Any = _Engine()


@pytest.mark.parametrize(
    ("ids", "asked"),
    [
        ([[5, 1], [3, 2], [5, 1], [5, 1], [3, 3]], [[5, 1], [3, 2], [3, 3]]),
        ([[5, 1], [3, 2]], [[5, 1], [3, 2]]),
        ([[5, 1]], [[5, 1]]),
    ],
)
def test_each_text_is_encoded_once(ids: list[list[int]], asked: list[list[int]]) -> None:
    model = _Model()
    vectors = model.encode_token_ids(np.array(ids, np.int32))
    assert model.engine.asked == [asked]
    assert vectors.tolist() == ids
    vectors[0] = 0
    assert len(ids) == 1 or vectors[1:].tolist() == ids[1:]  # rows are the caller's own


def test_errors_name_the_row_that_was_given() -> None:
    with pytest.raises(EngineError, match="row 3"):
        _Model().encode_token_ids(np.array([[5, 1], [5, 1], [5, 1], [-1, 2]], np.int32))


def test_what_is_no_array_of_ids_reaches_the_engine() -> None:
    model = _Model()
    with pytest.raises((IndexError, EngineError)):
        model.encode_token_ids(np.array([5, 1], np.int32))
    assert model.engine.asked == [[5, 1]]
