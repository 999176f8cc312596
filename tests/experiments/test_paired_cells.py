"""Paired differences of two cells, against SciPy and by simulation of seeds and pictures."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from tellapart.experiments.paired_cells import Parts, Scores, corrected, described, needed, parts, span


def scores(values, resampled=None, **more) -> Scores:
    by_seed = dict(enumerate(values))
    return Scores(by_seed, {} if resampled is None else dict(enumerate(resampled)), **more)


def test_without_pictures_it_is_the_paired_t_test():
    rng = np.random.default_rng(1)
    one, other = rng.normal(0.8, 0.02, 6), rng.normal(0.77, 0.02, 6)
    between = parts(scores(one), scores(other))
    by_scipy = stats.ttest_rel(one, other)
    assert between.p() == pytest.approx(by_scipy.pvalue, rel=1e-9)
    difference = described(scores(one), scores(other), between.p(), 1)
    assert (difference.low, difference.high) == pytest.approx(by_scipy.confidence_interval(0.95))


def test_the_interval_of_a_cell_is_students():
    values = [0.7, 0.74, 0.71, 0.78]
    low, high = stats.t.interval(0.95, 3, np.mean(values), stats.sem(values))
    spread = span(values)
    assert (spread.value, spread.low, spread.high, spread.n) == pytest.approx((np.mean(values), low, high, 4))


def test_only_seeds_that_both_have_count():
    one, other = Scores({0: 0.8, 1: 0.9, 2: 0.7}, {}), Scores({1: 0.7, 2: 0.6, 3: 0.1}, {})
    difference = described(one, other, 0.5, 1)
    assert difference.by_seed == pytest.approx({1: 0.2, 2: 0.1})
    assert difference.value == pytest.approx(0.15)


def test_pictures_widen_what_seeds_agree_on():
    # All seeds find the same two points, but on few pictures: other pictures would have given another number.
    rng = np.random.default_rng(2)
    shared = rng.normal(0.02, 0.02, 500)
    one = scores([0.82, 0.8201, 0.8199], [0.8 + shared] * 3, n_pictures=200)
    other = scores([0.80, 0.80, 0.80], [np.full(500, 0.8)] * 3, n_pictures=200)
    between = parts(one, other)
    assert between.of_pictures == pytest.approx(shared.var(ddof=1), rel=1e-6)
    assert parts(scores([0.82, 0.8201, 0.8199]), scores([0.80, 0.80, 0.80])).p() < 1e-4
    assert between.p() > 0.2


def test_what_pictures_do_to_each_seed_apart_is_counted_once():
    # Noise of each seed's own on the pictures is in the spread of the seeds; nothing is left for the pictures.
    rng = np.random.default_rng(3)
    n_seeds, noise = 400, 0.02
    own = rng.normal(0, noise, n_seeds)
    resampled = own[:, None] + rng.normal(0, noise, (n_seeds, 500))
    between = parts(scores(own, resampled), scores(np.zeros(n_seeds), resampled * 0))
    assert between.of_seeds == pytest.approx(noise**2 / n_seeds, rel=0.2)
    assert between.of_pictures < 0.2 * between.of_seeds


def test_seeds_with_pictures_of_their_own_are_corrected_for_overlap():
    one, other = scores([0.8, 0.85, 0.9], overlap=0.25), scores([0.7, 0.7, 0.7], overlap=0.25)
    plain = np.var([0.1, 0.15, 0.2], ddof=1)
    assert parts(one, other).of_seeds == pytest.approx(plain * (1 / 3 + 0.25))  # Nadeau and Bengio


@pytest.mark.parametrize("picture_deviation", [0.0, 0.5, 2.0])
@pytest.mark.parametrize("n", [3, 6])
def test_at_most_five_percent_of_equal_cells_are_told_apart(n, picture_deviation):
    rng = np.random.default_rng(5)
    n_studies = 4_000
    seeds = rng.normal(size=(n_studies, n))
    pictures = rng.normal(0, picture_deviation, n_studies)
    claimed = 0
    for own, shared in zip(seeds, pictures, strict=True):
        mean = Parts(own.mean() + shared, own.var(ddof=1) / n, picture_deviation**2, n, 100)
        claimed += mean.reach() < abs(mean.value)
    assert claimed < stats.binom.isf(1e-6, n_studies, 0.05)


def test_the_p_value_and_the_interval_agree():
    mean = Parts(0.03, 1e-4, 5e-5, 4, 300)
    assert mean.reach(mean.p()) == pytest.approx(0.03)
    assert (mean.p() < 0.05) == (mean.reach() < 0.03)


def test_equal_scores_are_no_difference():
    assert parts(scores([0.8, 0.7]), scores([0.8, 0.7])).p() == 1.0
    assert described(scores([0.8, 0.7]), scores([0.8, 0.7]), 1.0, 1).value == 0


def test_what_is_always_the_same_amount_more_is_more():
    assert parts(scores([10, 10]), scores([8, 8])).p() == 0.0  # parameters


def test_one_seed_tells_nothing():
    difference = described(scores([0.9]), scores([0.1]), math.nan, 1)
    assert difference.value == pytest.approx(0.8)
    assert difference.verdict == "cannot tell"
    assert math.isnan(difference.low)
    assert math.isnan(difference.p)


def test_no_common_seed_is_no_difference():
    assert described(Scores({0: 0.9}, {}), Scores({1: 0.9}, {}), math.nan, 1) is None


def test_verdicts_follow_the_corrected_p_and_the_direction():
    plain = described(scores([0.9, 0.91, 0.92]), scores([0.8, 0.81, 0.83]), 0.01, 1)
    assert corrected(plain, 0.04, lower_is_better=False).verdict == "better"
    assert corrected(plain, 0.04, lower_is_better=True).verdict == "worse"
    assert corrected(plain, 0.06, lower_is_better=False).verdict == "cannot tell"
    assert corrected(plain, math.nan, lower_is_better=False).verdict == "cannot tell"


def test_the_seeds_that_are_said_to_suffice_do():
    # A difference of 1 with a deviation of 2 over seeds.
    more, _ = needed(Parts(1.0, 4 / 5, 0.0, 5, 0), 1)
    n = 5 + int(more)
    noncentral = 1 / (2 / math.sqrt(n))
    limit = stats.t.isf(0.025, n - 1)
    assert 0.78 < stats.nct.sf(limit, n - 1, noncentral) < 0.87


def test_seeds_do_not_help_where_pictures_are_too_few():
    mean = Parts(0.01, 1e-6, 1e-4, 5, 296)
    more, pictures = needed(mean, 1)
    assert math.isinf(more)
    enough = Parts(0.01, 1e-6, 1e-4 * 296 / pictures, 5, int(pictures))
    power = stats.norm.sf((enough.reach() - 0.01) / math.sqrt(enough.total))
    assert power == pytest.approx(0.8, abs=0.002)
    assert needed(Parts(0.0, 1e-6, 1e-4, 5, 296), 1) == (math.inf, math.inf)
