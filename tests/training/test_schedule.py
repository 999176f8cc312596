from __future__ import annotations

import warnings
from collections.abc import Callable

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.optim import lr_scheduler

from tellapart.errors import RecipeError
from tellapart.training.schedule import KINDS, group_lrs, schedule


def torch_lrs(make: Callable[[torch.optim.Optimizer], lr_scheduler.LRScheduler], steps: int) -> list[float]:
    """What a scheduler of torch gives for a peak of 1."""
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    scheduler = make(optimizer)
    lrs = []
    for _ in range(steps):
        lrs.append(float(optimizer.param_groups[0]["lr"]))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that no optimizer has made a step
            if len(lrs) < steps:
                scheduler.step()
    return lrs


def ours(kind: str, steps: int, per_epoch: int = 10, **options: float) -> list[float]:
    factor = schedule(kind, steps, per_epoch, **options)  # type: ignore[arg-type]
    return [factor(step) for step in range(steps)]


@pytest.mark.parametrize(("steps", "rise"), [(100, 0.3), (37, 0.3), (10, 0.25), (250, 0.5), (4, 0.3)])
def test_one_cycle_is_that_of_torch(steps: int, rise: float) -> None:
    expected = torch_lrs(
        lambda o: lr_scheduler.OneCycleLR(o, 1.0, steps, pct_start=rise, final_div_factor=400, cycle_momentum=False),
        steps,
    )
    assert ours("one_cycle", steps, warmup=rise) == pytest.approx(expected, rel=1e-9)
    if rise == 0.3:
        assert ours("one_cycle", steps) == pytest.approx(expected, rel=1e-9)


def test_one_cycle_takes_torchs_own_end() -> None:
    expected = torch_lrs(lambda o: lr_scheduler.OneCycleLR(o, 1.0, 50, cycle_momentum=False), 50)
    assert ours("one_cycle", 50, final=1 / 25 / 1e4) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize(("length", "multiplier", "final"), [(1, 1, 0.0), (1, 2, 0.0), (2, 3, 0.1), (3, 1, 0.5)])
def test_sgdr_is_that_of_torch(length: int, multiplier: int, final: float) -> None:
    per_epoch = 7
    steps = sum(length * multiplier**cycle for cycle in range(3)) * per_epoch
    expected = torch_lrs(
        lambda o: lr_scheduler.CosineAnnealingWarmRestarts(o, length * per_epoch, multiplier, eta_min=final), steps
    )
    found = ours("sgdr", steps, per_epoch, cycle_length=length, cycle_multiplier=multiplier, final=final)
    assert found == pytest.approx(expected, rel=1e-9, abs=1e-12)


def test_sgdr_begins_each_cycle_at_the_peak() -> None:
    factors = ours("sgdr", 7 * 5, 5, cycle_length=1, cycle_multiplier=2)
    assert [step for step, factor in enumerate(factors) if factor == 1] == [0, 5, 15]


@pytest.mark.parametrize(("steps", "final"), [(20, 0.0), (33, 0.05)])
def test_cosine_is_that_of_torch(steps: int, final: float) -> None:
    expected = torch_lrs(lambda o: lr_scheduler.CosineAnnealingLR(o, steps, eta_min=final), steps)
    assert ours("cosine", steps, final=final) == pytest.approx(expected, rel=1e-9, abs=1e-12)


def test_step_is_that_of_torch_by_epochs() -> None:
    per_epoch = 4
    expected = torch_lrs(lambda o: lr_scheduler.StepLR(o, 3 * per_epoch, gamma=0.5), 40)
    assert ours("step", 40, per_epoch, step_epochs=3, step_factor=0.5) == pytest.approx(expected)


def test_warm_up_rises_evenly_and_the_kind_follows() -> None:
    ramp = [0.2, 0.4, 0.6, 0.8]
    assert ours("constant", 10, warmup=0.4) == pytest.approx(ramp + [1.0] * 6)
    assert ours("cosine", 10, warmup=0.4) == pytest.approx(ramp + ours("cosine", 6))


def test_warm_up_leaves_epochs_where_they_are() -> None:
    options = {"cycle_length": 1, "cycle_multiplier": 2}
    assert ours("sgdr", 30, 10, warmup=0.1, **options)[3:] == ours("sgdr", 30, 10, **options)[3:]
    assert ours("step", 30, 10, warmup=0.1)[3:] == ours("step", 30, 10)[3:]


@given(
    st.sampled_from(KINDS),
    st.integers(1, 300),
    st.integers(1, 50),
    st.floats(0, 1, exclude_max=True),
    st.integers(1, 4),
    st.integers(1, 3),
)
def test_every_factor_is_a_share_and_some_step_is_done(
    kind: str, steps: int, per_epoch: int, warmup: float, length: int, multiplier: int
) -> None:
    factors = ours(kind, steps, per_epoch, warmup=warmup, cycle_length=length, cycle_multiplier=multiplier)
    assert all(0 <= factor <= 1 for factor in factors)
    assert factors[0] > 0


def test_a_step_stands_alone() -> None:
    forwards = ours("sgdr", 70, 10, cycle_multiplier=2)
    factor = schedule("sgdr", 70, 10, cycle_multiplier=2)
    assert [factor(step) for step in reversed(range(70))] == forwards[::-1]


def test_steps_outside_are_refused() -> None:
    with pytest.raises(ValueError, match="step 10 of a schedule of 10"):
        schedule("cosine", 10, 5)(10)
    with pytest.raises(ValueError, match="0 steps"):
        schedule("cosine", 0, 5)


@pytest.mark.parametrize(
    ("kind", "options", "says"),
    [
        ("cosin", {}, "Did you mean 'cosine'"),
        ("constant", {"final": 0.1}, "does not fall"),
        ("cosine", {"final": 2.0}, "'final' is 2.0"),
        ("cosine", {"warmup": 1.0}, "'warmup' is 1.0"),
        ("step", {"step_factor": 0.0}, "'step_factor' is 0.0"),
        ("sgdr", {"cycle_length": 0}, "'cycle_length' is 0"),
    ],
)
def test_what_cannot_be_is_said(kind: str, options: dict[str, float], says: str) -> None:
    with pytest.raises(RecipeError, match=says):
        ours(kind, 10, **options)


@pytest.mark.parametrize(
    ("lr", "why"),
    [
        ("1e-4 to 1e-2", "not a range"),
        ("small..large", "not a range"),
        ("-1..1", "not a number above 0"),
        (True, "not a number above 0"),
        (float("inf"), "not a number above 0"),
        ([1e-3] * 4, "4 values for 3 groups"),
        ({"head": 1e-3, "decay": 1.5}, "decay of 1.5 is above 1"),
        ({"head": 1e-3}, "not understood"),
    ],
)
def test_learning_rates_that_are_none_are_refused(lr: object, why: str) -> None:
    with pytest.raises(RecipeError, match=why):
        group_lrs(lr, 3)  # type: ignore[arg-type]
