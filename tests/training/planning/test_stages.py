"""What the minutes buy: epochs that fit, few pictures, over-fitting seen, further stages while they help."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tellapart.recipe.load import load_recipe
from tellapart.recipe.schema import Recipe
from tellapart.training.planning.budget import (
    Timing,
    Workload,
    end_seconds,
    epoch_seconds,
    stage_seconds,
    total_seconds,
)
from tellapart.training.planning.stages import (
    MORE_LAYERS,
    MORE_VIEWS,
    Outcome,
    further,
    may_go_on,
    skeleton,
    slowed,
    with_epochs,
)

TIMING = Timing(reading=0.002, frozen=0.01, answering=0.015, step=0.01, solving=1e-6, setup=1.0)
WORK = Workload(n_train=1000, n_validation=250, n_test=250, n_classes=3, rarest=100)
RECIPE = load_recipe("transfer")
LAST = Outcome("last layers", start=0.40, losses=((0.3, 0.39), (0.2, 0.36), (0.15, 0.35)), seconds=11.0)
BY_HEART = Outcome("last layers", start=0.40, losses=((0.2, 0.36), (0.05, 0.38), (0.01, 0.42)), seconds=11.0)


def no_use(name: str) -> Outcome:
    return Outcome(name, start=0.35, losses=((0.2, 0.36), (0.1, 0.37)), seconds=12.0)


def test_a_view_is_computed_once_for_all_stages() -> None:
    first, probe, last = stage_seconds(RECIPE.stages, TIMING, WORK)
    both_views = (2 * 1000 + 250) * (TIMING.reading + TIMING.frozen)
    solving = sum(TIMING.solving * 60 * n for n in (300 * (5 + 2), 2000 * (9 + 2)))
    assert first + probe == pytest.approx(both_views + solving)
    assert last == pytest.approx(3 * epoch_seconds(TIMING, WORK))


#: Seconds of a training without its last stage.
LEAST = total_seconds(RECIPE, TIMING, WORK) - 3 * epoch_seconds(TIMING, WORK)


@pytest.mark.parametrize("epochs", [3, 2, 1])
def test_as_many_epochs_as_fit(epochs: int) -> None:
    left = LEAST + (epochs + 0.5) * epoch_seconds(TIMING, WORK)
    planned, why = with_epochs(RECIPE, TIMING, WORK, left)
    assert planned.stages[-1].epochs == epochs
    assert total_seconds(planned, TIMING, WORK) <= left
    assert why == []


def test_without_time_for_an_epoch_the_last_stage_goes_and_then_the_second_view() -> None:
    planned, why = with_epochs(RECIPE, TIMING, WORK, LEAST + 0.5 * epoch_seconds(TIMING, WORK))
    assert [stage.name for stage in planned.stages] == ["first look", "linear head"]
    assert "no time" in why[0]
    planned, _ = with_epochs(RECIPE, TIMING, WORK, 10)
    assert [len(stage.views) for stage in planned.stages] == [1, 1]


def test_retraining_leaves_time_for_fewer_epochs() -> None:
    twice = replace(WORK, n_trainings=2)
    left = LEAST + 2.5 * epoch_seconds(TIMING, WORK)
    assert with_epochs(RECIPE, TIMING, twice, left)[0].stages[-1].epochs == 1


def test_few_pictures_get_a_probe_whose_strength_is_cross_validated() -> None:
    few = skeleton(RECIPE, replace(WORK, rarest=5))
    assert [(stage.name, stage.folds) for stage in few.stages] == [("linear head", 5)]
    assert not may_go_on(few)
    small_part = skeleton(RECIPE, replace(WORK, n_validation=60))
    assert [stage.folds for stage in small_part.stages] == [None, 5, None]
    assert skeleton(RECIPE, WORK) == RECIPE


def test_over_fitting_is_seen() -> None:
    assert BY_HEART.by_heart
    assert not LAST.by_heart
    assert not replace(BY_HEART, losses=((0.3, 0.4), (0.29, 0.41))).by_heart  # it rises, but there is loss on training


def test_more_views_follow_then_more_layers_then_the_end_is_told() -> None:
    stage, why = further(RECIPE, [BY_HEART], TIMING, WORK, 200, 5)
    assert stage
    assert (stage.name, stage.average) == (MORE_VIEWS, 0.99)
    assert "by heart (training loss 0.010, validation loss rising)" in why
    # What is stored is used again: the views of before come first.
    assert stage.views[:2] == RECIPE.stages[-1].views
    assert len(stage.views) > 2
    longer = RECIPE.model_copy(update={"stages": [*RECIPE.stages, stage]})
    layers, why = further(longer, [BY_HEART, no_use(MORE_VIEWS)], TIMING, WORK, 200, 5)
    assert layers
    assert layers.name == MORE_LAYERS
    assert layers.train == pytest.approx(0.8)
    assert layers.lr == pytest.approx(1e-4 / 3)
    longest = longer.model_copy(update={"stages": [*longer.stages, layers]})
    end, why = further(longest, [BY_HEART, no_use(MORE_VIEWS), no_use(MORE_LAYERS)], TIMING, WORK, 200, 5)
    assert end is None
    assert "more time would not help" in why


def test_views_that_helped_are_doubled() -> None:
    stage, _ = further(RECIPE, [LAST], TIMING, WORK, 150, 5)
    assert stage
    longer = RECIPE.model_copy(update={"stages": [*RECIPE.stages, stage]})
    again, _ = further(longer, [LAST, replace(LAST, name=MORE_VIEWS)], TIMING, WORK, 600, 15)
    assert again
    assert again.name == MORE_VIEWS
    assert len(again.views) > len(stage.views)


def test_nothing_is_begun_for_a_rest_of_the_minutes_and_nothing_without_fixed_views() -> None:
    assert further(RECIPE, [LAST], TIMING, WORK, 20, 5) == (None, "")
    fresh = RECIPE.stages[-1].model_copy(update={"views": []})
    assert further(Recipe(stages=[fresh]), [LAST], TIMING, WORK, 200, 5) == (None, "")


def test_pictures_that_are_not_mirrored_are_not_mirrored_later() -> None:
    plain = RECIPE.stages[-1].model_copy(update={"views": [[]]})
    stage, _ = further(RECIPE.model_copy(update={"stages": [plain]}), [LAST], TIMING, WORK, 200, 5)
    assert stage
    assert {change.transform for view in stage.views for change in view} == {"random_resized_crop"}


@given(st.floats(1, 3000), st.floats(1, 60), st.integers(20, 5000), st.floats(0.2, 5))
def test_a_further_stage_fits_into_what_is_left(left: float, minutes: float, n: int, slower: float) -> None:
    work, timing = replace(WORK, n_train=n), slowed(TIMING, slower)
    outcome = replace(LAST, seconds=epoch_seconds(timing, work))
    stage, _ = further(RECIPE, [outcome], timing, work, left, minutes)
    if stage:
        before = sum(stage_seconds(RECIPE.stages, timing, work))
        longer = RECIPE.model_copy(update={"stages": [*RECIPE.stages, stage]})
        assert sum(stage_seconds(longer.stages, timing, work)) - before <= left * 1.001
        # A plan is a recipe that can be written and read.
        assert Recipe.model_validate(longer.model_dump()) == longer


@given(st.floats(0, 2000), st.integers(10, 5000), st.integers(1, 2))
def test_epochs_never_take_more_than_is_left(left: float, n: int, trainings: int) -> None:
    work = replace(WORK, n_train=n, n_trainings=trainings)
    planned, _ = with_epochs(RECIPE, TIMING, work, left)
    least = RECIPE.stages[1].model_copy(update={"views": [[]]})
    possible = sum(stage_seconds([least], TIMING, work)) + end_seconds(TIMING, work, left) <= left
    assert not possible or total_seconds(planned, TIMING, work) <= left or planned.stages[-1].solver


def test_explanations_count_with_at_most_their_share_of_the_training() -> None:
    """A network of half a second an answer would explain for six minutes."""
    slow, silent = replace(TIMING, answering=0.5), replace(WORK, explains=False)
    assert end_seconds(slow, WORK, 1000) - end_seconds(slow, silent, 1000) == pytest.approx(200)
    assert end_seconds(slow, WORK, 10) - end_seconds(slow, silent, 10) == pytest.approx(20)
    quick = replace(TIMING, answering=0.01)
    assert end_seconds(quick, WORK, 1000) - end_seconds(quick, silent, 1000) == pytest.approx(7)
    assert total_seconds(RECIPE, slow, WORK) <= 1.2 * total_seconds(RECIPE, slow, silent) + 20
