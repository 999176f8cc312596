from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from torch import nn

from tellapart.errors import ModelError
from tellapart.models.create import create_network
from tellapart.models.layer_groups import (
    chain,
    cut_before,
    cut_points,
    layer_groups,
    split_backbone,
    train_last,
)
from tellapart.models.network import Network
from tellapart.models.scratch import OWN
from tellapart.recipe.schema import Data, Model

CUTTABLE = {
    "mobilenetv2_100": 15,
    "tf_mobilenetv3_small_100": 12,
    "resnet34": 16,
    "efficientnet_b0": 16,
    "convnext_atto": 12,
    "squeezenet1_1": 10,
    **dict.fromkeys(OWN, 3),
}


def group_parameters(network: Network) -> list[list[nn.Parameter]]:
    return [
        [p for name in group for p in network.get_submodule(name).parameters(recurse=False)]
        for group in layer_groups(network)
    ]


def build(name: str, size: int = 32) -> Network:
    return create_network(Model(name=name, pretrained=False), 3, Data(size=size))


@pytest.mark.parametrize("name", [*CUTTABLE, "test_vit", "shufflenet_v2_x0_5", "vit_b_32"])
def test_each_parameter_is_in_one_group_and_the_head_is_the_last(name: str) -> None:
    network = build(name, 224 if name == "vit_b_32" else 32)
    groups = group_parameters(network)
    together = [p for group in groups for p in group]
    assert len(together) == len(set(together))
    assert set(together) == set(network.parameters())
    assert groups[-1] == list(network.head.parameters())
    assert len(groups) >= (2 if name == "mlp" else 3)
    names = [module for group in layer_groups(network) for module in group]
    assert len(names) == len(set(names))


@pytest.mark.parametrize("name", ["resnet34", "mobilenetv2_100", "squeezenet1_1", "small-cnn"])
def test_groups_run_from_input_to_head(name: str) -> None:
    """A gradient that stops before group i reaches all groups from i on and none before: order by effect."""
    network = build(name)
    order: list[int] = []
    number = {module: i for i, group in enumerate(layer_groups(network)) for module in group}

    def note(module: str) -> None:
        order.append(number[module])

    hooks = [
        m.register_forward_pre_hook(lambda *_, n=n: note(n))
        for n, m in network.named_modules()
        if n in number and any(True for _ in m.parameters(recurse=False))
    ]
    network.eval()(torch.zeros(1, 32, 32, 3, dtype=torch.uint8))
    for hook in hooks:
        hook.remove()
    assert all(a <= b for a, b in pairwise(order))
    assert set(order) == set(range(len(layer_groups(network))))


def test_stages_are_groups() -> None:
    groups = layer_groups(build("resnet34"))
    assert [group[0] for group in groups] == ["backbone.conv1", *(f"backbone.layer{i}" for i in range(1, 5)), "head"]


@pytest.mark.parametrize("name", ["test_resnet", "small-cnn", "cnn8"])
def test_frozen_means_frozen_bit_for_bit(name: str) -> None:
    network = build(name)
    before = {k: v.clone() for k, v in network.state_dict().items()}
    for n in (1, 2, len(layer_groups(network))):
        network.load_state_dict(before)
        train_last(network, n)
        optimizer = torch.optim.SGD((p for p in network.parameters() if p.requires_grad), 0.1)
        pictures = torch.randint(0, 256, (8, 32, 32, 3), dtype=torch.uint8)
        network(pictures).square().sum().backward()
        optimizer.step()
        optimizer.zero_grad()
        changed = {k.rpartition(".")[0] for k, v in network.state_dict().items() if not torch.equal(v, before[k])}
        groups = layer_groups(network)
        frozen = {module for group in groups[: len(groups) - n] for module in group}
        assert not changed & frozen
        assert changed & set(groups[-n])


def test_dropout_of_frozen_groups_is_off() -> None:
    network = build("cnn8")
    train_last(network, 3)
    on = [name for name, m in network.named_modules() if isinstance(m, nn.Dropout) and m.training]
    assert on == ["backbone.pair4.2", "backbone.pair4.5", "backbone.fc.2"]


@pytest.mark.parametrize("n", [0, 7])
def test_a_number_of_groups_that_there_is_not(n: int) -> None:
    with pytest.raises(ModelError, match="has 6"):
        train_last(build("small-cnn"), n)


@pytest.mark.parametrize("name", CUTTABLE)
def test_pieces_give_what_the_whole_gives(name: str) -> None:
    network = build(name).eval()
    points = cut_points(network)
    assert len(points) >= CUTTABLE[name]
    x = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        whole = network.backbone(x.clone())
        for at in (points[0], points[len(points) // 2], points[-1]):
            first, rest = split_backbone(network, at)
            stored = first(x.clone())
            kept = stored.clone()
            assert torch.equal(rest(stored), whole), at
            assert torch.equal(stored, kept), f"{at} changes what was stored"
    assert set(first.parameters()) | set(rest.parameters()) == set(network.backbone.parameters())


def test_pieces_train_as_the_whole_does() -> None:
    network = build("test_efficientnet").train()
    x = torch.randn(4, 3, 32, 32)
    network.backbone(x).sum().backward()
    expected = {k: p.grad.clone() for k, p in network.backbone.named_parameters() if p.grad is not None}
    network.zero_grad()
    first, rest = split_backbone(network, cut_points(network)[4])
    rest(first(x)).sum().backward()
    for key, parameter in network.backbone.named_parameters():
        torch.testing.assert_close(parameter.grad, expected[key])


def test_finding_the_chain_leaves_no_trace() -> None:
    network = build("cnn8").train()
    before = {k: v.clone() for k, v in network.state_dict().items()}
    state = torch.get_rng_state()
    cut_points(network)
    assert torch.equal(torch.get_rng_state(), state)
    assert all(module.training for module in network.modules())
    assert all(torch.equal(v, before[k]) for k, v in network.state_dict().items())


def test_what_is_no_chain_stays_whole() -> None:
    network = build("test_vit")
    example = torch.randn(2, 3, 32, 32)
    assert chain(network.backbone, example) == [("", network.backbone)]
    assert cut_points(network) == []
    assert cut_before(network, 2) is None
    with pytest.raises(ModelError, match="cannot be cut at all"):
        split_backbone(network, "blocks.1")


class ActsInPlaceAndDropsInSecret(nn.Module):
    """In evaluation mode its children are a chain; in training mode they are not."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.act, self.pool = nn.Conv2d(3, 4, 3), nn.ReLU(inplace=True), nn.AdaptiveAvgPool2d(1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.pool(nn.functional.dropout(self.act(self.conv(x)), 0.5, self.training))  # type: ignore[no-any-return]


def test_a_chain_in_evaluation_mode_alone_is_none() -> None:
    backbone = ActsInPlaceAndDropsInSecret()
    assert chain(backbone, torch.randn(2, 3, 8, 8)) == [("", backbone)]


def test_no_cut_before_a_module_that_spoils_its_input() -> None:
    network = build("resnet34")
    assert "bn1" in cut_points(network)
    assert "act1" not in cut_points(network)
    with pytest.raises(ModelError, match=r"cannot be cut before 'act1'"):
        split_backbone(network, "act1")


@pytest.mark.parametrize("name", ["mobilenetv2_100", "resnet34", "squeezenet1_1", "small-cnn", "cnn8"])
def test_the_cut_before_the_groups_that_learn(name: str) -> None:
    network = build(name)
    groups = group_parameters(network)
    assert cut_before(network, len(groups)) is None
    for n in (2, 3):
        at = cut_before(network, n)
        assert at is not None
        first, rest = split_backbone(network, at)
        frozen = {p for group in groups[: len(groups) - n] for p in group}
        learning = {p for group in groups[len(groups) - n : -1] for p in group}
        assert set(first.parameters()) == frozen
        assert set(rest.parameters()) == learning
