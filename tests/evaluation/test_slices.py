"""Parts of the pictures: against scipy, and alarms on planted and on absent trouble."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from tellapart.evaluation.slices import slices


def test_scores_and_tests_of_parts():
    right = np.array([True] * 70 + [False] * 30)
    kind = np.array(["JPEG"] * 60 + ["PNG"] * 40, object)
    found = slices(right, {"file type": kind})
    png, jpeg = found.parts
    assert (png.by, png.name, png.n, png.right) == ("file type", "PNG", 40, 10)
    assert (jpeg.value, png.value, png.rest) == (1.0, 0.25, 1.0)
    expected = stats.binomtest(10, 40).proportion_ci(method="wilson")
    assert (png.low, png.high) == pytest.approx((expected.low, expected.high))
    fisher = stats.fisher_exact([[10, 30], [60, 0]], alternative="less").pvalue
    assert png.p == pytest.approx(fisher)
    assert png.p_corrected == pytest.approx(2 * fisher)
    assert found.worst == (png,)


def test_numbers_are_cut_into_quarters():
    values = np.concatenate([np.arange(80.0), [np.nan] * 20])
    found = slices(np.ones(100, bool), {"brightness": values}, smallest=10)
    assert sorted(part.name for part in found.parts) == [
        "0–19, lowest quarter",
        "20–39, second quarter",
        "40–59, third quarter",
        "60–79, highest quarter",
    ]
    assert {part.n for part in found.parts} == {20}


def test_few_different_numbers_are_taken_one_by_one():
    found = slices(np.ones(60, bool), {"size": np.array([32, 64, 128] * 20)})
    assert sorted(part.name for part in found.parts) == ["128", "32", "64"]
    assert all(part.n == 20 and not part.worse for part in found.parts)


def test_small_parts_are_left_out_and_counted():
    kind = np.array(["a"] * 30 + ["b"] * 5 + ["c"] * 5 + [None] * 30, object)
    found = slices(np.zeros(70, bool), {"group": kind, "same": np.array(["x"] * 70, object)})
    assert [part.name for part in found.parts] == ["a"]
    assert found.n_small == 2


def test_a_planted_weakness_is_found_and_nothing_else():
    rng = np.random.default_rng(0)
    bright = rng.uniform(0, 255, 800)
    right = rng.random(800) < np.where(bright < 64, 0.6, 0.9)
    columns = {"brightness": bright, "size": rng.integers(10, 500, 800), "group": rng.integers(0, 9, 800).astype(str)}
    worst = slices(right, columns).worst
    assert [(part.by, part.name.split(", ")[1]) for part in worst] == [("brightness", "lowest quarter")]


def test_looking_at_many_parts_raises_no_alarm():
    rng = np.random.default_rng(1)
    alarms = []
    for _ in range(150):
        right = rng.random(300) < 0.85
        columns = {str(i): rng.random(300) for i in range(5)}
        alarms.append(bool(slices(right, columns).worst))
    assert np.mean(alarms) <= 0.06
