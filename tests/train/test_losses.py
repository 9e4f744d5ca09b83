"""The objectives against their definitions, written out with the whole matrix, in float64."""

import math
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from support.training_toys import sparse
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from tandem.train.objective import blocks
from tandem.train.objective.distillation import distillation_loss, similarity_loss
from tandem.train.objective.losses import contrastive_loss, sigmoid_loss
from tandem.train.objective.targets import SoftTargets, SparseTargets
from tandem.train.parallel.process import single_process


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Blocks that the tests' matrices do not fill evenly."""
    monkeypatch.setattr(blocks, "CPU_BLOCK", 4)


def vectors(n: int, seed: int, dtype: torch.dtype = torch.float64) -> Tensor:
    rows = torch.randn(n, 8, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return F.normalize(rows, dim=-1).to(dtype).requires_grad_()


def scalar(value: float, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.tensor(value, dtype=dtype, requires_grad=True)


def dense(n: int, m: int) -> Tensor:
    return torch.rand(n, m, generator=torch.Generator().manual_seed(5)).round(decimals=1).double() + 0.01


def plain_contrast(images: Tensor, texts: Tensor, scale: Tensor, targets: Tensor | None) -> Tensor:
    logits = scale.exp() * images @ texts.T
    if targets is None:
        targets = torch.eye(len(logits))
    targets = targets.to(logits.dtype)
    rows = -(targets / targets.sum(1, keepdim=True) * logits.log_softmax(1)).sum(1).mean()
    columns = -(targets / targets.sum(0, keepdim=True) * logits.log_softmax(0)).sum(0).mean()
    return (rows + columns) / 2


def plain_sigmoid(images: Tensor, texts: Tensor, scale: Tensor, bias: Tensor, targets: Tensor | None) -> Tensor:
    logits = scale.exp() * images @ texts.T + bias
    if targets is None:
        targets = torch.eye(len(logits))
    return F.binary_cross_entropy_with_logits(logits, targets.to(logits.dtype), reduction="sum") / len(logits)


def same_gradients(ours: Callable[..., Tensor], plain: Callable[..., Tensor], *inputs: Tensor) -> None:
    found, wanted = ours(*inputs), plain(*inputs)
    torch.testing.assert_close(found, wanted, rtol=1e-12, atol=1e-12)
    weight = 1.7  # of the loss in a sum: what comes from above must reach the gradient
    for a, b in zip(
        torch.autograd.grad(weight * found, inputs), torch.autograd.grad(weight * wanted, inputs), strict=True
    ):
        torch.testing.assert_close(a, b, rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize("scale", [0.0, 2.66, math.log(100), math.log(3000)])
def test_contrast_and_its_gradient_are_those_of_the_whole_matrix(scale: float) -> None:
    same_gradients(
        contrastive_loss,
        lambda *x: plain_contrast(*x, None),
        vectors(10, 1),
        vectors(10, 2),
        scalar(scale),
    )


@pytest.mark.parametrize("scale", [2.66, math.log(3000)])
def test_contrast_with_dense_targets(scale: float) -> None:
    targets = dense(10, 7)
    same_gradients(
        lambda *x: contrastive_loss(*x, sparse(targets)),
        lambda *x: plain_contrast(*x, targets),
        vectors(10, 1), vectors(7, 2), scalar(scale),
    )  # fmt: skip


@pytest.mark.parametrize("targets", [None, dense(9, 9), dense(9, 6)])
def test_the_sigmoid_loss_and_its_gradient_are_those_of_the_whole_matrix(targets: Tensor | None) -> None:
    texts = vectors(9 if targets is None else targets.shape[1], 2)
    same_gradients(
        lambda *x: sigmoid_loss(*x, None if targets is None else sparse(targets)),
        lambda *x: plain_sigmoid(*x, targets),
        vectors(9, 1), texts, scalar(2.3), scalar(-3.0),
    )  # fmt: skip


@pytest.mark.slow
def test_gradients_against_differences() -> None:
    inputs = (vectors(6, 1), vectors(6, 2), scalar(2.0))
    assert torch.autograd.gradcheck(contrastive_loss, inputs)
    assert torch.autograd.gradcheck(lambda *x: contrastive_loss(*x, sparse(dense(6, 6))), inputs)
    assert torch.autograd.gradcheck(sigmoid_loss, (*inputs, scalar(-1.0)))


@pytest.mark.parametrize(("dtype", "factor"), [(torch.float32, 81), (torch.float32, 100), (torch.float64, 700)])
def test_a_row_far_below_the_others_is_not_lost(dtype: torch.dtype, factor: float) -> None:
    """Its exponentials vanish beside those of the other rows, or lose their digits: its own offset must be taken."""
    far = torch.zeros(6, 8, dtype=torch.float64)
    far[:, 0] = 1
    images = far.clone()
    images[3, 0] = -1
    leaves = [x.to(dtype).requires_grad_() for x in (images, far + 1e-3 * torch.arange(6)[:, None])]
    scale = math.log(factor)
    if dtype == torch.float64:
        same_gradients(contrastive_loss, lambda *x: plain_contrast(*x, None), *leaves, scalar(scale))
    found = contrastive_loss(*leaves, scalar(scale, dtype))
    wanted = plain_contrast(*(x.double() for x in leaves), scalar(scale), None)
    torch.testing.assert_close(found.double(), wanted, rtol=1e-5, atol=1e-5)


def test_only_what_learns_gets_a_gradient() -> None:
    images, texts, scale = vectors(6, 1).detach(), vectors(6, 2), scalar(2.0)
    found = torch.autograd.grad(contrastive_loss(images, texts, scale), (texts, scale))
    wanted = torch.autograd.grad(plain_contrast(images, texts, scale, None), (texts, scale))
    torch.testing.assert_close(found, wanted, rtol=1e-11, atol=1e-12)
    texts = texts.detach()
    (found_scale,) = torch.autograd.grad(contrastive_loss(images, texts, scale), scale)
    (wanted_scale,) = torch.autograd.grad(plain_contrast(images, texts, scale, None), scale)
    torch.testing.assert_close(found_scale, wanted_scale)
    bias = scalar(-2.0)
    (found_bias,) = torch.autograd.grad(sigmoid_loss(images, texts, scale.detach(), bias), bias)
    (wanted_bias,) = torch.autograd.grad(plain_sigmoid(images, texts, scale, bias, None), bias)
    torch.testing.assert_close(found_bias, wanted_bias)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_autocast_and_half_vectors_are_computed_in_float32(dtype: torch.dtype) -> None:
    images, texts, scale = vectors(16, 1, dtype), vectors(16, 2, dtype), scalar(math.log(100), torch.float32)
    with torch.autocast("cpu", torch.bfloat16):
        loss = contrastive_loss(images, texts, scale)
        loss.backward()
        bias = scalar(-10.0, torch.float32)
        other = sigmoid_loss(images, texts, scale, bias)
        other.backward()
    exact = plain_contrast(images.double(), texts.double(), scale.double(), None)
    assert loss.dtype == other.dtype == torch.float32
    torch.testing.assert_close(loss.double(), exact, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(
        other.double(), plain_sigmoid(images.double(), texts.double(), scale.double(), bias.double(), None),
        rtol=1e-5, atol=1e-5,
    )  # fmt: skip
    assert images.grad is not None
    assert images.grad.dtype == dtype


def test_shares_of_two_processes_sum_to_the_whole() -> None:
    """Each process in turn, with a gather that hands it what the others have."""
    images, texts, scale, bias = vectors(7, 1), vectors(5, 2), scalar(2.0), scalar(-1.0)
    targets, cuts = dense(7, 5), ((slice(0, 4), slice(0, 2)), (slice(4, 7), slice(2, 5)))
    logits = (scale.exp() * images @ texts.T).detach()
    parts = torch.stack([logits[rows].logsumexp(0) for rows, _ in cuts])

    def gathering(rows: slice, columns: slice) -> Callable[[Tensor], tuple[Tensor, int]]:
        def gather(x: Tensor) -> tuple[Tensor, int]:
            if x.shape == texts[columns].shape and x.equal(texts[columns]):
                return texts, columns.start
            assert x.shape == (1, 5)
            return parts, 0

        return gather

    shares = [contrastive_loss(images[i], texts[j], scale, sparse(targets, i), gathering(i, j)) for i, j in cuts]
    torch.testing.assert_close(sum(shares), plain_contrast(images, texts, scale, targets))
    shares = [sigmoid_loss(images[i], texts[j], scale, bias, sparse(targets, i), gathering(i, j)) for i, j in cuts]
    torch.testing.assert_close(sum(shares), plain_sigmoid(images, texts, scale, bias, targets))


def test_without_targets_every_image_needs_its_text() -> None:
    with pytest.raises(ValueError, match="5 images and 4 texts"):
        contrastive_loss(vectors(5, 1), vectors(4, 2), scalar(1.0))


def plain_soft(targets: Tensor, texts: Tensor, share: float, temperature: float) -> Tensor:
    hard = targets / targets.sum(1, keepdim=True)
    return (1 - share) * hard + share * F.softmax(hard @ (texts @ texts.T) / temperature, dim=1)


def sparse_dense(n: int, m: int) -> Tensor:
    """Targets with zeros, as names and several captions have; every row and every column has an entry."""
    targets = dense(n, m) * (torch.rand(n, m, generator=torch.Generator().manual_seed(8)) < 0.3)
    targets[torch.arange(n), torch.arange(n) % m] += 1
    targets[torch.arange(m) % n, torch.arange(m)] += 0.5
    return targets


@pytest.mark.parametrize(("n", "m"), [(10, 7), (7, 10)])
@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_softened_targets_are_those_of_the_whole_matrix(n: int, m: int, share: float) -> None:
    targets, teacher = sparse_dense(n, m), vectors(m, 9).detach()
    soft = SoftTargets(sparse(targets), teacher, share, 0.1)
    whole = plain_soft(targets, teacher, share, 0.1)
    inputs = (vectors(n, 1), vectors(m, 2), scalar(2.66))
    same_gradients(lambda *x: contrastive_loss(*x, soft), lambda *x: plain_contrast(*x, whole), *inputs)
    same_gradients(
        lambda *x: sigmoid_loss(*x, soft), lambda *x: plain_sigmoid(*x, whole), *inputs, scalar(-3.0)
    )  # fmt: skip


def test_pairs_can_be_softened_too() -> None:
    teacher = vectors(6, 9).detach()
    soft = SoftTargets(SparseTargets.paired(6, 0, 6, teacher), teacher, 0.4, 0.2)
    whole = plain_soft(torch.eye(6, dtype=torch.float64), teacher, 0.4, 0.2)
    inputs = (vectors(6, 1), vectors(6, 2), scalar(1.0))
    same_gradients(lambda *x: contrastive_loss(*x, soft), lambda *x: plain_contrast(*x, whole), *inputs)


def test_softening_moves_its_share_toward_near_texts() -> None:
    """Seen through the gradient at the texts: what is near to an image's own text is drawn to the image, too."""
    teacher = F.normalize(torch.tensor([[1.0, 0, 0], [1, 0.2, 0], [0, 0, 1]]).double(), dim=-1)
    soft = SoftTargets(SparseTargets.paired(3, 0, 3, teacher), teacher, 0.4, 0.1)
    rows, columns = soft.sums(single_process().gather)
    torch.testing.assert_close(rows, torch.ones(3).double())
    torch.testing.assert_close(columns.sum(), torch.tensor(3.0).double())
    image = torch.tensor([[1.0], [0], [0]]).double()  # the only image that counts is the first one
    texts = torch.ones(3, 1, dtype=torch.float64, requires_grad=True)
    soft.dots(image, texts, torch.ones(3).double(), torch.zeros(3).double()).sum().backward()
    assert texts.grad is not None
    first = texts.grad[:, 0]
    assert first[0] > 0.6
    assert first[1] > 100 * first[2]


class Largest(TorchDispatchMode):
    """Remembers the elements of the largest tensor that any operation gives, forward and backward."""

    def __init__(self) -> None:
        super().__init__()
        self.elements = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
        out = func(*args, **(kwargs or {}))
        for each in out if isinstance(out, tuple | list) else (out,):
            if isinstance(each, Tensor):
                self.elements = max(self.elements, each.numel())
        return out


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["pairs", "sparse", "soft", "teacher"])
@pytest.mark.parametrize("loss", ["infonce", "sigmoid"])
def test_neither_logits_nor_targets_are_ever_held_whole(kind: str, loss: str) -> None:
    n = 120
    m = n if kind == "pairs" else 90
    images, texts, scale, bias = vectors(n, 1), vectors(m, 2), scalar(2.0), scalar(-3.0)
    entries = torch.arange(n) % m
    targets = SparseTargets(torch.arange(n), entries, torch.ones(n), n, n, torch.bincount(entries, minlength=m).float())
    chosen = {"sparse": targets, "soft": SoftTargets(targets, vectors(m, 9).detach(), 0.3, 0.1)}.get(kind)
    with Largest() as largest:
        if kind == "teacher":
            found = similarity_loss((images, texts, scale.exp()), (vectors(n, 3).detach(), vectors(m, 4).detach(), 9.0))
        elif loss == "infonce":
            found = contrastive_loss(images, texts, scale, chosen)
        else:
            found = sigmoid_loss(images, texts, scale, bias, chosen)
        found.backward()
    assert largest.elements <= 2 * n * 8  # two vectors an image; the matrix has 90 to 120 numbers for each


def test_distillation_is_zero_at_the_teacher_whatever_the_length() -> None:
    teachers = vectors(4, 1).detach()
    assert distillation_loss(3 * teachers, teachers).item() == pytest.approx(0, abs=1e-12)
    assert distillation_loss(-teachers, teachers).item() == pytest.approx(2)
    halves = distillation_loss(-teachers[:1], teachers[:1], 4) + distillation_loss(-teachers[1:], teachers[1:], 4)
    assert halves.item() == pytest.approx(2)


def test_similarity_to_a_teacher_is_a_mean_over_images_and_one_over_texts() -> None:
    draw = torch.Generator().manual_seed(0)
    images, texts, teacher_images, teacher_texts = (torch.randn(n, 4, generator=draw) for n in (3, 5, 3, 5))
    mine, wanted = 2.0 * images @ texts.T, 3.0 * teacher_images @ teacher_texts.T
    by_image, by_text = (
        (b.softmax(axis) * (b.log_softmax(axis) - a.log_softmax(axis))).sum() / count
        for a, b, axis, count in ((mine, wanted, 1, 3), (mine, wanted, 0, 5))
    )
    found = similarity_loss((images, texts, 2.0), (teacher_images, teacher_texts, 3.0))
    torch.testing.assert_close(found, (by_image + by_text) / 2)


def test_pairs_of_a_process_stand_at_its_place_among_all_texts() -> None:
    like = torch.zeros(1, dtype=torch.float64)
    pairs = SparseTargets.paired(2, 4, 9, like)
    assert (pairs.rows.tolist(), pairs.columns.tolist()) == ([0, 1], [4, 5])
    assert (pairs.values.tolist(), pairs.column_sums.tolist()) == ([1, 1], [1] * 9)
    assert (pairs.images, pairs.total_images, pairs.values.dtype) == (2, 9, torch.float64)
