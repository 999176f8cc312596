"""Scores at chance are called so; the test behind it is that of permutations; a wide interval says how to halve it."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest

from tellapart.core.predictions import Predictions
from tellapart.core.scores import Evaluation, Metric
from tellapart.evaluation import metrics
from tellapart.evaluation.chance import (
    association,
    constant_accuracy,
    constant_score,
    pictures_for_half,
    precision_note,
)
from tellapart.evaluation.evaluate import evaluate_predictions
from tellapart.evaluation.intervals import wilson


def predictions_of(logits, target) -> Predictions:
    logits = np.asarray(logits, float)
    return Predictions.of(np.arange(len(logits)), logits, target, tuple("abcdefgh"[: logits.shape[1]]))


def random_predictions(n=30, n_classes=3, skill=0.0, multilabel=False, seed=0) -> Predictions:
    rng = np.random.default_rng(seed)
    if multilabel:
        target = (rng.random((n, n_classes)) < 0.4).astype(np.uint8)
        return predictions_of(rng.normal(size=(n, n_classes)) + skill * target, target)
    target = rng.integers(0, n_classes, n)
    return predictions_of(rng.normal(size=(n, n_classes)) + skill * np.eye(n_classes)[target], target)


def first_note(predictions: Predictions) -> str:
    notes = evaluate_predictions(predictions, on="test", n_bootstrap=20).notes
    return notes[0] if notes else ""


def test_a_constant_answer_has_learned_nothing_in_table_and_json():
    logits = np.tile([2.0, 1.0, 0.0], (30, 1))
    evaluation = evaluate_predictions(predictions_of(logits, np.arange(30) % 3), on="test", n_bootstrap=20)
    sentence = "It has learned nothing (33.3 %, always the commonest 33.3 %)."
    assert sentence in evaluation.table().splitlines()
    assert sentence in evaluation.as_dict()["notes"]
    assert Evaluation.from_dict(evaluation.as_dict()) == evaluation


@pytest.mark.parametrize("multilabel", [False, True])
def test_a_random_answer_is_called_chance_and_a_skilled_one_is_not(multilabel):
    for seed in range(10):
        note = first_note(random_predictions(60, multilabel=multilabel, seed=seed))
        assert note.startswith(("It has learned nothing (", "It cannot be told from chance"))
        assert "chance" not in first_note(random_predictions(60, skill=4, multilabel=multilabel, seed=seed))


def test_with_several_labels_nothing_is_learned_where_all_get_the_commonest():
    target = np.tile([[1, 0], [1, 1], [0, 0], [1, 0]], (10, 1))
    note = first_note(predictions_of(np.tile([1.0, -1.0], (40, 1)), target))
    assert note == "It has learned nothing (F1 75.0 %, always the commonest labels 75.0 %)."


def test_probabilities_that_go_with_a_rare_class_are_not_nothing():
    target = np.repeat([0, 1], [95, 5])
    logits = np.column_stack([np.full(100, 5.0), np.where(target == 1, 3.0, -3.0)])
    assert "no better than a constant answer (95.0 %, always the commonest 95.0 %)" in first_note(
        predictions_of(logits, target)
    )


def test_few_pictures_cannot_tell():
    assert "cannot be told from chance" in first_note(predictions_of(np.eye(3)[[1, 2, 0, 1]], [0, 1, 2, 0]))


def test_pictures_of_one_class_are_no_test_of_chance():
    assert "nothing" not in first_note(predictions_of(np.eye(2)[[0, 0, 1] * 9], [0] * 27))


@pytest.mark.parametrize("multilabel", [False, True])
def test_association_is_that_of_permutations(multilabel):
    predictions = random_predictions(40, 4, skill=0.4, multilabel=multilabel, seed=2)
    probabilities, rng = predictions.probabilities(), np.random.default_rng(0)
    target = predictions.target if multilabel else np.eye(4)[predictions.target]
    dealt = [(probabilities * target[rng.permutation(40)]).sum() for _ in range(4000)]
    assert association(predictions) == pytest.approx(np.mean(dealt >= (probabilities * target).sum()), abs=0.01)


def test_association_of_large_predictions_does_not_depend_on_parts(monkeypatch):
    predictions = random_predictions(50, 4, skill=0.3)
    whole = association(predictions)
    monkeypatch.setattr("tellapart.evaluation.chance._PART", 12)
    assert association(predictions) == pytest.approx(whole)


def test_the_best_constant_answer_of_several_labels():
    predictions = random_predictions(25, 4, multilabel=True, seed=3)
    scores = []
    for size in range(1, 5):
        for labels in combinations(range(4), size):
            answer = np.zeros((25, 4), np.uint8)
            answer[:, labels] = 1
            counts = metrics.count(predictions.target, answer, 4)
            scores.append(float(metrics.averages(counts, multilabel=True)["f1_micro"]))
    assert constant_score(predictions) == pytest.approx(max(scores))


def test_cells_that_are_not_known_count_in_no_constant_accuracy():
    target = np.array([[1, 0], [1, 0], [0, 1], [0, 0]], np.uint8)
    unknown = np.array([[0, 0], [0, 0], [1, 0], [1, 0]], bool)
    assert constant_accuracy(target) == (2 + 3) / 8
    assert constant_accuracy(target, unknown) == (2 + 3) / 6
    assert np.isnan(constant_accuracy(target, np.ones_like(unknown)))


def test_labels_that_are_not_known_count_in_no_constant_answer():
    target = np.array([[1, 0], [1, 0], [0, 0], [0, 1]], np.uint8)
    unknown = np.array([[0, 0], [0, 0], [1, 0], [0, 0]], bool)
    predictions = Predictions.of(np.arange(4), np.zeros((4, 2)), target, ("a", "b"), unknown)
    assert constant_score(predictions) == pytest.approx(2 * 2 / (3 + 3))  # always "a": 2 of 3 known, 3 labels in all


@pytest.mark.parametrize(("right", "n"), [(20, 20), (10, 20), (17, 20), (1, 9)])
def test_so_many_pictures_halve_the_interval(right, n):
    low, high = wilson(right / n, n)
    needed = pictures_for_half("accuracy", Metric(right / n, float(low), float(high), n))
    widths = [float(np.subtract(*wilson(right / n, size)[::-1])) for size in (needed - 1, needed)]
    assert widths[1] <= (high - low) / 2 < widths[0]


def test_a_wide_interval_says_how_many_more_pictures_halve_it():
    note = precision_note("accuracy", Metric(0.5, 0.2993, 0.7007, 20), "test")
    assert (
        note
        == "The accuracy's 95 % interval is 40 points wide; 72 more test pictures would make it about half as wide."
    )
    assert precision_note("f1_micro", Metric(0.8, 0.7, 0.9, 1234), "new").split("; ")[1].startswith("3,800 more such")
    assert precision_note("accuracy", Metric(0.9, 0.88, 0.92, 900), "test") == ""
    assert precision_note("accuracy", Metric(0.5, 0.2993, 0.7007, 20), "train") == ""  # more of them tell nothing new
