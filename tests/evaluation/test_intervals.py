"""Intervals: against scipy, against plain resampling of rows, and by how often they contain the truth."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats
from sklearn import metrics as reference

from tellapart.core.predictions import Predictions
from tellapart.evaluation import intervals, metrics


def predictions_of(logits, target) -> Predictions:
    logits = np.asarray(logits)
    names = tuple(f"class {i}" for i in range(logits.shape[1]))
    return Predictions.of(np.arange(len(logits)), logits, target, names)


def random_one(n, n_classes, seed=0, skill=1.5):
    rng = np.random.default_rng(seed)
    target = rng.integers(0, n_classes, n)
    return predictions_of(rng.normal(size=(n, n_classes)) + skill * np.eye(n_classes)[target], target)


def random_several(n, n_classes, seed=0):
    rng = np.random.default_rng(seed)
    target = (rng.random((n, n_classes)) < 0.3).astype(np.uint8)
    return predictions_of(rng.normal(size=(n, n_classes)) - 1 + 2 * target, target)


@pytest.mark.parametrize(("right", "n"), [(0, 1), (1, 1), (30, 30), (0, 30), (7, 10), (900, 1000), (1, 3)])
def test_wilson_is_as_in_scipy(right, n):
    expected = stats.binomtest(right, n).proportion_ci(0.95, method="wilson")
    assert intervals.wilson(right / n, n) == pytest.approx((expected.low, expected.high), abs=1e-12)


def test_wilson_without_pictures_knows_nothing():
    low, high = intervals.wilson(np.array([0.0, 0.5]), np.array([0, 10]))
    assert (low[0], high[0]) == (0, 1)
    assert 0.2 < low[1] < 0.3


def test_f1_interval_contains_the_truth_as_often_as_it_says():
    """One class of several; the truth is the F1 of infinitely many pictures."""
    rng = np.random.default_rng(0)
    shares = np.array([0.18, 0.05, 0.04, 0.73])  # answered rightly, missed, wrongly answered with, elsewhere
    truth = 2 * shares[0] / (2 * shares[0] + shares[1] + shares[2])
    right, missed, false, _ = rng.multinomial(60, shares, 4000).T
    low, high = intervals.f1_interval(metrics.Counts(right, right + missed, right + false))
    assert 0.93 <= np.mean((low <= truth) & (truth <= high)) <= 0.98


def test_f1_interval_of_a_perfect_class_is_not_a_point():
    counts = metrics.Counts(np.array([30, 0]), np.array([30, 0]), np.array([30, 0]))
    low, high = intervals.f1_interval(counts)
    assert low[0] == pytest.approx(2 * 0.8865 / 1.8865, abs=1e-3)
    assert (high[0], low[1], high[1]) == (1, 0, 1)


def plain_resamples(predictions, score, n_bootstrap, seed=1):
    """The bootstrap as every textbook has it: draw rows with replacement, score them."""
    rng = np.random.default_rng(seed)
    answer = metrics.answers(predictions)
    n = len(predictions)
    drawn = (rng.integers(0, n, n) for _ in range(n_bootstrap))
    return np.array([score(predictions.target[rows], answer[rows]) for rows in drawn])


@pytest.mark.parametrize("name", ["f1_macro", "precision_weighted", "balanced_accuracy"])
def test_drawing_cells_is_drawing_rows(name):
    predictions = random_one(60, 4)

    def score(target, answer):
        if name == "balanced_accuracy":
            return reference.balanced_accuracy_score(target, answer)
        metric, _, average = name.partition("_")
        return getattr(reference, f"{metric}_score")(target, answer, average=average, zero_division=0)

    ours = intervals.bootstrap(predictions, n_bootstrap=4000)[name]
    theirs = plain_resamples(predictions, score, 300)
    assert stats.ks_2samp(ours, theirs).pvalue > 0.001


def test_cells_are_drawn_with_the_moments_of_a_multinomial():
    predictions = random_one(50, 3)
    answer = metrics.answers(predictions)
    pieces = intervals.resampled_cells(predictions.target, answer, 3, 20_000, np.random.default_rng(0))
    drawn = [np.concatenate(parts) for parts in zip(*pieces, strict=True)]
    for counts, expected in zip(drawn, metrics.count(predictions.target, answer, 3), strict=True):
        assert counts.mean(axis=0) == pytest.approx(expected, abs=0.2)
        assert counts.var(axis=0) == pytest.approx(expected * (1 - expected / 50), rel=0.06)
    assert (drawn[1].sum(axis=1) == 50).all()
    assert (drawn[2].sum(axis=1) == 50).all()
    assert (drawn[0] <= np.minimum(drawn[1], drawn[2])).all()


def test_rows_are_drawn_as_often_as_there_are_rows():
    pieces = list(intervals.resampled_rows(40, 10_000, np.random.default_rng(0)))
    weights = np.concatenate(pieces, axis=1)
    assert weights.shape == (40, 10_000)
    assert (weights.sum(axis=0) == 40).all()
    assert weights.mean(axis=1) == pytest.approx(1, abs=0.05)
    assert weights.var(axis=1) == pytest.approx(1 - 1 / 40, abs=0.08)


def test_log_loss_interval_is_near_the_normal_one():
    predictions = random_one(400, 5)
    losses = metrics.row_scores(predictions, metrics.answers(predictions))["log_loss"]
    low, high = intervals.percentile(losses.mean(), intervals.bootstrap(predictions)["log_loss"], 400, bounded=False)
    half = 1.96 * losses.std() / 20
    assert (low, high) == pytest.approx((losses.mean() - half, losses.mean() + half), abs=0.2 * half)


@pytest.mark.parametrize("name", ["f1_micro", "recall_macro", "label_accuracy", "mean_average_precision", "log_loss"])
def test_several_labels_are_drawn_by_picture(name):
    """Each value is what the score is on the pictures that were drawn."""
    predictions = random_several(40, 4)
    found = intervals.bootstrap(predictions, n_bootstrap=30, seed=5)[name]
    weights = np.concatenate(list(intervals.resampled_rows(40, 30, np.random.default_rng(5))), axis=1)
    for k in range(30):
        rows = np.repeat(np.arange(40), weights[:, k].astype(int))
        drawn = predictions_of(predictions.logits[rows], predictions.target[rows])
        assert found[k] == pytest.approx(metrics.scores(drawn)[name], rel=1e-5)


@pytest.mark.parametrize(("n_classes", "per_class"), [(3, 15), (37, 8)])
def test_macro_f1_intervals_contain_the_truth(n_classes, per_class):
    """Without the bias correction the second case holds the truth in four of five only."""
    rng = np.random.default_rng(3)
    shares = np.full((n_classes, n_classes), 0.25 / (n_classes - 1) / n_classes)
    np.fill_diagonal(shares, 0.75 / n_classes)
    n, hits = n_classes * per_class, 0
    for seed in range(120):
        target, answer = np.divmod(np.repeat(np.arange(n_classes**2), rng.multinomial(n, shares.ravel())), n_classes)
        predictions = predictions_of(np.eye(n_classes)[answer], target)
        value = metrics.scores(predictions)["f1_macro"]
        low, high = intervals.percentile(
            value, intervals.bootstrap(predictions, n_bootstrap=300, seed=seed)["f1_macro"], n
        )
        hits += low <= 0.75 <= high  # classes are alike: the true macro F1 is the accuracy
    assert hits / 120 >= 0.88


BALANCED = [
    (20, (1 / 3,) * 3, (0.8, 0.8, 0.8)),
    (20, (0.7, 0.2, 0.1), (0.9, 0.6, 0.5)),
    (20, (0.1,) * 10, (0.7,) * 10),
    (100, (1 / 37,) * 37, (0.75,) * 37),
    (1000, (0.1,) * 10, (0.5, 0.99) * 5),
]


@pytest.mark.parametrize(("n", "shares", "recalls"), BALANCED)
def test_balanced_accuracy_intervals_contain_the_truth(n, shares, recalls):
    rng = np.random.default_rng(1)
    labelled = rng.multinomial(n, shares, 600)
    right = rng.binomial(labelled, recalls)
    ends = [intervals.balanced_interval(metrics.Counts(*each, each[1])) for each in zip(right, labelled, strict=True)]
    low, high = np.array(ends).T
    assert 0.92 <= np.mean((low <= np.mean(recalls)) & (np.mean(recalls) <= high)) <= 0.98


def test_balanced_accuracy_of_one_class_or_without_errors_is_a_share():
    alone = metrics.Counts(np.array([7, 0]), np.array([10, 0]), np.array([7, 3]))
    low, high = intervals.balanced_interval(alone)
    assert (low, high) == pytest.approx(intervals.wilson(0.7, 10), abs=0.02)
    perfect = metrics.Counts(*[np.array([10, 10])] * 3)
    assert intervals.balanced_interval(perfect) == pytest.approx(intervals.wilson(1.0, 20))


@pytest.mark.parametrize("skill", [2.0, 4.0])
def test_log_loss_intervals_of_twenty_pictures_contain_the_truth(skill):
    """Percentiles hold it in 89 and 81 of 100."""
    rng = np.random.default_rng(2)
    logits = 1.5 * rng.normal(size=(200_000, 3)) + skill * np.eye(3)[0]
    losses = np.log(np.exp(logits).sum(axis=1)) - logits[:, 0]
    hits = 0
    for start in range(0, 300 * 20, 20):
        some = losses[start : start + 20]
        pieces = [intervals._resampled_loss(some, weights) for weights in intervals.resampled_rows(20, 400, rng)]
        samples, errors = (np.concatenate([p[name] for p in pieces]) for name in ("log_loss", "log_loss_error"))
        low, high = intervals.studentised(float(some.mean()), some, samples, errors)
        hits += low <= losses.mean() <= high
    assert hits / 300 >= 0.9


def test_log_loss_interval_of_few_pictures():
    assert intervals.studentised(0.4, np.array([0.4]), np.full(9, 0.4), np.zeros(9)) == (0.4, 0.4)
    assert intervals.studentised(0.4, np.full(30, 0.4), np.full(9, 0.4), np.zeros(9)) == (0.4, 0.4)
    few = np.array([0.1, 0.5, 0.9])
    expected = stats.t.interval(0.95, 2, few.mean(), stats.sem(few))
    low, high = intervals.studentised(float(few.mean()), few, np.empty(0), np.empty(0))
    assert (low, high) == (0.0, pytest.approx(expected[1], rel=1e-3))


def test_percentile_without_bias_is_the_plain_one():
    samples = np.random.default_rng(0).normal(0.5, 0.1, 20_001)
    found = intervals.percentile(float(np.median(samples)), samples, 100)
    assert found == pytest.approx(np.quantile(samples, [0.025, 0.975]), abs=1e-4)


def test_percentile_is_scipys_bias_corrected_one():
    """A mean of many pictures of no skew: there BCa is BC."""
    values = stats.norm.ppf((np.arange(200) + 0.5) / 200)
    rng = np.random.default_rng(0)
    samples = values[rng.integers(0, 200, (20_000, 200))].mean(axis=1)
    expected = stats.bootstrap((values,), np.mean, n_resamples=20_000, method="BCa", rng=np.random.default_rng(1))
    found = intervals.percentile(float(values.mean()), samples, 200, bounded=False)
    assert found == pytest.approx(tuple(expected.confidence_interval), abs=0.01)


def test_where_no_resample_differs_wilson_stands_in():
    assert intervals.percentile(1.0, np.ones(100), 30) == pytest.approx(intervals.wilson(1.0, 30))
    one_without_labels = np.append(np.ones(999), 0.0)  # such a resample alone has another recall
    assert intervals.percentile(1.0, one_without_labels, 6) == pytest.approx(intervals.wilson(1.0, 6))
    assert intervals.percentile(0.3, np.full(100, 0.3), 4, bounded=False) == (0.3, 0.3)


@pytest.mark.parametrize("predictions", [random_one(70, 6), random_several(70, 6)])
def test_same_seed_same_values_and_any_piece_size(predictions, monkeypatch):
    first = intervals.bootstrap(predictions, n_bootstrap=50, seed=4)
    again = intervals.bootstrap(predictions, n_bootstrap=50, seed=4)
    other = intervals.bootstrap(predictions, n_bootstrap=50, seed=5)
    assert all(np.array_equal(first[name], again[name]) for name in first)
    assert not np.array_equal(first["log_loss"], other["log_loss"])
    monkeypatch.setattr(intervals, "_WEIGHTS", 1)
    monkeypatch.setattr(intervals, "_CELLS", 1)
    assert all(len(values) == 50 for values in intervals.bootstrap(predictions, n_bootstrap=50).values())
