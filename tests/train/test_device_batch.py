"""The texts of a step, put together: no wider than the longest, for every way to end and pad a text."""

import numpy as np
import pytest

from tandem.tokenizer import TextFormat, Tokenizer
from tandem.train.objective.device_batch import _stacked

PARTS = (["a cat", "a photo of a dog"], ["!"], ["a black dog runs"])


@pytest.mark.parametrize(
    "format",
    [
        TextFormat(),
        TextFormat(pad_id=49407),  # transformers' CLIP, SigLIP 1: padded with the end token
        TextFormat(None, 49407, 0),
        TextFormat(49406, None, 7),
        TextFormat(None, None, 7),
    ],
    ids=lambda format: f"{format.start_id}-{format.end_id}-{format.pad_id}",
)
def test_rows_keep_their_tokens_and_are_as_short_as_can_be(format: TextFormat) -> None:
    tokenizer = Tokenizer.clip().with_format(format)
    parts = [tokenizer(texts, pad_to=77) for texts in PARTS]
    together = _stacked(parts, tokenizer)
    expected = tokenizer([text for texts in PARTS for text in texts])
    assert together.dtype == np.int32
    np.testing.assert_array_equal(together, expected)
