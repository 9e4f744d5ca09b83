"""What the gradient of a step is made of: ranges, groups of norms, locked towers, what is random, what is refused."""

import dataclasses

import pytest
import torch
import torch.nn.functional as F
from support.gradient_cases import (
    TOLERANCE,
    Case,
    assert_same,
    build,
    reference,
    results,
    share,
    whole_batch,
)
from support.training_toys import sparse
from torch import Tensor, nn

from tandem.errors import ConfigError
from tandem.towers.parts.torch import Block
from tandem.train.model import batch_norm
from tandem.train.objective.device_batch import DeviceBatch
from tandem.train.objective.objective import ContrastiveObjective
from tandem.train.parallel import process
from tandem.train.parallel.process import Processes, split_ranges
from tandem.train.parallel.wrapping import wrap
from tandem.train.recipe import Parallel
from tandem.train.step.gradient import gradient

pytestmark = pytest.mark.slow


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
