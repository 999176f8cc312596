from __future__ import annotations

import copy

import pytest
import timm
import torch
from torch import Tensor, nn

from tellapart.training.fast.fuse_batchnorm import TOLERANCE, folded, learning


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
    fast = folded(network, torch.randn(2, 3, 32, 32))
    assert far(network.eval(), fast, torch.randn(3, 3, 64, 32)) < TOLERANCE
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


def keeping(network: nn.Module) -> nn.Module:
    """In training mode, but for its batch norms."""
    for module in unsettled(network).train().modules():
        if isinstance(module, nn.BatchNorm2d):
            module.eval()
    return network


def gradients(run: nn.Module, network: nn.Module, x: Tensor) -> dict[str, Tensor]:
    network.zero_grad()
    torch.manual_seed(0)  # for dropout
    run(x).square().sum().backward()
    return {name: p.grad.clone() for name, p in network.named_parameters() if p.grad is not None}


def n_joined(network: nn.Module) -> int:
    return len([module for module in network.modules() if type(module).__name__ == "_Joined"])


@pytest.mark.parametrize("name", ["mobilenetv2_100", "mobilenetv3_small_100", "efficientnet_b0"])
def test_activations_that_would_be_copied_do_not_work_in_place(name: str) -> None:
    """The same to the bit, in fewer operations; statistics that a step takes are the network's."""
    torch.manual_seed(0)
    network = timm.create_model(name, pretrained=False, num_classes=3).train()
    other = copy.deepcopy(network)
    x = torch.randn(4, 3, 32, 32)
    fast = learning(network, x)
    for one, two in ((fast, network), (other, other)):
        with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as seen:
            found = gradients(one, two, x)
        copies = sum(event.count for event in seen.key_averages() if event.key == "aten::clone")
        if one is fast:
            expected, fewer = found, copies
    assert fewer < copies
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[key], value) for key, value in expected.items())
    assert all(torch.equal(value, other.state_dict()[key]) for key, value in network.state_dict().items())
    assert any(getattr(module, "inplace", False) for module in network.modules())  # left as it is


def test_what_rests_on_working_in_place_is_left_alone() -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.act = nn.Conv2d(3, 3, 1), nn.SiLU(inplace=True)

        def forward(self, x: Tensor) -> Tensor:
            x = self.conv(x)
            result: Tensor = self.act(x) + x
            return result

    network = Twice()
    assert learning(network, torch.randn(2, 3, 8, 8)) is network


@pytest.mark.parametrize("name", ["mobilenetv2_100", "resnet18", "efficientnet_b0", "densenet121"])
def test_joined_layers_have_the_gradients_of_the_plain_ones(name: str) -> None:
    torch.manual_seed(0)
    network = keeping(timm.create_model(name, pretrained=False, num_classes=3, drop_rate=0.2)).double()
    x = torch.randn(3, 3, 32, 32, dtype=torch.float64)
    expected = gradients(network, network, x)
    fast = learning(network.float(), x.float())
    assert fast is not network
    if name != "densenet121":
        assert n_joined(fast) == len(norms(network))
    found = gradients(fast.double(), network.double(), x)
    assert found.keys() == expected.keys()
    for key, value in expected.items():
        assert (found[key] - value).abs().max() <= 1e-6 * value.abs().max() + 1e-9, key


def test_joined_layers_see_every_step_of_the_network_and_leave_it_as_it_is() -> None:
    network = keeping(nn.Sequential(nn.Conv2d(3, 4, 3, bias=True), nn.BatchNorm2d(4), nn.ReLU(), nn.Dropout(0.5)))
    before = {key: value.clone() for key, value in network.state_dict().items()}
    x = torch.randn(4, 3, 8, 8)
    names, state = [name for name, _ in network.named_modules()], torch.get_rng_state()
    fast = learning(network, x)
    assert torch.equal(torch.get_rng_state(), state)
    assert [name for name, _ in network.named_modules()] == names
    assert all(torch.equal(value, before[key]) for key, value in network.state_dict().items())
    with torch.no_grad():
        for p in network.parameters():
            p.add_(0.5)
    assert far(network[:3], fast[:3], x) < TOLERANCE


def test_norms_that_take_statistics_are_not_joined() -> None:
    network = unsettled(nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Conv2d(4, 4, 3), nn.BatchNorm2d(4)))
    network.train()
    x = torch.randn(4, 3, 8, 8)
    assert learning(network, x) is network
    network[1].eval()
    before = {key: value.clone() for key, value in network.state_dict().items()}
    fast = learning(network, x)
    assert norms(fast) == ["0.norm", "3"]
    assert all(torch.equal(value, before[key]) for key, value in network.state_dict().items())
    fast(x)
    assert not torch.equal(network.state_dict()["3.running_mean"], before["3.running_mean"])


def test_what_other_norms_make_of_few_pictures_does_not_decide() -> None:
    """Statistics of two pictures that are nearly alike are mostly rounding: whether to join would be chance."""
    behind = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.BatchNorm2d(4, eps=1e-12))
    network = unsettled(nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), behind)).train()
    network[1].eval()
    for seed in range(5):
        torch.manual_seed(seed)
        x = torch.randn(1, 3, 8, 8) + 1e-5 * torch.randn(2, 3, 8, 8)
        fast = learning(network, x)
        assert fast is not network
        assert fast[2][1].training
        assert network[2][1].training


def test_a_norm_that_does_not_follow_its_convolution_is_left_alone() -> None:
    class Otherwise(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.norm = nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3)

        def forward(self, x: Tensor) -> Tensor:
            result: Tensor = self.conv(self.norm(x).relu())
            return result

    network = keeping(Otherwise())
    assert learning(network, torch.randn(2, 3, 8, 8)) is network


def test_convolutions_with_a_padding_of_their_own_keep_it() -> None:
    """TensorFlow's "same" padding, which timm's own kind of convolution does when it is called."""
    network = keeping(timm.create_model("tf_mobilenetv3_small_100", pretrained=False, num_classes=3)).eval()
    x = torch.randn(2, 3, 65, 65)
    fast = learning(network, x)
    assert fast is not network
    assert n_joined(fast) > 10
    assert far(network, fast, x) < TOLERANCE
