"""Scores of weighted pictures, for many resamples at once."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from tellapart.core.predictions import Floats, Predictions
from tellapart.evaluation import metrics
from tellapart.evaluation.comparison import Answered
from tellapart.evaluation.metrics import Array, Counts

_ROW_SCORES = ("accuracy", "top_5_accuracy", "exact_match", "label_accuracy", "log_loss")


def scorer(answered: Answered, metric: str) -> Callable[[Array], Floats]:
    """A function that gives one score for weighted pictures: [n, k] weights, k times over → [k].

    Each column of weights says how often each picture counts; with ones it is the score itself.
    """
    p, answer = answered.predictions, answered.answers
    metric = "accuracy" if metric == "recall_weighted" and not p.multilabel else metric
    if metric in _ROW_SCORES:
        rows = metrics.row_scores(p, answer, answered.temperature)[metric]
        return lambda weights: np.asarray(rows @ weights / weights.sum(axis=0), np.float64)
    if metric == "mean_average_precision":
        rankings = metrics.rankings(p)
        return lambda weights: metrics.mean_average_precision(rankings, weights)
    counted = _counter(p, answer)
    return lambda weights: metrics.averages(counted(weights), p.multilabel)[metric]


def _counter(p: Predictions, answer: Array) -> Callable[[Array], Counts]:
    """Weights [n, k] → counts a class, [k, n_classes] each."""
    n_classes = len(p.classes)
    if p.multilabel:
        sides = [side.T.astype(np.float32) for side in (p.target & answer, p.target, answer)]
        return lambda weights: Counts(*((side @ weights).T for side in sides))
    right = np.flatnonzero(p.target == answer)
    everywhere = np.arange(len(p))
    groups = [
        _grouped(rows, of[rows]) for rows, of in ((right, p.target), (everywhere, p.target), (everywhere, answer))
    ]

    def count(weights: Array) -> Counts:
        return Counts(*(_summed(weights, group, n_classes) for group in groups))

    return count


def _grouped(rows: Array, classes: Array) -> tuple[Array, Array, Array]:
    """Rows in the order of their classes, the classes that occur, and where each begins."""
    order = np.argsort(classes, kind="stable")
    present, starts = np.unique(classes[order], return_index=True)
    return rows[order], present, starts


def _summed(weights: Array, group: tuple[Array, Array, Array], n_classes: int) -> Array:
    """[k, n_classes]: weights of the pictures of each class, added up."""
    rows, present, starts = group
    sums = np.zeros((n_classes, weights.shape[1]))
    if len(rows):
        sums[present] = np.add.reduceat(weights[rows], starts, axis=0)
    return sums.T
