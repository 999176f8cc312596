"""The retraining: the lengths that were best, on all pictures, with nothing validated."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tellapart.core.events import (
    Event,
    Logged,
    LrFound,
    Progress,
    Retrained,
    StageDone,
    StageStarted,
    Validated,
)
from tellapart.models.network import Network
from tellapart.recipe.schema import Recipe
from tellapart.training.checkpoint import State, load_checkpoint, save_checkpoint
from tellapart.training.dataset import Dataset
from tellapart.training.fit import fit
from tests.training.fitting import CPU, FLIPPED, Build, recipe, same, train

NEGATIVE = {"transform": "negative", "probability": 0.5}
SMALL: Any = {"data": {"size": 16}, "model": {"name": "cnn8", "pretrained": False, "dropout": 0.0}}


def of(kind: type[Any], events: list[Event]) -> list[Any]:
    return [event for event in events if isinstance(event, kind)]


THREE = [
    {"train": "head", "solver": "lbfgs", "views": FLIPPED, "size": 16},
    {"train": 2, "epochs": 3, "batch_size": 8, "lr": {"find": "valley", "otherwise": 1e-3}, "augment": False},
    {"steps": 7, "batch_size": 8, "average": 0.8, "patience": 1, "schedule": "one_cycle", "size": 24},
]


def everything(dataset: Dataset) -> Dataset:
    rows = np.sort(np.concatenate([dataset.train, dataset.validation]))
    return replace(dataset, train=rows, validation=dataset.validation[:0])


def first_training(build: Build, plan: Recipe) -> tuple[State, list[Event]]:
    network, dataset = build(plan)
    state = State()
    events = train(network, plan, dataset, state)
    return state, events


def test_the_retraining_does_what_was_best(build: Build) -> None:
    """So many epochs, steps or that strength, of all pictures, at the rate that was found, and nothing is validated."""
    plan = recipe(THREE, **SMALL, augment=[NEGATIVE], retrain=True)
    state, first = first_training(build, plan)
    best = [event.best_epoch for event in of(StageDone, first)]
    assert state.chosen == [best[0], best[1], min(best[2] * 3, 7)]
    state.chosen = [best[0], 2, 6]  # as if the later stages had been better than the probe they begin from
    network, dataset = build(plan)
    again = everything(dataset)
    events = train(network, plan, again, state.for_retraining())
    assert not of(Validated, events)
    assert not of(LrFound, events)
    assert all(event.retraining for event in events if isinstance(event, StageStarted | StageDone | Progress))
    epochs = [[e.epoch for e in of(Retrained, events) if e.stage == stage] for stage in range(3)]
    per_epoch = int(np.ceil(len(again.train) / 8))
    assert epochs[:2] == [[1], [1, 2]]
    steps = [e for e in of(Progress, events) if e.stage == 2]
    assert len(steps) == state.chosen[2]
    assert {e.steps for e in of(Progress, events) if e.stage == 1} == {per_epoch}
    found = of(LrFound, first)[0]
    assert next(e for e in of(Progress, events) if e.stage == 1).lr == pytest.approx(found.lr)


def test_a_retraining_is_a_training_of_that_length_on_all_pictures(build: Build) -> None:
    """Of a constant rate: as if the recipe had asked for just so many epochs, and had kept the last."""
    stage = {"batch_size": 8, "schedule": "constant", "lr": 1e-3}
    plan = recipe([{**stage, "epochs": 6}], **SMALL, retrain=True)
    network, dataset = build(plan)
    train(network, plan, everything(dataset), State(chosen=[2], retraining=True))
    by_hand = recipe([{**stage, "epochs": 2, "monitor": "loss"}], **SMALL)
    other, _ = build(by_hand)
    same_pictures = replace(everything(dataset), validation=dataset.validation)
    seen = []
    for event in fit(other, by_hand, same_pictures, State(), CPU):
        seen.append({name: tensor.clone() for name, tensor in other.state_dict().items()})
        if isinstance(event, Validated) and event.epoch == 2:
            break
    assert same(network.state_dict(), seen[-1])


@pytest.mark.parametrize("stops", [(145,), pytest.param((1, 60, 136, 150), marks=pytest.mark.slow)])
def test_broken_off_at_any_event_found_rates_and_retraining_go_on_to_the_same_weights(
    build: Build, tmp_path: Path, stops: tuple[int, ...]
) -> None:
    plan = recipe(THREE, **SMALL, augment=[NEGATIVE], retrain=True)
    whole, dataset = build(plan)
    initial = {name: tensor.clone() for name, tensor in whole.state_dict().items()}
    expected = logged_events(both(whole, plan, dataset, initial))
    for stop_after in stops:
        broken, dataset = build(plan)
        state, seen = State(), []
        for number, (event, now) in enumerate(both(broken, plan, dataset, initial), start=1):
            seen.append((event, now))
            state = now
            if number == stop_after:
                break
        save_checkpoint(tmp_path / "last.safetensors", broken, state)
        resumed, dataset = build(plan.model_copy(update={"seed": 5}))
        state = load_checkpoint(tmp_path / "last.safetensors", resumed)
        again = both(resumed, plan, replace(dataset, seed=plan.seed), initial, state)
        assert logged_events([*seen, *again]) == expected, stop_after
        assert same(whole.state_dict(), resumed.state_dict()), stop_after


def logged_events(events: Iterable[tuple[Event, State]]) -> list[Event]:
    return [e for e, _ in events if isinstance(e, Logged) and not isinstance(e, StageStarted)]


def both(
    network: Network, plan: Recipe, dataset: Dataset, initial: dict[str, torch.Tensor], state: State | None = None
):
    """The training and the retraining, as the pipeline does them."""
    state = state or State()
    if not state.retraining:
        for event in fit(network, plan, dataset, state, CPU):
            yield event, state
        network.load_state_dict(initial)
        state = state.for_retraining()
    for event in fit(network, plan, everything(dataset), state, CPU):
        yield event, state
