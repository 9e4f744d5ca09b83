"""The average against its definition, and what it must never do: lose the weights that learn."""

import pytest
import torch
from torch import nn

from tandem.train.step.ema import ModelEma


def _module() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2))


def test_it_is_the_recurrence_with_a_quick_start() -> None:
    module = _module()
    weight = module[0].weight
    average = ModelEma(module, 0.6)
    wanted = weight.detach().clone()
    for step in range(20):
        with torch.no_grad():
            weight.add_(torch.randn(weight.shape, generator=torch.Generator().manual_seed(step)))
        average.update(step)
        kept = min(0.6, (1 + step) / (10 + step))
        wanted = kept * wanted + (1 - kept) * weight.detach()
    torch.testing.assert_close(average.state_dict()["0.weight"], wanted)


def test_statistics_are_averaged_and_counts_are_not() -> None:
    module = _module()
    average = ModelEma(module, 0.5)
    module.train()(torch.randn(8, 3) + 5)
    average.update(1000)
    assert "1.num_batches_tracked" not in average.state_dict()
    torch.testing.assert_close(average.state_dict()["1.running_mean"], module[1].running_mean / 2)


def test_the_weights_come_back_even_after_an_error() -> None:
    module = _module()
    average = ModelEma(module, 0.9)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(1.0)
    own = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    averaged = {name: tensor.clone() for name, tensor in average.state_dict().items()}
    inside = {}

    def fail_within() -> None:
        with average.in_place():
            inside.update({name: tensor.clone() for name, tensor in module.state_dict().items()})
            raise RuntimeError("out of room")

    with pytest.raises(RuntimeError, match="out of room"):
        fail_within()
    assert all(torch.equal(inside[name], averaged[name]) for name in averaged)
    assert not torch.equal(inside["0.weight"], own["0.weight"])
    assert all(torch.equal(tensor, own[name]) for name, tensor in module.state_dict().items())
    assert all(torch.equal(tensor, averaged[name]) for name, tensor in average.state_dict().items())


def test_saved_and_loaded_it_goes_on_to_the_same_bits() -> None:
    def walk(module: nn.Module, average: ModelEma, steps: range) -> None:
        for step in steps:
            with torch.no_grad():
                for parameter in module.parameters():
                    parameter.add_(torch.randn(parameter.shape, generator=torch.Generator().manual_seed(step)))
            average.update(step)

    whole = _module()
    averaged = ModelEma(whole, 0.9)
    walk(whole, averaged, range(8))
    first = _module()
    half = ModelEma(first, 0.9)
    walk(first, half, range(5))
    saved = {name: tensor.clone() for name, tensor in half.state_dict().items()}
    second = _module()
    second.load_state_dict(first.state_dict())
    resumed = ModelEma(second, 0.9)
    resumed.load_state_dict(saved)
    walk(second, resumed, range(5, 8))
    wanted = averaged.state_dict()
    assert all(torch.equal(tensor, wanted[name]) for name, tensor in resumed.state_dict().items())
