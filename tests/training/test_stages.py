"""Rates that are found, lengths in steps, the gap, free statistics, and the retraining on everything."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from tellapart.core.events import (
    Computing,
    Event,
    LrFound,
    Progress,
    StageStarted,
    Validated,
)
from tellapart.core.text import lr_text
from tellapart.errors import RecipeError, TrainingError
from tellapart.models.network import Network
from tellapart.recipe.load import load_recipe
from tellapart.recipe.schema import Recipe, Stage
from tellapart.training.checkpoint import State
from tellapart.training.dataset import Dataset
from tellapart.training.fit import fit
from tellapart.training.lr_finder import raise_lr, setting
from tellapart.training.lr_suggestions import suggest
from tellapart.training.pixels import plain
from tellapart.training.prepare import prepare_stage
from tellapart.training.runtime import Runtime
from tellapart.training.schedule import group_lrs
from tellapart.training.stage import TrainingStage

Build = Callable[[Recipe], tuple[Network, Dataset]]
CPU = Runtime("cpu", workers=2)
NEGATIVE = {"transform": "negative", "probability": 0.5}
FLIPPED = [[], [{"transform": "horizontal_flip"}]]
SMALL = {"name": "tutorial-cnn", "pretrained": False}


def recipe(stages: list[dict[str, Any]], **parts: Any) -> Recipe:
    whole = {"data": {"size": 16}, "model": {"name": "cnn8", "pretrained": False, "dropout": 0.2}, "stages": stages}
    return Recipe.model_validate(whole | parts)


def train(network: Network, plan: Recipe, dataset: Dataset, state: State | None = None) -> list[Event]:
    return list(fit(network, plan, dataset, State() if state is None else state, CPU))


def of(kind: type[Any], events: list[Event]) -> list[Any]:
    return [event for event in events if isinstance(event, kind)]


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[key], other[key]) for key in one)


def prepared(network: Network, plan: Recipe, dataset: Dataset, state: State) -> TrainingStage:
    steps = prepare_stage(network, plan, dataset, torch.tensor(dataset.catalog.target()), state, CPU)
    while True:
        try:
            next(steps)
        except StopIteration as end:
            stage: TrainingStage = end.value
            return stage


@pytest.mark.parametrize("train_what", ["head", "all"])
@pytest.mark.parametrize("augment", [[], [NEGATIVE]])
def test_the_rate_test_leaves_network_and_random_states_bit_for_bit(
    build: Build, train_what: str, augment: list[dict[str, Any]]
) -> None:
    """Before and after unfreezing, from pictures and from stored activations; also where it is broken off."""
    plan = recipe([{"train": train_what, "batch_size": 8, "average": 0.9}], augment=augment, mix={"mixup": 0.2})
    if not augment:
        plan = recipe([{"train": train_what, "batch_size": 8}])
    network, dataset = build(plan)
    stage = prepared(network, plan, dataset, State())
    assert stage.from_features == (train_what == "head" and not augment)
    stage.part.train_mode()
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    modes = [(module.training, [p.requires_grad for p in module.parameters()]) for module in network.modules()]
    drawn, numbers = torch.get_rng_state(), np.random.get_state()[1].copy()
    steps = raise_lr(stage)
    for _ in range(5):
        next(steps)
        assert torch.equal(torch.get_rng_state(), drawn)
    steps.close()
    lrs, losses = None, None
    steps = raise_lr(stage)
    while lrs is None:
        try:
            next(steps)
        except StopIteration as end:
            lrs, losses = end.value
    assert len(lrs) == len(losses) > 20
    assert same(before, network.state_dict())
    assert modes == [(m.training, [p.requires_grad for p in m.parameters()]) for m in network.modules()]
    assert all(p.grad is None for p in network.parameters())
    assert torch.equal(torch.get_rng_state(), drawn)
    assert np.array_equal(np.random.get_state()[1], numbers)


def test_the_rate_test_is_a_training_whose_rate_rises(build: Build) -> None:
    """The losses are those of steps done by hand with torch's own SGD, at the rates that are told."""
    plan = recipe([{"batch_size": 8, "optimizer": "sgd", "momentum": 0.0, "weight_decay": 0.0}], model=SMALL)
    network, dataset = build(plan)
    stage = prepared(network, plan, dataset, State())
    steps = raise_lr(stage)
    while True:
        try:
            next(steps)
        except StopIteration as end:
            lrs, losses = end.value
            break
    np.testing.assert_allclose(lrs, np.geomspace(1e-7, 10, 100)[: len(lrs)])
    network.train()
    optimizer = torch.optim.SGD(network.parameters(), lr=0.0)
    target, expected = torch.tensor(dataset.catalog.target()), []
    batches = [
        rows for epoch in range(9) for rows in np.array_split(stage.order(epoch), range(8, len(dataset.train), 8))
    ]
    for lr, rows in zip(lrs[:15], batches, strict=False):
        optimizer.param_groups[0]["lr"] = lr
        pictures = torch.from_numpy(np.stack([plain(dataset)(int(row)) for row in rows]))
        loss = torch.nn.functional.cross_entropy(network(pictures), target[rows])
        expected.append(loss.item())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    np.testing.assert_allclose(losses[: len(expected)], expected, rtol=1e-4)


def test_a_stage_takes_the_rate_that_it_finds(build: Build) -> None:
    stage = {"epochs": 1, "batch_size": 8, "schedule": "constant", "optimizer": "sgd"}
    plan = recipe([{**stage, "lr": {"find": "steepest", "spread": 100}}], model=SMALL)
    network, dataset = build(plan)
    events = train(network, plan, dataset)
    (found,) = of(LrFound, events)
    again = suggest(found.lrs, found.losses)
    assert found.suggestions == again.by_rule
    assert found.lr == found.suggestions[found.taken] == again.steepest
    assert found.smoothed == pytest.approx(tuple(again.smoothed))
    assert of(Progress, events)[0].lr == pytest.approx(found.lr)
    key, _, value = found.setting.partition("=")
    assert (key, value) == ("stages.0.lr", f"{lr_text(found.lr / 100)}..{found.lr!r}")
    fixed = recipe([{**stage, "lr": value}], model=SMALL)
    other, dataset = build(fixed)
    train(other, fixed, dataset)
    for name, tensor in network.state_dict().items():  # the test has left no trace
        torch.testing.assert_close(tensor, other.state_dict()[name], rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize(
    ("lr", "peaks", "value"),
    [
        (1e-3, (1e-3, 1e-3), "0.0028"),
        ("find", (1.0, 1.0), "0.0028"),
        ({"find": "valley", "spread": 100}, (0.01, 0.1, 1.0), "2.8e-05..0.0028"),
        ("1e-4..1e-2", (1e-4, 1e-3, 1e-2), "2.8e-05..0.0028"),
        ([1e-5, 1e-4, 1e-3], (1e-5, 1e-4, 1e-3), "[2.8e-05, 0.00028, 0.0028]"),
        ({"head": 1e-3, "decay": 0.75}, (0.75e-3, 1e-3), "{ head = 0.0028, decay = 0.75 }"),
    ],
)
def test_what_sets_a_rate_keeps_the_ratios_of_the_groups(lr: Any, peaks: tuple[float, ...], value: str) -> None:
    stage: Any = SimpleNamespace(config=Stage(lr=lr), peak_lrs=peaks, number=1)
    line = setting(stage, 0.0028)
    assert line == f"stages.1.lr={value}"
    taken = load_recipe("eight-step", [line]).stages[1].lr
    trained = group_lrs(taken, len(peaks))
    assert trained == pytest.approx([peak / max(peaks) * 0.0028 for peak in peaks])


def test_a_loss_that_does_not_fall_is_an_error_or_takes_the_rate_for_that_case(build: Build) -> None:
    """With all weights of the last layer at a dead end, nothing can be learned."""
    stage = {"epochs": 1, "batch_size": 8, "train": "head", "augment": False}

    def dead(plan: Recipe) -> tuple[Network, Dataset]:
        network, dataset = build(plan)
        with torch.no_grad():
            for parameter in network.backbone.parameters():
                parameter.zero_()
        return network, dataset

    plan = recipe([{**stage, "lr": "find"}])
    with pytest.raises(TrainingError, match="Stage 1 has found no rate") as raised:
        train(*dead(plan)[:1], plan, dead(plan)[1])
    assert "otherwise" in raised.value.hint
    plan = recipe([{**stage, "lr": {"find": "valley", "otherwise": 2e-3}}])
    network, dataset = dead(plan)
    (found,) = of(LrFound, train(network, plan, dataset))
    assert (found.lr, found.taken, found.suggestions) == (2e-3, "otherwise", {})
    assert len(found.lrs) == len(found.losses) == len(found.smoothed)


@pytest.mark.parametrize(("n", "epochs", "in_last"), [(5, 2, 2), (6, 2, 3), (4, 2, 1)])
def test_a_stage_counted_in_steps_does_so_many_and_is_validated_at_its_end(
    build: Build, n: int, epochs: int, in_last: int
) -> None:
    plan = recipe([{"steps": n, "batch_size": 6, "schedule": "one_cycle", "lr": 1e-2}], model=SMALL)
    network, dataset = build(plan)
    assert len(dataset.train) == 18
    events = train(network, plan, dataset)
    progress, validated = of(Progress, events), of(Validated, events)
    assert len(progress) == n
    assert [event.epoch for event in validated] == list(range(1, epochs + 1))
    assert isinstance(events[-2], Validated)
    assert len(validated[-1].lrs) == progress[-1].step == progress[-1].steps == in_last
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1e-2)
    rule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 1e-2, total_steps=n, final_div_factor=400)
    for event in progress:
        assert event.lr == pytest.approx(rule.get_last_lr()[0])
        optimizer.step()
        if event is not progress[-1]:
            rule.step()
    assert events[-1].reason == f"all {n} steps done"


def test_a_first_look_at_some_pictures_of_each_class_serves_the_later_stages(
    build: Build, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Solved as a head is that has only these pictures; judged on all; what was computed is not computed again."""
    monkeypatch.setenv("TELLAPART_CACHE", str(tmp_path / "cache"))
    look = {"train": "head", "solver": "lbfgs", "l2": [1e-2], "views": [[]], "per_class": 3}
    later = {"train": "head", "solver": "lbfgs", "l2": [1e-2], "views": FLIPPED}
    network, dataset = build(recipe([look, later]))
    events = train(network, recipe([look, later]), dataset)
    first, second = of(StageStarted, events)
    assert set(first.shown.values()) == {3}
    assert "at most 3 of each class" in first.description
    assert sum(second.shown.values()) == len(dataset.train)
    assert len(of(Validated, events)) == 2
    computed = [(event.stage, event.task, event.done, event.total) for event in of(Computing, events)]
    n_look, n_later = sum(first.shown.values()), 2 * len(dataset.train)
    training = [one for one in computed if "training" in one[1]]
    assert [one[3] for one in training if one[0] == 0][-1] == n_look
    done, of_all = next(one[2:] for one in training if one[0] == 1)
    assert n_look < done <= n_look + CPU.inference_batch
    assert of_all == n_later
    assert not [one for one in computed if one[0] == 1 and "validation" in one[1]]
    whole = recipe([{key: look[key] for key in look if key != "per_class"}])
    alone, given = build(whole)
    some = prepared(network, recipe([look]), dataset, State()).dataset.train
    found = train(alone, whole, replace(given, train=some))
    assert of(Validated, found)[0].validation_loss == of(Validated, events)[0].validation_loss


def test_patience_on_the_gap_counts_epochs_in_which_it_grew(build: Build) -> None:
    plan = recipe(
        [
            {
                "epochs": 40,
                "batch_size": 4,
                "lr": 3e-3,
                "schedule": "constant",
                "patience": 2,
                "stop_on": "gap",
                "label_smoothing": 0.1,
            }
        ]
    )
    network, dataset = build(plan)
    events = train(network, plan, dataset)
    validated = of(Validated, events)
    gaps = [event.validation_loss - event.train_loss for event in validated]
    grew = [i >= 2 and gaps[i] > gaps[i - 1] > gaps[i - 2] for i in range(len(gaps))]
    assert len(validated) < 40, "the plan of this test should over-fit"
    assert grew.index(True) == len(gaps) - 1
    done = events[-1]
    assert done.reason == "the gap between validation and training loss grew for 2 epochs"
    assert done.best_epoch == min(validated, key=lambda event: event.validation_loss).epoch


def test_free_statistics_of_frozen_layers_are_updated_and_their_weights_are_not(build: Build) -> None:
    plan = recipe([{"train": "head", "epochs": 1, "batch_size": 8, "batch_norm": "free"}])
    network, dataset = build(plan)
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    events = train(network, plan, dataset)
    assert not of(Computing, events)
    assert "statistics of the frozen layers are free" in of(StageStarted, events)[0].description
    statistics = {name for name in before if "running_" in name or "num_batches" in name}
    assert statistics
    for name, tensor in network.state_dict().items():
        changed = not torch.equal(tensor, before[name])
        assert changed == (name in statistics or name.startswith("head.")), name


def test_free_statistics_and_a_solved_head_exclude_each_other(build: Build) -> None:
    plan = recipe([{"train": "head", "solver": "lbfgs", "batch_norm": "free", "views": FLIPPED}])
    network, dataset = build(plan)
    with pytest.raises(RecipeError, match="stored features") as raised:
        train(network, plan, dataset)
    assert "batch_norm" in raised.value.hint
