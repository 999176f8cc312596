"""Whether a score is above chance, and how many more pictures would make it more certain: sentences beside a score.

Two questions are asked of a model. Is its score above that of the best constant answer? And do its probabilities go
with the labels at all? For the second, labels are thought to be dealt anew to the pictures. Under that permutation,
mean and variance of the sum of the right labels' probabilities are known exactly, and the sum is nearly normal.

Source: W. Hoeffding, A combinatorial central limit theorem, Annals of Mathematical Statistics 22 (1951).
"""

from __future__ import annotations

import math
from statistics import NormalDist

import numpy as np

from tellapart.core.predictions import Predictions, Temperature
from tellapart.core.scores import Metric
from tellapart.evaluation import intervals, metrics
from tellapart.evaluation.metrics import Array

#: Level below which probabilities go with labels beyond chance.
ALPHA = 0.01
#: With fewer pictures even a perfect model may not stand out from chance.
_FEWEST = 10
#: Width of a share's interval from which more pictures are asked for.
_WIDE = 0.1
_PART = 2**20  # probabilities handled at a time


def chance_note(predictions: Predictions, headline: Metric, temperature: Temperature = 1.0) -> str:
    """A sentence where the headline is not above that of a constant answer; "" where it is, or where none can tell.

    Args:
        predictions: all with a label.
        headline: accuracy, or the micro F1 of several labels.
        temperature: as in `metrics.scores`.
    """
    if not _labels_differ(predictions):
        return ""
    base = constant_score(predictions)
    p = association(predictions, temperature)
    name, always = ("", "the commonest") if not predictions.multilabel else ("F1 ", "the commonest labels")
    scores = f"({name}{_percent(headline.value)}, always {always} {_percent(base)})"
    if p < ALPHA:
        if headline.value > base:
            return ""
        return f"It is no better than a constant answer {scores}, though its probabilities do go with the labels."
    if headline.value > base or len(predictions) < _FEWEST:
        return f"It cannot be told from chance with so few pictures {scores}."
    return f"It has learned nothing {scores}."


def constant_score(predictions: Predictions) -> float:
    """The headline of the best constant answer: the commonest class, or with several labels the commonest ones.

    Several labels: the micro F1, over how many of the commonest labels are always answered.
    """
    counts = _label_counts(predictions)
    if not predictions.multilabel:
        return float(counts.max() / len(predictions))
    n_known = np.full(len(counts), len(predictions))
    if predictions.unknown is not None:
        n_known = (~predictions.unknown).sum(axis=0)
    order = np.argsort(-metrics.ratio(counts, n_known), kind="stable")
    return float(metrics.ratio(2 * counts[order].cumsum(), n_known[order].cumsum() + counts.sum()).max())


def constant_accuracy(target: Array, unknown: Array | None = None) -> float:
    """The accuracy of the best constant answer: the commonest class; several labels: of each label, the commoner value.

    Args:
        target: as in `Predictions`: int64 [n], -1 where there is no label; several labels: uint8 [n, n_classes].
        unknown: several labels: bool [n, n_classes], cells that do not count; None: all are known.

    Returns:
        In 0..1; NaN where no picture has a label.
    """
    if target.ndim == 2:
        is_known = np.ones(target.shape, bool) if unknown is None else ~unknown
        n_known, n_labelled = is_known.sum(axis=0), (target * is_known).sum(axis=0)
        commoner = np.maximum(n_labelled, n_known - n_labelled).sum()
        return float(commoner / n_known.sum()) if n_known.any() else float("nan")
    known = target[target >= 0]
    return float(np.bincount(known).max() / len(known)) if len(known) else float("nan")


def at_chance(accuracy: float, constant: float, n: int) -> bool:
    """Whether n pictures do not show that an accuracy is better than that of a constant answer.

    That is: where its 95 % interval (Wilson) reaches down to it. False where one of them is not known.
    """
    low, _ = intervals.wilson(accuracy, n)
    return bool(low <= constant)


def association(predictions: Predictions, temperature: Temperature = 1.0) -> float:
    """One-sided p-value of probabilities as high for the right labels, were labels dealt to the pictures by chance.

    1 where all pictures get the same probabilities, or have the same labels. Where a label is not known, its
    probability counts as the mean: it speaks for neither.
    """
    n, counts = len(predictions), _label_counts(predictions).astype(float)
    targets = predictions.target
    step = max(1, _PART // len(predictions.classes))
    parts = [metrics.take(predictions, slice(start, start + step)) for start in range(0, n, step)]
    n_known = n if predictions.unknown is None else np.maximum((~predictions.unknown).sum(axis=0), 1)
    total = sum((part.probabilities(temperature) * _is_known(part)).sum(axis=0) for part in parts)
    mean = total / n_known
    shared = None
    if predictions.multilabel:
        shared = targets.T.astype(float) @ targets - np.outer(counts, counts) / n
    right, variance = 0.0, 0.0
    for part in parts:
        off = (part.probabilities(temperature) - mean) * _is_known(part)
        if shared is not None:
            right += float((off * part.target).sum())
            variance += float(((off @ shared) * off).sum())
        else:
            right += float(off[np.arange(len(off)), part.target].sum())
            variance += float((off**2 @ counts).sum() - ((off @ counts) ** 2).sum() / n)
    if n < 2 or variance < 1e-12:
        return 1.0
    return 1 - NormalDist().cdf(right / math.sqrt(variance / (n - 1)))


def precision_note(name: str, headline: Metric, on: str) -> str:
    """How many more pictures would make a wide interval half as wide, in a sentence; "" where it is not wide.

    "" too on the pictures that the network was trained on: more of these tell nothing of others.
    """
    more = more_pictures(name, headline)
    if on == "train" or not more:
        return ""
    width = headline.high - headline.low
    which = f"{on} pictures" if on in ("test", "validation") else "such pictures"
    subject = f"The {name.replace('_', ' ')}'s 95 % interval"
    return f"{subject} is {100 * width:.0f} points wide; {more:,} more {which} would make it about half as wide."


def more_pictures(name: str, headline: Metric) -> int:
    """How many more pictures would make a wide interval about half as wide; 0 where it is not wide."""
    width = headline.high - headline.low
    if not math.isfinite(width) or width <= _WIDE:
        return 0
    return _rounded(pictures_for_half(name, headline) - headline.n)


def pictures_for_half(name: str, metric: Metric) -> int:
    """The number of pictures at which the interval of the same score would be half as wide.

    A share: by its Wilson interval. Any other score: four times as many, since a deviation falls with the root of n.
    """
    if name not in intervals.PROPORTIONS:
        return 4 * metric.n
    sizes = np.arange(metric.n, 4 * metric.n + 40)
    low, high = intervals.wilson(np.full(len(sizes), metric.value), sizes)
    return int(sizes[np.argmax(high - low <= (metric.high - metric.low) / 2)])


def _is_known(predictions: Predictions) -> Array | float:
    """1 where it is known whether a label applies, else 0."""
    return 1.0 if predictions.unknown is None else (~predictions.unknown).astype(float)


def _labels_differ(predictions: Predictions) -> bool:
    return bool((predictions.target != predictions.target[:1]).any())


def _label_counts(predictions: Predictions) -> Array:
    if predictions.multilabel:
        return np.asarray(predictions.target.sum(axis=0, dtype=np.int64))
    return np.bincount(predictions.target, minlength=len(predictions.classes))


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"


def _rounded(n: int) -> int:
    """Up to two digits: 61 stays 61, 347 is 350."""
    scale = int(10 ** max(0, len(str(n)) - 2))
    return math.ceil(n / scale) * scale
