"""Averaging of runs: the mean of their probabilities, for the same pictures, classes and labels only."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import expit, softmax

from tellapart.core.predictions import Predictions
from tellapart.errors import DataError, UsageError
from tellapart.evaluation.ensemble import average

CLASSES = ("ash", "birch", "cedar")


def made(seed: int, multilabel: bool = False, n: int = 20, scale: float = 2.0) -> Predictions:
    """Predictions of the same pictures, whatever the seed."""
    labels = np.random.default_rng(0)
    target = labels.integers(0, 2, (n, 3)) if multilabel else labels.integers(-1, 3, n)
    logits = np.random.default_rng(seed).normal(0, scale, (n, 3))
    return Predictions.of(np.arange(n) * 3, logits, target, CLASSES)


@settings(max_examples=30)
@given(
    multilabel=st.booleans(),
    weights=st.one_of(st.none(), st.lists(st.floats(0.01, 100), min_size=3, max_size=3)),
    scale=st.sampled_from([0.1, 2.0, 20.0]),
)
def test_it_is_the_weighted_mean_of_probabilities(multilabel, weights, scale):
    runs = [made(seed, multilabel, scale=scale) for seed in (1, 2, 3)]
    result = average(runs, weights)
    each = [expit(r.logits.astype(float)) if multilabel else softmax(r.logits.astype(float), 1) for r in runs]
    np.testing.assert_allclose(result.probabilities(), np.average(each, 0, weights), rtol=1e-5, atol=1e-12)
    assert (result.row == runs[0].row).all()
    assert (result.target == runs[0].target).all()
    assert result.classes == CLASSES


@pytest.mark.parametrize("multilabel", [False, True])
def test_one_alone_keeps_its_probabilities(multilabel):
    run = made(1, multilabel)
    np.testing.assert_allclose(average([run]).probabilities(), run.probabilities(), rtol=1e-6)


@pytest.mark.parametrize("multilabel", [False, True])
def test_runs_that_are_quite_certain_give_finite_logits(multilabel):
    target = np.zeros((1, 3), np.uint8) if multilabel else np.zeros(1, np.int64)
    runs = [Predictions.of([0], [line], target, CLASSES) for line in ([5000, -5000, 0], [4000, -4000, 10])]
    logits = average(runs).logits
    assert np.isfinite(logits).all()
    # The mean of two probabilities far below what floats can hold: the larger one, halved.
    expected = -4000 - np.log(2) if multilabel else -8000 - np.log(2)
    assert logits[0, 1] == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("multilabel", [False, True])
def test_classes_in_another_order_are_matched_by_name(multilabel):
    run, other = made(1, multilabel), made(2, multilabel)
    order = [2, 0, 1]
    target = other.target[:, order] if multilabel else np.append(np.argsort(order), -1)[other.target]
    turned = Predictions.of(other.row, other.logits[:, order], target, tuple(CLASSES[i] for i in order))
    result = average([run, turned])
    np.testing.assert_allclose(result.logits, average([run, other]).logits, rtol=1e-6)
    assert result.classes == CLASSES


def changed(run: Predictions, **values: object) -> Predictions:
    parts = {"row": run.row, "logits": run.logits, "target": run.target, "classes": run.classes}
    return Predictions.of(**(parts | values))  # type: ignore[arg-type]


@pytest.mark.parametrize("multilabel", [False, True])
def test_other_labels_are_counted(multilabel):
    run = made(1, multilabel)
    target = run.target.copy()
    target[:2] = 1 - target[:2] if multilabel else (target[:2] + 2) % 3 - 1
    with pytest.raises(DataError, match="Predictions 1 and 3 cannot be averaged: 2 of 20 pictures have other labels"):
        average([run, made(2, multilabel), changed(run, target=target)])


def test_other_pictures_classes_or_kinds_are_refused():
    run = made(1)
    with pytest.raises(DataError, match=r"other pictures \(20 and 20, 6 of them the same\)"):
        average([run, changed(run, row=run.row + 42)])
    with pytest.raises(DataError, match=r"classes differ \(only in 1: cedar; only in 2: Cedar\)"):
        average([run, changed(run, classes=("ash", "birch", "Cedar"))])
    with pytest.raises(DataError, match="one has one label a picture, the other several"):
        average([run, made(1, multilabel=True)])


@pytest.mark.parametrize(
    ("weights", "message"),
    [([1.0], "1 weights for 2 predictions"), ([1.0, 0.0], "above 0, not 1, 0"), ([1.0, float("nan")], "above 0")],
)
def test_weights_that_cannot_be_used_are_refused(weights, message):
    with pytest.raises(UsageError, match=message):
        average([made(1), made(2)], weights)


def test_nothing_cannot_be_averaged():
    with pytest.raises(UsageError, match="no predictions"):
        average([])
