"""Wrong labels: planted ones are found, clean sets raise few alarms, neighbours are scikit-learn's."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import cross_val_predict

from tellapart.core.vectors import nearest
from tellapart.evaluation.label_issues import agreement, label_quality

DIGITS = load_digits()
N = 900
FEATURES = (DIGITS.data[:N] / 16).astype(np.float32)
TIE = np.arange(N)


def issues(target: Any) -> Any:
    if target.ndim == 2:
        columns = [out_of_fold(target[:, k])[:, 1] for k in range(target.shape[1])]
        chances = np.stack(columns, axis=1)
    else:
        chances = out_of_fold(target)
    near, _ = nearest(FEATURES, FEATURES, 10, TIE, TIE)
    return label_quality(target, chances, agreement(target, near, chances))


def out_of_fold(target: Any) -> Any:
    return cross_val_predict(LogisticRegression(C=0.1, max_iter=300), FEATURES, target, method="predict_proba")


@pytest.mark.parametrize("seed", [0, 1])
def test_planted_errors_come_first(seed: int) -> None:
    random = np.random.default_rng(seed)
    target = DIGITS.target[:N].copy()
    planted = random.choice(N, N // 20, replace=False)
    target[planted] = (target[planted] + random.integers(1, 10, len(planted))) % 10
    found = issues(target)
    first = np.argsort(found.score)[: len(planted)]
    assert np.isin(planted, first).mean() >= 0.9
    assert found.suspicious[planted].mean() >= 0.7
    assert (found.suggested[planted] == DIGITS.target[planted]).mean() >= 0.8


def test_a_clean_set_raises_few_alarms() -> None:
    assert issues(DIGITS.target[:N]).suspicious.mean() < 0.03


def test_planted_errors_of_several_labels() -> None:
    random = np.random.default_rng(0)
    number = DIGITS.target[:N]
    clean = np.stack([number % 2, number < 3, np.isin(number, [0, 6, 8, 9])], axis=1).astype(np.uint8)
    assert (clean.sum(axis=1) == 0).any()  # pictures without any label are judged too
    target = clean.copy()
    planted = random.choice(N, N // 20, replace=False)
    label = random.integers(0, 3, len(planted))
    target[planted, label] ^= 1
    found = issues(target)
    assert np.isin(planted, np.argsort(found.score)[: 2 * len(planted)]).mean() >= 0.7
    mended = (found.suggested[planted, label] == clean[planted, label]).mean()
    assert mended >= 0.6
    assert ((found.suggested != target).any(axis=1) == found.suspicious).all()


def test_a_label_that_all_have_is_not_judged() -> None:
    target = np.ones((40, 2), np.uint8)
    target[::2, 1] = 0
    chances = np.clip(target + np.random.default_rng(0).normal(0, 0.1, target.shape), 0.01, 0.99)
    found = label_quality(target, chances, np.ones(40))
    assert (found.suggested[:, 0] == 1).all()


def test_agreement_is_the_share_of_neighbours_with_the_label() -> None:
    near = np.array([[1, 2], [0, 3], [0, -1], [-1, -1]])
    assert agreement(np.array([0, 0, 1, 1]), near, np.zeros((4, 2))).tolist() == [0.5, 0.5, 0.0, 1.0]
    target = np.array([[1, 0], [1, 0], [0, 1], [0, 0]])
    chances = np.array([[0.9, 0.8], [0.1, 0.1], [0.1, 0.9], [0.1, 0.2]])
    # Picture 0: "a" is given, as one of two neighbours has it; "b" is probable, one of two agrees that it is not.
    assert agreement(target, near, chances).tolist() == [0.5, 0.5, 0.0, 1.0]
