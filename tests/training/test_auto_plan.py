"""Choosing a network by trials: what can be trained in time, what is best, and that the choice is kept."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import tellapart as ta
from tellapart.core.events import Note
from tellapart.recipe.load import load_recipe
from tellapart.runs.run import Run
from tellapart.training.auto_plan import Trial, Workload, choose, seconds

SLOW_GOOD = Trial("large", 224, 0.95, 200, frozen_seconds=0.05, step_seconds=0.1)
QUICK_FAIR = Trial("small", 160, 0.80, 200, frozen_seconds=0.005, step_seconds=0.01)
WORK = Workload(n_train=1000, n_views=2, n_evaluated=300, rarest=100)


def test_the_best_is_taken_where_there_is_time() -> None:
    choice = choose([QUICK_FAIR, SLOW_GOOD], WORK, 10)
    assert choice.trial is SLOW_GOOD
    assert seconds(SLOW_GOOD, WORK, choice.epochs) <= 600 < seconds(SLOW_GOOD, WORK, choice.epochs + 1)
    assert choose([QUICK_FAIR, SLOW_GOOD], WORK, 2).trial is not SLOW_GOOD


def test_of_those_that_cannot_be_told_apart_the_largest() -> None:
    close = Trial("close", 160, 0.955, 200, frozen_seconds=0.01, step_seconds=0.02)
    choice = choose([SLOW_GOOD, close], WORK, 60)
    assert choice.trial is SLOW_GOOD
    assert "largest" in choice.why[1]
    assert choose([SLOW_GOOD, close], WORK, 4).trial is close


def test_time_spent_on_trials_counts() -> None:
    assert choose([SLOW_GOOD], WORK, 10, spent=200).epochs < choose([SLOW_GOOD], WORK, 10).epochs


def test_one_view_where_two_take_too_long_and_no_tail_for_few_pictures() -> None:
    choice = choose([SLOW_GOOD], WORK, 1.9)
    assert (choice.n_views, choice.epochs) == (1, 0)
    few = choose([QUICK_FAIR], Workload(100, 2, 30, rarest=3), 60)
    assert few.epochs == 0
    assert "rarest class has 3" in few.why[-1]


def test_training_twice_leaves_time_for_fewer_epochs() -> None:
    trial = Trial("one", 224, 0.9, 150, 0.01, 0.02)
    once, twice = (seconds(trial, replace(WORK, n_trainings=times), 4) - seconds(trial, WORK, 0) for times in (1, 2))
    assert twice == pytest.approx(2 * once)


def test_impossible_minutes_are_told() -> None:
    choice = choose([SLOW_GOOD, QUICK_FAIR], WORK, 0.1)
    assert choice.trial is QUICK_FAIR
    assert "None can be trained in 0.1 minutes" in " ".join(choice.why)


trials = st.builds(
    Trial,
    name=st.sampled_from("abc"),
    size=st.just(224),
    score=st.floats(0, 1),
    n_held_out=st.integers(1, 500),
    frozen_seconds=st.floats(1e-4, 0.2),
    step_seconds=st.floats(1e-4, 0.5),
)


@given(st.lists(trials, min_size=1, max_size=5), st.integers(2, 5000), st.integers(1, 2), st.floats(0.1, 100))
def test_a_choice_keeps_to_the_minutes_unless_nothing_can(
    tried: list[Trial], n: int, views: int, minutes: float
) -> None:
    work = Workload(n, views, n, rarest=50)
    choice = choose(tried, work, minutes)
    taken = Workload(n, choice.n_views, n, 50)
    in_time = seconds(choice.trial, taken, choice.epochs) <= 60 * minutes
    impossible = all(seconds(t, Workload(n, 1, n, 50), 0) > 60 * minutes for t in tried)
    assert in_time or (impossible and choice.epochs == 0)


def test_a_training_begins_with_the_choice_and_keeps_it(
    picture_folder: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tellapart.data.scan import scan
    from tellapart.data.splitting.split import split
    from tellapart.workflows.train import RunOptions, run

    catalog = scan(picture_folder(n=20))
    changes = ["model.name=small-cnn", "model.pretrained=false", "data.size=32", "plan.minutes=1000"]
    recipe = load_recipe("fast", changes)
    divided = split(catalog)
    events = list(run(recipe, catalog, divided, tmp_path / "run", RunOptions()))
    notes = [event.text for event in events if isinstance(event, Note)]
    stored = Run(tmp_path / "run").recipe
    assert stored.plan
    assert stored.plan.why == notes
    # The first look stays one at plain pictures, whatever the others see.
    plain, both = [[]], [[], ["horizontal_flip"]]
    assert [[[t.transform for t in view] for view in s.views or ()] for s in recipe.stages] == [plain, both, both]
    assert [s.views for s in stored.stages] == [s.views for s in recipe.stages][: len(stored.stages)]
    assert "small-cnn at 32 pixels" in stored.plan.why[0]
    assert stored.plan.why[0] in (tmp_path / "run" / "report.html").read_text().replace("&#39;", "'")
    # The same command again: nothing is tried again, nothing refused.
    assert list(run(recipe, catalog, divided, tmp_path / "run", RunOptions())) == []
    with pytest.raises(ta.TellapartError, match="another recipe"):
        list(run(load_recipe("fast", [*changes, "seed=5"]), catalog, divided, tmp_path / "run", RunOptions()))
