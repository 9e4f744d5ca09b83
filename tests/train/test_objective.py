"""The objective of training: what each loss is made of, and how shares of processes sum to it."""

import math
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from support import toy
from support.training_toys import double_clip, sparse

from tandem.errors import ConfigError
from tandem.train.objective.device_batch import DeviceBatch
from tandem.train.objective.distillation import similarity_loss
from tandem.train.objective.objective import MAX_LOGIT_SCALE, ContrastiveObjective
from tandem.train.parallel.process import Gather, single_process
from tandem.train.recipe import Distillation, ObjectiveSettings, Recipe, Source


def _recipe(**changes: object) -> Recipe:
    return replace(Recipe("toy", "", toy.config(), (Source("x", per_batch=1),), 1), **changes)  # type: ignore[arg-type]


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
    objective = ContrastiveObjective(double_clip(), _recipe())
    images, texts = _unit(4, 12, 0), _unit(4, 12, 1)
    losses = objective.losses(images, texts, _batch())
    assert list(losses) == ["loss"]
    torch.testing.assert_close(losses["loss"], _cross_entropies(images, texts, objective.logit_scale))


def test_the_sigmoid_loss_begins_at_the_models_scale_and_bias() -> None:
    recipe = _recipe(objective=ObjectiveSettings("sigmoid"))
    clip = double_clip(logit_bias=True)
    objective = ContrastiveObjective(clip, recipe)
    assert objective.logit_scale is clip.logit_scale
    assert objective.logit_bias is clip.logit_bias
    images, texts = _unit(4, 12, 0), _unit(4, 12, 1)
    signs = 2 * torch.eye(4, dtype=torch.float64) - 1
    scale, bias = clip.logit_scale.exp(), clip.logit_bias
    by_hand = -F.logsigmoid(signs * (scale * images @ texts.T + bias)).sum() / 4
    torch.testing.assert_close(objective.losses(images, texts, _batch())["loss"], by_hand)
    with pytest.raises(ConfigError, match=r"model.logit_bias: expected true with the loss sigmoid"):
        ContrastiveObjective(double_clip(), recipe)


def test_classes_are_a_cross_entropy_over_their_texts_alone() -> None:
    objective = ContrastiveObjective(double_clip(), _recipe(objective=ObjectiveSettings(classes=0.5)))
    images, texts = _unit(4, 12, 0), _unit(7, 12, 1)  # 4 texts, 3 classes
    rows, labels = torch.tensor([0, 2]), torch.tensor([1, 2])
    batch = _batch(classes=3, labelled=rows, labels=labels, total_labelled=5)
    losses = objective.losses(images, texts, batch)
    wanted = F.cross_entropy(objective.logit_scale.exp() * images[rows] @ texts[4:].T, labels, reduction="sum") / 5
    torch.testing.assert_close(losses["classes"], wanted)
    torch.testing.assert_close(losses["loss"], losses["contrast"] + 0.5 * wanted)


def test_classes_of_one_source_do_not_compete_with_those_of_another() -> None:
    objective = ContrastiveObjective(double_clip(), _recipe(objective=ObjectiveSettings(classes=1.0)))
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
    objective = ContrastiveObjective(double_clip(), _recipe(objective=ObjectiveSettings(classes=1.0)))
    none = torch.empty(0, dtype=torch.int64)
    texts = _unit(7, 12, 1).requires_grad_()
    batch = _batch(classes=3, labelled=none, labels=none, total_labelled=5)
    losses = objective.losses(_unit(4, 12, 0), texts, batch)
    assert losses["classes"].item() == 0
    losses["loss"].backward()
    assert torch.isfinite(texts.grad).all()  # type: ignore[arg-type]


def test_a_step_in_which_no_image_has_a_class_has_no_loss_of_classes() -> None:
    objective = ContrastiveObjective(double_clip(), _recipe(objective=ObjectiveSettings(classes=1.0)))
    none = torch.empty(0, dtype=torch.int64)
    batch = _batch(classes=3, labelled=none, labels=none, total_labelled=0)
    losses = objective.losses(_unit(4, 12, 0), _unit(7, 12, 1), batch)
    assert set(losses) == {"loss"}
    assert math.isfinite(losses["loss"].item())


def test_the_map_to_a_teachers_space_begins_uniform_at_the_usual_scale() -> None:
    """Within 1 / sqrt(d), as `nn.Linear` has it."""
    linear = ContrastiveObjective(double_clip(), _recipe(distillation=Distillation(teacher="t")), 500).to_teacher
    assert linear is not None
    for parameter in (linear.weight, linear.bias):
        assert 0.95 < float(parameter.abs().max()) * 12**0.5 <= 1
        assert float(parameter.std()) == pytest.approx((12 * 3) ** -0.5, rel=0.1)


def test_a_text_encoder_teaches_texts_and_words() -> None:
    recipe = _recipe(distillation=Distillation(teacher="t", weight=2.0, soften=0.0))
    objective = ContrastiveObjective(double_clip(), recipe, teacher_width=5)
    assert objective.to_teacher is not None
    again = ContrastiveObjective(double_clip(), recipe, teacher_width=5)
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
        ContrastiveObjective(double_clip(), _recipe(distillation=Distillation(teacher="t", soften=share)), 2).losses(
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
        double_clip(), _recipe(distillation=Distillation(model="x", model_weight=3.0)), teacher_scale=30.0
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
        double_clip(), _recipe(objective=ObjectiveSettings(classes=class_weight), distillation=chosen), 6, teacher_scale
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
    objective = ContrastiveObjective(double_clip(), recipe, 5, 25.0)
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
    clip = double_clip()
    objective = ContrastiveObjective(clip, _recipe())
    assert objective.logit_scale is clip.logit_scale
    with torch.no_grad():
        objective.logit_scale.fill_(9.0)
    objective.cap()
    assert clip.logit_scale.item() == pytest.approx(math.log(100))
    assert pytest.approx(math.log(100)) == MAX_LOGIT_SCALE
