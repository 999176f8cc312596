"""A plan under way: epochs corrected by what was measured, further stages, and what came beside what was announced."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tellapart.errors import RunError
from tellapart.recipe.load import load_recipe
from tellapart.runs.run import Run
from tellapart.training.planning.budget import Timing, Workload, end_seconds, epoch_seconds, stage_seconds
from tellapart.training.planning.ledger import Ledger, brought_up_to_date, drift, outcomes, settled

TIMING = Timing(reading=0.002, frozen=0.01, answering=0.015, step=0.01, solving=1e-6, setup=1.0)
WORK = Workload(n_train=1000, n_validation=250, n_test=250, n_classes=3, rarest=100)
RECIPE = load_recipe("transfer")
EXPECTED = tuple(stage_seconds(RECIPE.stages, TIMING, WORK))
LEDGER = Ledger("asked", 5.0, 1000.0, TIMING, WORK, 20.0, 280.0, 280.0, EXPECTED, True, "plan-0.json")


def probe(stage: int, seconds: float) -> list[dict[str, Any]]:
    done = {"event": "Validated", "stage": stage, "epoch": 1, "lrs": [], "train_loss": 0.5, "validation_loss": 0.6}
    return [
        {"event": "StageStarted", "stage": stage, "name": RECIPE.stages[stage].name},
        {**done, "seconds": seconds / 2, "preparation": seconds / 2},
        {"event": "StageDone", "stage": stage, "best_epoch": 1},
    ]


def steps(stage: int, start: float, losses: list[tuple[float, float]], best: int) -> list[dict[str, Any]]:
    begins = {"event": "BeginsFrom", "stage": stage, "validation_loss": start}
    epochs = [
        {"event": "Validated", "stage": stage, "epoch": n, "lrs": [1e-4], "train_loss": a, "validation_loss": b}
        | {"seconds": 11.0}
        for n, (a, b) in enumerate(losses, start=1)
    ]
    started = {"event": "StageStarted", "stage": stage, "name": RECIPE.stages[stage].name}
    return [started, begins, *epochs, {"event": "StageDone", "stage": stage, "best_epoch": best}]


PROBES = [*probe(0, EXPECTED[0]), *probe(1, EXPECTED[1])]
ALL = [*PROBES, *steps(2, 0.6, [(0.3, 0.5), (0.2, 0.45), (0.1, 0.47)], best=2)]


def test_drift_is_what_stages_took_beside_what_was_expected() -> None:
    assert drift(LEDGER, PROBES, 2) == pytest.approx(1)
    assert drift(LEDGER, [*probe(0, 2 * EXPECTED[0]), *probe(1, 2 * EXPECTED[1])], 2) == pytest.approx(2)
    assert drift(LEDGER, [], 0) == 1


def test_epochs_are_corrected_once_the_stages_before_are_measured() -> None:
    end = end_seconds(TIMING, WORK, 60 * LEDGER.minutes)
    tight = LEDGER.began + 60 * LEDGER.minutes * 0.97 - end - 1.5 * epoch_seconds(TIMING, WORK)
    ledger, recipe, why = brought_up_to_date(LEDGER, RECIPE, PROBES, 2, tight)
    assert recipe.stages[-1].epochs == 1
    assert "1 instead of 3 epochs of 'last layers'" in why[0]
    assert ledger.latest == pytest.approx(tight - LEDGER.began + end + epoch_seconds(TIMING, WORK))
    late = LEDGER.began + 60 * LEDGER.minutes
    ledger, recipe, why = brought_up_to_date(LEDGER, RECIPE, PROBES, 2, late)
    assert [stage.name for stage in recipe.stages] == ["first look", "linear head"]
    assert not ledger.open
    same = brought_up_to_date(LEDGER, RECIPE, PROBES, 2, LEDGER.began + 60)
    assert same == (LEDGER, RECIPE, [])


def test_stages_are_added_while_there_is_time_and_the_recipe_names_them() -> None:
    ledger, recipe, why = brought_up_to_date(LEDGER, RECIPE, ALL, 3, LEDGER.began + 100)
    assert [stage.name for stage in recipe.stages][3:] == ["more views"]
    assert "in all" in why[0]
    assert ledger.open
    assert len(ledger.expected) == 4
    closed, recipe, why = brought_up_to_date(LEDGER, RECIPE, ALL, 3, LEDGER.began + 290)
    assert (closed.open, recipe, why) == (False, RECIPE, [])


def test_a_closed_plan_and_stages_before_the_last_are_left_alone() -> None:
    for ledger, done in ((replace(LEDGER, open=False), 3), (LEDGER, 0), (LEDGER, 1)):
        assert brought_up_to_date(ledger, RECIPE, ALL, done, LEDGER.began + 60) == (ledger, RECIPE, [])


def test_what_came_is_told_beside_what_was_announced() -> None:
    assert [each.name for each in outcomes(ALL)] == ["last layers"]
    end = settled(LEDGER, ALL, LEDGER.began + 270)
    assert end.taken == pytest.approx(270)
    assert end.outcome == (
        "Announced 4.7 minutes, taken 4.5: 90\u202f% of the 5 that were allowed.",
        "“last layers” brought the validation loss from 0.600 to 0.450.",
        "Kept are the best weights of all stages, by the loss on validation: those of “last layers”, with 0.450.",
    )
    worse = [*PROBES, *steps(2, 0.6, [(0.3, 0.7)], best=0)]
    end = settled(LEDGER, worse, LEDGER.began + 60)
    assert end.outcome[1] == "“last layers” did not better the validation loss of 0.600."
    assert "those of “linear head”" in end.outcome[2]


def test_a_plan_that_was_had_before_announces_nothing_of_its_own() -> None:
    end = settled(replace(LEDGER, expected=(), open=False), ALL, LEDGER.began + 60)
    assert end.outcome[0].startswith("Taken 4.7 minutes before, 1.0 now: 20")


def test_a_loss_that_is_no_number_is_no_gain_and_ends_nothing() -> None:
    """The log has none for it: JSON has no such number."""
    endless = [*PROBES, *steps(2, 0.6, [(0.3, None), (None, 0.7)], best=0)]  # type: ignore[list-item]
    (outcome,) = outcomes(endless)
    assert not outcome.improved
    _, recipe, why = brought_up_to_date(LEDGER, RECIPE, endless, 3, LEDGER.began + 60)
    assert "made nothing better" in why[0]
    assert len(recipe.stages) == 4
    assert settled(LEDGER, endless, LEDGER.began + 60).outcome[1].startswith("“last layers” did not better")


def test_a_ledger_is_read_as_it_was_written_or_refused(tmp_path: Path) -> None:
    run = Run(tmp_path)
    written = json.loads(json.dumps(LEDGER.as_dict()))
    run.write_json(run.plan_file, written)
    assert run.plan
    assert Ledger.from_dict(run.plan) == LEDGER
    memory = {"memory": "../../plan-0.json"}
    others: list[Any] = [{}, [], {**written, "timing": 3}, {**written, "began": -1.0}, {**written, **memory}]
    for damaged in others:
        run.write_json(run.plan_file, damaged)
        with pytest.raises(RunError, match=r"plan\.json is damaged"):
            _ = run.plan
