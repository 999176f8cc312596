from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from tellapart.errors import ModelError
from tellapart.models.create import create_network
from tellapart.models.scratch import OWN, build_own
from tellapart.recipe.schema import Data, Model


def layers(backbone: nn.Module, *kinds: type[nn.Module]) -> list[nn.Module]:
    return [m for m in backbone.modules() if isinstance(m, kinds)]


@pytest.mark.parametrize("name", OWN)
@pytest.mark.parametrize("height", [None, 32, 49])
def test_any_size_from_the_smallest_gives_features(name: str, height: int | None) -> None:
    height = height or OWN[name].smallest
    width = height + 5
    features = build_own(name, height, width).eval()(torch.randn(2, 3, height, width))
    assert features.ndim == 2
    assert features.shape[0] == 2


@pytest.mark.parametrize("name", [n for n in OWN if OWN[n].smallest > 1])
def test_too_small_a_picture_is_an_error_that_says_what_works(name: str) -> None:
    smallest = OWN[name].smallest
    with pytest.raises(ModelError, match=f"smallest size that works is {smallest}"):
        build_own(name, smallest + 5, smallest - 1)


def test_mlp_is_the_270000_255_scheme() -> None:
    (linear,) = layers(build_own("mlp", 300, 300), nn.Linear)
    assert linear.weight.shape == (255, 270_000)


def test_tutorial_cnn_is_the_tutorials_network() -> None:
    """The definition of PyTorch's tutorial, written as there, gives the same from the same weights."""
    backbone = build_own("tutorial-cnn", 32, 32)
    conv1, conv2, fc1, fc2 = layers(backbone, nn.Conv2d, nn.Linear)
    assert (conv1.weight.shape, conv2.weight.shape) == ((6, 3, 5, 5), (16, 6, 5, 5))
    assert (fc1.weight.shape, fc2.weight.shape) == ((120, 400), (84, 120))
    x = torch.randn(2, 3, 32, 32)
    y = F.max_pool2d(F.relu(conv1(x)), 2)
    y = F.max_pool2d(F.relu(conv2(y)), 2)
    y = F.relu(fc2(F.relu(fc1(torch.flatten(y, 1)))))
    torch.testing.assert_close(backbone.eval()(x), y)


def test_tutorial_cnn_at_300_pixels_grows_its_first_linear_layer() -> None:
    linear = layers(build_own("tutorial-cnn", 300, 300), nn.Linear)[0]
    assert linear.weight.shape == (120, 82_944)


def test_cnn8_is_the_reports_network() -> None:
    backbone = build_own("cnn8", 32, 32)
    assert [m.out_channels for m in layers(backbone, nn.Conv2d)] == [16, 16, 32, 32, 64, 64, 128, 128]  # type: ignore
    after = [type(m).__name__ for m in backbone[0]]
    assert after == ["Conv2d", "ReLU", "Dropout", "BatchNorm2d"] * 2 + ["MaxPool2d"]
    assert [m.p for m in layers(backbone, nn.Dropout)] == [0.2] * 8
    (linear,) = layers(backbone, nn.Linear)
    assert linear.weight.shape == (128, 512)


def test_breeds_cnn_is_the_reports_network() -> None:
    backbone = build_own("breeds-cnn", 96, 96)
    assert [m.out_channels for m in layers(backbone, nn.Conv2d)] == [32, 64, 64]  # type: ignore
    assert [m.p for m in layers(backbone, nn.Dropout)] == [0.2]
    assert backbone(torch.randn(1, 3, 96, 96)).shape == (1, 64)


@pytest.mark.parametrize("name", OWN)
def test_dropout_of_the_recipe_goes_before_the_networks_own(name: str) -> None:
    network = create_network(Model(name=name, pretrained=False, dropout=0.45), 3, Data(size=32))
    assert {m.p for m in layers(network.backbone, nn.Dropout)} == {0.45}


@pytest.mark.slow
def test_small_cnn_learns_digits() -> None:
    from sklearn.datasets import load_digits

    digits = load_digits()
    grey = torch.tensor(digits.images * (255 / 16)).round().to(torch.uint8)
    x, y = grey[..., None].expand(-1, -1, -1, 3), torch.tensor(digits.target)
    order = torch.randperm(len(y))
    train, test = order[:1400], order[1400:]
    network = create_network(Model(name="small-cnn", pretrained=False), 10, Data(size=8))
    epochs = 4
    optimizer = torch.optim.AdamW(network.parameters())
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 4e-3, epochs * 22)
    for _ in range(epochs):
        for rows in train[torch.randperm(len(train))].split(64):
            loss = F.cross_entropy(network(x[rows]), y[rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    network.eval()
    with torch.no_grad():
        accuracy = (network(x[test]).argmax(1) == y[test]).float().mean()
    assert accuracy >= 0.97
