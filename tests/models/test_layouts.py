"""Networks of our own as version 0.1 built them, and the published ones written as blocks."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from tellapart.errors import WeightsError
from tellapart.models.architecture import Architecture
from tellapart.models.create import create_network, rebuild
from tellapart.models.network import Network
from tellapart.recipe.load import read_recipe
from tellapart.recipe.schema import Data, Model, Recipe
from tellapart.runs.resume import restore_layout
from tellapart.runs.run import Run

CONV = {"block": "conv", "batch_norm": False}
CNN8: list[dict[str, Any]] = []
for n_filters in (16, 32, 64, 128):
    CNN8 += 2 * [CONV | {"channels": n_filters, "dropout": 0.2}, {"block": "batch_norm"}]
    CNN8 += [{"block": "pool"}]

#: The published networks as blocks, with the side of their pictures and the number of classes.
PUBLISHED: dict[str, tuple[int, int, list[dict[str, Any]]]] = {
    "tutorial-cnn": (
        44,
        3,
        [
            CONV | {"channels": 6, "kernel": 5, "padding": 0},
            {"block": "pool"},
            CONV | {"channels": 16, "kernel": 5, "padding": 0},
            {"block": "pool", "dropout": 0.3},
            {"block": "flatten"},
            {"block": "dense", "size": 120},
            {"block": "dense", "size": 84, "dropout": 0.3},
        ],
    ),
    "cnn8": (32, 10, [*CNN8, {"block": "flatten"}, {"block": "dense", "size": 128, "dropout": 0.2}]),
    "breeds-cnn": (
        48,
        37,
        [
            CONV | {"channels": 32, "padding": 0},
            {"block": "pool"},
            CONV | {"channels": 64, "padding": 0},
            {"block": "pool"},
            CONV | {"channels": 64, "padding": 0, "dropout": 0.2},
            {"block": "flatten"},
            {"block": "dense", "size": 64},
        ],
    ),
}


def build(seed: int = 0, size: int = 32, n_classes: int = 3, **model: Any) -> Network:
    torch.manual_seed(seed)
    return create_network(Model.model_validate({"pretrained": False, **model}), n_classes, Data(size=size))


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_published_network_by_name_and_by_blocks_is_the_same(name: str) -> None:
    size, n_classes, blocks = PUBLISHED[name]
    options = {"dropout": 0.3} if name == "tutorial-cnn" else {}
    by_name = build(0, size, n_classes, name=name, **options)
    by_blocks = build(0, size, n_classes, name="blocks", blocks=blocks)
    for one, other in zip(by_name.parameters(), by_blocks.parameters(), strict=True):
        assert torch.equal(one, other)
    pictures = torch.randint(0, 256, (3, size, size, 3), dtype=torch.uint8)
    for training in (True, False):
        answers = []
        for network in (by_name.train(training), by_blocks.train(training)):
            torch.manual_seed(1)
            answers.append(network(pictures))
        assert torch.equal(*answers)


@pytest.mark.parametrize("name", PUBLISHED)
def test_blocks_reproduce_the_published_counts(name: str) -> None:
    size, n_classes, counted = {
        "tutorial-cnn": (300, 3, 9_966_691),
        "cnn8": (32, 10, 361_434),
        "breeds-cnn": (160, 37, 5_367_205),
    }[name]
    network = build(0, size, n_classes, name="blocks", blocks=PUBLISHED[name][2])
    assert sum(p.numel() for p in network.parameters()) == counted


# Version 0.1

SHAPES_OF_0_1 = {"tutorial-cnn": (120, 1296), "cnn8": (128, 512), "breeds-cnn": (64, 2304)}


def first_linear(network: nn.Module) -> tuple[int, ...]:
    return next(tuple(m.weight.shape) for m in network.modules() if isinstance(m, nn.Linear))


@pytest.mark.parametrize("name", SHAPES_OF_0_1)
def test_a_bundle_without_a_layout_is_of_version_0_1(name: str) -> None:
    network = build(0, 48, name=name, layout=1)
    values = network.architecture.as_dict()
    assert values["options"].pop("layout") == 1
    again = rebuild(Architecture.from_dict(values))
    assert first_linear(again) == SHAPES_OF_0_1[name]
    again.load_state_dict(network.state_dict())
    pictures = torch.randint(0, 256, (2, 48, 48, 3), dtype=torch.uint8)
    assert torch.equal(again.eval()(pictures), network.eval()(pictures))
    assert Architecture.from_dict(build(name=name).architecture.as_dict()).options["layout"] == 2


def test_the_default_size_of_version_0_1_stays() -> None:
    model = Model(name="breeds-cnn", pretrained=False, layout=1)
    assert create_network(model, 3, Data()).preprocessing.height == 96


def of_0_1(recipe: Recipe) -> str:
    """The recipe as version 0.1 would have written it into a run."""
    lines = recipe.to_toml().splitlines()
    return "\n".join(line for line in lines if not line.startswith(("layout", "batch_norm = false")))


@pytest.mark.parametrize("name", SHAPES_OF_0_1)
def test_a_recipe_of_a_run_without_a_layout_is_of_version_0_1(name: str, tmp_path: Any) -> None:
    recipe, file = Recipe(model=Model(name=name, pretrained=False)), tmp_path / "recipe.toml"
    file.write_text(of_0_1(recipe), encoding="utf-8")
    again, lines = read_recipe(file)
    assert again.model.layout == 1
    assert again == Recipe(model=Model(name=name, pretrained=False, layout=1))
    assert f"{name}: this recipe is of version 0.1" in lines[0]
    file.write_text(recipe.to_toml(), encoding="utf-8")
    assert read_recipe(file) == (recipe, [])
    file.write_text(f'[model]\nname = "{name}"\npretrained = false\n', encoding="utf-8")
    assert read_recipe(file)[0].model.layout == 2


def test_members_of_an_ensemble_have_layouts_too(tmp_path: Any) -> None:
    members = [{"name": name, "pretrained": False} for name in ("cnn8", "small-cnn", "breeds-cnn")]
    recipe, file = Recipe.model_validate({"model": {"name": "ensemble", "members": members}}), tmp_path / "recipe.toml"
    file.write_text(of_0_1(recipe), encoding="utf-8")
    assert [member.layout for member in read_recipe(file)[0].model.members] == [1, 2, 1]
    before = create_network(read_recipe(file)[0].model, 3, Data(size=48))
    assert [m["options"].get("layout") for m in before.architecture.options["members"]] == [1, None, 1]
    shapes = [p.shape for p in before.parameters()]
    assert shapes != [p.shape for p in create_network(recipe.model, 3, Data(size=48)).parameters()]


def test_a_layout_that_a_network_does_not_have_is_refused() -> None:
    with pytest.raises(ValueError, match="layout"):
        Model(name="mlp", layout=1)


def test_a_network_of_version_0_1_is_continued_under_its_own_layout(tmp_path: Any) -> None:
    (tmp_path / "recipe.toml").write_text(of_0_1(Recipe(model=Model(name="cnn8", pretrained=False))), encoding="utf-8")
    with pytest.raises(WeightsError, match="layout 1 of cnn8, not 2"):
        build(name="cnn8", weights=str(tmp_path))


def test_the_same_command_goes_on_with_the_layouts_of_its_run(tmp_path: Any) -> None:
    for model in (
        {"name": "breeds-cnn", "pretrained": False},
        {"name": "ensemble", "members": [{"name": "cnn8", "pretrained": False}, {"name": "mobilenetv2_100"}]},
    ):
        recipe = Recipe.model_validate({"model": model})
        (tmp_path / "recipe.toml").write_text(of_0_1(recipe), encoding="utf-8")
        run = Run(tmp_path)
        assert run.recipe != recipe
        assert restore_layout(run, recipe) == run.recipe
    other = Recipe(model=Model(name="small-cnn", pretrained=False))
    assert restore_layout(run, other) == other
    (tmp_path / "recipe.toml").write_text(of_0_1(Recipe(model=Model(name="cnn8", pretrained=False))), encoding="utf-8")
    explicit = Recipe(model=Model(name="cnn8", pretrained=False, layout=2))
    assert restore_layout(Run(tmp_path), explicit) == explicit
    # A run of today states its layout: the same command without it is no other word for the same recipe.
    stored, plain = (Recipe(model=Model(name="cnn8", pretrained=False, **layout)) for layout in ({"layout": 1}, {}))
    (tmp_path / "recipe.toml").write_text(stored.to_toml(), encoding="utf-8")
    assert restore_layout(Run(tmp_path), plain) == plain
    assert restore_layout(Run(tmp_path), stored) == stored
