"""What a file says of a network: names and options from lists only, sizes with bounds; nothing is built of the rest."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest
import timm
import torch

from tellapart.core.preprocess import Preprocessing
from tellapart.errors import ModelError
from tellapart.models import backbones
from tellapart.models.architecture import Architecture
from tellapart.models.create import create_network, rebuild
from tellapart.models.network import Network
from tellapart.recipe.schema import Data, Head, Member, Model
from tellapart.training.checkpoint import State, load_network, save_checkpoint

PLAIN = Architecture("own", "small-cnn", Head(), 3, Preprocessing(32, 32)).as_dict()


def plain(**changes: Any) -> dict[str, Any]:
    """An architecture as JSON gives it back."""
    return json.loads(json.dumps(PLAIN | changes))


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("small-cnn", {}),
        ("small-cnn", {"dropout": 0.3}),
        ("test_resnet", {}),
        ("test_resnet.r160_in1k", {}),
        ("test_efficientnet", {"pad_type": "same", "drop_path_rate": 0.1}),
        ("test_vit", {"img_size": [32, 32], "global_pool": "avg"}),
    ],
)
def test_what_networks_write_is_read(name: str, options: dict[str, Any]) -> None:
    source = "own" if name == "small-cnn" else "timm"
    read = Architecture.from_dict(plain(source=source, name=name, options=options))
    assert read == Architecture(source, name, Head(), 3, Preprocessing(32, 32), options)  # type: ignore[arg-type]
    assert Architecture.from_dict(read.as_dict()) == read


HUB = ("hf-hub:someone/model", "hf_hub:someone/model", "local-dir:/tmp/model", "timm:resnet18", "https://a.b/resnet18")
PATHS = ("../resnet18", "resnet18.a/../b", "resnet18.", "", "from_the_future", "resnet18\n")


@pytest.mark.parametrize("source", ["timm", "own", "torchvision"])
@pytest.mark.parametrize("name", [*HUB, *PATHS])
def test_names_outside_the_lists_are_refused(source: str, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(timm, "create_model", lambda *_, **__: pytest.fail("timm was asked"))
    with pytest.raises(ModelError, match="not known"):
        Architecture.from_dict(plain(source=source, name=name))
    with pytest.raises(ModelError, match="no network"):
        backbones.timm_backbone(name, {})


OTHERS = (
    "checkpoint_path",
    "pretrained",
    "pretrained_cfg",
    "pretrained_cfg_overlay",
    "cache_dir",
    "num_classes",
    "kernel",
)


@pytest.mark.parametrize("source", ["timm", "own", "torchvision"])
@pytest.mark.parametrize("option", OTHERS)
def test_options_outside_the_lists_are_refused(source: str, option: str, monkeypatch: pytest.MonkeyPatch) -> None:
    name = {"timm": "test_resnet", "own": "small-cnn", "torchvision": "squeezenet1_1"}[source]
    monkeypatch.setattr(timm, "create_model", lambda *_, **__: pytest.fail("timm was asked"))
    with pytest.raises(ModelError, match=option):
        Architecture.from_dict(plain(source=source, name=name, options={option: "x"}))
    with pytest.raises(ModelError, match=option):
        backbones.timm_backbone("test_resnet", {option: "x"})


@pytest.mark.parametrize(
    "changes",
    [
        {"n_classes": 10**12},
        {"n_classes": -1},
        {"n_classes": True},
        {"n_classes": "3"},
        {"resize_inside": 10**6},
        {"head": {"hidden": [3.5]}},
        {"head": {"hidden": [1], "activation": "os.system"}},
        {"head": []},
        {"options": []},
        {"options": {"dropout": 1.5}},
        {"options": {"dropout": float("nan")}},
        {"source": "hub"},
        {"source": "ensemble"},
        {"name": 5},
        {"preprocessing": {}},
        {"preprocessing": PLAIN["preprocessing"] | {"height": 10**9}},
        {"preprocessing": PLAIN["preprocessing"] | {"std": [0, 0, 0]}},
        {"more": 1},
    ],
    ids=str,
)
def test_values_out_of_range_are_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(ModelError, match="description"):
        Architecture.from_dict(plain(**changes))


@pytest.mark.parametrize("values", [None, [], 3, "small-cnn", {}])
def test_anything_else_is_refused(values: Any) -> None:
    with pytest.raises(ModelError, match="description"):
        Architecture.from_dict(values)


def test_members_of_an_ensemble_are_checked_as_well() -> None:
    members = [Member(name="small-cnn", pretrained=False), Member(name="test_resnet", pretrained=False)]
    network = create_network(Model(name="ensemble", members=members), 3, Data(size=64))
    values = json.loads(json.dumps(network.architecture.as_dict()))
    assert Architecture.from_dict(values) == network.architecture
    changes: list[dict[str, Any]] = [
        {"name": "hf-hub:someone/model"},
        {"options": {"checkpoint_path": "/tmp/x"}},
        {"source": "ensemble"},
    ]
    for changed in changes:
        other = copy.deepcopy(values)
        other["options"]["members"][1].update(changed)
        with pytest.raises(ModelError):
            Architecture.from_dict(other)
    nested: Any = values
    for _ in range(100_000):
        nested = {**values, "options": {"members": [nested]}}
    with pytest.raises(ModelError, match="within an ensemble"):
        Architecture.from_dict(nested)


def saved(path: Path) -> Network:
    network = rebuild(Architecture.from_dict(plain()))
    save_checkpoint(path, network, State())
    return network


def test_a_network_is_built_and_filled_from_its_checkpoint(tmp_path: Path) -> None:
    network = saved(tmp_path / "best.safetensors")
    other = load_network(tmp_path / "best.safetensors", Architecture.from_dict(plain()))
    assert all(torch.equal(value, other.state_dict()[name]) for name, value in network.state_dict().items())


@pytest.mark.parametrize(
    "changes",
    [
        {"name": "mlp", "preprocessing": PLAIN["preprocessing"] | {"height": 4096, "width": 4096}},
        {"head": {"hidden": [8192] * 8}},
        {"source": "timm", "name": "vit_gigantic_patch14_224"},
        {"name": "blocks", "options": {"blocks": [{"block": "conv", "channels": 8192}] * 500}},
    ],
    ids=lambda changes: next(iter(changes)),
)
def test_a_network_larger_than_its_file_takes_no_memory(changes: dict[str, Any], tmp_path: Path) -> None:
    """Gigabytes would be filled with random numbers before anybody noticed that the file holds other weights."""
    saved(tmp_path / "best.safetensors")
    with pytest.raises(ModelError, match="belongs to another network"):
        load_network(tmp_path / "best.safetensors", Architecture.from_dict(plain(**changes)))
