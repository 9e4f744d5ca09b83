"""Towers: packing and dropping change nothing they should not."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from support import toy
from support.training_toys import double_clip

from tandem.errors import ConfigError
from tandem.towers.parts.torch import attend, quick_gelu
from tandem.train.model.packing import pack
from tandem.train.model.towers import Towers

TEXTS = ["a cat", "do cats dream of a very long text", "b", "cat " * 20, "a dog and a cat", "b"]


def _towers(vision: str = "vit") -> Towers:
    return Towers(double_clip(vision), "float32").double()


def _ids() -> torch.Tensor:
    return torch.from_numpy(toy.tokenizer()(TEXTS, toy.CONTEXT))


def _pixels(n: int = 3) -> torch.Tensor:
    return torch.randint(0, 256, (n, 32, 32, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))


def _gradients(module: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {name: p.grad for name, p in module.named_parameters() if p.grad is not None}


# --- packing ----------------------------------------------------------------------------------------------------


def test_every_token_is_in_one_row_at_its_place() -> None:
    words = toy.tokenizer()
    ids = _ids().numpy()
    packed = pack(ids, words.end_id, toy.CONTEXT)
    for i, row in enumerate(ids):
        own = row[: (row == words.end_id).argmax() + 1]
        assert np.array_equal(packed.ids[packed.text == i], own)
        assert np.array_equal(packed.positions[packed.text == i], np.arange(len(own)))
        assert packed.ids.flatten()[packed.ends[i]] == words.end_id
        assert packed.text.flatten()[packed.ends[i]] == i
    assert packed.ids.shape[1] <= toy.CONTEXT


def test_captions_leave_little_room_unused() -> None:
    draw = np.random.default_rng(0)
    ids = np.ones((256, 40), np.int32)
    for row, end in zip(ids, draw.integers(5, 40, 256), strict=True):
        row[end:] = 9
    assert (pack(ids, 9, 77).text < 0).mean() < 0.05


def test_packed_texts_have_the_vectors_and_gradients_of_texts_alone() -> None:
    towers, clip = _towers(), double_clip()
    ids = _ids()
    texts = towers(None, ids)[1]
    singly = [
        clip.encode_text(row[: int((row == clip.config.text.end_id).int().argmax()) + 1][None].long()) for row in ids
    ]
    expected = F.normalize(torch.cat(singly), dim=-1)
    torch.testing.assert_close(texts, expected, rtol=0, atol=1e-12)
    weight = torch.randn(texts.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    (texts * weight).sum().backward()
    (expected * weight).sum().backward()
    wanted, got = _gradients(clip), _gradients(towers.clip)
    assert wanted.keys() == got.keys()
    for name, gradient in wanted.items():
        torch.testing.assert_close(got[name], gradient, rtol=1e-9, atol=1e-12)


def test_what_fills_a_row_changes_no_vector() -> None:
    clip = double_clip()
    packed = pack(_ids().numpy(), clip.config.text.end_id, 50)
    filling = packed.text < 0
    assert filling.any()
    mask = torch.from_numpy(np.tril(packed.text[:, :, None] == packed.text[:, None]))[:, None]
    vectors = []
    for fill in (0, 7):
        ids = torch.from_numpy(np.where(filling, fill, packed.ids))
        vectors.append(clip.encode_packed(ids, torch.from_numpy(packed.positions), mask, torch.from_numpy(packed.ends)))
    assert torch.equal(vectors[0], vectors[1])


# --- the towers -------------------------------------------------------------------------------------------------


def test_the_chosen_token_has_the_state_and_gradient_it_has_among_all() -> None:
    x = torch.randn(3, 17, 24, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    one, other = (double_clip().visual.transformer for _ in range(2))
    got = one(x, causal=False, chosen=torch.arange(3) * 17)
    wanted = other(x, causal=False)[:, 0]
    torch.testing.assert_close(got, wanted, rtol=0, atol=1e-12)
    got.square().sum().backward()
    wanted.square().sum().backward()
    for name, gradient in _gradients(other).items():
        torch.testing.assert_close(_gradients(one)[name], gradient, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("causal", [True, False])
def test_attention_spelt_out_is_the_fused_one(causal: bool) -> None:
    q, k, v = torch.randn(3, 2, 4, 9, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    fused = F.scaled_dot_product_attention(q, k, v, is_causal=causal)
    torch.testing.assert_close(attend(q, k, v, causal), fused)
    mask = torch.rand(2, 1, 9, 9, generator=torch.Generator().manual_seed(1)) < 0.5
    mask = mask | torch.eye(9, dtype=torch.bool)
    fused = F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
    torch.testing.assert_close(attend(q, k, v, causal, mask), fused)


def test_quick_gelu_has_the_formulas_value_and_gradient() -> None:
    x = torch.linspace(-8, 8, 33, dtype=torch.float64, requires_grad=True)
    torch.testing.assert_close(quick_gelu(x), x * torch.sigmoid(1.702 * x))
    assert torch.autograd.gradcheck(quick_gelu, x)


def test_all_patches_kept_is_no_dropout_and_one_left_out_reaches_nothing() -> None:
    towers, pixels = _towers(), _pixels()
    every = torch.arange(16).expand(3, -1)
    whole = towers(pixels, None)[0]
    torch.testing.assert_close(towers(pixels, None, every)[0], whole, rtol=0, atol=1e-12)
    some = every[:, [0, 3, 5, 9]]
    before = towers(pixels, None, some)[0]
    changed = pixels.clone()
    changed[:, :8, 8:16] = 255 - changed[:, :8, 8:16]  # patch 1 of a grid of 4 x 4
    assert torch.equal(towers(changed, None, some)[0], before)
    assert (before - whole).abs().max() > 1e-3
    changed[:, :8, :8] = 255 - changed[:, :8, :8]  # patch 0 is kept
    assert (towers(changed, None, some)[0] - before).abs().max() > 1e-3


def test_no_patch_kept_leaves_the_class_token() -> None:
    towers = _towers()
    vectors = towers(_pixels(), None, torch.empty(3, 0, dtype=torch.int64))[0]
    assert torch.isfinite(vectors).all()
    torch.testing.assert_close(vectors[0], vectors[1])


def test_patch_dropout_of_a_resnet_is_refused() -> None:
    with pytest.raises(ConfigError, match="patch_dropout"):
        _towers("resnet")(_pixels(), None, torch.zeros(3, 1, dtype=torch.int64))


@pytest.mark.parametrize("vision", ["vit", "resnet"])
def test_pixels_are_normalised_as_the_preprocessing_says(vision: str) -> None:
    towers = _towers(vision).eval()
    preprocessing = towers.clip.config.preprocessing
    pixels = _pixels()
    mean, std = (torch.tensor(v, dtype=torch.float32).double() for v in (preprocessing.mean, preprocessing.std))
    normalised = ((pixels / torch.tensor(255.0, dtype=torch.float64) - mean) / std).permute(0, 3, 1, 2)
    wanted = F.normalize(towers.clip.encode_image(normalised), dim=-1)
    torch.testing.assert_close(towers(pixels, None)[0], wanted, rtol=0, atol=1e-6)


@pytest.mark.parametrize("vision", ["vit", "resnet"])
def test_bfloat16_computes_the_same_but_for_rounding_and_leaves_weights_float32(vision: str) -> None:
    exact = Towers(double_clip(vision).float(), "float32").eval()
    rounded = Towers(double_clip(vision).float(), "bfloat16").eval()
    for a, b in zip(exact(_pixels(), _ids()), rounded(_pixels(), _ids()), strict=True):
        assert b.dtype == torch.float32
        assert (a * b).sum(-1).min() > 0.999
        assert not torch.equal(a, b)
    rounded(_pixels(), _ids())[0].sum().backward()
    assert {p.dtype for p in rounded.parameters()} == {torch.float32}
    assert {g.dtype for g in _gradients(rounded).values()} == {torch.float32}


def test_either_side_may_be_left_out() -> None:
    towers = _towers()
    assert towers(None, _ids())[0] is None
    assert towers(_pixels(), None)[1] is None
