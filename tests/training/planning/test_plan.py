"""Plans of real trainings: made, carried out, written down, and made again alike."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any

import pytest

import tellapart as ta
from tellapart.core.events import Computing, Event, Note, StageDone
from tellapart.core.files import cache_folder
from tellapart.data.scan import scan
from tellapart.data.splitting.split import split
from tellapart.recipe.load import load_recipe
from tellapart.recipe.schema import Recipe
from tellapart.runs.run import Run
from tellapart.training.planning import plan as planning
from tellapart.training.planning import stages
from tellapart.training.planning.ledger import Ledger, settled
from tellapart.training.planning.plan import plan
from tellapart.workflows.train import RunOptions, run

Planned = tuple[Recipe, Ledger]
SMALL = ["model.pretrained=false", "data.size=32", "plan.minutes=1000"]


@pytest.mark.slow
def test_a_training_begins_with_the_plan_keeps_it_and_repeats_it(
    picture_folder: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TELLAPART_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(stages, "_MOST_EPOCHS", 3)
    monkeypatch.setattr(stages, "_MOST_VIEWS", 6)
    catalog = scan(picture_folder(n=20))
    changes = ["model.name=small-cnn", *SMALL]
    recipe, divided = load_recipe("fast", changes), split(catalog)
    events = list(run(recipe, catalog, divided, tmp_path / "run", RunOptions()))
    notes = [event.text for event in events if isinstance(event, Note)]
    stored = Run(tmp_path / "run")
    assert stored.recipe.plan
    why = stored.recipe.plan.why
    assert "small-cnn at 32 pixels" in why[0]
    assert "1000 minutes buy: first look" in why[1]
    # Few pictures validate: cross-validation chooses the probe's strength.
    assert [stage.folds for stage in stored.recipe.stages][:3] == [None, 5, None]
    # Then as long as it helps, and what came is said at the end and in the report.
    assert [stage.name for stage in stored.recipe.stages][3:4] == ["more views"]
    came = notes[len(why) :]
    assert notes[: len(why)] == why
    assert came[0].startswith("Announced ")
    assert came[-1].startswith("Kept are the best weights of all stages")
    report = stored.report.read_text().replace("&#39;", "'")
    assert all(sentence in report for sentence in (why[0], why[1], came[-1]))
    # The same command again: nothing is tried again, nothing refused.
    assert list(run(recipe, catalog, divided, tmp_path / "run", RunOptions())) == []
    with pytest.raises(ta.TellapartError, match="another recipe"):
        list(run(load_recipe("fast", [*changes, "seed=5"]), catalog, divided, tmp_path / "run", RunOptions()))
    # In another directory: the same plan.
    _, result = follow(plan(recipe, catalog, divided, time.time()))
    assert result[0].stages == stored.recipe.stages
    assert not result[1].open
    assert result[0].plan
    assert "the plan that the same command had before" in result[0].plan.why[-1]


def follow(work: Generator[Event, None, Planned]) -> tuple[list[Event], Planned]:
    """What a generator yields, and what it returns."""
    events = []
    while True:
        try:
            events.append(next(work))
        except StopIteration as end:
            return events, end.value


@pytest.fixture
def two_networks(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Two of our own networks stand for pretrained ones."""

    def networks(minutes: float) -> Generator[Note, None, list[str]]:
        yield from ()
        return ["tutorial-cnn", "small-cnn"]

    monkeypatch.setattr(planning, "networks", networks)
    monkeypatch.setenv("TELLAPART_CACHE", str(tmp_path / "cache"))


@pytest.mark.usefixtures("two_networks")
def test_remembered_timings_make_the_same_plan_and_damaged_ones_are_measured_again(
    picture_folder: Callable[..., Path],
) -> None:
    catalog = scan(picture_folder(n=12))
    recipe, divided = load_recipe("fast", SMALL), split(catalog)
    first, second = (follow(plan(recipe, catalog, divided, time.time()))[1] for _ in range(2))
    assert first[1].timing == second[1].timing
    assert first[0].model == second[0].model
    assert first[0].stages == second[0].stages
    assert first[0].plan
    assert "On the same pictures: " in first[0].plan.why[1]
    notes = sorted(cache_folder("plans").glob("timing-*.json"))
    assert len(notes) == 2
    for note in notes:
        note.write_text(note.read_text().replace("0", "1", 3))
    third = follow(plan(recipe, catalog, divided, time.time()))[1]
    assert third[1].timing != first[1].timing
    assert third[0].stages == first[0].stages


@pytest.mark.usefixtures("two_networks")
def test_minutes_that_are_too_few_are_said_to_be(picture_folder: Callable[..., Path]) -> None:
    """Two classes of six pictures in all, and a second, which what comes at the end takes alone."""
    catalog = scan(picture_folder(n=3, classes=("a", "b")))
    recipe = load_recipe("fast", [*SMALL, "plan.minutes=0.02"])
    planned, ledger = follow(plan(recipe, catalog, split(catalog), time.time()))[1]
    assert planned.plan
    assert planned.plan.why[-1].startswith(
        "0.02 minutes are too few for the least that a training does here: linear head"
    )
    assert [stage.solver for stage in planned.stages] == ["lbfgs"]
    assert ledger.announced > 1.2


@pytest.mark.usefixtures("two_networks")
def test_a_plan_that_is_repeated_is_remembered_as_it_first_was(picture_folder: Callable[..., Path]) -> None:
    """How long it took with an empty cache is what it may take again."""
    catalog = scan(picture_folder(n=3))
    recipe, divided = load_recipe("fast", SMALL), split(catalog)
    planned, ledger = follow(plan(recipe, catalog, divided, time.time()))[1]
    planning.keep(settled(ledger, [], ledger.began + 300), planned)
    for _ in range(2):
        again, repeated = follow(plan(recipe, catalog, divided, time.time()))[1]
        assert again.plan
        assert "It took 5.0 minutes then" in again.plan.why[-1]
        planning.keep(settled(repeated, [], repeated.began + 30), again)


@pytest.mark.parametrize(("value", "asked"), [("0", True), ("", True), ("1", False), ("true", False)])
def test_the_hub_is_asked_unless_that_is_forbidden(monkeypatch: pytest.MonkeyPatch, value: str, asked: bool) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", value)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    calls: list[bool] = []

    def candidates(offline: bool) -> list[Any]:
        calls.append(offline)
        return []

    monkeypatch.setattr(planning, "candidates", candidates)
    assert list(planning.networks(5)) == []
    assert calls == [not asked]


@pytest.mark.slow
@pytest.mark.usefixtures("two_networks")
@pytest.mark.parametrize(("n", "n_views"), [(12, 2), (16, 1)])
def test_trials_store_the_features_that_the_training_takes(
    picture_folder: Callable[..., Path], n: int, n_views: int
) -> None:
    """The features of plain training pictures are not computed again by the training's first stage.

    With few pictures that is the linear head, which also sees their mirror images; else it is the first look.
    """
    catalog = scan(picture_folder(n=n))
    recipe, divided = load_recipe("fast", SMALL), split(catalog)
    _, (planned, _) = follow(plan(recipe, catalog, divided, time.time()))
    assert len(planned.stages[0].views) == n_views
    closed = planned.model_copy(update={"plan": None})
    computed = []
    for event in run(closed, catalog, divided, cache_folder("").parent / "run", RunOptions()):
        if isinstance(event, Computing):
            computed.append(event)
        if isinstance(event, StageDone):
            break
    assert any("validation pictures" in event.task for event in computed)
    # What is stored counts as done: with mirror images only these are left, without any nothing is.
    training = [event for event in computed if "training pictures" in event.task]
    assert all(event.done > len(divided.train) for event in training)
    assert bool(training) == (n_views > 1)
