"""Calibration: a temperature, and a threshold for each label.

Both are fitted on validation pictures, never on the pictures that scores are reported for.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Literal, TypeAlias

import numpy as np

from tellapart.core.extras import require
from tellapart.core.predictions import Floats, Predictions, Temperature
from tellapart.errors import DataError
from tellapart.evaluation.metrics import (
    Array,
    answers,
    by_parts,
    count,
    known,
    mean_of_known,
    of_label,
    per_class,
    ratio,
)

LOWEST, HIGHEST = 0.05, 20.0
LEAST_PICTURES = 20

#: How thresholds are chosen: "f1", {"precision": 0.9} or {"recall": 0.9}; or a fixed one, such as 0.5, for all labels.
Rule: TypeAlias = Literal["f1"] | float | Mapping[str, float]


def fit_temperature(predictions: Predictions) -> float:
    """The temperature with the lowest log loss, in 0.05..20; one for all labels.

    It stays 1 where the loss does not depend on it, and where every picture is answered rightly and without a tie.
    There the loss has no minimum: it falls as the temperature goes to 0, towards a certainty of 100 % that a few
    validation pictures do not support.

    Source: C. Guo, G. Pleiss, Y. Sun, K. Q. Weinberger, On calibration of modern neural networks, ICML 2017.

    Raises:
        DataError: no picture has a label.
    """
    temperature = _best_temperature(_labelled(predictions))
    return 1.0 if temperature is None else temperature


def fit_temperatures(predictions: Predictions) -> Temperature:
    """The temperature of the answers: one number, or, with several labels, one a label.

    A label keeps the temperature fitted on all labels together where fewer than 20 pictures have it, where fewer
    than 20 lack it, or where the sign of its logit is always right.

    Raises:
        DataError: no picture has a label.
    """
    shared = fit_temperature(predictions)
    if not predictions.multilabel:
        return shared
    temperatures = []
    for i in range(len(predictions.classes)):
        alone = of_label(predictions, i)
        n_positive = int(alone.target.sum())
        enough = min(n_positive, len(alone) - n_positive) >= LEAST_PICTURES
        own = _best_temperature(alone) if enough else None
        temperatures.append(shared if own is None else own)
    return tuple(temperatures)


def thresholds(predictions: Predictions, temperature: Temperature = 1.0, rule: Rule = "f1") -> Floats:
    """The decision threshold of each label: the probability from which on it is answered.

    A threshold lies half-way between the two probabilities that it separates, or at 0.5 where that separates them
    too. A label that no picture has keeps 0.5.

    Args:
        predictions: with several labels.
        temperature: of the answers; thresholds are for probabilities after it.
        rule: "f1": where F1 is highest, of equally good ones the nearest to 0.5.
            {"precision": p}: the lowest one with at least that precision, which has the highest recall. Where none
            reaches it, the one with the highest precision, see `misses`.
            {"recall": r}: the highest one with at least that recall, which has the highest precision.
            A number above 0 and below 1: this one for every label, whatever the pictures.

    Returns:
        float64 [n_classes], in 0..1; a label is answered where its probability is at least that.

    Raises:
        DataError: no pictures.
        ValueError: predictions of one label a picture.
    """
    if not predictions.multilabel:
        raise ValueError("thresholds are for several labels; with one label the most probable class is the answer")
    predictions = _labelled(predictions)
    if isinstance(rule, float):
        return np.full(len(predictions.classes), rule)
    each = np.broadcast_to(temperature, len(predictions.classes))
    labels = [of_label(predictions, i) for i in range(len(predictions.classes))]
    return np.array(
        [
            _best_threshold(label.target[:, 0] == 1, label.probabilities(float(t))[:, 0], rule)
            for label, t in zip(labels, each, strict=True)
        ]
    )


def misses(predictions: Predictions, temperature: Temperature, limits: Floats, rule: Rule) -> list[str]:
    """The labels that miss the precision or recall of the rule with these thresholds, on these predictions.

    Only a precision can be out of reach. Labels that no picture has are among them.
    """
    if not isinstance(rule, Mapping):
        return []
    ((name, least),) = rule.items()
    precision, recall, _ = per_class(
        count(predictions.target, answers(predictions, temperature, limits), len(predictions.classes))
    )
    reached = (precision if name == "precision" else recall) >= least - 1e-12
    return [label for label, fine in zip(predictions.classes, reached, strict=True) if not fine]


def _labelled(predictions: Predictions) -> Predictions:
    predictions = known(predictions)
    if not len(predictions):
        raise DataError(
            "No picture of the validation part has a label, so certainty cannot be calibrated.",
            "Give validation pictures whose answer is known.",
        )
    return predictions


def _best_temperature(predictions: Predictions) -> float | None:
    """The temperature with the lowest log loss; None where there is no minimum, see `fit_temperature`.

    The loss is convex in 1 / temperature: its slope changes its sign once, or nowhere.
    """

    def slope(inverse: float) -> float:
        return float(by_parts(predictions, partial(_slopes, inverse=inverse)).mean())

    if by_parts(predictions, _surely_right).all():
        return None
    low, high = slope(1 / HIGHEST), slope(1 / LOWEST)
    if low == high == 0:
        return None
    if low >= 0:
        return HIGHEST
    if high <= 0:
        return LOWEST
    optimize = require("scipy.optimize", "Calibration", "train")
    inverse = float(optimize.brentq(slope, 1 / HIGHEST, 1 / LOWEST, xtol=1e-12, rtol=1e-12))
    return float(np.clip(1 / inverse, LOWEST, HIGHEST))


def _surely_right(predictions: Predictions) -> Array:
    """[n], bool: whether the right logit is above all others; with several labels, whether each is on its side of 0.

    A tie is not enough: with logits (-1, 0, 0) the loss can fall to log 2 and no further, whichever of the two equal
    ones is right.
    """
    z = predictions.logits
    if predictions.multilabel:
        surely = np.where(predictions.target == 1, z, -z) > 0
        return np.asarray((surely if predictions.unknown is None else surely | predictions.unknown).all(axis=1))
    right = np.take_along_axis(z, predictions.target[:, None], axis=1)
    return np.asarray((z >= right).sum(axis=1) == 1)


def _slopes(predictions: Predictions, inverse: float) -> Floats:
    """[n]: derivative of each picture's log loss by 1 / temperature.

    Differences to the right logit come before the sum, so that a slope without a positive term is never rounded to
    a positive one: such a loss falls to the end of the range.
    """
    z = predictions.logits.astype(np.float64)
    p = predictions.probabilities(1 / inverse)
    if predictions.multilabel:
        return mean_of_known((p - predictions.target) * z, predictions)
    return np.asarray((p * (z - np.take_along_axis(z, predictions.target[:, None], axis=1))).sum(axis=1))


def _best_threshold(target: Array, p: Floats, rule: Literal["f1"] | Mapping[str, float]) -> float:
    """Of one label: `target` says which pictures have it, `p` is its probability, both [n]."""
    if not target.any():
        return 0.5
    levels, level = np.unique(-p, return_inverse=True)
    levels = -levels  # falling
    n_predicted = np.bincount(level).cumsum()
    true_positives = np.bincount(level, target).cumsum()
    below = np.append(levels[1:], 0.0)
    middle = (levels + below) / 2
    candidates = np.where((below < 0.5) & (levels >= 0.5), 0.5, np.where(middle > below, middle, levels))
    if not isinstance(rule, Mapping):
        score = ratio(2 * true_positives, target.sum() + n_predicted)
        best = candidates[score == score.max()]
        return float(best[np.abs(best - 0.5).argmin()])
    ((name, least),) = rule.items()
    if name == "recall":
        return float(candidates[np.argmax(true_positives / target.sum() >= least - 1e-12)])
    precision = true_positives / n_predicted
    reached = np.flatnonzero(precision >= min(least, precision.max()) - 1e-12)
    return float(candidates[reached[-1]])
