"""Frozen layers: they stay as they are, run once, and what they give is stored."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from tellapart.core.events import Computing, Event, Validated
from tellapart.models.network import Network
from tellapart.recipe.schema import Recipe
from tellapart.training.checkpoint import State, load_checkpoint, save_checkpoint
from tellapart.training.dataset import Dataset
from tellapart.training.fit import fit
from tests.training.fitting import CPU, CROP, FLIPPED, Build, recipe, train


def test_frozen_layers_stay_bit_for_bit_and_so_do_their_statistics(build: Build) -> None:
    plan = recipe([{"train": 2, "epochs": 1, "batch_size": 8}], augment=[CROP])
    network, dataset = build(plan)
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    train(network, plan, dataset)
    changed = {name for name, tensor in network.state_dict().items() if not torch.equal(tensor, before[name])}
    assert changed
    assert all(not torch.equal(before[f"head.{name}"], p) for name, p in network.head.named_parameters())
    first = next(name for name in before if name.startswith("backbone."))
    assert first not in changed
    assert "head.0.weight" in changed


def test_kept_statistics_stay_while_weights_learn(build: Build) -> None:
    plan = recipe([{"train": "all", "epochs": 1, "batch_size": 8, "batch_norm": "keep"}])
    network, dataset = build(plan)
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    train(network, plan, dataset)
    for name, tensor in network.state_dict().items():
        is_statistic = "running_" in name or "num_batches" in name
        assert torch.equal(tensor, before[name]) == is_statistic, name


def test_from_stored_activations_as_from_pictures(build: Build) -> None:
    """What is stored is what the frozen layers give, so the result is the same: only sums may be ordered otherwise."""
    stored = recipe([{"train": 2, "epochs": 2, "batch_size": 8, "augment": False}])
    one, dataset = build(stored)
    events = train(one, stored, dataset)
    assert any(isinstance(event, Computing) for event in events)
    live = recipe([{"train": 2, "epochs": 2, "batch_size": 8}], augment=[])
    live = live.model_copy(update={"augment": []})
    other, dataset = build(live)
    assert isinstance(dataset, Dataset)
    events_live = train_live(other, live, dataset)
    assert not any(isinstance(event, Computing) for event in events_live)
    for name, tensor in one.state_dict().items():
        torch.testing.assert_close(tensor, other.state_dict()[name], rtol=1e-4, atol=1e-5)


def train_live(network: Network, plan: Recipe, dataset: Dataset) -> list[Event]:
    """Train from pictures although nothing changes them: a crop of the whole picture is asked for."""
    whole = Recipe.model_validate(
        {"augment": [{"transform": "brightness", "factor": 1.0}], "stages": [s.model_dump() for s in plan.stages]}
    )
    return train(network, plan, replace(dataset, transforms=whole.augment))


def test_stored_activations_are_computed_once(build: Build, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TELLAPART_CACHE", str(tmp_path / "cache"))
    plan = recipe([{"train": "head", "epochs": 1, "views": FLIPPED}])
    network, dataset = build(plan)
    first = [event for event in train(network, plan, dataset) if isinstance(event, Computing)]
    assert first[-1].done == first[-1].total == len(dataset.validation)
    assert max(event.total for event in first) == 2 * len(dataset.train)
    network, dataset = build(plan)
    assert not [event for event in train(network, plan, dataset) if isinstance(event, Computing)]


def test_a_resumed_stage_finds_its_stored_activations(
    build: Build, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Trained layers have changed by then; the frozen ones, whose answers are stored, have not."""
    monkeypatch.setenv("TELLAPART_CACHE", str(tmp_path / "cache"))
    plan = recipe([{"train": 3, "epochs": 2, "batch_size": 8, "augment": False}])
    network, dataset = build(plan)
    state = State()
    for event in fit(network, plan, dataset, state, CPU):
        if isinstance(event, Validated):
            break
    save_checkpoint(tmp_path / "last.safetensors", network, state)
    resumed, dataset = build(plan)
    state = load_checkpoint(tmp_path / "last.safetensors", resumed)
    assert not [event for event in fit(resumed, plan, dataset, state, CPU) if isinstance(event, Computing)]
