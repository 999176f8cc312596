"""One training step: accumulated batches, and slices of a batch."""

from __future__ import annotations

import pytest
import torch

from tellapart.core.events import Validated
from tellapart.training import step
from tellapart.training.stage import position_seed
from tests.training.fitting import Build, recipe, same, train


def test_accumulated_batches_are_one_large_batch(build: Build) -> None:
    """Without batch statistics and dropout, two halves of a batch give the gradient of the whole."""
    model = {"name": "tutorial-cnn", "pretrained": False}
    results = []
    for stage in ({"batch_size": 8}, {"batch_size": 4, "accumulate": 2}):
        plan = recipe([{"epochs": 2, "optimizer": "sgd", **stage}], model=model)
        network, dataset = build(plan)
        train(network, plan, dataset)
        results.append(network.state_dict())
    for name, tensor in results[0].items():
        torch.testing.assert_close(tensor, results[1][name], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("statistics", ["keep", "update"])
def test_a_step_in_slices_is_the_same_step_where_pictures_do_not_depend_on_each_other(
    build: Build, statistics: str
) -> None:
    stage = {"epochs": 2, "batch_size": 8, "optimizer": "sgd", "lr": 1e-2, "batch_norm": statistics}
    model = {"name": "cnn8", "pretrained": False, "dropout": 0.0}
    plan = recipe([stage], model=model, mix={"mixup": 0.5})
    results, losses = [], []
    for micro_batch in (0, 3):
        network, dataset = build(plan)
        events = train(network, plan, dataset, micro_batch=micro_batch)
        losses.append([event.train_loss for event in events if isinstance(event, Validated)])
        results.append(network.state_dict())
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)
    for name, tensor in results[0].items():
        torch.testing.assert_close(tensor, results[1][name], rtol=1e-3, atol=1e-5)
    # Batches whose statistics are taken are never cut: to the bit the same.
    assert same(*results) is (statistics == "update")


def test_dropout_is_that_of_a_seed_for_the_whole_of_torch(build: Build, monkeypatch: pytest.MonkeyPatch) -> None:
    model = {"name": "cnn8", "pretrained": False, "dropout": 0.5}
    plan = recipe([{"epochs": 2, "batch_size": 8}], model=model)
    results = []
    for seed in (step._seed, lambda stage, position: torch.manual_seed(position_seed(*position))):
        monkeypatch.setattr(step, "_seed", seed)
        network, dataset = build(plan)
        train(network, plan, dataset)
        results.append(network.state_dict())
    assert same(*results)
