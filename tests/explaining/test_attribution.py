"""Maps of what speaks for a class, on networks whose decision is known, and on all kinds of backbones."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from tellapart.core.preprocess import Pixels, Preprocessing
from tellapart.errors import ModelError
from tellapart.explaining.attribution import (
    GRAD_CAM,
    INTEGRATED,
    METHODS,
    _map_layers,
    agreement_with_random,
    attribute,
    with_random_weights,
)
from tellapart.explaining.overlay import heat
from tellapart.models.architecture import Architecture, Source
from tellapart.models.create import create_network, rebuild
from tellapart.models.network import Network
from tellapart.recipe.schema import Data, Head, Model

PLAIN = Preprocessing(32, 32, mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))


def own(name: str, size: int = 32) -> Network:
    torch.manual_seed(3)
    return rebuild(Architecture("own", name, Head(), 3, Preprocessing(size, size)))


def pictures(n: int = 2, size: int = 32) -> Pixels:
    return np.random.default_rng(1).integers(0, 256, (n, size, size, 3), np.uint8)


def colour_finder() -> Network:
    """Class 0 is as likely as there is red, class 1 as there is green, class 2 as there is blue."""
    finder = nn.Conv2d(3, 3, 4, stride=4)
    head = nn.Sequential(nn.Linear(3, 3))
    with torch.no_grad():
        finder.weight.copy_((torch.eye(3) - 0.5)[:, :, None, None].expand_as(finder.weight) / 8)
        finder.bias.zero_()
        head[0].weight.copy_(torch.eye(3))
        head[0].bias.zero_()
    backbone = nn.Sequential(finder, nn.ReLU(inplace=True), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    return Network(backbone, head, Architecture("own", "finder", Head(), 3, PLAIN), 3, "made").eval()


@pytest.mark.parametrize("method", METHODS)
def test_a_map_points_at_what_the_class_is_told_by(method: str) -> None:
    if method == INTEGRATED:
        pytest.importorskip("captum")
    network = colour_finder().train()
    picture = np.full((32, 32, 3), 60, np.uint8)
    picture[4:12, 4:12] = (255, 0, 0)
    picture[20:28, 16:24] = (0, 255, 0)
    found = heat(attribute(network, np.stack([picture, picture]), np.array([0, 1]), method))
    assert found.shape == (2, 32, 32)
    assert found.dtype == np.float32
    red, green = np.zeros((32, 32), bool), np.zeros((32, 32), bool)
    red[4:12, 4:12], green[20:28, 16:24] = True, True
    assert found[0][red].mean() > 4 * found[0][~red].mean()
    assert found[1][green].mean() > 4 * found[1][~green].mean()
    assert network.training
    assert all(parameter.grad is None for parameter in network.parameters())


def test_grad_cam_adds_up_to_the_logit_where_the_head_is_linear() -> None:
    """Class activation mapping (Zhou et al., 2016): a linear head on averaged maps divides its logit among places."""
    network = own("small-cnn", 64).eval()
    seen = pictures(3, 64)
    with torch.no_grad():
        logits = network(torch.from_numpy(seen)).numpy() - network.head[-1].bias.numpy()
    found = attribute(network, seen, np.array([2, 0, 1]))
    np.testing.assert_allclose(found.mean(axis=(1, 2)), logits[[0, 1, 2], [2, 0, 1]], rtol=0.25, atol=0.02)


def test_grad_cam_as_captum_has_it() -> None:
    captum = pytest.importorskip("captum.attr")
    network = own("small-cnn", 64).eval()
    seen, classes = pictures(2, 64), np.array([1, 2])
    found = attribute(network, seen, classes)
    theirs = captum.LayerGradCam(network, network.backbone.stage4).attribute(
        torch.from_numpy(seen).float(), torch.from_numpy(classes)
    )
    theirs = captum.LayerAttribution.interpolate(theirs, (64, 64), "bilinear")[:, 0].detach().numpy()
    assert _map_layers(network, seen[:1]) == ("stage4",)
    cells = 16  # captum weighs by the mean of the gradient, here it is the sum
    np.testing.assert_allclose(found, cells * theirs, rtol=1e-3, atol=1e-5)


def test_integrated_gradients_add_up_to_the_difference() -> None:
    pytest.importorskip("captum")
    network, seen = own("breeds-cnn").eval(), pictures(2)
    found = attribute(network, seen, np.array([0, 2]), INTEGRATED)
    empty = np.broadcast_to(seen.mean(axis=(1, 2), keepdims=True), seen.shape).astype(np.float32)
    with torch.no_grad():
        full, none = network(torch.from_numpy(seen)), network(torch.from_numpy(empty))
    gain = (full - none).numpy()[[0, 1], [0, 2]]
    np.testing.assert_allclose(found.sum(axis=(1, 2)), gain, rtol=0.05, atol=0.01)


@pytest.mark.parametrize(
    ("name", "place"),
    [("small-cnn", "stage3"), ("tutorial-cnn", "conv2"), ("cnn8", "pair4.7"), ("breeds-cnn", "conv3")],
)
def test_the_last_map_of_our_own_networks(name: str, place: str) -> None:
    assert _map_layers(own(name).eval(), pictures(1)) == (place,)


@pytest.mark.parametrize(
    ("source", "name", "size", "ends"),
    [
        ("timm", "test_resnet", 160, "layer4"),
        ("timm", "test_efficientnet", 160, "bn2"),
        ("timm", "test_vit", 160, "norm1"),  # a class token: the last block's other tokens are not used
        ("timm", "test_vit3", 160, "norm"),
        ("timm", "test_convnext", 160, "stages"),
        pytest.param("timm", "test_maxvit", 160, "norm", marks=pytest.mark.slow),
        ("torchvision", "squeezenet1_1", 96, "features"),
    ],
)
def test_the_last_map_of_other_networks(source: Source, name: str, size: int, ends: str) -> None:
    torch.manual_seed(0)
    network = rebuild(Architecture(source, name, Head(), 3, Preprocessing(size, size))).eval()
    (place,) = _map_layers(network, pictures(1, size))
    assert ends in place
    found = attribute(network, pictures(1, size), np.array([1]))
    assert found.shape == (1, size, size)
    assert found.any()


def test_an_ensemble_shows_all_its_bodies() -> None:
    torch.manual_seed(0)
    members = [{"name": "small-cnn", "pretrained": False}, {"name": "cnn8", "pretrained": False}]
    network = create_network(Model(name="ensemble", members=members), 3, Data(size=32)).eval()
    assert [place.split(".")[1] for place in _map_layers(network, pictures(1))] == ["0", "1"]
    assert attribute(network, pictures(2), np.array([0, 1])).any()


def test_no_map_is_said_in_words() -> None:
    with pytest.raises(ModelError, match="no layer with rows and columns") as error:
        attribute(own("mlp"), pictures(1), np.array([0]))
    assert "integrated-gradients" in error.value.hint
    assert attribute(own("mlp"), pictures(0), np.zeros(0, np.int64), GRAD_CAM).shape == (0, 32, 32)


def test_random_weights_change_the_map() -> None:
    """The check itself: it passes for a network that has learned, and fails for one that maps by its build alone."""
    picture = pictures(3)
    learned = own("small-cnn").eval()
    before = torch.get_rng_state()
    others = [with_random_weights(learned, seed) for seed in (0, 1)]
    assert torch.equal(before, torch.get_rng_state())
    assert not torch.equal(others[0].head[-1].weight, others[1].head[-1].weight)
    assert abs(agreement_with_random(learned, picture, np.array([0, 1, 2]))) < 0.5
    assert agreement_with_random(others[0], picture, np.array([0, 1, 2]), n_random=1) > 0.999
