"""What engines take: the bounds of lengths and ids, padding, buckets; precisions of devices that are not here."""

import numpy as np
import pytest
from support import engine_toys, toy

from tandem.engine import inputs
from tandem.errors import EngineError

TEXT = toy.config().text
CONTEXT, SIZE = TEXT.context_length, TEXT.vocabulary_size


@pytest.mark.parametrize("tokens", [1, 2, CONTEXT])
def test_texts_have_one_token_to_the_whole_context(tokens: int) -> None:
    ids = np.full((2, tokens), 3, np.int64)
    found = inputs.check_token_ids(ids, TEXT)
    assert found.dtype == np.int32
    assert found.tolist() == ids.tolist()


@pytest.mark.parametrize("shape", [(2, 0), (2, CONTEXT + 1), (3,), (1, 2, 3), ()])
def test_other_shapes_of_ids_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(EngineError, match=rf"token_ids: expected int32 \[n t\] with t in 1\.\.{CONTEXT}, got int32"):
        inputs.check_token_ids(np.ones(shape, np.int32), TEXT)


@pytest.mark.parametrize("added", [0, 2])
def test_ids_are_those_of_the_vocabulary_and_what_was_added(added: int) -> None:
    assert inputs.check_token_ids(np.array([[0, SIZE + added - 1]]), TEXT, added).tolist() == [[0, SIZE + added - 1]]
    for wrong in (-1, SIZE + added):
        with pytest.raises(EngineError, match=rf"expected ids in 0\.\.{SIZE + added - 1}"):
            inputs.check_token_ids(np.array([[1, wrong]]), TEXT, added)


@pytest.mark.parametrize("name", sorted(engine_toys.TOYS))
def test_texts_are_padded_where_padding_reaches_the_vectors(name: str) -> None:
    text = engine_toys.TOYS[name].text
    ids = np.full((2, 3), text.vocabulary_size - 1, np.int32)
    found = inputs.padded(ids, text)
    if not text.fixed_length:
        assert found is ids
    else:
        assert found.shape == (2, text.context_length)
        assert (found[:, 3:] == text.pad_id).all()
        assert found[:, :3].tolist() == ids.tolist()
        assert inputs.padded(found, text) is found


@pytest.mark.parametrize("most", [1, 7, 8, 9, 24, 1000])
def test_buckets_are_full_and_within_their_bound(most: int) -> None:
    ends = np.array([3, 0, 3, 7, 1, 3], np.int32)
    found = list(inputs.length_buckets(ends, most))
    rows = np.concatenate([each for each, _ in found])
    assert sorted(rows.tolist()) == list(range(6))
    assert ends[rows].tolist() == sorted(ends.tolist())
    for i, (each, tokens) in enumerate(found):
        assert tokens == ends[each].max() + 1
        assert len(each) == 1 or len(each) * tokens <= most
        if i + 1 < len(found):  # one more would not have fitted
            following = int(ends[found[i + 1][0][0]]) + 1
            assert (len(each) + 1) * following > most


def test_bfloat16_is_refused_on_an_old_graphics_card(monkeypatch: pytest.MonkeyPatch) -> None:
    torch = pytest.importorskip("torch")
    from tandem.engine.torch_device import torch_precision

    device = torch.device("cuda")
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: True)
    assert torch_precision(device, "bfloat16") == "bfloat16"
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: including_emulation)
    assert torch_precision(device, "float16") == "float16"
    assert torch_precision(device, "auto") == "float32"
    with pytest.raises(EngineError, match="precision: cuda computes in float32, float16, not in 'bfloat16'"):
        torch_precision(device, "bfloat16")
