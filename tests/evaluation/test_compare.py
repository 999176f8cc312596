"""Comparisons: scores against scikit-learn, intervals and verdicts against simulated truths."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats
from sklearn import metrics as reference

from tellapart.core.predictions import Predictions
from tellapart.errors import DataError, UsageError
from tellapart.evaluation import intervals, metrics
from tellapart.evaluation.compare import compare
from tellapart.evaluation.comparison import Answered, Comparison, Contender
from tellapart.evaluation.weighted_scores import scorer

CLASSES = ("a", "b", "c")


def answered(target, answer, sure=3.0) -> Answered:
    """A network that gives these answers."""
    logits = sure * np.eye(3)[np.asarray(answer)]
    return Answered(Predictions.of(np.arange(len(target)), logits, target, CLASSES))


def network(target, right, rng) -> Answered:
    """A network that is right on these pictures, and wrong in any way on the others."""
    other = (target + rng.integers(1, 3, len(target))) % 3
    return answered(target, np.where(right, target, other))


def of(*contenders, metric="accuracy", n_bootstrap=200, seed=0) -> Comparison:
    named = [Contender(f"run {i}", c if isinstance(c, tuple) else (c,)) for i, c in enumerate(contenders)]
    return compare(named, metric, n_bootstrap, seed)


def several_labels(n=60, seed=0) -> Answered:
    rng = np.random.default_rng(seed)
    target = (rng.random((n, 3)) < 0.4).astype(np.uint8)
    logits = rng.normal(size=(n, 3)) - 1 + 2 * target
    return Answered(Predictions.of(np.arange(n), logits, target, CLASSES), 0.7, np.array([0.4, 0.5, 0.6]))


def one_label(n=60, seed=0, n_classes=7) -> Answered:
    rng = np.random.default_rng(seed)
    target = rng.integers(0, n_classes - 1, n)  # one class never occurs
    logits = rng.normal(size=(n, n_classes)) + np.eye(n_classes)[target]
    names = tuple(f"class {i}" for i in range(n_classes))
    return Answered(Predictions.of(np.arange(n), logits, target, names), 0.7)


@pytest.mark.parametrize("given", [one_label(), several_labels()], ids=["one", "several"])
def test_weighted_scores_are_those_of_pictures_repeated(given):
    """Every score, on resamples, against the same pictures really drawn several times."""
    n = len(given.predictions)
    weights = np.concatenate(list(intervals.resampled_rows(n, 3, np.random.default_rng(1))), axis=1)
    for metric, value in metrics.scores(given.predictions, given.temperature, given.thresholds).items():
        score = scorer(given, metric)
        assert score(np.ones((n, 1))) == pytest.approx([value])
        for k in range(3):
            drawn = np.repeat(np.arange(n), weights[:, k].astype(int))
            p = given.predictions
            again = Predictions.of(np.arange(n), p.logits[drawn], p.target[drawn], p.classes)
            expected = metrics.scores(again, given.temperature, given.thresholds)[metric]
            assert score(weights)[k] == pytest.approx(expected, abs=1e-6), metric


def test_scores_and_discordant_pictures():
    target = np.arange(90) % 3
    first, second = target.copy(), target.copy()
    first[:20] = (target[:20] + 1) % 3  # 20 wrong
    second[15:25] = (target[15:25] + 2) % 3  # 10 wrong, 5 of them also wrong in the first
    found = of(answered(target, first), answered(target, second), metric="")
    (pair,) = found.differences
    assert found.metric == "accuracy"
    assert [s.value for s in found.standings] == pytest.approx([70 / 90, 80 / 90])
    assert found.standings[0].others["f1_macro"] == pytest.approx(reference.f1_score(target, first, average="macro"))
    assert pair.value == pytest.approx(10 / 90)
    assert pair.discordant == (5, 15)
    assert pair.p == pytest.approx(stats.binomtest(5, 20).pvalue)
    assert (pair.verdict, found.best, pair.test) == ("better", 1, "McNemar, exact")
    assert 0 < pair.low < pair.value < pair.high
    assert of(answered(target, second), answered(target, first)).differences[0].verdict == "worse"


def test_lower_log_loss_is_better():
    target = np.arange(60) % 3
    found = of(answered(target, target, 1.0), answered(target, target, 4.0), metric="log_loss")
    assert found.differences[0].value < 0
    assert (found.differences[0].verdict, found.best) == ("better", 1)


@pytest.mark.parametrize("metric", ["accuracy", "f1_macro", "log_loss"])
def test_the_same_answers_prove_nothing(metric):
    target = np.arange(30) % 3
    right = answered(target, target)
    pair = of(right, right, metric=metric).differences[0]
    assert (pair.value, pair.verdict, pair.p, pair.needed) == (0, "cannot tell", 1, math.inf)
    if metric != "log_loss":
        assert pair.low < 0 < pair.high


def test_few_answers_that_differ_prove_nothing():
    """Five pictures of a rare class: a bootstrap alone would call this proven."""
    target = np.array([0] * 50 + [1] * 45 + [2] * 5)
    wrong = np.where(target == 2, 0, target)
    for metric in ("accuracy", "f1_macro"):
        pair = of(answered(target, wrong), answered(target, target), metric=metric).differences[0]
        assert pair.verdict == "cannot tell"
        assert pair.low <= 0 < pair.high


@pytest.mark.parametrize("metric", ["accuracy", "f1_macro"])
def test_intervals_contain_the_truth_and_alarms_are_rarely_false(metric):
    """Two networks, each right on a picture by its own luck; the truth is from very many pictures."""
    rng = np.random.default_rng(3)

    def pair(n, better):
        target = rng.integers(0, 3, n)
        hard = rng.random(n)
        return (network(target, hard * 0.5 + rng.random(n) * 0.5 > limit, rng) for limit in (0.35, 0.35 - better))

    for better in (0.0, 0.12):
        truth = np.mean([of(*pair(4000, better), metric=metric).differences[0].value for _ in range(4)])
        found = [of(*pair(80, better), metric=metric, n_bootstrap=120).differences[0] for _ in range(160)]
        assert np.mean([d.low <= truth <= d.high for d in found]) == pytest.approx(0.955, abs=0.042)
        alarms = np.mean([d.verdict != "cannot tell" for d in found])
        assert alarms <= 0.08 if better == 0 else alarms > 0.2


def seeds_of(target, n_seeds, skill, between, hard, rng) -> tuple[Answered, ...]:
    """Trainings of one recipe: each has a skill of its own, and its own luck with each picture."""
    networks = []
    for own in skill + between * rng.normal(size=n_seeds):
        networks.append(network(target, hard * 0.5 + rng.random(len(target)) * 0.5 < own, rng))
    return tuple(networks)


@pytest.mark.parametrize(("between", "n_seeds"), [(0.0, 3), (0.03, 2), (0.08, 4)])
def test_several_seeds_take_both_sources_of_chance_into_account(between, n_seeds):
    """Two recipes that are equally good: seldom told apart, and far more often by one seed of each with such noise."""
    rng = np.random.default_rng(4)
    alarms, single, width = [], [], []
    for _ in range(120):
        n = 150
        target, hard = rng.integers(0, 3, n), rng.random(n)
        one, other = (seeds_of(target, n_seeds, 0.6, between, hard, rng) for _ in range(2))
        found = of(one, other, n_bootstrap=80).differences[0]
        alarms.append(found.verdict != "cannot tell")
        width.append(found.seed_share)
        single.append(of(one[0], other[0]).differences[0].verdict != "cannot tell")
    assert np.mean(alarms) <= 0.08
    if between == 0.08:
        assert np.mean(single) > 0.25
        assert np.mean(width) > 0.4


def test_the_variance_of_seeds_is_found():
    """Net of the luck that each seed has with the pictures: a little above the truth on average, never far below."""
    rng = np.random.default_rng(5)
    target, hard = rng.integers(0, 3, 3000), rng.random(3000)
    for between in (0.0, 0.04):
        found = []
        for _ in range(12):
            one, other = (seeds_of(target, 6, 0.6, between, hard, rng) for _ in range(2))
            pair = of(one, other, n_bootstrap=60).differences[0]
            error = (pair.high - pair.low) / 2 / 2.2
            found.append(pair.seed_share * error**2 * 6 / 2)
        # Accuracy rises by about 1.66 for each unit of skill, by the integral of the two uniform draws.
        assert np.mean(found) == pytest.approx((1.66 * between) ** 2, rel=0.35, abs=2e-5)


def test_a_single_training_borrows_the_variance_of_seeds():
    rng = np.random.default_rng(6)
    target, hard = rng.integers(0, 3, 200), rng.random(200)
    many = seeds_of(target, 4, 0.6, 0.08, hard, rng)
    found = of(many, seeds_of(target, 1, 0.6, 0.08, hard, rng))
    assert found.seeds_known
    assert found.standings[1].deviation is None
    assert found.differences[0].seed_share > 0.3
    assert "seeds" in found.differences[0].test


def test_mean_and_deviation_over_seeds():
    target = np.zeros(10, int)
    right = [answered(target, [0] * k + [1] * (10 - k)) for k in (6, 8, 10)]
    found = of(tuple(right), answered(target, target))
    assert found.standings[0].value == pytest.approx(0.8)
    assert found.standings[0].deviation == pytest.approx(0.2)
    assert found.differences[0].discordant is None


def test_looking_at_many_pairs_is_corrected_for():
    rng = np.random.default_rng(7)
    target = rng.integers(0, 3, 100)
    multilabel = [network(target, rng.random(100) < 0.8, rng) for _ in range(5)]
    found = of(*multilabel)
    assert len(found.differences) == 10
    assert all(d.p_corrected >= d.p for d in found.differences)
    alarms = []
    for _ in range(60):
        equal = [network(target, rng.random(100) < 0.8, rng) for _ in range(5)]
        alarms.append(any(d.verdict != "cannot tell" for d in of(*equal).differences))
    assert np.mean(alarms) <= 0.1


def test_needed_pictures_are_those_that_do():
    """Had there been so many pictures, four comparisons of five would have told."""
    rng = np.random.default_rng(8)
    target = np.arange(100) % 3
    wrong = np.where(np.arange(100) < 12, (target + 1) % 3, target)
    other = np.where((np.arange(100) >= 9) & (np.arange(100) < 15), (target + 1) % 3, target)
    pair = of(answered(target, wrong), answered(target, other)).differences[0]
    assert pair.discordant == (3, 9)
    n = math.ceil(pair.needed)
    told = []
    for _ in range(200):
        drawn = rng.integers(0, 100, n)
        told.append(
            of(answered(target[drawn], wrong[drawn]), answered(target[drawn], other[drawn])).differences[0].verdict
        )
    assert told.count("better") / 200 == pytest.approx(0.8, abs=0.08)
    assert told.count("worse") == 0


def test_what_cannot_be_compared():
    target = np.arange(9) % 3
    right = answered(target, target)
    with pytest.raises(UsageError, match="nothing to compare"):
        of(right)
    with pytest.raises(UsageError, match="no score 'f2'"):
        of(right, right, metric="f2")
    with pytest.raises(DataError, match="cannot be compared"):
        of(right, answered((target + 1) % 3, target))


def test_plain_values_are_for_json():
    target = np.arange(9) % 3
    values = of(answered(target, target), answered(target, target)).as_dict()
    assert values["differences"][0]["needed"] is None


def test_there_must_be_pictures_to_compare_on():
    nothing = answered(np.array([], int), np.array([], int))
    with pytest.raises(DataError, match="no picture with a label"):
        of(nothing, nothing)
