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
from torch import Tensor, nn

from tandem import nn as model_definition
from tandem.errors import ConfigError
from tandem.nn.resnet import BasicBlock, Bottleneck
from tandem.nn.transformer import Block
from tandem.train.model import batch_norm
from tandem.train.model.towers import Towers
from tandem.train.objective.device_batch import Tensors
from tandem.train.objective.objective import Heads
from tandem.train.parallel import process
from tandem.train.parallel.process import Processes, shares
from tandem.train.parallel.wrapping import wrap
from tandem.train.recipe import Objective, Parallel, Recipe
from tandem.train.step.gradient import gradient

TOLERANCE = 1e-10


@dataclass(frozen=True)
class Case:
    """One way to compute a step's gradient."""

    vision: str
    loss: str
    dense: bool
    parallel: Parallel
    pictures: int = 7
    kept: bool = False

    def __str__(self) -> str:
        spread = self.parallel
        words = [self.vision, self.loss, "dense" if self.dense else "pairs", spread.strategy, f"{spread.micro_batches}"]
        words += ["kept"] * self.kept + ["again"] * spread.activation_checkpointing + ["compiled"] * spread.compile
        return "-".join([*words, f"{self.pictures}"])


def cases(pictures: int, resnet_pictures: int, strategy: str, micros: tuple[int, ...], **switches: bool) -> list[Case]:
    """ViTs with masks given, ResNets with batch norm over pairs of pictures; both objectives, both kinds of targets."""
    found = []
    for micro in micros:
        for loss, dense in (("infonce", False), ("infonce", True), ("sigmoid", False), ("sigmoid", True)):
            spread = Parallel(strategy, micro, **switches)  # type: ignore[arg-type]
            found.append(Case("vit", loss, dense, spread, pictures, kept=True))
            spread = dataclasses.replace(spread, norm_batch=2)
            found.append(Case("resnet", loss, dense, spread, resnet_pictures))
    return found


# Uneven everywhere: 7 are 4 + 3, 10 are 4 + 3 + 3; pairs of pictures: 13 are 8 + 5, 21 are 8 + 8 + 5.
CASES = {
    1: cases(10, 13, "none", (1, 2, 3)) + cases(10, 13, "none", (2,), activation_checkpointing=True)[:2],
    2: cases(7, 13, "ddp", (1, 3))
    + cases(7, 13, "fsdp", (2,))[:4]
    + cases(7, 13, "ddp", (1,), activation_checkpointing=True)[:2]
    + cases(7, 13, "fsdp", (1,), activation_checkpointing=True)[:2],
    3: cases(10, 21, "ddp", (1, 2)),
}


def build(case: Case) -> tuple[Towers, Heads]:
    config = toy.config(case.vision)
    clip = model_definition.from_arrays(config, toy.tensors(config)).train()
    with torch.no_grad():
        clip.logit_scale.fill_(2.0)
    recipe = Recipe("toy", "", config, (), 1, objective=Objective(case.loss))  # type: ignore[arg-type]
    heads = Heads(clip, dataclasses.replace(recipe, init=dataclasses.replace(recipe.init, model="toy"))).double()
    if heads.logit_bias is not None:
        heads.logit_bias.data.fill_(-1.5)
    return Towers(clip, "float32").double(), heads


def whole_batch(case: Case) -> Tensors:
    """As one process has it; where targets are dense there are fewer sentences than pictures."""
    random, words = np.random.default_rng(3), toy.tokenizer()
    n = case.pictures
    m = n - 1 if case.dense else n
    sentences = ["cat " * (1 + i % 4) + "do" * (i % 3) + str(i) for i in range(m)]
    ids = torch.from_numpy(words(sentences, toy.CONTEXT)[:, :24].copy())
    assert all((row == words.end_id).any() for row in ids)
    targets = torch.from_numpy(random.random((n, m)).astype(np.float32)) if case.dense else None
    kept = torch.from_numpy(np.stack([random.permutation(16)[:9] for _ in range(n)])) if case.kept else None
    pixels = torch.from_numpy(random.integers(0, 256, (n, toy.SIZE, toy.SIZE, 3), dtype=np.uint8))
    return Tensors(pixels, ids, m, n, m, targets=targets, kept=kept)


def share(case: Case, processes: Processes) -> Tensors:
    batch = whole_batch(case)
    pictures = shares(case.pictures, processes.count, max(1, case.parallel.norm_batch))[processes.rank]
    # A sentence stands where its picture does; only dense targets leave them free.
    sentences = shares(len(batch.ids), processes.count)[processes.rank] if case.dense else pictures
    return dataclasses.replace(
        batch,
        pixels=batch.pixels[pictures],
        ids=batch.ids[sentences],
        kept=None if batch.kept is None else batch.kept[pictures],
        sentences=sentences.stop - sentences.start,
        first_picture=pictures.start,
        first_sentence=sentences.start,
    )


def results(towers: Towers, heads: Heads, loss: Tensor) -> dict[str, Tensor]:
    """The loss, every gradient and every statistic, by name."""
    found = {"loss": loss.detach()}
    for name, parameter in [*towers.named_parameters(), *heads.named_parameters(prefix="heads")]:
        assert parameter.grad is not None, name
        whole = getattr(parameter.grad, "full_tensor", lambda g=parameter.grad: g)()
        found[f"{name} gradient"] = whole.clone()
    for name, buffer in towers.named_buffers():
        if "running" in name:
            found[name] = buffer.clone()
    return found


def ours(case: Case, processes: Processes) -> dict[str, Tensor]:
    towers, heads = build(case)
    batch_norm.fix_groups(towers, case.parallel.norm_batch)
    blocks = [module for module in towers.modules() if isinstance(module, Block | Bottleneck | BasicBlock)]
    wrapped = wrap(towers, blocks, [heads.logit_scale], case.parallel, processes)
    losses = gradient(wrapped, heads, share(case, processes), case.parallel, processes)
    batch_norm.update(towers, processes)
    return results(towers, heads, losses["loss"])


def reference(case: Case) -> dict[str, Tensor]:
    """The definition, for whatever way of computing it."""
    return _reference(dataclasses.replace(case, parallel=Parallel("none", norm_batch=case.parallel.norm_batch)))


@functools.cache
def _reference(case: Case) -> dict[str, Tensor]:
    """One forward pass, all logits, one backward pass. Batch norm: see the test of its groups."""
    towers, heads = build(case)
    batch_norm.fix_groups(towers, case.parallel.norm_batch)
    batch = whole_batch(case)
    with batch_norm.counted(towers):
        images, texts = towers(batch.pixels, batch.ids, batch.kept)
    logits = heads.logit_scale.exp() * images @ texts.T
    targets = (torch.eye(len(logits)) if batch.targets is None else batch.targets).double()
    if case.loss == "sigmoid":
        assert heads.logit_bias is not None
        loss = F.binary_cross_entropy_with_logits(logits + heads.logit_bias, targets, reduction="sum") / len(logits)
    else:
        rows = -(targets / targets.sum(1, keepdim=True) * logits.log_softmax(1)).sum(1).mean()
        columns = -(targets / targets.sum(0, keepdim=True) * logits.log_softmax(0)).sum(0).mean()
        loss = (rows + columns) / 2
    loss.backward()
    batch_norm.update(towers, process.alone())
    return results(towers, heads, loss)


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
    assert_same(ours(case, process.alone()), reference(case))


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
    torch.multiprocessing.spawn(run_all, (count, folder, work), count)  # type: ignore[no-untyped-call, attr-defined]


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
    told = torch.full((2,), float(processes.rank))
    processes.broadcast([told])
    assert told.tolist() == [0.0, 0.0]
    assert processes.tell({"rank": processes.rank}) == {"rank": 0}
    processes.barrier()


def test_what_processes_exchange(tmp_path: Path) -> None:
    spawn(3, tmp_path, exchange)


# ---- the parts


def test_shares_are_contiguous_even_and_cut_no_group() -> None:
    assert [s.stop - s.start for s in shares(10, 3)] == [4, 3, 3]
    assert [(s.start, s.stop) for s in shares(13, 2, 2)] == [(0, 8), (8, 13)]
    assert [(s.start, s.stop) for s in shares(3, 4, 2)] == [(0, 2), (2, 3), (3, 3), (3, 3)]


def test_groups_are_normalised_each_by_itself() -> None:
    """Against torch's own layer, group by group, and its running statistics with them."""
    torch.manual_seed(0)
    x = torch.randn(5, 3, 4, 4, dtype=torch.float64)
    ours, theirs = (nn.Sequential(nn.BatchNorm2d(3, momentum=1.0).double()) for _ in range(2))
    batch_norm.fix_groups(ours, 2)
    with batch_norm.counted(ours):
        found = ours(x)
    ours(x + 1)  # not counted
    batch_norm.update(ours, process.alone())
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
    towers, heads = build(case)
    for parameter in towers.clip.visual.parameters():
        parameter.requires_grad_(False)
    passes = []
    towers.clip.visual.register_forward_hook(lambda *_: passes.append(1))
    gradient(towers, heads, share(case, process.alone()), case.parallel, process.alone())
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
    wrap(compiled, [compiled], [], Parallel("none", compile=True), process.alone())
    x = torch.randn(3, 5, 16, generator=draw, dtype=torch.float64)
    for block in (plain, compiled):
        block(x, True).square().sum().backward()
    for name, parameter in plain.named_parameters():
        torch.testing.assert_close(compiled.get_parameter(name).grad, parameter.grad, rtol=TOLERANCE, atol=TOLERANCE)
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] >= 1


def test_what_is_random_is_the_same_in_both_passes() -> None:
    """Noise in a tower: the gradient must be that of the vectors which the loss saw."""
    case = Case("vit", "infonce", False, Parallel("none", 2), pictures=8)
    towers, heads = build(case)
    seen: list[Tensor] = []

    def noise(module: nn.Module, inputs: object, output: Tensor) -> Tensor:
        seen.append(torch.rand_like(output))
        return output + seen[-1]

    towers.clip.visual.register_forward_hook(noise)
    torch.manual_seed(5)
    gradient(towers, heads, share(case, process.alone()), case.parallel, process.alone())
    after = torch.rand(1)
    assert len(seen) == 4
    assert seen[0].equal(seen[2])
    assert seen[1].equal(seen[3])
    assert not seen[0].equal(seen[1])
    torch.manual_seed(5)
    _ = [torch.rand_like(seen[0]) for _ in range(2)]
    assert after.equal(torch.rand(1))


def test_more_micro_batches_than_pictures_are_refused() -> None:
    case = Case("vit", "infonce", False, Parallel("none", 8))
    towers, heads = build(case)
    with pytest.raises(ConfigError, match="micro_batches: 8 are more than a process's 7 pictures"):
        gradient(towers, heads, share(case, process.alone()), case.parallel, process.alone())


def test_a_group_of_batch_norm_is_not_cut_between_processes() -> None:
    towers, heads = build(Case("resnet", "infonce", False, Parallel("ddp")))
    case = Case("resnet", "infonce", False, Parallel("ddp", norm_batch=4))
    cut = dataclasses.replace(share(case, process.alone()), pictures=14)
    with pytest.raises(ConfigError, match="process 0 has 7 pictures, which groups of 4 do not fill"):
        gradient(towers, heads, cut, case.parallel, Processes(0, 2, 0, torch.device("cpu")))


def test_several_processes_need_a_strategy() -> None:
    with pytest.raises(ConfigError, match="expected ddp or fsdp on 2 processes"):
        wrap(nn.Linear(1, 1), [], [], Parallel("none"), Processes(0, 2, 0, torch.device("cpu")))


def test_an_environment_that_is_not_torchruns_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.delenv("RANK", raising=False)
    with pytest.raises(ConfigError, match="start with torchrun"):
        process.start("cpu")
