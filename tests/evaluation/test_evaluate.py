"""The whole evaluation: what it holds, and what it says where there is nothing to evaluate."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import confusion_matrix

from tellapart.core.predictions import Predictions
from tellapart.core.scores import Evaluation
from tellapart.errors import DataError
from tellapart.evaluation import metrics
from tellapart.evaluation.evaluate import evaluate_predictions


def predictions_of(logits, target) -> Predictions:
    logits = np.asarray(logits)
    names = tuple(f"class {i}" for i in range(logits.shape[1]))
    return Predictions.of(np.arange(len(logits)), logits, target, names)


def random_predictions(n, n_classes, seed, multilabel=False):
    rng = np.random.default_rng(seed)
    if multilabel:
        target = rng.integers(0, 2, (n, n_classes))
        return predictions_of(rng.normal(size=(n, n_classes)) + target, target)
    target = rng.integers(0, n_classes, n)
    return predictions_of(rng.normal(size=(n, n_classes)) + np.eye(n_classes)[target], target)


def test_one_label():
    predictions = random_predictions(200, 7, 0)
    found = evaluate_predictions(predictions, on="test", temperature=1.5)
    answer = predictions.logits.argmax(axis=1)
    assert {name: metric.value for name, metric in found.metrics.items()} == metrics.scores(predictions, 1.5)
    assert found.headline == ("accuracy", found.metrics["accuracy"])
    assert (found.on, found.multilabel, found.n, found.classes) == ("test", False, 200, predictions.classes)
    assert np.array_equal(found.confusion, confusion_matrix(predictions.target, answer, labels=range(7)))
    for i, entry in enumerate(found.per_class):
        assert list(entry) == ["precision", "recall", "f1", "n", "n_predicted"]
        assert entry["n"] == entry["recall"].n == (predictions.target == i).sum()
        assert entry["n_predicted"] == entry["precision"].n == (answer == i).sum()
        assert entry["f1"].n == ((predictions.target == i) | (answer == i)).sum()


def test_several_labels():
    predictions = random_predictions(200, 4, 1, multilabel=True)
    limits = [0.3, 0.5, 0.6, 0.7]
    found = evaluate_predictions(predictions, on="validation", temperature=0.8, thresholds=limits)
    answer = predictions.probabilities(0.8) >= limits
    assert {name: m.value for name, m in found.metrics.items()} == metrics.scores(predictions, 0.8, limits)
    assert found.headline[0] == "f1_micro"
    assert found.confusion == ()
    assert [entry["n_predicted"] for entry in found.per_class] == answer.sum(axis=0).tolist()
    assert [entry["n"] for entry in found.per_class] == predictions.target.sum(axis=0).tolist()


@given(st.integers(1, 9), st.integers(2, 7), st.booleans(), st.integers(0, 1000))
def test_every_interval_is_finite_and_contains_its_score(n, n_classes, multilabel, seed):
    found = evaluate_predictions(random_predictions(n, n_classes, seed, multilabel), on="test", n_bootstrap=25)
    entries = [
        *found.metrics.items(),
        *((k, v) for c in found.per_class for k, v in c.items() if not k.startswith("n")),
    ]
    for name, metric in entries:
        assert metric.low <= metric.value <= metric.high
        assert metric.low >= 0
        assert np.isfinite(metric.high)
        assert name == "log_loss" or metric.high <= 1


def test_thirty_of_thirty_is_not_certainty():
    found = evaluate_predictions(predictions_of(np.eye(3)[np.arange(30) % 3], np.arange(30) % 3), on="test")
    for name in ("accuracy", "f1_macro", "balanced_accuracy", "precision_weighted"):
        assert (found.metrics[name].low, found.metrics[name].high) == pytest.approx((0.8865, 1), abs=1e-4)
    multilabel = evaluate_predictions(predictions_of(2 * np.eye(2) - 1, np.eye(2)), on="test")
    assert multilabel.metrics["f1_micro"].low < 0.4
    assert multilabel.metrics["f1_micro"].value == 1


def test_recall_weighted_by_class_size_is_accuracy_with_its_interval():
    found = evaluate_predictions(random_predictions(50, 3, 2), on="test").metrics
    assert found["recall_weighted"].low == pytest.approx(found["accuracy"].low)
    assert found["recall_weighted"].high == pytest.approx(found["accuracy"].high)


def test_same_seed_same_evaluation_and_json_keeps_it():
    predictions = random_predictions(60, 4, 3)
    found = evaluate_predictions(predictions, on="photos/new", seed=7)
    assert found == evaluate_predictions(predictions, on="photos/new", seed=7)
    assert found != evaluate_predictions(predictions, on="photos/new", seed=8)
    assert Evaluation.from_dict(json.loads(json.dumps(found.as_dict()))) == found


def test_pictures_without_a_label_are_not_counted():
    predictions = predictions_of(np.eye(4), [0, 1, -1, 2])
    found = evaluate_predictions(predictions, on="test")
    assert found.n == found.metrics["accuracy"].n == 3
    assert np.sum(found.confusion) == 3


def test_pictures_of_one_class_only_can_be_evaluated():
    found = evaluate_predictions(predictions_of(np.eye(4)[[1, 1, 2]], [1, 1, 1]), on="test")
    assert found.metrics["accuracy"].value == found.metrics["balanced_accuracy"].value == pytest.approx(2 / 3)


@pytest.mark.parametrize("target", [[-1, -1], []])
def test_nothing_to_evaluate_is_said_plainly(target):
    with pytest.raises(DataError, match="None of the pictures of new/photos has a label") as error:
        evaluate_predictions(predictions_of(np.zeros((len(target), 2)), np.array(target, int)), on="new/photos")
    assert "answer is known" in error.value.hint


def test_nothing_to_evaluate_with_several_labels():
    with pytest.raises(DataError, match="nothing to evaluate"):
        evaluate_predictions(predictions_of(np.zeros((0, 2)), np.zeros((0, 2))), on="test")


def test_one_class_alone_cannot_be_told_apart():
    with pytest.raises(DataError, match="'class 0'"):
        evaluate_predictions(predictions_of(np.zeros((3, 1)), [0, 0, 0]), on="test")


def test_one_label_that_is_there_or_not_can_be_evaluated():
    found = evaluate_predictions(predictions_of([[1.0], [-1.0], [2.0]], [[1], [0], [0]]), on="test")
    assert found.metrics["f1_micro"].value == pytest.approx(2 / 3)
