"""Prediction sets: coverage by simulation, and against MAPIE."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from sklearn.base import BaseEstimator, ClassifierMixin

from tellapart.core.predictions import Predictions
from tellapart.evaluation.sets import LEVELS, coverages, pictures_needed, prediction_sets, set_thresholds


def drawn(n, n_classes=6, seed=0, spread=2.0):
    """Logits that are far too sure of themselves; the labels are drawn from softer ones."""
    rng = np.random.default_rng(seed)
    logits = spread * rng.normal(size=(n, n_classes))
    p = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    target = (rng.random((n, 1)) > p.cumsum(axis=1)).sum(axis=1).clip(0, n_classes - 1)
    return Predictions.of(np.arange(n), 4 * logits, target, tuple("abcdefghij"[:n_classes]))


def test_the_right_class_is_in_the_set_as_often_as_promised():
    """Over many trainings: the mean of the coverages on new pictures, each limit from 60 validation pictures."""
    new = drawn(4000, seed=1)
    covered = []
    for seed in range(300):
        limits = set_thresholds(drawn(60, seed=100 + seed), levels=(0.8, 0.95))
        covered.append([coverages(new, 1.0, limits)[level][0].value for level in (0.8, 0.95)])
    mean = np.mean(covered, axis=0)
    # Promised from below; the quantile of n pictures gives at most 1 / (n + 1) more.
    assert 0.8 - 0.01 <= mean[0] <= 0.8 + 1 / 61 + 0.01
    assert 0.95 - 0.01 <= mean[1] <= 0.95 + 1 / 61 + 0.01


def test_coverages_that_too_few_pictures_cannot_promise_are_left_out():
    for n in (4, 9, 19, 49, 98, 99):
        assert set(set_thresholds(drawn(n))) == {level for level in LEVELS if pictures_needed(level) <= n}
    assert [pictures_needed(level) for level in LEVELS] == [4, 9, 19, 49, 99]
    assert set_thresholds(drawn(3)) == {}


def test_a_set_is_never_empty_and_grows_with_the_coverage():
    limits = set_thresholds(drawn(200, seed=3))
    chances = drawn(500, seed=4).probabilities()
    sets = [prediction_sets(chances, limits[level]) for level in LEVELS]
    assert all(s.any(axis=1).all() for s in sets)
    assert all((small <= large).all() for small, large in pairwise(sets))


def test_sets_are_those_of_mapie():
    from mapie.classification import SplitConformalClassifier

    class Given(ClassifierMixin, BaseEstimator):
        """Probabilities are what is put in."""

        def fit(self, x, y):
            self.classes_, self.fitted_ = np.arange(x.shape[1]), True
            return self

        def predict_proba(self, x):
            return x

        def predict(self, x):
            return x.argmax(axis=1)

    validation, new = drawn(150, seed=5), drawn(400, seed=6)
    chances = validation.probabilities(3.0)
    network = Given().fit(chances, validation.target)
    rival = SplitConformalClassifier(network, confidence_level=[0.8, 0.9, 0.95], conformity_score="lac", prefit=True)
    rival.conformalize(chances, validation.target)
    _, expected = rival.predict_set(new.probabilities(3.0))
    limits = set_thresholds(validation, 3.0)
    for number, level in enumerate((0.8, 0.9, 0.95)):
        found = prediction_sets(new.probabilities(3.0), limits[level])
        empty = ~expected[:, :, number].any(axis=1)
        assert (found == expected[:, :, number])[~empty].all()
        assert (found[empty].sum(axis=1) == 1).all()  # ours holds the most probable class then


def test_sets_are_for_one_label():
    with pytest.raises(ValueError, match="one label"):
        set_thresholds(Predictions.of([0], [[1.0, 2.0]], [[1, 0]], ("a", "b")))
