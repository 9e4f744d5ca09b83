"""One process, micro-batches, two processes and three give the same gradient, in float64.

The reference is written out here: every vector at once, the whole matrix of logits, torch's own autograd.
"""

import dataclasses
import functools
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from support import toy
from support.training_toys import sparse
from torch import Tensor, nn

from tandem import nn as model_definition
from tandem.errors import ConfigError
from tandem.towers.parts.torch import Block
from tandem.towers.resnet.module import BasicBlock, Bottleneck
from tandem.train.model import batch_norm, initial_weights
from tandem.train.model.towers import Towers
from tandem.train.objective.classification import ClassificationObjective
from tandem.train.objective.device_batch import DeviceBatch
from tandem.train.objective.objective import ContrastiveObjective
from tandem.train.parallel import process
from tandem.train.parallel.process import Processes, split_ranges
from tandem.train.parallel.wrapping import wrap
from tandem.train.recipe import ObjectiveSettings, Optimiser, Parallel, Recipe
from tandem.train.step.gradient import gradient
from tandem.train.step.optimiser import build_optimiser, clip_gradients

pytestmark = pytest.mark.slow

TOLERANCE = 1e-10


@dataclass(frozen=True)
class Case:
    """One way to compute a step's gradient."""

    vision: str
    loss: str
    dense: bool
    parallel: Parallel
    images: int = 7
    kept: bool = False

    def __str__(self) -> str:
        spread = self.parallel
        words = [self.vision, self.loss, "dense" if self.dense else "pairs", spread.strategy, f"{spread.micro_batches}"]
        words += ["kept"] * self.kept + ["again"] * spread.activation_checkpointing + ["compiled"] * spread.compile
        return "-".join([*words, f"{self.images}"])


def cases(images: int, resnet_images: int, strategy: str, micros: tuple[int, ...], **switches: bool) -> list[Case]:
    """ViTs with masks given, ResNets with batch norm over pairs of images; both objectives, both kinds of targets."""
    found = []
    for micro in micros:
        for loss, dense in (("infonce", False), ("infonce", True), ("sigmoid", False), ("sigmoid", True)):
            spread = Parallel(strategy, micro, **switches)  # type: ignore[arg-type]
            found.append(Case("vit", loss, dense, spread, images, kept=True))
            spread = dataclasses.replace(spread, norm_batch=2)
            found.append(Case("resnet", loss, dense, spread, resnet_images))
    return found


# Uneven everywhere: 7 are 4 + 3, 10 are 4 + 3 + 3; pairs of images: 13 are 8 + 5, 21 are 8 + 8 + 5.
CASES = {
    1: cases(10, 13, "none", (1, 2, 3)) + cases(10, 13, "none", (2,), activation_checkpointing=True)[:2],
    2: cases(7, 13, "ddp", (1, 3))
    + cases(7, 13, "fsdp", (2,))[:6]
    + cases(7, 13, "ddp", (1,), activation_checkpointing=True)[:2]
    + cases(7, 13, "fsdp", (1,), activation_checkpointing=True)[:2],
    3: cases(10, 21, "ddp", (1, 2)),
}
# A head on the image tower, which locked texts have no part in; batch norms with their statistics kept
for count, strategy, micro in ((1, "none", 1), (1, "none", 3), (2, "ddp", 2), (2, "fsdp", 1), (3, "ddp", 1)):
    for vision, images in (("vit", 10), ("resnet", 13)):
        CASES[count].append(Case(vision, "classification", False, Parallel(strategy, micro), images))  # type: ignore[arg-type]
# Other families: rotary positions with kept patches, texts whose padding counts, texts whose padding is masked
for family in ("pe-core", "clipa", "bert"):
    CASES[1].append(Case(family, "infonce", False, Parallel("none", 2, activation_checkpointing=True), 10, kept=True))
    CASES[2] += [
        Case(family, "sigmoid", False, Parallel("ddp", 1), 7, kept=True),
        Case(family, "infonce", False, Parallel("fsdp", 2), 7, kept=True),
    ]


def build(case: Case) -> tuple[Towers, ContrastiveObjective | ClassificationObjective]:
    config = toy.config(case.vision, logit_bias=case.loss == "sigmoid")
    clip = model_definition.from_arrays(config, toy.tensors(config)).train()
    with torch.no_grad():
        clip.logit_scale.fill_(2.0)
        if clip.logit_bias is not None:
            clip.logit_bias.fill_(-1.5)
    if case.loss == "classification":
        vectors = torch.from_numpy(np.random.default_rng(6).normal(size=(5, toy.DIMENSIONS)))
        initial_weights.lock(clip, ["text"])
        classification = ClassificationObjective(clip.double(), vectors, label_smoothing=0.1)
        with torch.no_grad():
            classification.bias.copy_(vectors[:, 0])
        towers = Towers(clip, "float32").double()
        initial_weights.set_training(towers, True, keep_statistics=True)
        return towers, classification
    recipe = Recipe("toy", "", config, (), 1, objective=ObjectiveSettings(case.loss))  # type: ignore[arg-type]
    objective = ContrastiveObjective(clip, recipe).double()
    return Towers(clip, "float32").double(), objective


def whole_targets(case: Case) -> Tensor | None:
    """Where targets are dense there are fewer texts than images."""
    n = case.images
    random = np.random.default_rng(4)
    return torch.from_numpy(random.random((n, n - 1)).astype(np.float32)) if case.dense else None


def whole_batch(case: Case) -> DeviceBatch:
    """As one process has it."""
    random, words = np.random.default_rng(3), toy.tokenizer()
    n = case.images
    m = n - 1 if case.dense else n
    texts = ["cat " * (1 + i % 4) + "do" * (i % 3) + str(i) for i in range(m)]
    ids = torch.from_numpy(words(texts, toy.CONTEXT)[:, :24].copy())
    assert all((row == words.end_id).any() for row in ids)
    kept = torch.from_numpy(np.stack([random.permutation(16)[:9] for _ in range(n)])) if case.kept else None
    pixels = torch.from_numpy(random.integers(0, 256, (n, toy.SIZE, toy.SIZE, 3), dtype=np.uint8))
    if case.loss == "classification":
        labels = torch.from_numpy(random.integers(0, 5, n))
        return DeviceBatch(pixels, None, 0, 0, labelled=torch.arange(n), labels=labels, total_labelled=n)
    return DeviceBatch(pixels, ids, m, m, kept=kept)


def share(case: Case, processes: Processes) -> DeviceBatch:
    batch = whole_batch(case)
    images = split_ranges(case.images, processes.count, max(1, case.parallel.norm_batch))[processes.rank]
    if batch.ids is None:
        assert batch.labels is not None
        labels = batch.labels[images]
        return dataclasses.replace(
            batch, pixels=batch.pixels[images], labelled=torch.arange(len(labels)), labels=labels
        )
    # A text stands where its image does; only dense targets leave them free.
    texts = split_ranges(len(batch.ids), processes.count)[processes.rank] if case.dense else images
    return dataclasses.replace(
        batch,
        pixels=batch.pixels[images],
        ids=batch.ids[texts],
        kept=None if batch.kept is None else batch.kept[images],
        texts=texts.stop - texts.start,
        targets=None if (targets := whole_targets(case)) is None else sparse(targets.double(), images),
    )


def results(towers: Towers, objective: nn.Module, loss: Tensor) -> dict[str, Tensor]:
    """The loss, every gradient of what learns and every statistic, by name."""
    found = {"loss": loss.detach()}
    for name, parameter in [*towers.named_parameters(), *objective.named_parameters(prefix="objective")]:
        if not parameter.requires_grad:
            assert parameter.grad is None, name
            continue
        assert parameter.grad is not None, name
        whole = getattr(parameter.grad, "full_tensor", lambda g=parameter.grad: g)()
        found[f"{name} gradient"] = whole.clone()
    for name, buffer in towers.named_buffers():
        if "running" in name:
            found[name] = buffer.clone()
    return found


def ours(case: Case, processes: Processes) -> dict[str, Tensor]:
    towers, objective = build(case)
    batch_norm.set_groups(towers, case.parallel.norm_batch)
    blocks = [module for module in towers.modules() if isinstance(module, Block | Bottleneck | BasicBlock)]
    wrapped = wrap(towers, blocks, towers.clip.scaling(), case.parallel, processes)
    losses = gradient(wrapped, objective, share(case, processes), case.parallel, processes)
    batch_norm.update_running_stats(towers, processes)
    found = results(towers, objective, losses["loss"])
    if case.loss == "classification":
        build_optimiser(towers, objective, Optimiser()).step()  # of sharded and of whole parameters
        # The head's gradients are whole where the towers' are sharded
        learnt = {id(p): p for module in (towers, objective) for p in module.parameters()}
        norm = clip_gradients(learnt.values(), 1e-3)
        clipped = results(towers, objective, losses["loss"])
        for name in clipped:
            factor = 1e-3 / (float(norm) + 1e-6) if "gradient" in name else 1.0
            torch.testing.assert_close(clipped[name], factor * found[name], rtol=1e-6, atol=1e-12)
    return found


def reference(case: Case) -> dict[str, Tensor]:
    """The definition, for whatever way of computing it."""
    return _reference(dataclasses.replace(case, parallel=Parallel("none", norm_batch=case.parallel.norm_batch)))


@functools.cache
def _reference(case: Case) -> dict[str, Tensor]:
    """One forward pass, all logits, one backward pass. Batch norm: see the test of its groups."""
    towers, objective = build(case)
    batch_norm.set_groups(towers, case.parallel.norm_batch)
    batch = whole_batch(case)
    with batch_norm.collect_statistics(towers):
        images, texts = towers(batch.pixels, batch.ids, batch.kept)
    if isinstance(objective, ClassificationObjective):
        assert batch.labels is not None
        logits = objective.logit_scale.exp() * (images @ objective.weight.T + objective.bias)
        right = torch.eye(5, dtype=torch.float64)[batch.labels]
        loss = -((0.9 * right + 0.1 / 5) * logits.log_softmax(1)).sum(1).mean()
        loss.backward()
        return results(towers, objective, loss)
    logits = objective.logit_scale.exp() * images @ texts.T
    dense = whole_targets(case)
    targets = (torch.eye(len(logits)) if dense is None else dense).double()
    if case.loss == "sigmoid":
        assert objective.logit_bias is not None
        loss = F.binary_cross_entropy_with_logits(logits + objective.logit_bias, targets, reduction="sum") / len(logits)
    else:
        rows = -(targets / targets.sum(1, keepdim=True) * logits.log_softmax(1)).sum(1).mean()
        columns = -(targets / targets.sum(0, keepdim=True) * logits.log_softmax(0)).sum(0).mean()
        loss = (rows + columns) / 2
    loss.backward()
    batch_norm.update_running_stats(towers, process.single_process())
    return results(towers, objective, loss)


def assert_same(found: dict[str, Tensor], wanted: dict[str, Tensor]) -> None:
    """Within `TOLERANCE` of each tensor's largest number; what is zero but for rounding, of the largest of all."""
    assert found.keys() == wanted.keys()
    largest = max(float(tensor.abs().max()) for name, tensor in wanted.items() if "gradient" in name)
    assert largest > 1e-3
    for name, tensor in wanted.items():
        assert found[name].dtype == torch.float64, name
        off = float((found[name] - tensor).abs().max())
        assert off <= TOLERANCE * max(float(tensor.abs().max()), 1e-4 * largest), f"{name}: off by {off}"


@pytest.mark.parametrize("case", CASES[1], ids=str)
def test_micro_batches_give_the_gradient_of_the_whole_batch(case: Case) -> None:
    assert_same(ours(case, process.single_process()), reference(case))


# ---- on several processes: each runs all cases of its number, the first and the last write what they found


def run_all(rank: int, count: int, folder: Path, work: Callable[[Processes, Path], None]) -> None:
    os.environ.update(RANK=str(rank), WORLD_SIZE=str(count), LOCAL_RANK=str(rank), OMP_NUM_THREADS="1")
    torch.set_num_threads(1)
    processes = process.start("cpu", timeout_s=120, init_method=f"file://{folder / 'meeting'}")
    try:
        work(processes, folder)
    finally:
        processes.close()


def spawn(count: int, folder: Path, work: Callable[[Processes, Path], None]) -> None:
    torch.multiprocessing.start_processes(  # type: ignore[no-untyped-call, attr-defined]
        run_all, (count, folder, work), count, start_method="forkserver"
    )


def all_cases(processes: Processes, folder: Path) -> None:
    found = {}
    for case in CASES[processes.count]:
        try:
            found[str(case)] = ours(case, processes)
        except Exception as error:
            raise RuntimeError(f"{case}, process {processes.rank}") from error
    torch.save(found, folder / f"{processes.rank}.pt")


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, dict[str, Tensor]]]:
    return found_by(2, tmp_path_factory.mktemp("two"))


@pytest.fixture(scope="module")
def three(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, dict[str, Tensor]]]:
    return found_by(3, tmp_path_factory.mktemp("three"))


def found_by(count: int, folder: Path) -> list[dict[str, dict[str, Tensor]]]:
    spawn(count, folder, all_cases)
    return [torch.load(folder / f"{rank}.pt", weights_only=True) for rank in range(count)]


@pytest.mark.parametrize("case", CASES[2], ids=str)
def test_two_processes_give_the_gradient_of_one(case: Case, two: list[dict[str, dict[str, Tensor]]]) -> None:
    wanted = reference(case)
    for found in two:
        assert_same(found[str(case)], wanted)


@pytest.mark.parametrize("case", CASES[3], ids=str)
def test_three_processes_give_the_gradient_of_one(case: Case, three: list[dict[str, dict[str, Tensor]]]) -> None:
    wanted = reference(case)
    for found in three:
        assert_same(found[str(case)], wanted)


def exchange(processes: Processes, folder: Path) -> None:
    """Uneven rows, one process without any; then sums and words. Asserts where it runs."""
    counts = [2, 0, 3]
    mine = torch.arange(counts[processes.rank] * 2, dtype=torch.float64).view(-1, 2) + 100 * processes.rank
    mine.requires_grad_()
    rows, first = processes.gather(mine)
    assert first == [0, 2, 2][processes.rank]
    assert rows.shape == (5, 2)
    assert rows[first : first + len(mine)].equal(mine)
    assert rows[:, 0].tolist() == [0, 2, 200, 202, 204]
    (rows * torch.arange(5.0)[:, None] * (1 + processes.rank)).sum().backward()  # 1 + 2 + 3 of each row's number
    assert mine.grad is not None
    assert mine.grad[:, 0].tolist() == [6.0 * i for i in range(first, first + len(mine))]

    learnt = [nn.Parameter(torch.zeros(2)), nn.Parameter(torch.zeros(3)), nn.Parameter(torch.zeros(1))]
    learnt[0].grad = torch.full((2,), 1.0 + processes.rank)
    if processes.rank == 1:
        learnt[1].grad = torch.ones(3)  # the others have none
    learnt[2].requires_grad_(False)
    processes.sum_gradients(learnt)
    assert learnt[0].grad.tolist() == [6.0, 6.0]
    assert learnt[1].grad is not None
    assert learnt[1].grad.tolist() == [1.0, 1.0, 1.0]
    assert learnt[2].grad is None
    assert processes.any(processes.rank == 2)
    assert not processes.any(False)
    received = torch.full((2,), float(processes.rank))
    processes.broadcast([received])
    assert received.tolist() == [0.0, 0.0]
    assert processes.broadcast_object({"rank": processes.rank}) == {"rank": 0}
    processes.barrier()


def test_what_processes_exchange(tmp_path: Path) -> None:
    spawn(3, tmp_path, exchange)


# ---- the parts


def test_ranges_are_contiguous_even_and_cut_no_group() -> None:
    assert [s.stop - s.start for s in split_ranges(10, 3)] == [4, 3, 3]
    assert [(s.start, s.stop) for s in split_ranges(13, 2, 2)] == [(0, 8), (8, 13)]
    assert [(s.start, s.stop) for s in split_ranges(3, 4, 2)] == [(0, 2), (2, 3), (3, 3), (3, 3)]


def test_groups_are_normalised_each_by_itself() -> None:
    """Against torch's own layer, group by group, and its running statistics with them."""
    torch.manual_seed(0)
    x = torch.randn(5, 3, 4, 4, dtype=torch.float64)
    ours, theirs = (nn.Sequential(nn.BatchNorm2d(3, momentum=1.0).double()) for _ in range(2))
    batch_norm.set_groups(ours, 2)
    with batch_norm.collect_statistics(ours):
        found = ours(x)
    ours(x + 1)  # not counted
    batch_norm.update_running_stats(ours, process.single_process())
    outputs, means, variances = [], [], []
    for group in x.split(2):
        outputs.append(theirs(group))
        means.append(theirs[0].running_mean.clone() * len(group))
        variances.append(theirs[0].running_var.clone() * len(group))
    torch.testing.assert_close(found, torch.cat(outputs))
    torch.testing.assert_close(ours[0].running_mean, sum(means) / 5)
    torch.testing.assert_close(ours[0].running_var, sum(variances) / 5)
    assert int(ours[0].num_batches_tracked) == 1
    assert list(ours.state_dict()) == list(theirs.state_dict())
    torch.testing.assert_close(ours.eval()(x), nn.functional.batch_norm(x, sum(means) / 5, sum(variances) / 5))


def test_a_locked_tower_is_encoded_once() -> None:
    case = Case("vit", "infonce", False, Parallel("none", 3))
    towers, objective = build(case)
    for parameter in towers.clip.visual.parameters():
        parameter.requires_grad_(False)
    passes = []
    towers.clip.visual.register_forward_hook(lambda *_: passes.append(1))
    gradient(towers, objective, share(case, process.single_process()), case.parallel, process.single_process())
    assert len(passes) == 4  # three, and one to see that nothing there learns
    wanted = reference(case)
    for name, parameter in towers.named_parameters():
        if parameter.requires_grad:
            torch.testing.assert_close(parameter.grad, wanted[f"{name} gradient"], rtol=1e-9, atol=1e-12)
        else:
            assert parameter.grad is None


def test_a_compiled_block_gives_the_same_gradient(monkeypatch: pytest.MonkeyPatch) -> None:
    """All but the last stage of the compiler, which takes a minute; one block, since every other takes as long."""
    whole_compiler = nn.Module.compile
    monkeypatch.setattr(nn.Module, "compile", lambda module: whole_compiler(module, backend="aot_eager"))
    plain, compiled = (Block(16, 2, 32, "quick_gelu").double() for _ in range(2))
    draw = torch.Generator().manual_seed(1)
    for parameter in plain.parameters():
        parameter.data = torch.randn(parameter.shape, generator=draw, dtype=torch.float64) / 4
    compiled.load_state_dict(plain.state_dict())
    wrap(compiled, [compiled], [], Parallel("none", compile=True), process.single_process())
    x = torch.randn(3, 5, 16, generator=draw, dtype=torch.float64)
    for block in (plain, compiled):
        block(x, True).square().sum().backward()
    for name, parameter in plain.named_parameters():
        torch.testing.assert_close(compiled.get_parameter(name).grad, parameter.grad, rtol=TOLERANCE, atol=TOLERANCE)
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] >= 1


def test_what_is_random_is_the_same_in_both_passes() -> None:
    """Noise in a tower: the gradient must be that of the vectors which the loss saw."""
    case = Case("vit", "infonce", False, Parallel("none", 2), images=8)
    towers, objective = build(case)
    seen: list[Tensor] = []

    def noise(module: nn.Module, inputs: object, output: Tensor) -> Tensor:
        seen.append(torch.rand_like(output))
        return output + seen[-1]

    towers.clip.visual.register_forward_hook(noise)
    torch.manual_seed(5)
    gradient(towers, objective, share(case, process.single_process()), case.parallel, process.single_process())
    after = torch.rand(1)
    assert len(seen) == 4
    assert seen[0].equal(seen[2])
    assert seen[1].equal(seen[3])
    assert not seen[0].equal(seen[1])
    torch.manual_seed(5)
    _ = [torch.rand_like(seen[0]) for _ in range(2)]
    assert after.equal(torch.rand(1))


def test_more_micro_batches_than_images_are_refused() -> None:
    case = Case("vit", "infonce", False, Parallel("none", 8))
    towers, objective = build(case)
    with pytest.raises(ConfigError, match="micro_batches: 8 are more than the 7 images of a process"):
        gradient(towers, objective, share(case, process.single_process()), case.parallel, process.single_process())


class WithTextsOfOthers(nn.Module):
    """The objective as a process sees it whose other texts are those of another one."""

    def __init__(self, objective: ContrastiveObjective, others: Tensor) -> None:
        super().__init__()
        self.objective, self.others = objective, others

    def losses(self, images: Tensor, texts: Tensor, batch: DeviceBatch, _: object) -> dict[str, Tensor]:
        every = torch.cat([texts, self.others[batch.texts :]])
        return self.objective.losses(images, every, dataclasses.replace(batch, texts=len(every)))


@pytest.mark.parametrize("texts", [0, 1, 2])
def test_fewer_texts_than_micro_batches_give_the_same_gradient(texts: int) -> None:
    """A process may have few texts, or none, where names are shared; each of its images still has its targets."""
    draw = torch.Generator().manual_seed(3)
    targets = torch.rand(7, 4, generator=draw, dtype=torch.float64)
    others = F.normalize(torch.randn(4, 12, generator=draw, dtype=torch.float64), dim=-1)
    found = []
    for micro_batches in (1, 3):
        case = Case("vit", "infonce", True, Parallel("none", micro_batches))
        towers, objective = build(case)
        whole = whole_batch(case)
        batch = dataclasses.replace(whole, ids=whole.ids[:texts], texts=texts, total_texts=4, targets=sparse(targets))
        alone = process.single_process()
        losses = gradient(towers, WithTextsOfOthers(objective, others), batch, case.parallel, alone)
        found.append(results(towers, objective, losses["loss"]))
    assert_same(found[1], found[0])


def test_a_group_of_batch_norm_is_not_cut_between_processes() -> None:
    towers, objective = build(Case("resnet", "infonce", False, Parallel("ddp")))
    case = Case("resnet", "infonce", False, Parallel("ddp", norm_batch=4))
    cut = share(case, process.single_process())
    with pytest.raises(ConfigError, match="process 0 has 7 images, which groups of 4 do not fill"):
        gradient(towers, objective, cut, case.parallel, Processes(0, 2, 0, torch.device("cpu")))


def test_several_processes_need_a_strategy() -> None:
    with pytest.raises(ConfigError, match="expected ddp or fsdp on 2 processes"):
        wrap(nn.Linear(1, 1), [], [], Parallel("none"), Processes(0, 2, 0, torch.device("cpu")))


def test_an_environment_that_is_not_torchruns_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.delenv("RANK", raising=False)
    with pytest.raises(ConfigError, match="start with torchrun"):
        process.start("cpu")
