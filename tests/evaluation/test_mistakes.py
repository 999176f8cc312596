"""Selections of pictures, on predictions small enough to read."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import expit, softmax
from sklearn.metrics import confusion_matrix, multilabel_confusion_matrix

from tellapart.core.predictions import Predictions
from tellapart.evaluation import mistakes
from tellapart.evaluation.mistakes import AnsweredPicture

CLASSES = ("beagle", "basset", "boxer")
# row: 10 right and sure, 11 wrong and sure, 12 wrong and unsure, 13 right and unsure, 14 without a label
ONE = Predictions.of(
    [10, 11, 12, 13, 14],
    [[5, 0, 0], [0, 4, 0], [1, 0.5, 0], [0, 0.2, 0.4], [0.1, 0, 0]],
    [0, 0, 2, 2, -1],
    CLASSES,
)
SEVERAL = Predictions.of(
    [3, 5, 7],
    [[4, -4, -4], [3, 3, -1], [-3, 2, -5]],
    [[1, 0, 0], [0, 0, 1], [0, 0, 0]],
    ("sea", "tree", "night"),
)


def rows(pictures):
    return [picture.row for picture in pictures]


def test_wrongest_come_most_certain_first():
    found = mistakes.wrongest(ONE)
    assert rows(found) == [11, 12]
    assert found[0] == AnsweredPicture(11, ("beagle",), ("basset",), pytest.approx(softmax([0, 4, 0])[1]))


def test_right_and_certain():
    assert rows(mistakes.right_and_certain(ONE)) == [10, 13]
    assert rows(mistakes.right_and_certain(ONE, limit=1)) == [10]


def test_least_certain_are_of_every_kind():
    found = mistakes.least_certain(ONE, limit=3)
    assert rows(found) == [14, 13, 12]
    assert (found[0].labels, found[0].answer) == ((), ("beagle",))


def test_certainty_is_after_the_temperature():
    found = mistakes.wrongest(ONE, temperature=2.0)
    assert found[0].certainty == pytest.approx(softmax([0, 2, 0])[1])


def test_of_equals_the_lower_row_comes_first():
    predictions = Predictions.of(range(50), np.tile([1.0, 0.0], (50, 1)), np.ones(50, int), ("a", "b"))
    for select in (mistakes.wrongest, mistakes.least_certain):
        assert rows(select(predictions, 30)) == list(range(30))


def test_nothing_wrong_nothing_listed():
    perfect = Predictions.of(range(3), np.eye(3), range(3), CLASSES)
    assert mistakes.wrongest(perfect) == ()
    assert mistakes.most_confused(perfect) == ()
    assert mistakes.cell(perfect, "beagle", "boxer") == ()
    nothing = Predictions.of([], np.zeros((0, 3)), np.zeros(0, int), CLASSES)
    assert mistakes.least_certain(nothing) == mistakes.wrongest(nothing) == ()


def test_pairs_and_cells_are_those_of_the_confusion_matrix():
    rng = np.random.default_rng(0)
    target, logits = rng.integers(0, 3, 200), rng.normal(size=(200, 3))
    predictions = Predictions.of(range(200), logits, target, CLASSES)
    matrix = confusion_matrix(target, logits.argmax(axis=1))
    pairs = mistakes.most_confused(predictions)
    assert len(pairs) == 6
    assert [n for *_, n in pairs] == sorted((n for *_, n in pairs), reverse=True)
    for label, answer, n in pairs:
        assert n == matrix[CLASSES.index(label), CLASSES.index(answer)]
    for i, label in enumerate(CLASSES):
        for j, answer in enumerate(CLASSES):
            inside = mistakes.cell(predictions, label, answer, limit=1000)
            assert len(inside) == matrix[i, j]
            assert all((p.labels, p.answer) == ((label,), (answer,)) for p in inside)
            assert [p.certainty for p in inside] == sorted((p.certainty for p in inside), reverse=True)
    assert mistakes.most_confused(predictions, limit=2) == pairs[:2]
    assert len(mistakes.cell(predictions, "beagle", "beagle", limit=3)) == 3


def test_several_labels_are_as_certain_as_their_weakest_decision():
    found = {picture.row: picture for picture in mistakes.least_certain(SEVERAL)}
    assert rows(mistakes.least_certain(SEVERAL)) == [5, 7, 3]
    assert found[5] == AnsweredPicture(5, ("night",), ("sea", "tree"), pytest.approx(expit(1)))
    assert found[7] == AnsweredPicture(7, (), ("tree",), pytest.approx(expit(2)))
    assert rows(mistakes.right_and_certain(SEVERAL)) == [3]
    # furthest off in a label: row 5 is sure of a sea that was not given
    assert rows(mistakes.wrongest(SEVERAL)) == [5, 7]


def test_most_wrong_labels():
    found = mistakes.most_wrong_labels(SEVERAL)
    assert rows(found) == [5, 7]
    assert (found[0].labels, found[0].answer) == (("night",), ("sea", "tree"))
    # one label wrong in each, in row 3 because "sea" at 98 % does not reach its threshold
    assert rows(mistakes.most_wrong_labels(SEVERAL, thresholds=[0.99, 0.5, 0.1])) == [7, 5, 3]


def test_missing_labels_are_answered_but_not_given():
    found = mistakes.missing_labels(SEVERAL)
    assert [(p.row, p.answer) for p in found] == [(5, ("sea",)), (5, ("tree",)), (7, ("tree",))]
    assert [p.labels for p in found] == [("night",), ("night",), ()]
    assert [p.certainty for p in found] == pytest.approx(expit([3, 3, 2]))
    assert [(p.row, p.answer) for p in mistakes.missing_labels(SEVERAL, thresholds=[0.99, 0.9, 0.5])] == [
        (5, ("tree",))
    ]


def test_what_needs_one_label_or_several_says_so():
    for call in (lambda: mistakes.most_confused(SEVERAL), lambda: mistakes.cell(SEVERAL, "sea", "tree")):
        with pytest.raises(ValueError, match="one label"):
            call()
    for needs_several in (mistakes.missing_labels, mistakes.wrong_by_class):
        with pytest.raises(ValueError, match="several"):
            needs_several(ONE)


def test_right_and_wrong_are_drawn_evenly():
    n = 100
    predictions = Predictions.of(range(n), np.eye(2)[np.zeros(n, int)], np.arange(n) % 2, ("a", "b"))
    assert rows(mistakes.right(predictions, 3)) == [0, 48, 98]
    assert rows(mistakes.wrong(predictions, 3)) == [1, 49, 99]
    assert rows(mistakes.wrong(predictions, 1000)) == list(range(1, n, 2))
    assert rows(mistakes.right(ONE)) == [10, 13]
    assert rows(mistakes.wrong(ONE)) == [11, 12]


def test_one_class_is_what_was_given_it():
    assert mistakes.of_class(ONE, "beagle").row.tolist() == [10, 11]
    assert mistakes.of_class(SEVERAL, "night").row.tolist() == [5]
    with pytest.raises(ValueError, match="not in"):
        mistakes.of_class(ONE, "poodle")


def test_wrong_decisions_are_counted_as_scikit_learn_counts_them():
    rng = np.random.default_rng(1)
    target, logits = rng.integers(0, 2, (60, 4)), rng.normal(size=(60, 4))
    predictions = Predictions.of(range(60), logits, target, tuple("wxyz"))
    answer = (logits >= 0).astype(int)
    assert mistakes.n_wrong(predictions).tolist() == (answer != target).sum(axis=1).tolist()
    assert mistakes.n_wrong(ONE).tolist() == [0, 1, 1, 0]
    expected = multilabel_confusion_matrix(target, answer)
    for (name, given, missed, more), matrix in zip(mistakes.wrong_by_class(predictions), expected, strict=True):
        assert name in "wxyz"
        assert (given, missed, more) == (matrix[1].sum(), matrix[1, 0], matrix[0, 1])
