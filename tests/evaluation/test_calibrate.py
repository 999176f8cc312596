"""Temperatures against scipy's minimiser, thresholds against trying every one."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy.optimize import minimize_scalar
from sklearn.metrics import f1_score

from tellapart.core.predictions import Predictions, probabilities
from tellapart.errors import DataError
from tellapart.evaluation import metrics
from tellapart.evaluation.calibrate import fit_temperature, fit_temperatures, misses, thresholds
from tellapart.evaluation.reliability import reliability


def calibration_error(predictions: Predictions, temperature: float = 1.0) -> float:
    return reliability(predictions, temperature, n_bootstrap=1).error.value


def predictions_of(logits, target) -> Predictions:
    logits = np.asarray(logits)
    names = tuple(f"class {i}" for i in range(logits.shape[1]))
    return Predictions.of(np.arange(len(logits)), logits, target, names)


def honest(n, n_classes, seed=0, multilabel=False):
    """Logits whose probabilities are the truth."""
    rng = np.random.default_rng(seed)
    logits = 2 * rng.normal(size=(n, n_classes))
    p = probabilities(logits, multilabel)
    if multilabel:
        return logits, (rng.random(p.shape) < p).astype(np.uint8)
    return logits, (rng.random((n, 1)) > p.cumsum(axis=1)).sum(axis=1).clip(0, n_classes - 1)


@pytest.mark.parametrize("multilabel", [False, True])
@pytest.mark.parametrize("factor", [0.2, 1.0, 6.0])
def test_temperature_is_where_scipy_finds_the_lowest_loss(multilabel, factor):
    logits, target = honest(500, 6, multilabel=multilabel)
    predictions = predictions_of(logits * factor, target)
    found = fit_temperature(predictions)
    expected = minimize_scalar(
        lambda log_t: metrics.scores(predictions, float(np.exp(log_t)))["log_loss"],
        bounds=np.log([0.05, 20]),
        method="bounded",
        options={"xatol": 1e-9},
    )
    assert found == pytest.approx(np.exp(expected.x), rel=1e-5)
    assert found == pytest.approx(factor, rel=0.25)


@given(st.data())
def test_temperature_of_anything_is_no_worse_than_others(data):
    n, n_classes = data.draw(st.integers(1, 8)), data.draw(st.integers(1, 4))
    logits = data.draw(hnp.arrays(np.float32, (n, n_classes), elements=st.floats(-50, 50, width=32)))
    multilabel = data.draw(st.booleans())
    shape, top = ((n, n_classes), 1) if multilabel else (n, n_classes - 1)
    predictions = predictions_of(logits, data.draw(hnp.arrays(np.int64, shape, elements=st.integers(0, top))))
    found = fit_temperature(predictions)
    assert 0.05 <= found <= 20
    right = (metrics.answers(predictions) == predictions.target).all()
    if not right:
        loss = metrics.scores(predictions, found)["log_loss"]
        for other in np.geomspace(0.05, 20, 25):
            assert loss <= metrics.scores(predictions, float(other))["log_loss"] + 1e-9 * max(1, loss)


def test_temperature_at_the_edges_of_its_range():
    assert fit_temperature(predictions_of([[9.0, 0.0], [9.0, 0.0]], [1, 1])) == pytest.approx(20)
    logits = np.tile([[1e-3, 0.0]], (100, 1))
    assert fit_temperature(predictions_of(logits, np.arange(100) == 0)) == pytest.approx(0.05)


def test_temperature_stays_1_where_all_are_right():
    assert fit_temperature(predictions_of(np.eye(3), [0, 1, 2])) == 1
    assert fit_temperature(predictions_of([[4.0, -2.0], [-1.0, 3.0]], [[1, 0], [0, 1]])) == 1


def mean_loss(predictions, temperature):
    return metrics.scores(predictions, temperature)["log_loss"]


@pytest.mark.parametrize("right", [1, 2])
def test_a_tie_is_no_right_answer_whichever_of_the_two_comes_first(right):
    """The loss falls to log 2, and no further: no certainty of 100 % can come of it."""
    predictions = predictions_of([[-1, 0, 0]], [right])
    assert fit_temperature(predictions) == 0.05
    assert mean_loss(predictions, 0.05) == pytest.approx(np.log(2))
    assert mean_loss(predictions, 1.0) > 0.86


@pytest.mark.parametrize("answer", [0, 1])
def test_a_tie_of_a_label_is_no_right_answer(answer):
    predictions = predictions_of([[2.0, 0.0], [-3.0, -1.0]], [[1, answer], [0, 0]])
    assert fit_temperature(predictions) == 0.05


def test_a_tie_beside_errors_leaves_the_optimum_inside_the_range():
    logits = [[-1, 0, 0], [3, 0, -5], [2, 0, 0], [0, 1, 0]]
    predictions = predictions_of(logits, [2, 0, 0, 0])
    inside = fit_temperature(predictions)
    assert 0.05 < inside < 20
    for other in (0.98, 1.02):
        assert mean_loss(predictions, inside) < mean_loss(predictions, other * inside)


@pytest.mark.parametrize("logits", [[[0.0, 0.0]], [[7.0, 7.0]], [[3e7, 3e7], [-0.1, -0.1]], [[5.0]]])
def test_temperature_stays_1_where_the_loss_does_not_depend_on_it(logits):
    assert fit_temperature(predictions_of(logits, [len(logits[0]) - 1] * len(logits))) == 1


def test_temperature_stays_1_where_every_label_is_undecided():
    assert fit_temperature(predictions_of(np.zeros((2, 3)), [[0, 1, 0], [1, 1, 0]])) == 1


def test_temperature_falls_to_the_end_where_the_loss_falls_below_what_floats_tell_apart():
    """At every temperature below about 0.13 the loss is log 2 to the last bit, and its slope 0."""
    assert fit_temperature(predictions_of([[-100, 49.9, 49.9]], [2])) == 0.05
    assert fit_temperature(predictions_of([[-50, 50, 50, 50], [-1, 0, 0, -7]], [1, 2])) == 0.05


def test_temperature_where_the_slope_at_1_is_already_0():
    """Sigmoid of 0 and of equal logits: p is the share of the right ones at temperature 1 exactly."""
    logits = np.full((4, 1), np.log(3))
    assert fit_temperature(predictions_of(logits, [[1], [1], [1], [0]])) == pytest.approx(1, rel=1e-6)


def test_a_label_that_says_nothing_keeps_the_temperature_of_all():
    logits, target = honest(400, 3, seed=8, multilabel=True)
    logits[:, 1] = 0
    logits[:, 2] = np.where(target[:, 2] == 1, 2.0, -2.0)
    predictions = predictions_of(4 * logits, target)
    temperatures = fit_temperatures(predictions)
    assert temperatures[1] == temperatures[2] == fit_temperature(predictions)
    assert temperatures[0] != temperatures[1]
    logits[0, 2] = 0  # a tie: from now on it has a best temperature, the lowest
    assert fit_temperatures(predictions_of(4 * logits, target))[2] == 0.05


def test_unlabelled_pictures_do_not_matter_and_none_at_all_is_an_error():
    logits, target = honest(200, 4)
    blank = np.append(target, [-1] * 50)
    more = predictions_of(np.concatenate([logits, logits[:50] * 9]), blank)
    assert fit_temperature(more) == fit_temperature(predictions_of(logits, target))
    empty = predictions_of(logits, np.full(200, -1))
    with pytest.raises(DataError, match="No picture of the validation part has a label"):
        fit_temperature(empty)
    with pytest.raises(DataError, match="None of the pictures has a label"):
        calibration_error(empty)


@given(st.data())
def test_thresholds_have_the_best_f1_of_all(data):
    n = data.draw(st.integers(1, 12))
    logits = data.draw(hnp.arrays(np.float32, (n, 2), elements=st.integers(-9, 9).map(lambda i: i / 2)))
    target = data.draw(hnp.arrays(np.int64, (n, 2), elements=st.integers(0, 1)))
    temperature = data.draw(st.sampled_from([0.5, 1.0, 2.0]))
    predictions = predictions_of(logits, target)
    found = thresholds(predictions, temperature)
    p = predictions.probabilities(temperature)
    for i in range(2):
        if not target[:, i].any():
            assert found[i] == 0.5
            continue

        def f1(at, i=i):
            return f1_score(target[:, i], p[:, i] >= at, zero_division=0)

        tried = np.unique(np.concatenate([p[:, i], [0.5]]))
        best = max(map(f1, tried))
        assert f1(found[i]) == pytest.approx(best)
        if f1(0.5) == pytest.approx(best):
            assert found[i] == 0.5


@given(st.data())
def test_thresholds_with_a_precision_find_the_most_and_with_a_recall_err_the_least(data):
    n = data.draw(st.integers(1, 12))
    logits = data.draw(hnp.arrays(np.float32, (n, 1), elements=st.integers(-9, 9).map(lambda i: i / 2)))
    target = data.draw(hnp.arrays(np.int64, (n, 1), elements=st.integers(0, 1)).filter(np.any))
    least = data.draw(st.sampled_from([0.3, 0.5, 0.9, 1.0]))
    predictions = predictions_of(logits, target)
    p = predictions.probabilities()[:, 0]
    tried = [(p >= at) for at in np.unique(p)]
    given = target[:, 0] == 1
    precision = [given[answered].mean() for answered in tried]
    recall = [(given & answered).sum() / given.sum() for answered in tried]

    answered = p >= thresholds(predictions, rule={"precision": least})[0]
    reachable = min(least, max(precision))
    assert given[answered].mean() >= reachable - 1e-9
    found = (given & answered).sum() / given.sum()
    assert found == max(r for r, q in zip(recall, precision, strict=True) if q >= reachable - 1e-9)

    limit = thresholds(predictions, rule={"recall": least})
    answered = p >= limit[0]
    assert (given & answered).sum() / given.sum() >= least - 1e-9
    assert answered.sum() == min(a.sum() for a, r in zip(tried, recall, strict=True) if r >= least - 1e-9)
    assert misses(predictions, 1.0, limit, {"recall": least}) == []


def test_labels_that_miss_the_precision_are_named():
    logits = np.array([[3.0, 3.0], [2.0, 2.0], [-2.0, -2.0], [-3.0, -3.0]])
    predictions = predictions_of(logits, [[1, 0], [1, 1], [0, 1], [0, 0]])
    limits = thresholds(predictions, rule={"precision": 0.9})
    assert misses(predictions, 1.0, limits, {"precision": 0.9}) == ["class 1"]
    assert misses(predictions, 1.0, limits, "f1") == []


def test_each_label_has_its_own_temperature_where_it_has_pictures():
    logits, target = honest(2000, 4, seed=5, multilabel=True)
    target[:, 3] = 0
    target[:5, 3] = 1
    factors = np.array([0.5, 1.0, 4.0, 1.0])
    predictions = predictions_of(logits * factors, target)
    found = fit_temperatures(predictions)
    assert found[:3] == pytest.approx(factors[:3], rel=0.15)
    assert found[3] == fit_temperature(predictions)
    alone = predictions_of(predictions.logits[:, 2:3], target[:, 2:3])
    assert found[2] == pytest.approx(fit_temperature(alone))
    one = predictions_of(*honest(300, 4))
    assert fit_temperatures(one) == fit_temperature(one)


def test_threshold_lies_half_way_between_what_it_separates():
    p = np.array([0.05, 0.2, 0.3, 0.9])
    predictions = predictions_of(np.log(p / (1 - p))[:, None], [[0], [0], [1], [1]])
    assert thresholds(predictions) == pytest.approx([0.25], abs=1e-6)


def test_thresholds_are_for_several_labels():
    with pytest.raises(ValueError, match="several labels"):
        thresholds(predictions_of(np.eye(2), [0, 1]))


@pytest.mark.parametrize("multilabel", [False, True])
def test_calibration_error_by_the_definition(multilabel):
    logits, target = honest(700, 5, seed=3, multilabel=multilabel)
    predictions = predictions_of(3 * logits, target)
    p = predictions.probabilities(2.0)
    certainty = p.ravel() if multilabel else p.max(axis=1)
    right = target.ravel() if multilabel else p.argmax(axis=1) == target
    expected = 0.0
    for low in np.arange(15) / 15:
        inside = (certainty > low) & (certainty <= low + 1 / 15)
        if inside.any():
            expected += inside.mean() * abs(certainty[inside].mean() - right[inside].mean())
    assert calibration_error(predictions, 2.0) == pytest.approx(expected, abs=1e-9)


def test_calibration_error_falls_with_the_fitted_temperature():
    logits, target = honest(3000, 5, seed=4)
    predictions = predictions_of(5 * logits, target)
    before, after = (calibration_error(predictions, t) for t in (1.0, fit_temperature(predictions)))
    assert before > 0.1
    assert after < 0.03


@pytest.mark.parametrize("multilabel", [False, True])
def test_bins_hold_every_answer_once(multilabel):
    logits, target = honest(400, 5, seed=6, multilabel=multilabel)
    found = reliability(predictions_of(logits, target))
    assert sum(b.n for b in found.bins) == (2000 if multilabel else 400)
    assert all(b.low <= b.certainty <= b.high for b in found.bins)
    assert all(b.right.low <= b.right.value <= b.right.high for b in found.bins)
    assert type(found).from_dict(found.as_dict()) == found


@pytest.mark.parametrize("too_sure", [1.0, 1.3, 5.0])
def test_the_interval_of_the_calibration_error_holds_the_truth(too_sure):
    """Measured on 40 sets of 500 pictures."""
    logits, target = honest(200_000, 4, seed=7)
    truth = calibration_error(predictions_of(too_sure * logits, target))
    inside = 0
    for start in range(0, 20_000, 500):
        part = slice(start, start + 500)
        error = reliability(predictions_of(too_sure * logits[part], target[part]), n_bootstrap=300).error
        inside += error.low <= truth <= error.high
    assert inside >= 34


def test_a_fixed_threshold_is_taken_as_it_is():
    predictions = Predictions.of([0, 1], [[1.0, -9.0], [2.0, -9.0]], [[1, 0], [0, 0]], ("a", "b"))
    assert thresholds(predictions, 2.0, 0.3).tolist() == [0.3, 0.3]
    assert misses(predictions, 2.0, np.full(2, 0.3), 0.3) == []
