"""Backbones side by side: each gives the features that it gives alone."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from torch import nn

from tellapart.core.preprocess import Preprocessing
from tellapart.deploy.bundle.read import Bundle
from tellapart.deploy.bundle.write import write_bundle
from tellapart.evaluation.calibration_summary import Certainty
from tellapart.models.architecture import Architecture
from tellapart.models.create import create_network
from tellapart.models.ensemble import SideBySide, shared_preprocessing
from tellapart.models.heads import ResizeInside
from tellapart.models.layer_groups import layer_groups, train_last
from tellapart.models.network import Network
from tellapart.models.scratch import build_own
from tellapart.recipe.networks import Member
from tellapart.recipe.schema import Data, Head, Model

IMAGENET = Preprocessing(32, 32)
HALVES = replace(IMAGENET, mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))
CLIP = replace(IMAGENET, mean=(0.48145466, 0.4578275, 0.40821073), std=(0.26862954, 0.26130258, 0.27577711), crop=0.9)
PLAIN = replace(IMAGENET, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))
PICTURES = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (5, 32, 32, 3), np.uint8))


def network(backbone: nn.Module, preprocessing: Preprocessing, n_features: int) -> Network:
    """A network of three classes on any backbone."""
    architecture = Architecture("own", "small-cnn", Head(), 3, preprocessing)
    return Network(backbone, nn.Linear(n_features, 3), architecture, n_features, "random initial weights").eval()


def features(network: Network, pictures: torch.Tensor) -> torch.Tensor:
    with torch.inference_mode():
        result: torch.Tensor = network.backbone(network.normalise(pictures))
    return result


def ensemble(backbones: list[nn.Module], hows: list[Preprocessing], n_features: int) -> Network:
    shared = shared_preprocessing(hows)
    return network(SideBySide(backbones, hows, shared), shared, n_features)


@pytest.mark.parametrize("hows", [[IMAGENET] * 3, [IMAGENET, HALVES, CLIP], [PLAIN, PLAIN, HALVES]])
def test_features_are_those_of_each_alone_bit_for_bit(hows):
    backbones = [build_own(name, 32, 32).eval() for name in ("small-cnn", "cnn8", "breeds-cnn")]
    together = features(ensemble(backbones, hows, 448), PICTURES)
    alone = [
        features(network(backbone, preprocessing, 1), PICTURES)
        for backbone, preprocessing in zip(backbones, hows, strict=True)
    ]
    assert torch.equal(together, torch.cat(alone, 1))
    assert together.shape == (5, 256 + 128 + 64)


def test_a_network_for_smaller_pictures_gets_the_same_picture_resized():
    small = replace(HALVES, height=18, width=20)
    backbones = [build_own("small-cnn", 32, 32).eval(), build_own("breeds-cnn", 18, 20).eval()]
    together = features(ensemble(backbones, [IMAGENET, small], 320), PICTURES)
    assert torch.equal(together[:, :256], features(network(backbones[0], IMAGENET, 1), PICTURES))
    pixels = ResizeInside(18, 20)(PICTURES.permute(0, 3, 1, 2).float())
    expected = backbones[1]((pixels / 255 - 0.5) / 0.5)
    torch.testing.assert_close(together[:, 256:], expected, rtol=1e-4, atol=1e-5)


def test_the_shared_picture_is_the_largest_and_shows_the_most():
    large = replace(HALVES, height=48, width=48, crop=0.8, interpolation="bilinear", fit="squash")
    shared = shared_preprocessing([CLIP, large])
    assert (shared.height, shared.width, shared.crop) == (48, 48, 0.9)
    assert (shared.interpolation, shared.fit) == ("bilinear", "squash")
    assert (shared.mean, shared.std) == ((0.0, 0.0, 0.0), (1 / 255, 1 / 255, 1 / 255))


def test_where_all_agree_the_network_normalises_for_all():
    shared = shared_preprocessing([IMAGENET, replace(IMAGENET, height=18, width=18)])
    assert shared == IMAGENET
    backbones = [build_own("small-cnn", 32, 32), build_own("small-cnn", 16, 16)]
    side_by_side = SideBySide(backbones, [IMAGENET, replace(IMAGENET, height=18, width=18)], shared)
    assert [list(dict(m.named_children())) for m in side_by_side.members] == [["backbone"], ["resize", "backbone"]]


def test_pixels_that_are_handed_on_are_whole_numbers():
    shared = shared_preprocessing([IMAGENET, HALVES])
    whole = torch.arange(256, dtype=torch.uint8).view(1, 16, 16, 1).expand(1, 16, 16, 3)
    handed_on = network(nn.Identity(), shared, 1).normalise(whole)
    assert torch.equal(handed_on[0, 0].flatten(), torch.arange(256.0))


def test_the_state_is_that_of_the_bodies_alone():
    backbones = [build_own("small-cnn", 32, 32), build_own("breeds-cnn", 18, 18)]
    hows = [IMAGENET, replace(CLIP, height=18, width=18)]
    state = SideBySide(backbones, hows, shared_preprocessing(hows)).state_dict()
    assert list(state) == [
        f"members.{i}.backbone.{name}" for i, backbone in enumerate(backbones) for name in backbone.state_dict()
    ]


@pytest.mark.parametrize("name", ["blocks", "ensemble"])
def test_a_member_is_a_network_that_has_a_name(name):
    with pytest.raises(ValidationError, match="one of the networks"):
        Member(name=name)


def test_the_exported_model_answers_as_torch(tmp_path):
    torch.manual_seed(0)
    backbones = [build_own("tutorial-cnn", 32, 32), build_own("breeds-cnn", 20, 18), build_own("mlp", 32, 32)]
    hows = [IMAGENET, replace(HALVES, height=20, width=18), CLIP]
    whole = ensemble(backbones, hows, 84 + 64 + 255)
    folder, golden = tmp_path / "bundle", PICTURES.numpy()
    write_bundle(folder, whole, ("a", "b", "c"), False, Certainty(), about={}, golden=golden)
    with torch.inference_mode():
        expected = whole(PICTURES).numpy()
    np.testing.assert_allclose(Bundle.load(folder).predict_pixels(golden), expected, rtol=1e-4, atol=1e-4)


def test_pretrained_networks_side_by_side_see_what_each_sees_alone(weights, monkeypatch):
    monkeypatch.setenv("TELLAPART_WEIGHTS", str(weights))
    names = ("mobilenetv2_100", "tf_mobilenetv3_small_100")
    alone = [create_network(Model(name=name), 3, Data(size=64, crop=0.9)).eval() for name in names]
    together = ensemble([n.backbone for n in alone], [n.preprocessing for n in alone], sum(n.n_features for n in alone))
    pictures = torch.from_numpy(np.random.default_rng(1).integers(0, 256, (2, 64, 64, 3), np.uint8))
    assert torch.equal(features(together, pictures), torch.cat([features(n, pictures) for n in alone], 1))


def test_the_last_groups_of_an_ensemble_are_the_last_of_each_member():
    members = [{"name": name, "pretrained": False} for name in ("cnn8", "small-cnn")]
    network = create_network(Model.model_validate({"name": "ensemble", "members": members}), 3, Data(size=32))
    alone = [layer_groups(create_network(Model(name=m["name"], pretrained=False), 3, Data(size=32))) for m in members]
    groups = layer_groups(network)
    assert len(groups) == max(map(len, alone))
    for k in range(2, len(groups) + 1):
        train_last(network, k)
        for member, own in zip(network.backbone.members, alone, strict=True):
            backbone = member.get_submodule("backbone")
            trained = {name.rpartition(".")[0] for name, p in backbone.named_parameters() if p.requires_grad}
            modules = {name.removeprefix("backbone.") for group in own[-k:-1] for name in group}
            assert trained == {name for name in modules if list(backbone.get_submodule(name).parameters(recurse=False))}


def test_given_normalisation_reaches_the_bundle_and_the_exported_model(tmp_path):
    torch.manual_seed(0)
    data = Data.model_validate({"size": 32, "normalisation": "rescale"})
    network = create_network(Model(name="tutorial-cnn", pretrained=False), 3, data).eval()
    pictures = np.random.default_rng(0).integers(0, 256, (3, 32, 32, 3), np.uint8)
    write_bundle(tmp_path / "bundle", network, ("a", "b", "c"), False, Certainty(), about={}, golden=pictures)
    bundle = Bundle.load(tmp_path / "bundle")
    assert (bundle.preprocessing.mean, bundle.preprocessing.std) == ((0.0, 0.0, 0.0), (1.0, 1.0, 1.0))
    with torch.inference_mode():
        floats = torch.from_numpy(pictures).permute(0, 3, 1, 2).float() / 255
        expected = network.head(network.backbone(floats)).numpy()
    np.testing.assert_allclose(bundle.predict_pixels(pictures), expected, rtol=1e-4, atol=1e-4)
    given = Data.model_validate({"size": 32, "normalisation": {"mean": [0.1, 0.2, 0.3], "std": [0.4, 0.5, 0.6]}})
    other = create_network(Model(name="small-cnn", pretrained=False), 3, given)
    wanted = (torch.tensor([1.0, 1.0, 1.0]) - torch.tensor([0.1, 0.2, 0.3])) / torch.tensor([0.4, 0.5, 0.6])
    white = torch.full((1, 32, 32, 3), 255, dtype=torch.uint8)
    torch.testing.assert_close(other.normalise(white)[0, :, 0, 0], wanted)
