"""Towers: packing and dropping change nothing they should not. The objective: what each loss is made of."""

import math
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from support import toy
from support.training_toys import sparse

from tandem.errors import ConfigError
from tandem.nn import CLIP, from_arrays
from tandem.towers.parts.torch import attend, quick_gelu
from tandem.train.model.packing import pack
from tandem.train.model.towers import Towers
from tandem.train.objective.device_batch import DeviceBatch
from tandem.train.objective.distillation import similarity_loss
from tandem.train.objective.objective import MAX_LOGIT_SCALE, ContrastiveObjective
from tandem.train.parallel.process import Gather, single_process
from tandem.train.recipe import Distillation, ObjectiveSettings, Recipe, Source

TEXTS = ["a cat", "do cats dream of a very long text", "b", "cat " * 20, "a dog and a cat", "b"]


def _clip(vision: str = "vit", **changes: Any) -> CLIP:
    checkpoint = toy.checkpoint(vision, activation="quick_gelu", **changes)
    return from_arrays(checkpoint.config, checkpoint.tensors).double()


def _towers(vision: str = "vit") -> Towers:
    return Towers(_clip(vision), "float32").double()


def _ids() -> torch.Tensor:
    return torch.from_numpy(toy.tokenizer()(TEXTS, toy.CONTEXT))


def _pixels(n: int = 3) -> torch.Tensor:
    return torch.randint(0, 256, (n, 32, 32, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))


def _gradients(module: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {name: p.grad for name, p in module.named_parameters() if p.grad is not None}


def _recipe(**changes: object) -> Recipe:
    return replace(Recipe("toy", "", toy.config(), (Source("x", per_batch=1),), 1), **changes)  # type: ignore[arg-type]


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
    towers, clip = _towers(), _clip()
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
    clip = _clip()
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
    one, other = (_clip().visual.transformer for _ in range(2))
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
    exact = Towers(_clip(vision).float(), "float32").eval()
    rounded = Towers(_clip(vision).float(), "bfloat16").eval()
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


# --- objective ------------------------------------------------------------------------------------------------------


def _unit(rows: int, width: int, seed: int) -> torch.Tensor:
    draw = torch.Generator().manual_seed(seed)
    return F.normalize(torch.randn(rows, width, generator=draw, dtype=torch.float64), dim=-1)


def _batch(**changes: object) -> DeviceBatch:
    nothing = torch.empty(0)
    batch = DeviceBatch(nothing, nothing, texts=4, total_texts=4)
    return replace(batch, **changes)  # type: ignore[arg-type]


def _cross_entropies(images: torch.Tensor, texts: torch.Tensor, scale: torch.Tensor) -> torch.Tensor:
    logits = scale.exp() * images @ texts.T
    labels = torch.arange(len(logits))
    return (F.cross_entropy(logits, labels) + F.cross_entropy(logits.T, labels)) / 2


def test_without_more_the_loss_is_the_contrastive_one() -> None:
    objective = ContrastiveObjective(_clip(), _recipe())
    images, texts = _unit(4, 12, 0), _unit(4, 12, 1)
    losses = objective.losses(images, texts, _batch())
    assert list(losses) == ["loss"]
    torch.testing.assert_close(losses["loss"], _cross_entropies(images, texts, objective.logit_scale))


def test_the_sigmoid_loss_begins_at_the_models_scale_and_bias() -> None:
    recipe = _recipe(objective=ObjectiveSettings("sigmoid"))
    clip = _clip(logit_bias=True)
    objective = ContrastiveObjective(clip, recipe)
    assert objective.logit_scale is clip.logit_scale
    assert objective.logit_bias is clip.logit_bias
    images, texts = _unit(4, 12, 0), _unit(4, 12, 1)
    signs = 2 * torch.eye(4, dtype=torch.float64) - 1
    scale, bias = clip.logit_scale.exp(), clip.logit_bias
    by_hand = -F.logsigmoid(signs * (scale * images @ texts.T + bias)).sum() / 4
    torch.testing.assert_close(objective.losses(images, texts, _batch())["loss"], by_hand)
    with pytest.raises(ConfigError, match=r"model.logit_bias: expected true with the loss sigmoid"):
        ContrastiveObjective(_clip(), recipe)


def test_classes_are_a_cross_entropy_over_their_texts_alone() -> None:
    objective = ContrastiveObjective(_clip(), _recipe(objective=ObjectiveSettings(classes=0.5)))
    images, texts = _unit(4, 12, 0), _unit(7, 12, 1)  # 4 texts, 3 classes
    rows, labels = torch.tensor([0, 2]), torch.tensor([1, 2])
    batch = _batch(classes=3, labelled=rows, labels=labels, total_labelled=5)
    losses = objective.losses(images, texts, batch)
    wanted = F.cross_entropy(objective.logit_scale.exp() * images[rows] @ texts[4:].T, labels, reduction="sum") / 5
    torch.testing.assert_close(losses["classes"], wanted)
    torch.testing.assert_close(losses["loss"], losses["contrast"] + 0.5 * wanted)


def test_classes_of_one_source_do_not_compete_with_those_of_another() -> None:
    objective = ContrastiveObjective(_clip(), _recipe(objective=ObjectiveSettings(classes=1.0)))
    images, texts = _unit(4, 12, 0), _unit(9, 12, 1)  # 4 texts, 2 and 3 classes
    rows, labels = torch.tensor([0, 2, 3]), torch.tensor([1, 4, 2])
    batch = _batch(
        classes=5, labelled=rows, labels=labels, total_labelled=3, class_sources=torch.tensor([0, 0, 3, 3, 3])
    )
    logits = objective.logit_scale.exp() * images[rows] @ texts[4:].T
    first = F.cross_entropy(logits[:1, :2], torch.tensor([1]), reduction="sum")
    others = F.cross_entropy(logits[1:, 2:], torch.tensor([2, 0]), reduction="sum")
    torch.testing.assert_close(objective.losses(images, texts, batch)["classes"], (first + others) / 3)


def test_a_share_without_images_of_a_class_is_zero_with_gradient() -> None:
    objective = ContrastiveObjective(_clip(), _recipe(objective=ObjectiveSettings(classes=1.0)))
    none = torch.empty(0, dtype=torch.int64)
    texts = _unit(7, 12, 1).requires_grad_()
    batch = _batch(classes=3, labelled=none, labels=none, total_labelled=5)
    losses = objective.losses(_unit(4, 12, 0), texts, batch)
    assert losses["classes"].item() == 0
    losses["loss"].backward()
    assert torch.isfinite(texts.grad).all()  # type: ignore[arg-type]


def test_a_step_in_which_no_image_has_a_class_has_no_loss_of_classes() -> None:
    objective = ContrastiveObjective(_clip(), _recipe(objective=ObjectiveSettings(classes=1.0)))
    none = torch.empty(0, dtype=torch.int64)
    batch = _batch(classes=3, labelled=none, labels=none, total_labelled=0)
    losses = objective.losses(_unit(4, 12, 0), _unit(7, 12, 1), batch)
    assert set(losses) == {"loss"}
    assert math.isfinite(losses["loss"].item())


def test_the_map_to_a_teachers_space_begins_uniform_at_the_usual_scale() -> None:
    """Within 1 / sqrt(d), as `nn.Linear` has it."""
    linear = ContrastiveObjective(_clip(), _recipe(distillation=Distillation(teacher="t")), 500).to_teacher
    assert linear is not None
    for parameter in (linear.weight, linear.bias):
        assert 0.95 < float(parameter.abs().max()) * 12**0.5 <= 1
        assert float(parameter.std()) == pytest.approx((12 * 3) ** -0.5, rel=0.1)


def test_a_text_encoder_teaches_texts_and_words() -> None:
    recipe = _recipe(distillation=Distillation(teacher="t", weight=2.0, soften=0.0))
    objective = ContrastiveObjective(_clip(), recipe, teacher_width=5)
    assert objective.to_teacher is not None
    again = ContrastiveObjective(_clip(), recipe, teacher_width=5)
    assert torch.equal(objective.to_teacher.weight, again.to_teacher.weight)  # type: ignore[union-attr]
    images, texts, wanted = _unit(4, 12, 0), _unit(6, 12, 1), _unit(6, 5, 2)
    losses = objective.losses(images, texts, _batch(words=2, total_words=2, teacher_vectors=wanted))
    by_hand = (1 - F.cosine_similarity(objective.to_teacher(texts), wanted)).mean()
    torch.testing.assert_close(losses["distance"], by_hand)
    torch.testing.assert_close(losses["loss"], losses["contrast"] + 2 * by_hand)


def test_softened_targets_reach_the_contrastive_loss() -> None:
    near = torch.tensor([[1.0, 0], [1.0, 0.1], [0, 1], [0.1, 1]], dtype=torch.float64)
    batch = _batch(teacher_vectors=F.normalize(near, dim=-1))
    texts = _unit(4, 12, 1)
    images = texts[[1, 0, 3, 2]]  # each image stands at its twin's text
    hard, soft = (
        ContrastiveObjective(_clip(), _recipe(distillation=Distillation(teacher="t", soften=share)), 2).losses(
            images, texts, batch
        )
        for share in (0.0, 0.5)
    )
    assert soft["contrast"] < hard["contrast"]


def test_a_clip_teacher_is_matched_where_it_sees_the_same() -> None:
    images, texts, scale = _unit(4, 12, 0), _unit(5, 12, 1), torch.tensor(20.0, dtype=torch.float64)
    same = similarity_loss((images, texts, scale), (images, texts, 20.0))
    assert same.item() == pytest.approx(0, abs=1e-12)
    wanted_images, wanted_texts = _unit(4, 7, 2), _unit(5, 7, 3)
    rows = (30 * wanted_images @ wanted_texts.T, scale * images @ texts.T)
    by_hand = 0.0
    for wanted, logits in (rows, (rows[0].T, rows[1].T)):
        p = wanted.softmax(1)
        by_hand += (p * (p.log() - logits.log_softmax(1))).sum(1).mean().item() / 2
    found = similarity_loss((images, texts, scale), (wanted_images, wanted_texts, 30.0))
    assert found.item() == pytest.approx(by_hand)
    objective = ContrastiveObjective(
        _clip(), _recipe(distillation=Distillation(model="x", model_weight=3.0)), teacher_scale=30.0
    )
    batch = _batch(texts=5, total_texts=5, targets=sparse(torch.ones(4, 5, dtype=torch.float64)),
                   teacher_images=wanted_images, teacher_texts=wanted_texts)  # fmt: skip
    losses = objective.losses(images, texts, batch)
    torch.testing.assert_close(losses["loss"], losses["contrast"] + 3 * losses["teacher"])


def _log_softmax(logits: np.ndarray) -> np.ndarray:
    return logits - np.log(np.exp(logits).sum(1, keepdims=True))  # type: ignore[no-any-return]


def test_the_whole_objective_is_the_formula_written_out() -> None:
    """Every term at once, in numpy: soft targets, both teachers, classes, their weights and their denominators."""
    n, m, words, classes, scale, teacher_scale = 4, 5, 2, 3, 7.0, 11.0
    total_texts, total_words, total_labelled = 9, 4, 6  # other processes have the rest
    share, temperature, weight, model_weight, class_weight = 0.3, 0.2, 1.7, 2.3, 0.6
    chosen = Distillation(teacher="t", weight=weight, soften=share, temperature=temperature, model="m",
                          model_weight=model_weight)  # fmt: skip
    objective = ContrastiveObjective(
        _clip(), _recipe(objective=ObjectiveSettings(classes=class_weight), distillation=chosen), 6, teacher_scale
    )
    assert objective.to_teacher is not None
    with torch.no_grad():
        objective.logit_scale.fill_(math.log(scale))
    images, texts = _unit(n, 12, 0), _unit(m + words + classes, 12, 1)
    taught, seen, read = _unit(m + words, 6, 2), _unit(n, 8, 3), _unit(m, 8, 4)
    targets = torch.tensor([[1, 0, 0, 0, 0], [0, 1, 1, 0, 0], [0, 1, 0, 1, 0], [0, 0, 0, 0, 1.0]]).double()
    rows, labels = [0, 1, 3], [2, 0, 2]
    found = objective.losses(images, texts, _batch(
        texts=m, total_texts=total_texts, words=words, total_words=total_words, targets=sparse(targets),
        teacher_vectors=taught, teacher_images=seen, teacher_texts=read, classes=classes, labelled=torch.tensor(rows),
        labels=torch.tensor(labels), total_labelled=total_labelled,
    ))  # fmt: skip

    x, t, vectors, hard = images.numpy(), texts.numpy(), taught.numpy(), targets.numpy()
    logits = scale * x @ t[:m].T
    hard = hard / hard.sum(1, keepdims=True)
    near = hard @ vectors[:m] @ vectors[:m].T / temperature
    soft = (1 - share) * hard + share * np.exp(_log_softmax(near))
    by_image = -(soft * _log_softmax(logits)).sum() / n
    by_text = -(soft / soft.sum(0) * _log_softmax(logits.T).T).sum() / m
    contrast = (by_image + by_text) / 2
    linear = objective.to_teacher
    mapped = t[: m + words] @ linear.weight.detach().numpy().T + linear.bias.detach().numpy()
    mapped /= np.linalg.norm(mapped, axis=1, keepdims=True)
    distance = (1 - (mapped * vectors).sum(1)).sum() / (total_texts + total_words)
    wanted = teacher_scale * seen.numpy() @ read.numpy().T
    divergences = [
        (np.exp(_log_softmax(a)) * (_log_softmax(a) - _log_softmax(b))).sum() / len(a)
        for a, b in ((wanted, logits), (wanted.T, logits.T))
    ]
    teacher = sum(divergences) / 2
    cross_entropies = -_log_softmax(scale * x[rows] @ t[m + words :].T)[np.arange(len(rows)), labels]
    by_class = cross_entropies.sum() / total_labelled
    loss = contrast + weight * distance + model_weight * teacher + class_weight * by_class
    by_hand = {"loss": loss, "contrast": contrast, "distance": distance, "teacher": teacher, "classes": by_class}
    assert {name: value.item() for name, value in found.items()} == pytest.approx(by_hand, rel=1e-10)


def test_shares_of_two_processes_sum_to_the_loss_on_the_whole_batch() -> None:
    recipe = _recipe(
        objective=ObjectiveSettings(classes=0.7),
        distillation=Distillation(teacher="t", soften=0.3, model="m", weight=2.0),
    )
    objective = ContrastiveObjective(_clip(), recipe, 5, 25.0)
    images, texts, taught = _unit(5, 12, 0), _unit(5, 12, 1), _unit(5, 5, 2)
    seen, read, classes = _unit(5, 7, 3), _unit(5, 7, 4), _unit(3, 12, 5)
    labels = torch.tensor([0, 2, 1, 1, 0])

    def share(rows: slice, gather: Gather) -> torch.Tensor:
        own = labels[rows]
        batch = _batch(
            texts=len(own), total_texts=5,
            teacher_vectors=taught[rows], total_words=0, teacher_images=seen[rows], teacher_texts=read[rows], classes=3,
            labelled=torch.arange(len(own)), labels=own, total_labelled=5,
        )  # fmt: skip
        return objective.losses(images[rows], torch.cat([texts[rows], classes]), batch, gather)["loss"]

    whole = share(slice(0, 5), single_process().gather)
    said: list[torch.Tensor | None] = [None, None]
    turn = threading.Barrier(2)

    def on(rank: int) -> torch.Tensor:
        def gather(x: torch.Tensor) -> tuple[torch.Tensor, int]:
            said[rank] = x
            turn.wait(10)
            joined = torch.cat([y for y in said if y is not None])
            turn.wait(10)
            return joined, 0 if rank == 0 else len(joined) - len(x)

        return share((slice(0, 2), slice(2, 5))[rank], gather)

    with ThreadPoolExecutor(2) as pool:
        torch.testing.assert_close(sum(pool.map(on, range(2))), whole)


def test_the_scale_is_the_models_own_and_capped() -> None:
    clip = _clip()
    objective = ContrastiveObjective(clip, _recipe())
    assert objective.logit_scale is clip.logit_scale
    with torch.no_grad():
        objective.logit_scale.fill_(9.0)
    objective.cap()
    assert clip.logit_scale.item() == pytest.approx(math.log(100))
    assert pytest.approx(math.log(100)) == MAX_LOGIT_SCALE
