"""Out-of-sample probabilities: scikit-learn's logistic regression, fold by fold, gives the same."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

import numpy as np
import pytest
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.metrics.pairwise import rbf_kernel
from sklearn.preprocessing import normalize

from tellapart.training.cross_val_predict import kernel_map, out_of_sample


def finished(work: Generator[Any, None, Any]) -> Any:
    while True:
        try:
            next(work)
        except StopIteration as end:
            return end.value


def digits(n: int = 400) -> tuple[Any, Any, Any]:
    data = load_digits()
    return data.data[:n].astype(np.float32), data.target[:n], np.arange(n) % 4


def test_one_label_as_scikit_learn_has_it() -> None:
    features, target, fold = digits()
    found = finished(out_of_sample(features, target, fold, (1e-3,)))
    for number in range(4):
        inside = fold == number
        # The penalty is ||W||² / (2 n C): scikit-learn's C is that times the loss's sum.
        model = LogisticRegression(C=1e-3, max_iter=300, tol=1e-6).fit(features[~inside], target[~inside])
        expected = model.predict_proba(features[inside])
        assert found[inside] == pytest.approx(expected, abs=2e-3)


def test_the_strength_with_the_lowest_loss_is_taken() -> None:
    features, target, fold = digits()

    def loss(p: Any) -> float:
        return float(-np.log(p[np.arange(len(target)), target]).mean())

    each = [loss(finished(out_of_sample(features, target, fold, (s,)))) for s in (1e-4, 1e-3)]
    both = loss(finished(out_of_sample(features, target, fold, (1e-4, 1e-3))))
    assert both == pytest.approx(min(each), abs=1e-3)


def test_no_picture_is_judged_by_a_model_that_has_seen_it() -> None:
    features, target, fold = digits(200)
    before = finished(out_of_sample(features, target, fold, (1e-3,)))
    changed = target.copy()
    changed[0] = (target[0] + 1) % 10
    after = finished(out_of_sample(features, changed, fold, (1e-3,)))
    inside = fold == fold[0]
    assert after[inside] == pytest.approx(before[inside], abs=1e-6)
    assert after[~inside] != pytest.approx(before[~inside], abs=1e-6)


def test_several_labels() -> None:
    features, number, fold = digits()
    target = np.stack([number % 2, number > 4], axis=1).astype(np.uint8)
    found = finished(out_of_sample(features, target, fold))
    assert found.shape == (400, 2)
    assert ((found >= 0.5) == target).mean() > 0.8


def test_the_kernel_is_scikit_learns() -> None:
    features, *_ = digits(120)
    found = kernel_map(features)
    unit = normalize(features)
    distances = np.maximum(2 - 2 * unit @ unit.T, 0)
    expected = rbf_kernel(unit, gamma=2 / np.median(distances))
    assert found @ found.T / found.shape[1] == pytest.approx(expected, abs=2e-3)


def test_cells_that_are_not_known_teach_nothing() -> None:
    rng = np.random.default_rng(5)
    features = rng.normal(size=(90, 6)).astype(np.float32)
    target = (features[:, :2] + rng.normal(size=(90, 2)) > 0).astype(np.uint8)
    unknown = rng.random(target.shape) < 0.3
    fold = np.arange(90) % 3
    others = np.where(unknown, 1 - target, target).astype(np.uint8)
    first, second = (finished(out_of_sample(features, t, fold, (1e-3,), unknown)) for t in (target, others))
    np.testing.assert_array_equal(first, second)
