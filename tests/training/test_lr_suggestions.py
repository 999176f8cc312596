from __future__ import annotations

import math
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tellapart.core.text import lr_text
from tellapart.errors import TrainingError
from tellapart.training.lr_suggestions import RULES, blew_up, running_mean, smooth, suggest, sweep, two_digits


def test_the_running_mean_by_its_definition() -> None:
    losses = [3.0, 1.0, 4.0, 1.0, 5.0]
    for n in range(1, 6):
        weights = [0.98 ** (n - 1 - i) for i in range(n)]
        expected = sum(w * loss for w, loss in zip(weights, losses, strict=False)) / sum(weights)
        assert running_mean(losses)[n - 1] == pytest.approx(expected)
    assert running_mean([2.0] * 50) == pytest.approx([2.0] * 50)


def test_blows_up_at_four_times_the_lowest_or_no_number() -> None:
    flat = [1.0] * 50
    assert not blew_up(flat)
    assert blew_up([*flat, math.nan])
    assert blew_up([*flat, math.inf])
    losses = list(flat)
    while not blew_up(losses):
        losses.append(50.0)
    assert running_mean(losses)[-1] > 4 >= running_mean(losses[:-1])[-1]


def test_smoothing_takes_noise_away_and_has_no_lag() -> None:
    x = np.linspace(0, 1, 100)
    assert smooth([2.0] * 50) == pytest.approx([2.0] * 50)
    assert smooth(3 - 2 * x)[10:-10] == pytest.approx((3 - 2 * x)[10:-10], abs=0.01)
    clean = np.cos(2 * np.pi * x)
    noisy = clean + np.random.default_rng(0).normal(0, 0.3, 100)
    assert np.abs(smooth(noisy) - clean)[10:-10].mean() < 0.3 / 2.5
    spike = 3 - 2 * x
    spike[50] = 1e6
    assert np.abs(smooth(spike) - smooth(3 - 2 * x)).max() < 0.1


def test_a_slide_between_two_flats() -> None:
    """The loss falls along a logistic curve of the logarithm: steepest, and half done, at 1e-3."""
    lrs = sweep(1e-6, 1.0, 601)
    test = suggest(lrs, 2 - 1 / (1 + np.exp(-4 * (np.log10(lrs) + 3))))
    assert math.log10(test.valley) == pytest.approx(-3, abs=0.06)
    assert math.log10(test.steepest) == pytest.approx(-3, abs=0.06)
    # The slope s (1 - s) is a quarter of its greatest at s = (1 + √¾) / 2; smoothing widens it a little.
    s = (1 + math.sqrt(0.75)) / 2
    assert math.log10(test.highest_falling) == pytest.approx(-3 + math.log(s / (1 - s)) / 4, abs=0.15)
    # It is as low as it comes where 98 % of the fall is done.
    assert math.log10(test.tenth_of_minimum) == pytest.approx(-4 + math.log(49) / 4, abs=0.15)
    assert test.diverges is None


def test_where_a_loss_that_has_fallen_rises_again_it_diverges() -> None:
    """The loss is a parabola with its lowest point at 0.1; a tenth of its fall is lost again at 10^(-1 + 5 √0.1)."""
    lrs = sweep(1e-6, 10.0, 701)
    test = suggest(lrs, (np.log10(lrs) + 1) ** 2 + 1)
    assert test.diverges is not None
    assert math.log10(test.diverges) == pytest.approx(-1 + 4.7 * math.sqrt(0.1), abs=0.2)
    assert max(test.by_rule.values()) <= test.diverges / 10


#: A fall at 1e-3 and an explosion at 0.5, as loss by the logarithm of the rate: of a small set that is known by heart.
def explosion(lrs: np.ndarray, n_classes: float = 3.0, at: float = 0.5) -> np.ndarray:
    x = np.log10(lrs)
    falls = math.log(n_classes) / (1 + np.exp(4 * (x + 3)))
    return np.asarray(falls + np.where(lrs > at, (lrs / at) ** 4 * 10, 0))


@pytest.mark.parametrize(
    ("n", "noise"), [(20, 0.0), (20, 0.05), (40, 0.1), (100, 0.0), (100, 0.05), (100, 0.15), (300, 0.15)]
)
def test_no_suggestion_lies_in_the_last_decade_before_the_loss_explodes(n: int, noise: float) -> None:
    """The lag of the running mean made "highest falling" 0.51 on such a curve, where the valley was 2.8e-3."""
    lrs = sweep(1e-7, 10.0, n)
    for seed in range(10):
        losses = explosion(lrs) + np.random.default_rng(seed).normal(0, noise * math.log(3), n)
        stop = next((i for i in range(1, n + 1) if blew_up(losses[:i])), n)
        test = suggest(lrs[:stop], losses[:stop])
        assert test.diverges is not None
        assert test.diverges <= lrs[min(stop, n - 1)]
        assert all(1e-5 < lr <= test.diverges / 10 for lr in test.by_rule.values())
        assert 3e-5 < test.valley < 1e-2


@pytest.mark.parametrize("end", [math.nan, math.inf])
def test_a_loss_that_is_no_number_diverges_there(end: float) -> None:
    lrs = sweep(1e-4, 1.0, 50)
    losses = np.linspace(3, 1, 50)
    losses[40:] = end
    test = suggest(lrs, losses)
    assert len(test.lrs) == len(test.losses) == len(test.smoothed) == 40
    assert test.diverges == lrs[40]
    assert max(test.by_rule.values()) <= lrs[40] / 10


def test_the_order_of_the_suggestions_on_a_noisy_training() -> None:
    lrs = sweep(1e-6, 10.0, 200)
    x = np.log10(lrs)
    clean = 2.3 - 1.8 / (1 + np.exp(-3 * (x + 3))) + np.exp(4 * (x - 0.2))
    for seed in range(5):
        losses = clean + np.random.default_rng(seed).normal(0, 0.05, 200)
        stop = next(n for n in range(1, 201) if n == 200 or blew_up(losses[:n]))
        test = suggest(lrs[:stop], losses[:stop])
        assert test.diverges is not None
        assert 1e-4 < test.tenth_of_minimum < 0.03
        assert 1e-4 < test.steepest <= test.highest_falling <= test.diverges / 10
        assert 1e-4 < test.valley < test.highest_falling


def test_two_digits_are_rounded_down() -> None:
    for exponent in range(-8, 2):
        for digits in range(10, 100):
            lr = float(f"{digits}e{exponent}")
            assert two_digits(lr) == lr
            assert two_digits(lr * 1.004) == lr
    assert two_digits(0.00289) == 0.0028


def test_what_cannot_be_read_is_said() -> None:
    lrs = sweep(1e-4, 1.0, 50)
    with pytest.raises(TrainingError, match="did not fall"):
        suggest(lrs, np.linspace(1, 2, 50))
    with pytest.raises(TrainingError, match="did not fall"):
        suggest(lrs, 1 + np.random.default_rng(0).normal(0, 0.005, 50))
    with pytest.raises(TrainingError, match="3 usable steps"):
        suggest(lrs, [3.0, 2.0, 1.0, math.nan] + [1.0] * 46)
    for nothing in ([math.nan] * 50, [math.inf] * 50):
        with pytest.raises(TrainingError, match="0 usable steps"):
            suggest(lrs, nothing)
    with pytest.raises(TrainingError, match="2 usable steps"):
        suggest(lrs[:2], [3.0, 2.0])
    with pytest.raises(ValueError, match="losses"):
        suggest(lrs, [1.0])


def test_noise_alone_suggests_nothing() -> None:
    """Of 200 tests in which nothing is learned at most five may take their noise for a fall: one in a hundred does."""
    for n in (20, 100):
        mistaken = 0
        for seed in range(200):
            try:
                suggest(sweep(1e-7, 10, n), 1 + np.random.default_rng(seed).normal(0, 0.2, n))
                mistaken += 1
            except TrainingError:
                pass
        assert mistaken <= 5, n


@st.composite
def curves(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray, float]:
    """A test that falls, perhaps to a plateau, and perhaps explodes; with noise. And where it explodes."""
    n = draw(st.integers(12, 200))
    lrs = sweep(1e-7, 10.0, n)
    x = np.log10(lrs)
    begin, width = draw(st.floats(-6, -2)), draw(st.floats(0.5, 3))
    height, floor = draw(st.floats(0.05, 6)), draw(st.floats(0, 3))
    losses = floor + height * (1 - np.clip((x - begin) / width, 0, 1))
    at = draw(st.one_of(st.just(math.inf), st.floats(10 ** (begin + width), 10 ** (begin + width + 3)), st.just(9.0)))
    losses = losses + np.where(lrs >= at, draw(st.sampled_from([3.0, 100.0, math.nan, math.inf])) * height, 0)
    noise = draw(st.sampled_from([0.0, 0.02, 0.1]))
    losses = losses + noise * height * np.random.default_rng(draw(st.integers(0, 99))).normal(size=n)
    return lrs, losses, at


@given(curves())
def test_on_any_curve_that_explodes_the_last_decade_is_kept_clear(curve: tuple[np.ndarray, np.ndarray, float]) -> None:
    lrs, losses, at = curve
    try:
        test = suggest(lrs, losses)
    except TrainingError:
        return
    assert list(test.by_rule) == list(RULES)
    for lr in test.by_rule.values():
        assert lrs[0] / 100 < lr <= lrs[-1]
        assert lr == two_digits(lr)
        assert float(lr_text(lr)) == lr
    first = lrs[lrs >= at]
    if len(first):
        assert test.diverges is not None
        assert test.diverges <= first[min(1, len(first) - 1)]
        assert max(test.by_rule.values()) <= first[min(1, len(first) - 1)] / 10
    if test.diverges is not None:
        assert max(test.by_rule.values()) <= test.diverges / 10


def test_needs_no_torch() -> None:
    code = (
        "import sys, tellapart.training.lr_suggestions, tellapart.training.schedule; sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
