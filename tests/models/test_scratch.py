from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from pydantic import ValidationError
from torch import nn

from tellapart.errors import ModelError
from tellapart.models.create import create_network, rebuild
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


@pytest.mark.parametrize(
    ("name", "size", "n_classes", "by_layer"),
    [
        ("mlp", 300, 3, [68_850_255, 768]),
        ("tutorial-cnn", 300, 3, [456, 2_416, 9_953_400, 10_164, 255]),
        ("breeds-cnn", 160, 37, [896, 18_496, 36_928, 5_308_480, 2_405]),
    ],
)
def test_as_many_weights_as_in_the_published_listing(name: str, size: int, n_classes: int, by_layer: list[int]) -> None:
    network = create_network(Model(name=name, pretrained=False), n_classes, Data(size=size))
    assert [sum(p.numel() for p in m.parameters()) for m in layers(network, nn.Conv2d, nn.Linear)] == by_layer
    assert sum(p.numel() for p in network.parameters()) == sum(by_layer)
    total = {"mlp": 68_851_023, "tutorial-cnn": 9_966_691, "breeds-cnn": 5_367_205}
    assert sum(by_layer) == total[name]


def test_breeds_cnn_sees_160_pixels_unless_the_recipe_says_otherwise() -> None:
    assert create_network(Model(name="breeds-cnn", pretrained=False), 37, Data()).preprocessing.height == 160


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


def in_order(backbone: nn.Module) -> list[str]:
    """Kinds of the layers without inner ones, in the order in which they run."""
    return [type(m).__name__ for m in backbone.modules() if not list(m.children())]


def test_tutorial_cnn_has_dropout_after_the_last_pooling_and_the_second_linear_layer() -> None:
    convolution, norm = ["Conv2d", "ReLU", "MaxPool2d"], ["Conv2d", "BatchNorm2d", "ReLU", "MaxPool2d"]
    rest = ["Dropout", "Flatten", "Linear", "ReLU", "Linear", "ReLU", "Dropout"]
    assert in_order(build_own("tutorial-cnn", 32, 32)) == 2 * convolution + rest
    assert in_order(build_own("tutorial-cnn", 32, 32, batch_norm=True)) == 2 * norm + rest


def test_batch_norm_is_an_option_of_the_tutorial_network_alone() -> None:
    network = create_network(Model(name="tutorial-cnn", pretrained=False, batch_norm=True), 3, Data(size=32))
    assert network.architecture.options["batch_norm"]
    assert len(layers(network, nn.BatchNorm2d)) == 2
    assert layers(rebuild(network.architecture), nn.BatchNorm2d)
    for name in ("cnn8", "small-cnn", "mobilenetv2_100"):
        with pytest.raises(ValidationError, match="tutorial-cnn"):
            Model(name=name, batch_norm=True)
    with pytest.raises(ModelError, match="batch norm"):
        create_network(Model(name="tutorial-cnn", pretrained=False, batch_norm=True, layout=1), 3, Data(size=32))


def test_cnn8_is_the_reports_network() -> None:
    backbone = build_own("cnn8", 32, 32)
    assert [m.out_channels for m in layers(backbone, nn.Conv2d)] == [16, 16, 32, 32, 64, 64, 128, 128]  # type: ignore
    convolution, last = ["Conv2d", "ReLU", "Dropout", "BatchNorm2d"], ["Conv2d", "Dropout", "ReLU", "BatchNorm2d"]
    pairs = 3 * (2 * convolution + ["MaxPool2d"]) + convolution + last + ["MaxPool2d"]
    assert in_order(backbone) == [*pairs, "Flatten", "Linear", "ReLU", "Dropout"]
    assert [m.p for m in layers(backbone, nn.Dropout)] == [0.2] * 9
    (linear,) = layers(backbone, nn.Linear)
    assert linear.weight.shape == (128, 512)


def test_breeds_cnn_is_the_reports_network() -> None:
    backbone = build_own("breeds-cnn", 96, 96)
    assert [(m.out_channels, m.padding) for m in layers(backbone, nn.Conv2d)] == [  # type: ignore[attr-defined]
        (32, (0, 0)),
        (64, (0, 0)),
        (64, (0, 0)),
    ]
    pooled = ["Conv2d", "ReLU", "MaxPool2d"]
    assert in_order(backbone) == 2 * pooled + ["Conv2d", "ReLU", "Dropout", "Flatten", "Linear", "ReLU"]
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
