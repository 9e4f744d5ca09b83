"""The objective against its definition, written out, in float64."""

import itertools
import math

import pytest
import torch
import torch.nn.functional as F

from tandem.train.loss import contrastive_loss, distillation_loss, soften
from tandem.train.schedule import learning_rate


def _vectors(n: int, seed: int) -> torch.Tensor:
    return F.normalize(torch.randn(n, 8, generator=torch.Generator().manual_seed(seed), dtype=torch.float64), dim=-1)


SCALE = torch.tensor(2.0, dtype=torch.float64)


def test_it_is_the_mean_of_both_cross_entropies() -> None:
    images, texts = _vectors(5, 1), _vectors(5, 2)
    logits = math.exp(2.0) * images @ texts.T
    by_hand = 0.0
    for k in range(5):
        by_hand -= (logits[k, k] - torch.logsumexp(logits[k], 0)) / 5 / 2
        by_hand -= (logits[k, k] - torch.logsumexp(logits[:, k], 0)) / 5 / 2
    torch.testing.assert_close(contrastive_loss(images, texts, SCALE), torch.as_tensor(by_hand))
    diagonal = torch.eye(5, dtype=torch.float64)
    torch.testing.assert_close(contrastive_loss(images, texts, SCALE, diagonal), torch.as_tensor(by_hand))


def test_pictures_that_share_a_sentence_share_its_target() -> None:
    images, texts = _vectors(3, 1), _vectors(2, 2)
    targets = torch.tensor([[1.0, 0], [1, 0], [0, 1]], dtype=torch.float64)
    logits = math.exp(2.0) * images @ texts.T
    rows, columns = logits.log_softmax(1), logits.log_softmax(0)
    by_image = -(rows[0, 0] + rows[1, 0] + rows[2, 1]) / 3
    by_text = -((columns[0, 0] + columns[1, 0]) / 2 + columns[2, 1]) / 2
    torch.testing.assert_close(contrastive_loss(images, texts, SCALE, targets), (by_image + by_text) / 2)


def test_what_gather_joins_is_what_the_loss_sees() -> None:
    images, texts = _vectors(6, 1), _vectors(6, 2)
    joined = contrastive_loss(
        images[:3], texts[:3], SCALE, gather=lambda x: torch.cat([x, images[3:] if x.equal(images[:3]) else texts[3:]])
    )
    torch.testing.assert_close(joined, contrastive_loss(images, texts, SCALE))


def test_softening_moves_its_share_toward_near_sentences() -> None:
    sentences = F.normalize(torch.tensor([[1.0, 0, 0], [1, 0.2, 0], [0, 0, 1]]), dim=-1)
    soft = soften(torch.eye(3), sentences, share=0.4, temperature=0.1)
    torch.testing.assert_close(soft.sum(1), torch.ones(3))
    assert soft[0, 0] > 0.6
    assert soft[0, 1] > 100 * soft[0, 2]
    torch.testing.assert_close(soften(torch.eye(3), sentences, 0.0, 0.1), torch.eye(3))


def test_distillation_is_zero_at_the_teacher_whatever_the_length() -> None:
    teachers = _vectors(4, 1)
    assert distillation_loss(3 * teachers, teachers).item() == pytest.approx(0, abs=1e-12)
    assert distillation_loss(-teachers, teachers).item() == pytest.approx(2)


def test_the_learning_rate_warms_up_and_falls_to_zero() -> None:
    rates = [learning_rate(step, 100, 10, 1.0) for step in range(101)]
    assert rates[0] == pytest.approx(0.1)
    assert rates[9] == pytest.approx(1.0)
    assert rates[55] == pytest.approx(0.5)
    assert rates[100] == pytest.approx(0.0)
    assert all(a >= b for a, b in itertools.pairwise(rates[10:]))
