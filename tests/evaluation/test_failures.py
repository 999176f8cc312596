"""How a classifier fails, in sentences, against counts made by hand."""

from __future__ import annotations

import numpy as np

from tellapart.core.predictions import Predictions
from tellapart.evaluation.evaluate import evaluate_predictions
from tellapart.evaluation.failures import failures


def answered(pairs: list[tuple[int, int]], classes: tuple[str, ...]) -> Predictions:
    target = np.array([label for label, _ in pairs])
    return Predictions.of(np.arange(len(pairs)), 9.0 * np.eye(len(classes))[[a for _, a in pairs]], target, classes)


def test_the_hardest_classes_come_first_then_what_is_taken_for_what() -> None:
    pairs = [(0, 0)] * 8 + [(0, 1)] * 2 + [(1, 1)] * 5 + [(1, 2)] * 5 + [(2, 2)] * 9 + [(2, 0)]
    found = failures(evaluate_predictions(answered(pairs, ("a", "b", "c")), on="test"))
    assert [text.split(" answered")[0].replace("\u202f", " ") for text in found[:3]] == [
        "Of 10 pictures given the class b, 50.0 % were",
        "Of 10 pictures given the class a, 80.0 % were",
        "Of 10 pictures given the class c, 90.0 % were",
    ]
    assert "95 % interval" in found[0]
    assert found[3:] == ["5 pictures of b were taken for c.", "2 pictures of a were taken for b.",
                         "1 picture of c was taken for a."]  # fmt: skip
    right = evaluate_predictions(answered([(0, 0), (1, 1), (2, 2)] * 4, ("a", "b", "c")), on="test")
    assert failures(right) == []


def test_several_labels_have_hard_labels_and_no_confusions() -> None:
    target = np.array([[1, 1], [1, 0], [1, 1], [1, 1]], np.uint8)
    logits = np.where(target > 0, 5.0, -5.0)
    logits[0, 1] = -5.0
    found = failures(evaluate_predictions(Predictions.of(np.arange(4), logits, target, ("x", "y")), on="test"))
    assert len(found) == 1
    assert found[0].startswith("Of 3 pictures given the label y, 66.7\u202f% were answered with it")
