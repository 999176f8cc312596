from __future__ import annotations

import copy

import pytest
import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from tellapart.training.ema import Average


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(16, 2))


def drift(net: nn.Module, step: int) -> None:
    """Weights and statistics move on, as in a training."""
    generator = torch.Generator().manual_seed(step)
    with torch.no_grad():
        for parameter in net.parameters():
            if parameter.requires_grad:
                parameter.add_(torch.randn(parameter.shape, generator=generator))
    net.train()(torch.randn(8, 3, 4, 4, generator=generator))


def test_is_torchs_with_the_decay_of_the_step() -> None:
    net = network()
    average = Average(net, 0.5)
    decays = [0.1, 2 / 11, 0.25, 4 / 13, 5 / 14, 6 / 15, 7 / 16, 8 / 17, 0.5, 0.5, 0.5]
    reference = AveragedModel(net, multi_avg_fn=lambda a, b, n: get_ema_multi_avg_fn(decays[int(n) - 1])(a, b, n))
    reference.update_parameters(net)  # the first one only copies
    for step in range(len(decays)):
        drift(net, step)
        average.update()
        reference.update_parameters(net)
    with average.swapped():
        found = copy.deepcopy(net.state_dict())
    torch.testing.assert_close(found, reference.module.state_dict())


def test_swapping_leaves_no_trace() -> None:
    net = network()
    average = Average(net, 0.9)
    drift(net, 0)
    average.update()
    before = copy.deepcopy(net.state_dict())

    def look_and_break() -> None:
        with average.swapped():
            assert not torch.equal(net[0].weight, before["0.weight"])
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        look_and_break()
    assert all(torch.equal(tensor, before[name]) for name, tensor in net.state_dict().items())


def test_frozen_weights_are_not_averaged() -> None:
    net = network()
    net[0].requires_grad_(False)
    average = Average(net, 0.9)
    assert "0.weight" not in average.state_dict()["average"]
    drift(net, 0)
    average.update()
    frozen = net[0].weight.clone()
    with average.swapped():
        assert torch.equal(net[0].weight, frozen)


def test_resumes_bit_for_bit() -> None:
    net = network()
    average = Average(net, 0.9)
    for step in range(3):
        drift(net, step)
        average.update()
    resumed = Average(net, 0.9)
    resumed.load_state_dict(copy.deepcopy(average.state_dict()))
    for step in range(3, 20):
        drift(net, step)
        average.update()
        resumed.update()
    assert resumed.n_updates == average.n_updates == 20
    mine, other = average.state_dict()["average"], resumed.state_dict()["average"]
    assert all(torch.equal(mine[name], other[name]) for name in mine)


def test_refuses_what_does_not_fit() -> None:
    net = network()
    with pytest.raises(ValueError, match="decay of 1"):
        Average(net, 1.0)
    state = Average(net, 0.9).state_dict()
    net[0].requires_grad_(False)
    with pytest.raises(ValueError, match="other parameters"):
        Average(net, 0.9).load_state_dict(state)
