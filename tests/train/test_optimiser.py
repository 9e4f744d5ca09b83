"""Which weights decay and how fast each layer learns, against the rules written out; the arithmetic is torch's."""

import itertools
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from support import toy
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import Shard, distribute_tensor

from tandem.nn import CLIP, from_arrays
from tandem.train.model.initial_weights import lock
from tandem.train.model.towers import Towers
from tandem.train.objective.objective import ContrastiveObjective
from tandem.train.recipe import Distillation, Optimiser, Recipe, Source
from tandem.train.step.optimiser import build_optimiser, clip_gradients, learning_rate, set_learning_rate


def _made(
    chosen: Optimiser, vision: str = "vit", locked: tuple[str, ...] = ()
) -> tuple[CLIP, ContrastiveObjective, torch.optim.Optimizer]:
    checkpoint = toy.checkpoint(vision)
    clip = from_arrays(checkpoint.config, checkpoint.tensors)
    lock(clip, locked)
    recipe = Recipe("toy", "", clip.config, (Source("x", per_batch=1),), 1, distillation=Distillation("t"))
    objective = ContrastiveObjective(clip, recipe, 5)
    return clip, objective, build_optimiser(Towers(clip), objective, chosen)


def _by_parameter(optimiser: torch.optim.Optimizer, key: str) -> dict[int, float]:
    return {id(p): group[key] for group in optimiser.param_groups for p in group["params"]}


def test_every_parameter_is_stepped_once_and_gains_biases_and_the_scale_do_not_decay() -> None:
    clip, objective, optimiser = _made(Optimiser(weight_decay=0.2))
    everything = {id(p) for p in [*clip.parameters(), *objective.parameters()]}
    stepped = [id(p) for group in optimiser.param_groups for p in group["params"]]
    assert len(stepped) == len(set(stepped))
    assert set(stepped) == everything
    decay = _by_parameter(optimiser, "weight_decay")
    for name, parameter in clip.named_parameters():
        exempt = (
            name.endswith(("bias", "class_embedding", "logit_scale")) or ".ln_" in name or name == "ln_final.weight"
        )
        assert decay[id(parameter)] == (0.0 if exempt or ".bn" in name else 0.2), name


def test_what_is_locked_is_not_stepped() -> None:
    clip, _, optimiser = _made(Optimiser(), locked=("image",))
    stepped = _by_parameter(optimiser, "lr")
    assert not any(id(p) in stepped for p in clip.visual.parameters())
    assert id(clip.text.text_projection) in stepped


def test_each_block_learns_at_a_share_of_the_rate_of_the_one_above() -> None:
    clip, objective, optimiser = _made(Optimiser(learning_rate=1.0, layer_decay=0.5))
    rate = _by_parameter(optimiser, "lr")
    image, text = clip.visual, clip.text.transformer
    wanted = {
        clip.visual.proj: 1.0,
        image.ln_post.weight: 1.0,
        image.transformer.resblocks[1].attn.in_proj_weight: 0.5,
        image.transformer.resblocks[0].mlp.c_fc.bias: 0.25,
        image.conv1.weight: 0.125,
        image.positional_embedding: 0.125,
        clip.text.text_projection: 1.0,
        clip.text.ln_final.bias: 1.0,
        text.resblocks[1].ln_1.weight: 0.5,
        clip.text.token_embedding.weight: 0.125,
        clip.logit_scale: 1.0,
        objective.to_teacher.weight: 1.0,  # type: ignore[union-attr]
    }
    for parameter, share in wanted.items():
        assert rate[id(parameter)] == share
    set_learning_rate(optimiser, 0.1)
    assert _by_parameter(optimiser, "lr")[id(image.conv1.weight)] == 0.0125


def test_a_resnet_counts_by_stages() -> None:
    clip, _, optimiser = _made(Optimiser(learning_rate=1.0, layer_decay=0.5), "resnet")
    rate = _by_parameter(optimiser, "lr")
    image = clip.visual
    for parameter, share in (
        (image.attnpool.c_proj.weight, 1.0),
        (image.layer4[0].conv1.weight, 0.5),
        (image.layer1[0].bn1.weight, 0.0625),
        (image.conv1.weight, 0.03125),
    ):
        assert rate[id(parameter)] == share


def test_a_step_is_that_of_adamw_written_out() -> None:
    chosen = Optimiser(learning_rate=0.1, weight_decay=0.2, beta1=0.9, beta2=0.98, epsilon=1e-6)
    clip, _, optimiser = _made(chosen)
    weight = clip.text.text_projection
    before = weight.detach().double().clone()
    m = v = torch.zeros_like(before)
    for t in (1, 2, 3):
        weight.grad = torch.randn(weight.shape, generator=torch.Generator().manual_seed(t))
        gradient = weight.grad.double()
        m, v = 0.9 * m + 0.1 * gradient, 0.98 * v + 0.02 * gradient**2
        before = before * (1 - 0.1 * 0.2)
        before = before - 0.1 * (m / (1 - 0.9**t)) / ((v / (1 - 0.98**t)).sqrt() + 1e-6)
        optimiser.step()
    torch.testing.assert_close(weight.detach().double(), before, rtol=1e-4, atol=1e-6)


def test_gradients_are_clipped_to_a_norm_over_all_of_them() -> None:
    parameters = [torch.nn.Parameter(torch.zeros(shape)) for shape in ((2,), (), (3,))]

    def set_gradients() -> None:
        parameters[0].grad, parameters[1].grad = torch.tensor([2.0, 4.0]), torch.tensor(4.0)  # the last one has none

    for max_norm, factor in ((0.0, 1.0), (7.0, 1.0), (3.0, 0.5)):
        set_gradients()
        assert clip_gradients(parameters, max_norm).item() == pytest.approx(6)
        assert parameters[0].grad is not None
        assert parameters[1].grad is not None
        torch.testing.assert_close(parameters[0].grad, factor * torch.tensor([2.0, 4.0]))
        torch.testing.assert_close(parameters[1].grad, torch.tensor(4.0 * factor))
    assert parameters[2].grad is None


def test_the_norm_is_over_sharded_and_whole_gradients_together(tmp_path: Path) -> None:
    """Under FSDP the towers are sharded, the objective is not."""
    dist.init_process_group("gloo", init_method=f"file://{tmp_path / 'meeting'}", rank=0, world_size=1)
    try:
        mesh = init_device_mesh("cpu", (1,))
        sharded = torch.nn.Parameter(distribute_tensor(torch.zeros(2), mesh, [Shard(0)]))
        sharded.grad = distribute_tensor(torch.tensor([2.0, 4.0]), mesh, [Shard(0)])
        whole = torch.nn.Parameter(torch.zeros(()))
        whole.grad = torch.tensor(4.0)
        assert clip_gradients([sharded, whole], 3.0).item() == pytest.approx(6)
        assert sharded.grad.full_tensor().tolist() == pytest.approx([1, 2])  # type: ignore[attr-defined]
        assert whole.grad.item() == pytest.approx(2)
    finally:
        dist.destroy_process_group()


def test_the_learning_rate_warms_up_and_falls_to_zero() -> None:
    rates = [learning_rate(step, 100, 10, 1.0) for step in range(101)]
    assert rates[0] == pytest.approx(0.1)
    assert rates[9] == pytest.approx(1.0)
    assert rates[55] == pytest.approx(0.5)
    assert rates[100] == pytest.approx(0.0)
    assert all(a >= b for a, b in itertools.pairwise(rates[10:]))
