from __future__ import annotations

from pathlib import Path

import pytest
import torch

from tellapart.errors import ModelError, WeightsError
from tellapart.models.create import ModelInfo, available_models, create_network
from tellapart.models.scratch import OWN
from tellapart.models.weight_packages import installed
from tellapart.recipe.networks import Conv, Member, Pool
from tellapart.recipe.schema import Data, Head, Model, Recipe
from tellapart.training.checkpoint import State, save_checkpoint


def build(name: str, size: int | None = None, **how: float) -> torch.nn.Module:
    return create_network(Model(name=name, pretrained=False, **how), 3, Data(size=size))  # type: ignore[arg-type]


@pytest.fixture(autouse=True)
def _no_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TELLAPART_WEIGHTS", raising=False)


@pytest.mark.parametrize("name", ["small-cnn", "test_resnet", "squeezenet1_1"])
def test_the_same_seed_gives_the_same_weights(name: str) -> None:
    states = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        states.append(build(name, 32).state_dict())
    assert all(torch.equal(v, states[1][k]) for k, v in states[0].items())
    assert not all(torch.equal(v, states[2][k]) for k, v in states[0].items())


@pytest.mark.parametrize("name", OWN)
def test_own_networks_have_a_size_of_their_own(name: str) -> None:
    network = create_network(Model(name=name, pretrained=False), 3, Data())
    how = network.preprocessing
    assert (how.height, how.width, how.crop) == (OWN[name].size, OWN[name].size, 1.0)
    assert how.mean == (0.485, 0.456, 0.406)


@pytest.mark.parametrize(
    ("name", "size", "says"),
    [
        ("cnn8", 8, "smallest size that works is 16"),
        ("squeezenet1_1", 8, "smallest size that works is 17"),
        ("test_vit", 100, "multiples of 16 pixels.*\n.*96 or --set data.size=112"),
        ("gmlp_ti16_224", 64, "224×224 pixels only"),
    ],
)
def test_a_size_that_a_network_cannot_take(name: str, size: int, says: str) -> None:
    with pytest.raises(ModelError, match=says):
        build(name, size)


def test_the_smallest_size_that_is_named_does_work() -> None:
    build("squeezenet1_1", 17)
    with pytest.raises(ModelError):
        build("squeezenet1_1", 16)


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("smal-cnn", "Did you mean 'small-cnn'"),
        ("resnet_34", "Did you mean .*resnet34"),
        ("squeezenet1_2", "Did you mean .*squeezenet1_1"),
        ("../../etc/passwd", "tellapart models --all lists them"),
        ("resnet34.nonsense", "no weights of it tagged 'nonsense'.\nPossible: .*resnet34.a1_in1k"),
    ],
)
def test_unknown_names_get_a_suggestion(name: str, says: str) -> None:
    with pytest.raises(ModelError, match=says):
        build(name)


def test_dropout_is_for_networks_of_our_own() -> None:
    with pytest.raises(ModelError, match=r"model\.dropout is for networks of Tellapart's own"):
        build("test_resnet", 32, dropout=0.2)


def test_all_models_are_listed() -> None:
    models = available_models()
    names = [m.name for m in models]
    assert names[: len(OWN)] == list(OWN)
    assert {"resnet34", "squeezenet1_1", "mobilenetv2_100"} <= set(names)
    assert len(names) == len(set(names))
    assert {m.source for m in models} == {"own", "timm", "torchvision"}
    assert not any(m.local_weights for m in models if m.source == "own")
    assert {m.name for m in models if m.local_weights} >= set(installed())


def test_pretrained_models_begin_with_those_at_hand(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TELLAPART_WEIGHTS", str(tmp_path))
    for folder in ("mobilenetv2_100", "of-my-own"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "config.json").write_text("{}")
    (tmp_path / "empty").mkdir()
    (tmp_path / "README.md").touch()
    (tmp_path / "cnn8.safetensors").touch()
    (tmp_path / "nobody-knows.safetensors").touch()
    (tmp_path / "squeezenet1_1.torchvision.safetensors").touch()
    models = available_models(pretrained_only=True)
    at_hand = {m for m in models if m.local_weights}
    assert at_hand == {
        ModelInfo("mobilenetv2_100", "timm", True),
        ModelInfo("of-my-own", "timm", True),
        ModelInfo("squeezenet1_1", "torchvision", True),
        ModelInfo("cnn8", "own", True),
        *(ModelInfo(name, "timm", True) for name in installed()),
    }
    assert set(models[: len(at_hand)]) == at_hand
    assert ModelInfo("resnet34.a1_in1k", "timm", False) in models
    assert not any(m.name in OWN for m in models[len(at_hand) :])


def begun(tmp_path: Path, model: Model, n_classes: int = 3) -> tuple[Path, dict[str, torch.Tensor]]:
    """A run directory as a training leaves it at its beginning, and the weights that it began with."""
    torch.manual_seed(7)
    network = create_network(model, n_classes, Data(size=32))
    recipe = Recipe(model=model, data=Data(size=32))
    run = tmp_path / "a run"
    (run / "checkpoints").mkdir(parents=True)
    (run / "recipe.toml").write_text(recipe.to_toml())
    save_checkpoint(run / "checkpoints" / "initial.safetensors", network, State())
    return run, {name: tensor.clone() for name, tensor in network.state_dict().items()}


BLOCKS = [Conv(channels=4), Pool()]
MEMBERS = [Member(name="test_resnet", pretrained=False), Member(name="test_vit", pretrained=False)]


@pytest.mark.parametrize(
    "model",
    [
        Model(name="cnn8", pretrained=False, head=Head(hidden=[5])),
        Model(name="test_resnet", pretrained=False),
        Model(name="blocks", blocks=BLOCKS, pretrained=False),
        Model(name="ensemble", members=MEMBERS),
    ],
    ids=lambda model: model.name,
)
@pytest.mark.parametrize("inside", ["", "checkpoints/initial.safetensors"])
def test_another_runs_initial_weights_bit_for_bit(tmp_path: Path, model: Model, inside: str) -> None:
    run, before = begun(tmp_path, model)
    torch.manual_seed(1)
    network = create_network(model.model_copy(update={"weights": str(run / inside)}), 3, Data(size=32))
    after = network.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(before[key], after[key]) for key in before)
    assert network.weights_source == f"{run}, as it began"


def test_with_other_classes_the_body_alone(tmp_path: Path) -> None:
    run, before = begun(tmp_path, Model(name="cnn8", pretrained=False))
    network = create_network(Model(name="cnn8", weights=str(run)), 5, Data(size=32))
    assert all(torch.equal(before[f"backbone.{key}"], tensor) for key, tensor in network.backbone.state_dict().items())
    assert network.head[-1].out_features == 5  # type: ignore[index,union-attr]
    assert "but for its head" in network.weights_source


def test_a_run_of_another_network_is_refused(tmp_path: Path) -> None:
    run, _ = begun(tmp_path, Model(name="cnn8", pretrained=False))
    with pytest.raises(WeightsError, match="cnn8, not small-cnn") as raised:
        create_network(Model(name="small-cnn", weights=str(run)), 3, Data(size=32))
    assert "--model cnn8" in raised.value.hint
