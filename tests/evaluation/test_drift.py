"""The test for drift: it finds what differs, and cries wolf no more often than it says."""

import math
from collections import Counter

import numpy as np
import pytest

from tellapart.evaluation import drift
from tellapart.evaluation.drift import differences


def exact(old, new):
    """The permutation test of a table of two cells, by all divisions there are: (yes, no) of both samples."""
    n, m, yes = sum(old), sum(new), old[0] + new[0]
    ways = {k: math.comb(n, k) * math.comb(m, yes - k) for k in range(max(0, yes - m), min(n, yes) + 1)}
    middle = yes * n / (n + m)
    return sum(w for k, w in ways.items() if abs(k - middle) >= abs(old[0] - middle) - 1e-9) / sum(ways.values())


@pytest.mark.parametrize(("old", "new"), [((1, 9), (6, 4)), ((2, 58), (9, 51)), ((5, 5), (5, 5)), ((30, 3), (4, 4))])
def test_the_p_value_is_that_of_all_divisions(old, new):
    (found,) = differences({"x": tuple(dict(zip("ab", part, strict=True)) for part in (old, new))})
    assert found.p == pytest.approx(exact(old, new), abs=0.015)


def test_it_says_what_moved_and_how_far():
    (found,) = differences({"classes": ({"cat": 50, "dog": 50}, {"cat": 80, "dog": 10, "cow": 10})})
    assert found.proven
    assert found.distance == pytest.approx(0.4)
    assert (found.moved[0], found.new["cow"], found.validation["cow"]) == ("dog", 0.1, 0.0)


def test_three_tests_of_the_same_pictures_are_wrong_in_one_of_twenty_at_most(monkeypatch):
    monkeypatch.setattr(drift, "DRAWS", 199)
    rng, n_false, n = np.random.default_rng(0), 0, 100
    for seed in range(n):
        counts = {
            name: tuple(Counter(rng.integers(0, k, size).tolist()) for size in (80, 40))
            for name, k in (("a", 2), ("b", 20), ("c", 5))
        }
        n_false += any(each.proven for each in differences(counts, seed))
    assert n_false <= n * 0.05 + 3 * math.sqrt(n * 0.05)


def test_several_tests_are_corrected():
    pair = ({"a": 50, "b": 50}, {"a": 30, "b": 70})
    (alone,) = differences({"x": pair})
    both = differences({"x": pair, "y": pair})
    assert [each.p for each in both] == pytest.approx([min(1, 2 * alone.p)] * 2)


def test_samples_without_pictures_are_left_out():
    assert differences({"x": ({}, {"a": 1}), "y": ({"a": 1}, {"a": 0})}) == []


def test_many_cells_and_many_pictures_take_bounded_work(monkeypatch):
    monkeypatch.setattr(drift, "_MOST_CELLS", 50)
    monkeypatch.setattr(drift, "_MOST_PICTURES", 10_000)
    one = {str(cell): 10**9 for cell in range(5_000)}
    same, other = differences({"x": (one, one), "y": (one, {**one, "0": 10**13})})
    assert not same.proven
    assert other.proven
