"""Pairs of labels, against counting picture by picture."""

from __future__ import annotations

from collections import Counter
from itertools import combinations

import numpy as np

from tellapart.core.predictions import Predictions
from tellapart.core.scores import Evaluation
from tellapart.evaluation.evaluate import evaluate_predictions
from tellapart.evaluation.label_pairs import taken_for, together

NAMES = ("a", "b <i>", "c", "d")


def test_pairs_are_those_of_counting() -> None:
    random = np.random.default_rng(0)
    target, answer = (random.random((2, 200, 4)) < 0.4).astype(np.uint8)
    both: Counter[tuple[str, str]] = Counter()
    swapped: Counter[tuple[str, str]] = Counter()
    for given, answered in zip(target, answer, strict=True):
        labels = [{NAMES[i] for i in np.flatnonzero(line)} for line in (given, answered)]
        both.update(combinations(sorted(labels[0]), 2))
        swapped.update((missed, extra) for missed in labels[0] - labels[1] for extra in labels[1] - labels[0])
    found = together(target, NAMES)
    assert {pair["labels"]: pair["n"] for pair in found} == both
    assert [pair["n"] for pair in found] == sorted(both.values(), reverse=True)
    found = taken_for(target, answer, NAMES)
    assert {(pair["label"], pair["answer"]): pair["n"] for pair in found} == swapped


def test_an_evaluation_has_them_and_keeps_them() -> None:
    target = [[1, 1, 0, 0], [1, 0, 0, 0]]
    logits = [[3, 3, -3, -3], [-3, -3, -3, 3]]
    evaluation = evaluate_predictions(Predictions.of([0, 1], logits, target, NAMES), on="test", n_bootstrap=2)
    assert evaluation.together == ({"labels": ("a", "b <i>"), "n": 1},)
    assert evaluation.taken_for == ({"label": "a", "answer": "d", "n": 1},)
    assert Evaluation.from_dict(evaluation.as_dict()) == evaluation
    older = {key: value for key, value in evaluation.as_dict().items() if key not in ("together", "taken_for")}
    assert Evaluation.from_dict(older).together == ()
