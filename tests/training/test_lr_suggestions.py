from __future__ import annotations

import bisect
import math
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tellapart.errors import TrainingError
from tellapart.training.lr_suggestions import _valley, blew_up, smooth, suggest, sweep


def test_smooth_by_its_definition() -> None:
    losses = [3.0, 1.0, 4.0, 1.0, 5.0]
    for n in range(1, 6):
        weights = [0.98 ** (n - 1 - i) for i in range(n)]
        expected = sum(w * loss for w, loss in zip(weights, losses, strict=False)) / sum(weights)
        assert smooth(losses)[n - 1] == pytest.approx(expected)
    assert smooth([2.0] * 50) == pytest.approx([2.0] * 50)


def test_blows_up_at_four_times_the_lowest_or_no_number() -> None:
    flat = [1.0] * 50
    assert not blew_up(flat)
    assert blew_up([*flat, math.nan])
    assert blew_up([*flat, math.inf])
    losses = list(flat)
    while not blew_up(losses):
        losses.append(50.0)
    assert smooth(losses)[-1] > 4 >= smooth(losses[:-1])[-1]


def sharp(curve: np.ndarray) -> np.ndarray:
    """Losses whose smoothed curve is the one given."""
    corrected = curve * (1 - 0.98 ** np.arange(1, len(curve) + 1))
    return (corrected - 0.98 * np.concatenate([[0.0], corrected[:-1]])) / 0.02


def test_a_parabola() -> None:
    """The smoothed loss is (log10 rate + 1)²: lowest at 0.1, steepest where it begins."""
    lrs = sweep(1e-6, 10.0, 701)
    curve = (np.log10(lrs) + 1) ** 2 + 1
    found = suggest(lrs, sharp(curve))
    assert found.smoothed == pytest.approx(curve)
    assert found.tenth_of_minimum == pytest.approx(0.01)
    start = math.log10(lrs[70])
    # Ends of a gradient are one-sided, so that the first and the second point may change places.
    assert math.log10(found.steepest) == pytest.approx(start, abs=0.02)
    # A slope of a quarter lies at a quarter of the way before the lowest point.
    assert math.log10(found.highest_falling) == pytest.approx(-1 + (start + 1) / 4, abs=0.02)
    # Half way down the one and only way down.
    assert math.log10(found.valley) == pytest.approx((start - 1) / 2, abs=0.03)
    assert found.rose


def test_a_slide_between_two_flats() -> None:
    """The smoothed loss falls along a logistic curve of the logarithm: steepest at 1e-3."""
    lrs = sweep(1e-6, 1.0, 601)
    curve = 2 - 1 / (1 + np.exp(-4 * (np.log10(lrs) + 3)))
    found = suggest(lrs, sharp(curve))
    assert math.log10(found.steepest) == pytest.approx(-3, abs=0.02)
    # The slope s (1 - s) is a quarter of its greatest at s = (1 + √¾) / 2.
    s = (1 + math.sqrt(0.75)) / 2
    assert math.log10(found.highest_falling) == pytest.approx(-3 + math.log(s / (1 - s)) / 4, abs=0.02)
    assert not found.rose


def test_the_order_of_the_suggestions_on_a_noisy_training() -> None:
    lrs = sweep(1e-6, 10.0, 200)
    x = np.log10(lrs)
    clean = 2.3 - 1.8 / (1 + np.exp(-3 * (x + 3))) + np.exp(4 * (x - 0.2))
    for seed in range(5):
        losses = clean + np.random.default_rng(seed).normal(0, 0.05, 200)
        stop = next(n for n in range(1, 201) if n == 200 or blew_up(losses[:n]))
        found = suggest(lrs[:stop], losses[:stop])
        assert found.rose
        assert 1e-4 < found.tenth_of_minimum < 0.3
        assert 1e-4 < found.steepest <= found.highest_falling <= found.tenth_of_minimum * 10.001
        assert 1e-4 < found.valley < found.highest_falling


def test_losses_after_the_first_that_is_no_number_do_not_count() -> None:
    lrs = sweep(1e-4, 1.0, 50)
    losses = np.linspace(3, 1, 50)
    losses[40] = math.nan
    found = suggest(lrs, losses)
    assert len(found.lrs) == len(found.losses) == len(found.smoothed) == 40
    assert found.rose
    assert found.tenth_of_minimum == pytest.approx(lrs[39] / 10)


def test_what_cannot_be_read_is_said() -> None:
    lrs = sweep(1e-4, 1.0, 50)
    with pytest.raises(TrainingError, match="did not fall"):
        suggest(lrs, np.linspace(1, 2, 50))
    with pytest.raises(TrainingError, match="did not fall"):
        suggest(lrs, 1 + np.random.default_rng(0).normal(0, 0.005, 50))
    with pytest.raises(TrainingError, match="3 usable steps"):
        suggest(lrs, [3.0, 2.0, 1.0, math.nan] + [1.0] * 46)
    with pytest.raises(ValueError, match="losses"):
        suggest(lrs, [1.0])


@given(st.lists(st.integers(0, 30), min_size=1, max_size=40))
def test_the_valley_is_half_way_along_the_longest_fall(values: list[int]) -> None:
    """The length by the patience game, an independent algorithm."""
    ends: list[tuple[int, int]] = []
    piles: list[int] = []
    for i, value in enumerate(values):
        place = bisect.bisect_left(piles, -value)
        piles[place:] = [-value, *piles[place + 1 :]]
        ends.append((place + 1, -i))
    length, end = max(ends)
    start = -end - length
    found = _valley(np.array(values, float))
    assert 0 <= found < len(values)
    assert abs(found - (start + length / 2)) <= 2


def test_needs_no_torch() -> None:
    code = (
        "import sys, tellapart.training.lr_suggestions, tellapart.training.schedule; sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
