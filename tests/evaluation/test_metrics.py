"""Every score against scikit-learn's."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy.special import expit, softmax
from sklearn import metrics as reference

from tellapart.core.predictions import Predictions
from tellapart.evaluation import metrics


def predictions_of(logits, target) -> Predictions:
    logits = np.asarray(logits)
    names = tuple(f"class {i}" for i in range(logits.shape[1]))
    return Predictions.of(np.arange(len(logits)), logits, target, names)


@st.composite
def one_label(draw):
    """Few pictures and coarse logits, so that classes lack and logits tie."""
    n, n_classes = draw(st.integers(1, 12)), draw(st.integers(2, 9))
    logits = draw(hnp.arrays(np.float32, (n, n_classes), elements=st.integers(-4, 4).map(float)))
    target = draw(hnp.arrays(np.int64, n, elements=st.integers(0, n_classes - 1)))
    return predictions_of(logits, target)


@st.composite
def several_labels(draw):
    n, n_classes = draw(st.integers(1, 12)), draw(st.integers(1, 5))
    logits = draw(hnp.arrays(np.float32, (n, n_classes), elements=st.integers(-4, 4).map(float)))
    target = draw(hnp.arrays(np.uint8, (n, n_classes), elements=st.integers(0, 1)))
    return predictions_of(logits, target)


def expected_one(predictions, temperature=1.0):
    """What scikit-learn says, without top-5, where it breaks ties another way."""
    target, answer = predictions.target, predictions.logits.argmax(axis=1)
    p = softmax(predictions.logits.astype(float) / temperature, axis=1)
    found = {
        "accuracy": reference.accuracy_score(target, answer),
        # its balanced_accuracy_score warns of classes that are answered but not given; this is its definition
        "balanced_accuracy": reference.recall_score(
            target, answer, labels=np.unique(target), average="macro", zero_division=0
        ),
        "log_loss": reference.log_loss(target, p, labels=np.arange(p.shape[1])),
    }
    for average in ("macro", "weighted"):
        for name in ("precision", "recall", "f1"):
            score = getattr(reference, f"{name}_score")
            found[f"{name}_{average}"] = score(target, answer, average=average, zero_division=0)
    return found


def expected_several(predictions):
    target, p = predictions.target, expit(predictions.logits.astype(float))
    answer = (p >= 0.5).astype(np.uint8)
    found = {
        "exact_match": (target == answer).all(axis=1).mean(),
        "label_accuracy": 1 - reference.hamming_loss(target, answer),
        "log_loss": np.mean([reference.log_loss(t, q, labels=[0, 1]) for t, q in zip(target.T, p.T, strict=True)]),
    }
    for average in ("micro", "macro"):
        for name in ("precision", "recall", "f1"):
            score = getattr(reference, f"{name}_score")
            columns = [score(t, a, zero_division=0) for t, a in zip(target.T, answer.T, strict=True)]
            # scikit-learn reads one column as a two-class question
            found[f"{name}_{average}"] = (
                score(target, answer, average=average, zero_division=0) if len(columns) > 1 else columns[0]
            )
    occurs = target.any(axis=0)
    if occurs.any():
        found["mean_average_precision"] = np.mean(
            [
                reference.average_precision_score(t, z)
                for t, z in zip(target.T[occurs], predictions.logits.T[occurs], strict=True)
            ]
        )
    return found


@given(one_label(), st.sampled_from([0.5, 1.0, 3.0]))
def test_one_label_is_as_in_scikit_learn(predictions, temperature):
    found = metrics.scores(predictions, temperature)
    found.pop("top_5_accuracy", None)
    assert found == pytest.approx(expected_one(predictions, temperature))


@settings(max_examples=12)
@given(several_labels())
def test_several_labels_are_as_in_scikit_learn(predictions):
    assert metrics.scores(predictions) == pytest.approx(expected_several(predictions))


def test_large_random_sets_are_as_in_scikit_learn():
    rng = np.random.default_rng(0)
    target = rng.integers(0, 30, 800)
    one = predictions_of(rng.normal(size=(800, 30)) + 2 * np.eye(30)[target], target)
    found = metrics.scores(one)
    assert found.pop("top_5_accuracy") == pytest.approx(reference.top_k_accuracy_score(target, one.logits, k=5))
    assert found == pytest.approx(expected_one(one))
    assert found["balanced_accuracy"] == pytest.approx(
        reference.balanced_accuracy_score(target, one.logits.argmax(axis=1))
    )
    labels = rng.integers(0, 2, (800, 20))
    multilabel = predictions_of(rng.normal(size=(800, 20)) + labels, labels)
    assert metrics.scores(multilabel) == pytest.approx(expected_several(multilabel))
    assert metrics.scores(multilabel)["exact_match"] == reference.accuracy_score(labels, multilabel.logits >= 0)
    assert metrics.scores(multilabel)["mean_average_precision"] == pytest.approx(
        reference.average_precision_score(labels, multilabel.logits, average="macro")
    )


@given(one_label())
def test_classes_one_by_one_are_as_in_scikit_learn(predictions):
    n_classes = len(predictions.classes)
    answer = metrics.answers(predictions)
    counts = metrics.count(predictions.target, answer, n_classes)
    precision, recall, f1, given = reference.precision_recall_fscore_support(
        predictions.target, answer, labels=np.arange(n_classes), zero_division=0
    )
    assert np.allclose(metrics.per_class(counts), (precision, recall, f1))
    assert np.array_equal(counts.labelled, given)


@given(one_label())
def test_top_5_ranks_as_the_answer_does(predictions):
    """The classes sorted by falling logit, of equal ones the first: the right one is among five."""
    order = np.argsort(-predictions.logits, axis=1, kind="stable")[:, :5]
    expected = (order == predictions.target[:, None]).any(axis=1).mean()
    found = metrics.scores(predictions)
    if len(predictions.classes) <= 5:
        assert "top_5_accuracy" not in found
    else:
        assert found["top_5_accuracy"] == pytest.approx(expected)
        assert found["top_5_accuracy"] >= found["accuracy"]


def test_top_5_of_a_network_that_cannot_tell():
    assert metrics.scores(predictions_of(np.zeros((20, 20)), np.arange(20)))["top_5_accuracy"] == 0.25


def test_the_headline_comes_first_and_the_order_is_fixed():
    one = metrics.scores(predictions_of(np.eye(6), np.arange(6)))
    multilabel = metrics.scores(predictions_of(np.eye(6), np.eye(6)))
    assert tuple(one) == metrics.ONE_LABEL
    assert tuple(multilabel) == metrics.SEVERAL_LABELS


def test_pictures_without_a_label_are_left_out():
    logits = np.random.default_rng(0).normal(size=(30, 4))
    target = np.arange(30) % 4
    target[::3] = -1
    keep = target >= 0
    assert metrics.scores(predictions_of(logits, target)) == metrics.scores(predictions_of(logits[keep], target[keep]))


def test_thresholds_decide_answers_after_the_temperature():
    predictions = predictions_of([[0.0, 2.0], [2.0, -4.0]], [[1, 0], [0, 1]])
    assert metrics.answers(predictions).tolist() == [[1, 1], [1, 0]]
    assert metrics.answers(predictions, thresholds=[0.6, 0.01]).tolist() == [[0, 1], [1, 1]]
    assert metrics.answers(predictions, temperature=10.0, thresholds=[0.6, 0.45]).tolist() == [[0, 1], [0, 0]]


def test_all_wrong_and_single_pictures_have_scores():
    wrong = metrics.scores(predictions_of(np.eye(3), [1, 2, 0]))
    assert all(wrong[name] == 0 for name in wrong if name != "log_loss")
    single = metrics.scores(predictions_of([[3.0, 1.0]], [0]))
    assert all(single[name] == 1 for name in single if name != "log_loss")


def test_no_label_occurs_anywhere():
    found = metrics.scores(predictions_of([[-1.0, -2.0], [-3.0, -1.0]], np.zeros((2, 2))))
    assert "mean_average_precision" not in found
    assert (found["f1_micro"], found["f1_macro"], found["exact_match"]) == (0, 0, 1)


def test_log_loss_stays_finite_where_a_probability_rounds_to_zero():
    assert metrics.scores(predictions_of([[1e4, 0.0]], [1]))["log_loss"] == pytest.approx(1e4)
    assert metrics.scores(predictions_of([[1e4, 0.0]], [[0, 0]]))["log_loss"] == pytest.approx(5e3, rel=1e-3)


def test_average_precision_counts_a_picture_as_often_as_its_weight():
    rng = np.random.default_rng(1)
    target, logits = rng.integers(0, 2, (60, 3)), rng.integers(-3, 4, (60, 3)).astype(float)
    weights = rng.poisson(1, (60, 5))
    found = metrics.mean_average_precision(metrics.rankings(predictions_of(logits, target)), weights.astype(np.float32))
    for k in range(5):
        rows = np.repeat(np.arange(60), weights[:, k])
        assert found[k] == pytest.approx(
            reference.average_precision_score(target[rows], logits[rows], average="macro"), rel=1e-5
        )


def test_parts_give_the_same_as_the_whole(monkeypatch):
    rng = np.random.default_rng(2)
    one = predictions_of(rng.normal(size=(50, 7)), rng.integers(0, 7, 50))
    multilabel = predictions_of(rng.normal(size=(50, 7)), rng.integers(0, 2, (50, 7)))
    whole = metrics.scores(one), metrics.scores(multilabel)
    monkeypatch.setattr(metrics, "_PART", 16)
    assert (metrics.scores(one), metrics.scores(multilabel)) == whole
