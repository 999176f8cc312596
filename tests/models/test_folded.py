from __future__ import annotations

import pytest
import timm
import torch
from torch import Tensor, nn

from tellapart.models.folded import TOLERANCE, folded


def unsettled(network: nn.Module) -> nn.Module:
    """Batch norms as after a training: statistics, scales and shifts far from 0 and 1."""
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            assert module.running_mean is not None
            assert module.running_var is not None
            nn.init.normal_(module.running_mean, std=0.3)
            nn.init.uniform_(module.running_var, 0.5, 2)
            if module.affine:
                nn.init.uniform_(module.weight, 0.5, 1.5)
                nn.init.normal_(module.bias, std=0.3)
    return network


def norms(network: nn.Module) -> list[str]:
    return [name for name, module in network.named_modules() if isinstance(module, nn.BatchNorm2d)]


@torch.no_grad()
def far(one: nn.Module, other: nn.Module, x: Tensor) -> float:
    """Largest difference of answers, relative to their largest value."""
    expected = one(x)
    return float((expected - other(x)).abs().max() / expected.abs().max())


@pytest.mark.parametrize("name", ["mobilenetv2_100", "resnet18", "efficientnet_b0", "densenet121"])
def test_a_folded_network_answers_as_the_plain_one(name: str) -> None:
    network = unsettled(timm.create_model(name, pretrained=False, num_classes=0))
    before = {key: value.clone() for key, value in network.state_dict().items()}
    fast = folded(network, torch.randn(2, 3, 64, 64))
    assert far(network.eval(), fast, torch.randn(3, 3, 96, 64)) < TOLERANCE
    if name != "densenet121":  # there, norms stand before their convolutions
        assert norms(fast) == []
    assert len(norms(fast)) < len(norms(network))
    assert all(torch.equal(value, before[key]) for key, value in network.state_dict().items())


def test_the_network_itself_is_left_as_it_is() -> None:
    network = unsettled(timm.create_model("resnet18", pretrained=False, num_classes=0)).train()
    fast = folded(network, torch.randn(2, 3, 32, 32))
    assert all(module.training for module in network.modules())
    assert all(p.requires_grad for p in network.parameters())
    assert not any(module.training for module in fast.modules())
    assert not any(p.requires_grad for p in fast.parameters())
    assert not set(fast.parameters()) & set(network.parameters())


def test_answers_do_not_depend_on_the_batch() -> None:
    network = unsettled(nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU()))
    x = torch.randn(5, 3, 8, 8)
    fast = folded(network, x)
    with torch.no_grad():
        torch.testing.assert_close(fast(x)[:1], fast(x[:1]))


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("affine", [True, False])
@pytest.mark.parametrize("groups", [1, 4])
def test_kinds_of_convolutions_and_norms(bias: bool, affine: bool, groups: int) -> None:
    convolution = nn.Conv2d(4, 8, 3, stride=2, padding=1, groups=groups, bias=bias)
    network = unsettled(nn.Sequential(convolution, nn.BatchNorm2d(8, eps=0.1, affine=affine), nn.Hardswish()))
    fast = folded(network, torch.randn(2, 4, 8, 8))
    assert norms(fast) == []
    assert far(network.eval(), fast, torch.randn(2, 4, 9, 9)) < 1e-5


def test_norms_with_an_activation_keep_it() -> None:
    norm = timm.layers.BatchNormAct2d(4, act_layer=nn.SiLU)
    network = unsettled(nn.Sequential(nn.Conv2d(3, 4, 3), norm))
    fast = folded(network, torch.randn(2, 3, 8, 8))
    assert norms(fast) == []
    assert any(isinstance(module, nn.SiLU) for module in fast.modules())
    assert far(network.eval(), fast, torch.randn(2, 3, 8, 8)) < 1e-5


class Deceptive(nn.Module):
    """Defined side by side, but the norm stands elsewhere; a sound pair follows within `block`."""

    def __init__(self) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(4, 4, 3, padding=1)
        self.norm = nn.BatchNorm2d(4)
        self.block = nn.Sequential(nn.Conv2d(4, 4, 3, padding=1), nn.BatchNorm2d(4))

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm(torch.relu(self.convolution(x)))
        return self.block(x)


class Before(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(4, 4, 1)
        self.norm = nn.BatchNorm2d(4)

    def forward(self, x: Tensor) -> Tensor:
        return self.convolution(self.norm(x))


class Shared(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(4, 4, 1)
        self.norm = nn.BatchNorm2d(4)

    def forward(self, x: Tensor) -> Tensor:
        return self.convolution(self.norm(self.convolution(x)))


@pytest.mark.parametrize("kind", [Deceptive, Before, Shared])
def test_where_the_guess_is_wrong_the_copy_is_plain(kind: type[nn.Module]) -> None:
    network = unsettled(kind())
    plain = folded(network, torch.randn(2, 4, 8, 8))
    assert norms(plain) == norms(network)
    assert far(network.eval(), plain, torch.randn(2, 4, 8, 8)) == 0
    assert plain is not network


@pytest.mark.parametrize(
    "network",
    [
        nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4, track_running_stats=False)),
        nn.Sequential(nn.Conv2d(3, 4, 1), nn.PReLU(), nn.BatchNorm2d(4)),
        nn.Sequential(nn.BatchNorm2d(3), nn.Conv2d(3, 4, 1)),
        nn.Sequential(nn.ConvTranspose2d(3, 4, 2), nn.BatchNorm2d(4)),
        nn.Sequential(nn.Conv2d(3, 4, 1), nn.Flatten(), nn.LayerNorm(4 * 64)),
    ],
)
def test_what_cannot_be_folded_stays(network: nn.Module) -> None:
    plain = folded(network, torch.randn(2, 3, 8, 8))
    x = torch.randn(2, 3, 8, 8)
    assert [type(module) for module in plain.modules()] == [type(module) for module in network.modules()]
    assert far(network.eval(), plain, x) == 0
