from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tellapart.core.events import BeginsFrom, Computing, Event, Progress, StageDone, StageStarted, Validated
from tellapart.errors import RecipeError, TrainingError, UnreadableError
from tellapart.training.checkpoint import State, load_checkpoint, save_checkpoint
from tellapart.training.fit import fit
from tellapart.training.pixels import plain
from tellapart.training.runtime import Runtime, parse
from tellapart.training.step import MicroLoss, train_step
from tests.training.fitting import CPU, CROP, FLIPPED, Build, recipe, same, train


def test_a_network_learns_and_the_best_epoch_is_kept(build: Build) -> None:
    plan = recipe([{"epochs": 8, "batch_size": 4, "lr": 1e-3}], model={"name": "small-cnn", "pretrained": False})
    network, dataset = build(plan)
    events = train(network, plan, dataset)
    validated = [event for event in events if isinstance(event, Validated)]
    assert [event.epoch for event in validated] == list(range(1, 9))
    best = min(validated, key=lambda event: event.validation_loss)
    done = events[-1]
    assert isinstance(done, StageDone)
    assert done.best_epoch == best.epoch
    assert best.validation_accuracy > 0.6  # three classes: chance is 1/3
    logits = [network(torch.from_numpy(plain(dataset)(int(row)))[None]) for row in dataset.validation]
    right = np.mean(
        [one.argmax().item() == t for one, t in zip(logits, dataset.catalog.target(dataset.validation), strict=True)]
    )
    assert right == pytest.approx(best.validation_accuracy)


@pytest.mark.parametrize("workers", [1, 3])
def test_the_same_weights_bit_for_bit_whatever_the_workers(build: Build, workers: int) -> None:
    plan = recipe([{"epochs": 2, "batch_size": 8}], augment=[CROP])
    first, dataset = build(plan)
    train(first, plan, dataset)
    second, dataset = build(plan)
    train(second, plan, dataset, workers=workers)
    assert same(first.state_dict(), second.state_dict())


def test_another_seed_gives_other_weights(build: Build) -> None:
    plan = recipe([{"epochs": 1}])
    first, dataset = build(plan)
    other, other_material = build(plan.model_copy(update={"seed": 1}))
    train(first, plan, dataset)
    train(other, plan, other_material)
    assert not same(first.state_dict(), other.state_dict())


def slow(*values: int) -> list[Any]:
    return [pytest.param(value, marks=pytest.mark.slow) for value in values]


@pytest.mark.parametrize("stop_after", [3, 10, *slow(1, 2, 4, 7, 9, 13, 20)])
def test_a_training_broken_off_at_any_event_ends_as_an_unbroken_one(
    build: Build, tmp_path: Path, stop_after: int
) -> None:
    plan = recipe(
        [
            {"train": "head", "epochs": 2, "batch_size": 8, "augment": False},
            {"epochs": 2, "batch_size": 8, "schedule": "one_cycle"},
        ],
        augment=[CROP],
    )
    whole, dataset = build(plan)
    expected = [event for event in train(whole, plan, dataset) if isinstance(event, BeginsFrom | Validated | StageDone)]

    broken, dataset = build(plan)
    state = State()
    seen: list[Event] = []
    for number, event in enumerate(fit(broken, plan, dataset, state, CPU), start=1):
        seen.append(event)
        if number == stop_after:
            break
    save_checkpoint(tmp_path / "last.safetensors", broken, state)
    resumed, dataset = build(plan.model_copy(update={"seed": 5}))  # other weights, to be overwritten
    state = load_checkpoint(tmp_path / "last.safetensors", resumed)
    seen += list(fit(resumed, plan, replace(dataset, seed=plan.seed), state, CPU))

    assert [event for event in seen if isinstance(event, BeginsFrom | Validated | StageDone)] == expected
    assert same(whole.state_dict(), resumed.state_dict())


@pytest.mark.parametrize("stop_after", [5, *slow(2, 3, 6, 8)])
def test_so_does_one_that_averages_accumulates_mixes_and_balances(
    build: Build, tmp_path: Path, stop_after: int
) -> None:
    stage = {"epochs": 2, "batch_size": 4, "accumulate": 2, "average": 0.9, "clip": 1.0, "optimizer": "muon"}
    parts = {"mix": {"mixup": 0.5, "cutmix": 0.5}, "balance": {"sampler": "weighted", "class_weights": True}}
    plan = recipe([stage], **parts)
    whole, dataset = build(plan)
    expected = [event for event in train(whole, plan, dataset) if isinstance(event, BeginsFrom | Validated | StageDone)]
    broken, dataset = build(plan)
    state, seen = State(), []
    for number, event in enumerate(fit(broken, plan, dataset, state, CPU), start=1):
        seen.append(event)
        if number == stop_after:
            break
    save_checkpoint(tmp_path / "last.safetensors", broken, state)
    resumed, dataset = build(plan)
    state = load_checkpoint(tmp_path / "last.safetensors", resumed)
    seen += list(fit(resumed, plan, dataset, state, CPU))
    assert [event for event in seen if isinstance(event, BeginsFrom | Validated | StageDone)] == expected
    assert same(whole.state_dict(), resumed.state_dict())


def test_rates_differ_by_group(build: Build) -> None:
    """A group whose rate is all but zero hardly moves; the head moves as ever."""
    plan = recipe([{"epochs": 1, "batch_size": 8, "lr": [1e-12, 1e-2], "optimizer": "sgd", "weight_decay": 0.0}])
    network, dataset = build(plan)
    before = {name: tensor.clone() for name, tensor in network.named_parameters()}
    train(network, plan, dataset)
    moved = {name: (p - before[name]).abs().max().item() for name, p in network.named_parameters()}
    assert all(m < 1e-9 for name, m in moved.items() if name.startswith("backbone."))
    assert moved["head.0.weight"] > 1e-4


def test_a_stage_may_have_its_own_size(build: Build) -> None:
    model = {"name": "small-cnn", "pretrained": False}
    plan = recipe([{"epochs": 1, "size": 16}, {"epochs": 1}], model=model, data={"size": 32})
    network, dataset = build(plan)
    seen: list[int] = []
    network.backbone.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].shape[-1]))
    train(network, plan, dataset)
    assert seen[1:][0] == 16
    assert seen[-1] == 32


def test_a_size_that_the_network_cannot_take_is_named(build: Build) -> None:
    plan = recipe([{"epochs": 1, "size": 48}], model={"name": "tutorial-cnn", "pretrained": False}, data={"size": 32})
    network, dataset = build(plan)
    with pytest.raises(RecipeError, match="48 pixels"):
        train(network, plan, dataset)


@pytest.mark.parametrize("kind", ["step", "sgdr"])
def test_schedules_reach_the_optimizer(build: Build, kind: str) -> None:
    stage = {"epochs": 3, "batch_size": 9, "schedule": kind, "lr": 1e-3}
    plan = recipe([stage | ({"cycle_multiplier": 2} if kind == "sgdr" else {"step_factor": 0.5})])
    network, dataset = build(plan)
    lrs = [event.lr for event in train(network, plan, dataset) if isinstance(event, Progress)]
    if kind == "step":
        assert lrs == pytest.approx([1e-3] * 2 + [5e-4] * 2 + [2.5e-4] * 2)
    else:
        assert lrs[0] == lrs[2] == pytest.approx(1e-3)
        assert lrs[2] > lrs[3] > lrs[4] > lrs[5]


@pytest.mark.parametrize(
    "second",
    [
        {"train": 99},
        {"lr": [1e-3] * 99},
        {"lr": {"head": 1e-3}},
        {"loss": "squeezed"},
        {"size": 1},
        {"train": "all", "solver": "lbfgs"},
    ],
)
def test_what_a_later_stage_cannot_do_is_said_at_once(build: Build, second: dict[str, Any]) -> None:
    plan = recipe([{"epochs": 1}, second])
    network, dataset = build(plan)
    with pytest.raises(RecipeError, match="Stage 2: "):
        next(fit(network, plan, dataset, State(), CPU))


def test_patience_stops_and_restores_the_best(build: Build) -> None:
    plan = recipe(
        [{"epochs": 30, "batch_size": 8, "lr": 0.02, "optimizer": "sgd", "patience": 2, "schedule": "constant"}]
    )
    network, dataset = build(plan)
    events = train(network, plan, dataset)
    validated = [event for event in events if isinstance(event, Validated)]
    done = events[-1]
    assert isinstance(done, StageDone)
    assert len(validated) < 30
    assert done.reason == "no better for 2 epochs"
    assert done.epochs - done.best_epoch == 2


RUINOUS = {"epochs": 2, "batch_size": 8, "lr": 3.0, "optimizer": "sgd", "momentum": 0.0, "schedule": "constant"}


@pytest.mark.parametrize(
    "second",
    [
        RUINOUS,
        {**RUINOUS, "monitor": "score"},
        {**RUINOUS, "average": 0.5},
        {**RUINOUS, "epochs": 5, "patience": 1},
        {"epochs": 10, "steps": 3} | {key: RUINOUS[key] for key in ("lr", "optimizer", "batch_size")},
    ],
    ids=["loss", "score", "average", "patience", "steps"],
)
def test_a_stage_that_makes_nothing_better_hands_on_what_it_began_from(build: Build, second: dict[str, Any]) -> None:
    small = {"name": "small-cnn", "pretrained": False}
    plan = recipe([{"epochs": 4, "batch_size": 4}, second, {**second, "loss": "focal"}], model=small, data={"size": 32})
    network, dataset = build(plan)
    state, after_first, best = State(), {}, []
    for event in fit(network, plan, dataset, state, CPU):
        if isinstance(event, StageDone) and event.stage == 0:
            after_first = {name: tensor.clone() for name, tensor in network.state_dict().items()}
        best += [event.best] if isinstance(event, Validated) and event.stage else []
        done = event
    assert best
    assert not any(best)
    assert isinstance(done, StageDone)
    assert (done.best_epoch, state.chosen[1:]) == (0, [0, 0])
    assert done.reason.endswith("; none was better than what the stage began from")
    assert same(network.state_dict(), after_first)


def test_what_a_stage_begins_from_is_measured_as_its_epochs_are(build: Build) -> None:
    plan = recipe([{"epochs": 1, "batch_size": 8}, {"epochs": 1, "batch_size": 8, "loss": "focal", "size": 40}])
    network, dataset = build(plan)
    events = train(network, plan, dataset)
    (start,) = (event for event in events if isinstance(event, BeginsFrom))
    first = next(event for event in events if isinstance(event, Validated))
    assert start.validation_loss < 0.7 * first.validation_loss  # focal loss, at another size


def test_the_retraining_leaves_out_a_stage_that_made_nothing_better(build: Build) -> None:
    plan = recipe([{"epochs": 1, "batch_size": 8}, {"epochs": 3, "batch_size": 8}])
    network, dataset = build(plan)
    everything = replace(
        dataset, train=np.union1d(dataset.train, dataset.validation), validation=dataset.validation[:0]
    )
    state = State(chosen=[1, 0]).for_retraining()
    events = train(network, plan, everything, state)
    assert [(event.stage, event.epochs) for event in events if isinstance(event, StageDone)] == [(0, 1), (1, 0)]
    assert state.stage == 2


def test_a_loss_that_is_not_finite_names_the_step(build: Build) -> None:
    plan = recipe([{"epochs": 2, "batch_size": 8, "optimizer": "sgd", "schedule": "constant"}])
    stage = plan.stages[0].model_copy(update={"lr": 1e30})  # more than a recipe may ask for: batch norm bears much
    plan = plan.model_copy(update={"stages": [stage]})
    network, dataset = build(plan)
    with pytest.raises(TrainingError, match=r"stage 1, epoch \d, step \d") as raised:
        train(network, plan, dataset)
    assert "stages.0.lr" in raised.value.hint


def test_the_step_named_is_the_one_of_the_loss(build: Build, monkeypatch: pytest.MonkeyPatch) -> None:
    """On an accelerator a loss is looked at one step later; what is missing here is only the accelerator."""
    plan = recipe([{"epochs": 2, "batch_size": 8, "augment": False}])
    steps = -(-len(build(plan)[1].train) // 8)
    assert steps > 2
    for lazy in (False, True):
        for broken in range(steps):
            network, dataset = build(plan)
            asked = [0]

            def no_number(*how: Any, broken: int = broken, asked: list[int] = asked) -> list[MicroLoss]:
                factor = torch.nan if asked[0] == broken else 1
                asked[0] += 1
                return [(loss * factor, size, right) for loss, size, right in train_step(*how)]

            monkeypatch.setattr("tellapart.training.fit.train_step", no_number)
            monkeypatch.setattr("tellapart.training.fit._is_asynchronous", lambda runtime, lazy=lazy: lazy)
            with pytest.raises(TrainingError, match=f"The loss is nan at stage 1, epoch 1, step {broken + 1}\\."):
                train(network, plan, dataset)
            assert asked[0] <= broken + 2


def test_progress_counts_every_picture_once_an_epoch(build: Build) -> None:
    plan = recipe([{"epochs": 2, "batch_size": 8}])
    network, dataset = build(plan)
    events = train(network, plan, dataset)
    assert isinstance(events[0], StageStarted)
    for epoch in (1, 2):
        steps = [event for event in events if isinstance(event, Progress) and event.epoch == epoch]
        assert sum(event.n_pictures for event in steps) == len(dataset.train)
        assert [event.step for event in steps] == list(range(1, steps[0].steps + 1))


def test_a_picture_that_breaks_after_the_scan_is_named(build: Build) -> None:
    plan = recipe([{"epochs": 1}])
    network, dataset = build(plan)
    broken = dataset.catalog.path(int(dataset.train[3]))
    broken.write_bytes(b"no picture any more")
    with pytest.raises(UnreadableError, match=broken.name):
        train(network, plan, dataset)


def test_a_head_is_solved_before_training_steps_are_timed_and_each_stage_is_timed_at_its_size(
    build: Build, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TELLAPART_CACHE", str(tmp_path / "cache"))
    small = {"epochs": 1, "train": 2, "views": [[]], "batch_size": 8}
    solved = {"train": "head", "solver": "lbfgs", "l2": [1e-2], "views": [[]]}
    model, data = {"name": "small-cnn", "pretrained": False}, {"size": 32}
    plan = recipe([solved, small, {**small, "size": 16}], model=model, data=data)
    network, dataset = build(plan)
    events = list(fit(network, plan, dataset, State()))
    head, first, second = [event for event in events if isinstance(event, StageStarted)]
    assert head.runtime["why"].startswith("the frozen layers take ")
    assert "training step" not in head.runtime["why"]
    assert first.runtime["why"].startswith("a training step takes ")
    assert second.runtime["why"].startswith("a training step takes ")
    assert "frozen layers" not in second.runtime["why"]  # that has been said
    probed = head.runtime["frozen"] == "bfloat16"  # which a probe has then allowed; so it may have one refused
    assert len(list((tmp_path / "cache" / "runtime").iterdir())) in ({4} if probed else {3, 4})
    assert {event.runtime["frozen"] for event in (head, first, second)} == {head.runtime["frozen"]}
    # What stages were begun with is taken as it is, for every one of them.
    network, dataset = build(plan)
    other = {0: CPU, 1: replace(CPU, why="begun so"), 2: replace(CPU, micro_batch=8)}
    again = [event for event in fit(network, plan, dataset, State(), begun=other) if isinstance(event, StageStarted)]
    assert [event.runtime for event in again] == [way.as_dict() for way in other.values()]


def test_a_stage_after_a_stop_is_run_as_it_would_have_been_without(build: Build) -> None:
    solved = {"train": "head", "solver": "lbfgs", "l2": [1e-2], "views": [[]]}
    plan = recipe([{"train": 2, "epochs": 1, "views": [[]]}, solved], model={"name": "small-cnn", "pretrained": False})

    def second(first: Runtime) -> Runtime:
        network, dataset = build(plan)
        event = next(fit(network, plan, dataset, State(stage=1), begun={0: first}))
        assert isinstance(event, StageStarted)
        return Runtime(**event.runtime)

    # How training steps were run concerns the stage that made them; what layers that only answer were run in, all.
    steps = replace(CPU, precision="bfloat16", frozen="bfloat16", channels_last=False, micro_batch=8, why="timed")
    assert second(steps) == replace(CPU, frozen="bfloat16", why="timed")
    wish = parse("cpu,bfloat16,contiguous")
    assert wish
    assert second(wish) == wish
    network, dataset = build(plan)
    begun, other = [event for event in fit(network, plan, dataset, State()) if isinstance(event, StageStarted)]
    assert begun.runtime["why"].startswith("a training step takes ")
    assert "; the frozen layers take " in begun.runtime["why"]
    assert second(Runtime(**begun.runtime)) == Runtime(**other.runtime)


def test_a_head_on_plain_pictures_makes_use_of_what_a_later_stage_stores(
    build: Build, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No layer runs twice on a view: not for the first stage and again for the second or third."""
    monkeypatch.setenv("TELLAPART_CACHE", str(tmp_path / "cache"))
    solved = {"train": "head", "solver": "lbfgs", "l2": [1e-2]}
    last = {"train": 3, "epochs": 1, "views": FLIPPED}
    plan = recipe([{**solved, "views": [[]]}, {**solved, "views": FLIPPED}, last])
    network, dataset = build(plan)
    events = [event for event in train(network, plan, dataset) if isinstance(event, Computing)]
    n_train, n_validation = len(dataset.train), len(dataset.validation)
    totals = {(event.stage, event.task): event.total for event in events}
    assert totals == {
        (0, "first layers, training pictures"): n_train,
        (0, "features, training pictures"): n_train,
        (0, "first layers, validation pictures"): n_validation,
        (0, "features, validation pictures"): n_validation,
        (1, "first layers, training pictures"): 2 * n_train,
        (1, "features, training pictures"): 2 * n_train,
    }
    begun = [next(e.done for e in events if (e.stage, e.task) == key) for key in totals]
    assert min(begun[4:]) > n_train  # the plain views are there already


def test_runtimes_are_measured_where_they_are_not_settled(build: Build) -> None:
    plan = recipe([{"epochs": 1}])
    network, dataset = build(plan)
    started = next(fit(network, plan, dataset, State()))
    assert isinstance(started, StageStarted)
    assert "float32 contiguous" in started.runtime["why"]
    network, dataset = build(plan)
    again = next(fit(network, plan, dataset, State()))
    assert isinstance(again, StageStarted)
    assert again.runtime == started.runtime  # remembered, so that the same command gives the same weights
