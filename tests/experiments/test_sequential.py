"""Seeds on demand: published boundaries, the error rate and the power, by simulation with a fixed generator."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from tellapart.experiments.sequential import boundaries, nominal_levels, sequential_p


def test_boundaries_are_the_published_ones():
    # DeMets and Lan, Statistics in Medicine 13 (1994): O'Brien–Fleming-like spending, five looks, two-sided 5 %.
    levels = nominal_levels(0.05, np.arange(1, 6) / 5)[0]
    assert stats.norm.isf(levels / 2) == pytest.approx([4.8769, 3.3569, 2.6803, 2.2898, 2.0310], abs=2e-4)


def test_one_look_is_the_plain_test():
    assert sequential_p({5: 0.031}, 5, 5) == 0.031
    assert nominal_levels(0.05, [1.0])[0] == pytest.approx([0.05], abs=1e-9)


def test_the_p_value_turns_the_boundaries_around():
    for n, level in boundaries(3, 12)[2:]:
        assert sequential_p({n: level}, 3, 12) == pytest.approx(0.05, rel=0.01)


def test_the_p_value_never_rises_with_another_look():
    rng = np.random.default_rng(4)
    looks: dict[int, float] = {}
    before = 1.0
    for n in range(3, 13):
        looks[n] = float(rng.uniform(0, 0.2))
        now = sequential_p(looks, 3, 12)
        assert now <= before
        before = now


def test_no_look_is_no_p_value():
    assert np.isnan(sequential_p({}, 3, 12))
    assert np.isnan(sequential_p({3: float("nan")}, 3, 12))


def claims(differences: np.ndarray, first: int, last: int) -> np.ndarray:
    """Whether each study [n, last] ends in a claim, when it is looked at after every seed."""
    n = np.arange(first, last + 1)
    sums, squares = differences.cumsum(1)[:, first - 1 :], (differences**2).cumsum(1)[:, first - 1 :]
    variance = (squares - sums**2 / n) / (n - 1)
    p = 2 * stats.t.sf(np.abs(sums / n) / np.sqrt(variance / n), n - 1)
    levels = np.array([level for _, level in boundaries(first, last)])
    return (p < levels).any(axis=1)


@pytest.mark.parametrize(("first", "last"), [(3, 12), (2, 5), (5, 10)])
def test_at_most_five_percent_claim_a_difference_that_is_none(first, last):
    n = 20_000
    claimed = claims(np.random.default_rng(7).normal(size=(n, last)), first, last).sum()
    # Were the rate above 5 %, so few claims would be seen in fewer than one of a million simulations.
    assert claimed < stats.binom.isf(1e-6, n, 0.05)
    assert stats.binom.cdf(claimed, n, 0.056) < 1e-3  # it is proven below 5.6 %, the rate without `T_PRICE`


def test_looking_without_a_plan_would_claim_too_often():
    n, differences = np.arange(3, 13), np.random.default_rng(7).normal(size=(5_000, 12))
    claimed = [(stats.ttest_1samp(differences[:, :k], 0, axis=1).pvalue < 0.05) for k in n]
    assert np.any(claimed, axis=0).mean() > 0.13


def test_a_planted_difference_is_claimed_with_the_power_of_the_plan():
    # Of 1.2 standard deviations: a plain t test with all 12 seeds finds 96 of 100.
    differences = np.random.default_rng(8).normal(1.2, 1, (5_000, 12))
    plain = (stats.ttest_1samp(differences, 0, axis=1).pvalue < 0.05).mean()
    assert claims(differences, 3, 12).mean() > plain - 0.04 > 0.9
