"""Tests of paired differences: against scipy, against published examples, and by simulation."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from tellapart.evaluation import significance


@pytest.mark.parametrize(("b", "c"), [(0, 0), (0, 5), (0, 6), (3, 12), (8, 8), (121, 59), (4000, 4200)])
def test_mcnemar_is_the_binomial_test(b, c):
    expected = stats.binomtest(b, b + c).pvalue if b + c else 1.0
    assert significance.mcnemar(b, c) == significance.mcnemar(c, b) == pytest.approx(expected)


@pytest.mark.parametrize(("b", "c", "n"), [(7, 1, 21), (0, 0, 10), (3, 9, 500)])
def test_interval_of_paired_shares_is_a_usual_one_of_two_more_pictures(b, c, n):
    each = np.repeat([-1, 1, 0], [b + 1, c + 1, n - b - c])
    half = stats.norm.ppf(0.975) * each.std() / math.sqrt(n + 2)
    assert significance.share_interval(b, c, n) == pytest.approx((each.mean() - half, each.mean() + half))


def test_interval_of_paired_shares_contains_the_truth():
    rng = np.random.default_rng(0)
    for n, first, second in ((30, 0.03, 0.1), (100, 0.05, 0.05), (400, 0.01, 0.06)):
        drawn = rng.multinomial(n, [first, second, 1 - first - second], 1500)
        limits = np.array([significance.share_interval(b, c, n) for b, c, _ in drawn.tolist()])
        assert 0.935 <= np.mean((limits[:, 0] <= second - first) & (second - first <= limits[:, 1])) <= 0.995


def test_a_difference_that_the_exact_test_sees_is_never_denied_by_the_interval():
    for n in (30, 1000):
        for b in range(40):
            for c in range(b, 60):
                if b + c <= n and significance.mcnemar(b, c) < 0.05:
                    assert significance.share_interval(b, c, n)[0] > 0


def test_the_power_is_the_one_planned_for():
    """Connor's formula: with so many pictures, 80 of 100 comparisons find the difference."""
    first, second = 0.04, 0.09
    n = math.ceil(significance.pictures_needed(second - first, first + second - (second - first) ** 2))
    assert n == 406  # (1.960 · √0.13 + 0.842 · √(0.13 - 0.0025))² / 0.0025
    drawn = np.random.default_rng(1).multinomial(n, [first, second, 1 - first - second], 2000)
    b, c = drawn[:, 0], drawn[:, 1]
    found = np.abs(c - b) / np.sqrt(b + c) > 1.96  # the test that the formula was made for
    assert np.mean(found & (c > b)) == pytest.approx(0.8, abs=0.03)


def test_power_at_the_edges():
    assert significance.pictures_needed(0.0, 0.1) == math.inf
    assert significance.pictures_needed(0.01, 0.1, fixed=0.001) == math.inf
    assert significance.pictures_needed(0.1, 0.1, fixed=0.0005) > significance.pictures_needed(0.1, 0.1)
    assert significance.smallest_difference(0.01) == pytest.approx(0.01 * (1.959964 + 0.841621))


def test_holm_on_a_worked_example():
    assert significance.holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    corrected = significance.holm([0.2, math.nan, 0.9])
    assert corrected[[0, 2]] == pytest.approx([0.4, 0.9])
    assert math.isnan(corrected[1])
    assert significance.holm([]).size == 0


@given(st.lists(st.floats(0, 1), max_size=12))
def test_holm_keeps_the_order_and_only_raises(values):
    corrected = significance.holm(values)
    assert (corrected >= np.array(values)).all()
    assert (corrected <= np.minimum(1, np.array(values) * max(1, len(values)))).all()
    order = np.argsort(values, kind="stable")
    assert (np.diff(corrected[order]) >= 0).all()


@pytest.mark.parametrize(("ratio", "n"), [(2, 3), (1, 1), (-4, 2.5), (0, 5), (12.7062, 1), (1.96, 1e6), (3, math.inf)])
def test_t_is_as_in_scipy(ratio, n):
    assert significance.t_test(ratio, n) == pytest.approx(2 * stats.t.sf(abs(ratio), n), rel=1e-9)


@pytest.mark.parametrize("n", [1, 2, 2.7, 10, 1000])
def test_limits_of_t_are_as_in_scipy(n):
    assert significance.t_limit(n) == pytest.approx(stats.t.ppf(0.975, n))


def test_degrees_of_freedom_are_those_of_welch():
    one, other = np.array([1.0, 2.0, 4.0, 3.0]), np.array([5.0, 9.0, 1.0])
    parts = [(one.var(ddof=1) / 4, 3.0), (other.var(ddof=1) / 3, 2.0)]
    expected = stats.ttest_ind(one, other, equal_var=False).df
    assert significance.freedom(parts[0][0] + parts[1][0], parts) == pytest.approx(expected)


@pytest.mark.parametrize(("right", "n", "all_right", "total"), [(3, 10, 80, 100), (0, 1, 5, 5), (9, 10, 9, 10)])
def test_fewer_right_is_the_hypergeometric_tail(right, n, all_right, total):
    expected = stats.hypergeom.cdf(right, total, all_right, n)
    assert significance.fewer_right(right, n, all_right, total) == pytest.approx(expected)
