from __future__ import annotations

import copy
import json
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.optim import SGD, Adadelta, Adam, AdamW, NAdam, Optimizer

from tellapart.errors import RecipeError
from tellapart.training.muon import MuonAdamW
from tellapart.training.optim import build_optimizer, parameter_groups, set_lrs

KINDS = ("adamw", "adam", "sgd", "nadam", "adadelta", "muon")
RATE, DECAY, MOMENTUM = 0.1, 0.05, 0.8


def small_network(channels_last: bool = False) -> nn.Sequential:
    torch.manual_seed(3)
    network = nn.Sequential(
        nn.Conv2d(3, 8, 3, bias=False),
        nn.BatchNorm2d(8),
        nn.Conv2d(8, 8, 3, groups=8),
        nn.Flatten(),
        nn.Linear(8 * 4, 5),
    )
    return network.to(memory_format=torch.channels_last) if channels_last else network


def train(network: nn.Module, optimizer: Optimizer, steps: range) -> None:
    for step in steps:
        x = torch.randn(4, 3, 6, 6, generator=torch.Generator().manual_seed(step))
        optimizer.zero_grad()
        network(x).square().mean().backward()
        optimizer.step()


def ours(kind: str, network: nn.Module, decay: float = DECAY) -> Optimizer:
    groups = parameter_groups([network.named_parameters()], [RATE], decay)
    return build_optimizer(kind, groups, weight_decay=decay, momentum=MOMENTUM)


def weights(network: nn.Module) -> list[Tensor]:
    return [parameter.detach().clone() for parameter in network.parameters()]


def test_groups_take_their_rate_and_small_parameters_no_decay() -> None:
    network = small_network()
    groups = parameter_groups(
        [network[:3].named_parameters(), network[4].named_parameters()], [1e-4, 1e-2], weight_decay=0.1
    )
    convolutions = [network[0].weight, network[2].weight]
    others = [network[1].weight, network[1].bias, network[2].bias]
    expected = [(1e-4, 0.1, convolutions), (1e-4, 0.0, others)]
    expected += [(1e-2, 0.1, [network[4].weight]), (1e-2, 0.0, [network[4].bias])]
    assert [(g["lr"], g["weight_decay"]) for g in groups] == [e[:2] for e in expected]
    assert [list(map(id, g["params"])) for g in groups] == [list(map(id, e[2])) for e in expected]


def test_frozen_parameters_and_empty_groups_are_left_out() -> None:
    network = small_network()
    network[:3].requires_grad_(False)
    groups = parameter_groups([network[:3].named_parameters(), network[4].named_parameters()], [1e-4, 1e-2], 0.1)
    assert [list(map(id, g["params"])) for g in groups] == [[id(network[4].weight)], [id(network[4].bias)]]
    with pytest.raises(ValueError, match="zip"):
        parameter_groups([network.named_parameters()], [1.0, 2.0], 0.1)


@pytest.mark.parametrize("kind", KINDS)
def test_frozen_stays_frozen(kind: str) -> None:
    network = small_network()
    network[:3].requires_grad_(False)
    before = weights(network)
    train(network, ours(kind, network), range(3))
    same = [torch.equal(a, b) for a, b in zip(before, weights(network), strict=True)]
    assert same == [True] * 5 + [False] * 2


def of_torch(kind: str, groups: list[dict[str, Any]]) -> Optimizer:
    betas = (MOMENTUM, 0.999)
    if kind == "adamw":
        return AdamW(groups, RATE, betas, foreach=False)
    if kind == "adam":
        return Adam(groups, RATE, betas, foreach=False)
    if kind == "nadam":
        return NAdam(groups, RATE, betas, foreach=False)
    if kind == "sgd":
        return SGD(groups, RATE, MOMENTUM, nesterov=True, foreach=False)
    return Adadelta(groups, RATE, MOMENTUM, foreach=False)


@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "muon"])
def test_steps_are_torchs(kind: str, channels_last: bool) -> None:
    network = small_network(channels_last)
    reference = copy.deepcopy(network)
    train(network, ours(kind, network), range(3))
    decayed = [p for p in reference.parameters() if p.ndim >= 2]
    plain = [p for p in reference.parameters() if p.ndim < 2]
    groups = [{"params": decayed, "weight_decay": DECAY}, {"params": plain, "weight_decay": 0.0}]
    train(reference, of_torch(kind, groups), range(3))
    torch.testing.assert_close(weights(network), weights(reference), rtol=1e-4, atol=1e-5)


def test_adamw_by_its_formula() -> None:
    """Loshchilov and Hutter 2019, algorithm 2, the first step, in plain numbers."""
    weight = nn.Parameter(torch.tensor([[2.0, -3.0]]))
    weight.grad = torch.tensor([[0.5, -0.1]])
    build_optimizer("adamw", [{"params": [weight], "lr": 0.1}], weight_decay=0.2, momentum=0.9).step()
    expected = [w - 0.1 * (g / (abs(g) + 1e-8) + 0.2 * w) for w, g in ((2.0, 0.5), (-3.0, -0.1))]
    assert weight.detach().flatten().tolist() == pytest.approx(expected)


def test_sgd_by_its_formula() -> None:
    weight = nn.Parameter(torch.tensor([[1.0, 1.0]]))
    optimizer = build_optimizer("sgd", [{"params": [weight], "lr": 0.1}], weight_decay=0.0, momentum=0.5)
    w, velocity = 1.0, 0.0
    for g in (0.5, -2.0, 1.0):
        weight.grad = torch.full((1, 2), g)
        optimizer.step()
        velocity = 0.5 * velocity + g
        w -= 0.1 * (g + 0.5 * velocity)
    assert weight.detach().flatten().tolist() == pytest.approx([w, w])


def through_a_file(state: dict[str, Any]) -> dict[str, Any]:
    """A state as a checkpoint stores it: contiguous tensors, groups as JSON."""
    stored = {
        number: {k: v.clone().contiguous() if isinstance(v, Tensor) else v for k, v in values.items()}
        for number, values in state["state"].items()
    }
    return {"state": stored, "param_groups": json.loads(json.dumps(state["param_groups"]))}


@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_resumes_bit_for_bit(kind: str, channels_last: bool) -> None:
    network = small_network(channels_last)
    optimizer = ours(kind, network)
    train(network, optimizer, range(3))
    other = copy.deepcopy(network)
    resumed = ours(kind, other)
    resumed.load_state_dict(through_a_file(optimizer.state_dict()))
    train(network, optimizer, range(3, 6))
    train(other, resumed, range(3, 6))
    assert all(torch.equal(a, b) for a, b in zip(weights(network), weights(other), strict=True))


@pytest.mark.parametrize("kind", KINDS)
def test_gradients_of_another_layout_are_no_other_gradients(kind: str) -> None:
    """Fused steps read memory without regard to strides."""
    found = []
    for layout in (torch.channels_last, torch.contiguous_format):
        weight = nn.Parameter(torch.arange(24.0).view(2, 3, 2, 2).to(memory_format=torch.channels_last))
        optimizer = build_optimizer(kind, [{"params": [weight], "lr": 0.1}])
        for step in range(2):
            gradient = torch.randn(2, 3, 2, 2, generator=torch.Generator().manual_seed(step))
            weight.grad = gradient.to(memory_format=layout)
            optimizer.step()
        found.append(weight.detach())
    assert torch.equal(*found)


@pytest.mark.parametrize("kind", KINDS)
def test_the_same_again_and_with_other_threads(kind: str) -> None:
    found = []
    before = torch.get_num_threads()
    try:
        # Products of matrices, which only muon has, may depend on the number of threads.
        for threads in (before, before, before if kind == "muon" else 1):
            torch.set_num_threads(threads)
            weight = nn.Parameter(torch.randn(513, 129, generator=torch.Generator().manual_seed(0)))
            optimizer = build_optimizer(kind, [{"params": [weight], "lr": 0.1}])
            for step in range(3):
                weight.grad = torch.randn(513, 129, generator=torch.Generator().manual_seed(step))
                optimizer.step()
            found.append(weight.detach())
    finally:
        torch.set_num_threads(before)
    assert torch.equal(found[0], found[1])
    assert torch.equal(found[0], found[2])


def test_rates_follow_a_factor_of_their_peak() -> None:
    network = small_network()
    groups = parameter_groups([network[:3].named_parameters(), network[4].named_parameters()], [1e-4, 1e-2], 0.1)
    optimizer = build_optimizer("adamw", groups)
    set_lrs(optimizer, 0.5)
    set_lrs(optimizer, 0.25)
    assert [group["lr"] for group in optimizer.param_groups] == pytest.approx([2.5e-5] * 2 + [2.5e-3] * 2)
    assert "initial_lr" not in groups[0]


def test_what_cannot_be_is_said() -> None:
    with pytest.raises(RecipeError, match="no optimizer 'lion'"):
        build_optimizer("lion", [{"params": [nn.Parameter(torch.zeros(1))], "lr": 0.1}])
    with pytest.raises(RecipeError, match="nothing to train"):
        build_optimizer("adamw", [])


@pytest.mark.parametrize("shape", [(8, 8), (5, 20), (20, 5)])
def test_muon_moves_along_an_orthogonal_matrix_of_the_gradients_space(shape: tuple[int, int]) -> None:
    weight = nn.Parameter(torch.zeros(shape))
    weight.grad = torch.randn(shape, generator=torch.Generator().manual_seed(1))
    u, _, v = torch.linalg.svd(weight.grad, full_matrices=False)
    MuonAdamW([{"params": [weight], "lr": 1.0}], weight_decay=0.0, momentum=0.9).step()
    moved = -weight.detach() / (0.2 * max(shape) ** 0.5)
    among = u.T @ moved @ v.T
    assert torch.linalg.svdvals(moved).max() < 1.3
    assert torch.linalg.svdvals(moved).min() > 0.3
    torch.testing.assert_close(among, torch.diag(among.diagonal()), atol=1e-4, rtol=0)
    assert (among.diagonal() > 0).all()


@pytest.mark.skipif(not hasattr(torch.optim, "Muon"), reason="needs a torch that has Muon (2.9)")
def test_muon_is_torchs_for_matrices() -> None:
    ours_, theirs = (nn.Parameter(torch.ones(6, 10)) for _ in range(2))
    mine = MuonAdamW([{"params": [ours_], "lr": 0.1}], weight_decay=0.1, momentum=0.9)
    other = torch.optim.Muon([theirs], 0.1, weight_decay=0.1, momentum=0.9, adjust_lr_fn="match_rms_adamw")
    for step in range(4):
        ours_.grad = torch.randn(6, 10, generator=torch.Generator().manual_seed(step))
        theirs.grad = ours_.grad.clone()
        mine.step()
        other.step()
    # Theirs computes in bfloat16, which has 8 bits.
    torch.testing.assert_close(ours_, theirs, atol=0.01, rtol=0)


def test_muon_reads_a_convolution_as_a_matrix() -> None:
    kernel, matrix = nn.Parameter(torch.ones(4, 3, 2, 2)), nn.Parameter(torch.ones(4, 12))
    optimizer = MuonAdamW([{"params": [kernel, matrix], "lr": 0.1}], weight_decay=0.0, momentum=0.9)
    for step in range(3):
        matrix.grad = torch.randn(4, 12, generator=torch.Generator().manual_seed(step))
        kernel.grad = matrix.grad.view(4, 3, 2, 2).clone()
        optimizer.step()
    assert torch.equal(kernel.flatten(1), matrix)


def test_muon_leaves_the_rest_to_adamw() -> None:
    found = []
    for build in ("muon", "adamw"):
        bias, depthwise = nn.Parameter(torch.ones(7)), nn.Parameter(torch.ones(6, 1, 3, 3))
        optimizer = build_optimizer(build, [{"params": [bias, depthwise], "lr": 0.1}], weight_decay=0.1)
        for step in range(3):
            generator = torch.Generator().manual_seed(step)
            bias.grad, depthwise.grad = (
                torch.randn(7, generator=generator),
                torch.randn(6, 1, 3, 3, generator=generator),
            )
            optimizer.step()
        found.append([bias.detach(), depthwise.detach()])
    torch.testing.assert_close(*found)
