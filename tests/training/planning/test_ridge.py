"""The closed-form probe against scikit-learn's ridge regression, and what takes no part in it."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.linear_model import Ridge

from tellapart.training.planning.ridge import right_out_of_fold


def made(n: int, d: int, n_classes: int = 3) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    random = np.random.default_rng(0)
    target = random.integers(0, n_classes, n)
    features = random.normal(size=(n, d)) + 0.9 * np.eye(n_classes, d)[target]
    return features.astype(np.float32), target, np.arange(n) % 5


@pytest.mark.parametrize(("n", "d"), [(60, 20), (40, 90)])
def test_it_is_ridge_regression_on_indicators(n: int, d: int) -> None:
    features, target, fold = made(n, d)
    x = (features - features.mean(0)) / features.std(0)
    expected = np.empty(n)
    for number in range(5):
        out = fold == number
        model = Ridge(alpha=0.1 * (~out).sum()).fit(x[~out], np.eye(3)[target[~out]])
        expected[out] = model.predict(x[out]).argmax(1) == target[out]
    assert right_out_of_fold(features, target, fold, penalties=[0.1]).tolist() == expected.tolist()


def test_the_best_penalty_is_taken_and_beats_chance() -> None:
    features, target, fold = made(200, 30)
    scores = [right_out_of_fold(features, target, fold, penalties=[p]).mean() for p in (1e-2, 10.0)]
    assert right_out_of_fold(features, target, fold, penalties=(1e-2, 10.0)).mean() == max(scores) > 0.5


def test_unknown_labels_do_not_count() -> None:
    features, target, fold = made(100, 10)
    labels = np.eye(3, dtype=np.uint8)[target]
    unknown = np.zeros(labels.shape, bool)
    unknown[:, 2] = True
    right = right_out_of_fold(features, labels, fold, unknown)
    assert set(np.unique(right)) <= {0.0, 0.5, 1.0}
    labels[:, 2] = 1 - labels[:, 2]
    assert right_out_of_fold(features, labels, fold, unknown).tolist() == right.tolist()
