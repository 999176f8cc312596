"""Certainty that can be believed: a temperature, and a threshold for each label.

Everything here is fitted on validation, never on the pictures that the result is reported for.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import Literal, TypeAlias

import numpy as np

from tellapart.errors import DataError
from tellapart.evaluation.metrics import Array, answers, by_parts, count, known, per_class, ratio
from tellapart.records import Floats, Predictions, Temperature, probabilities

LOWEST, HIGHEST = 0.05, 20.0
LEAST_PICTURES = 20

#: How thresholds are chosen: "f1", {"precision": 0.9} or {"recall": 0.9}.
Rule: TypeAlias = Literal["f1"] | Mapping[str, float]


def fit_temperature(predictions: Predictions) -> float:
    """The temperature that makes the log loss lowest, in 0.05..20; one for all labels.

    The loss is convex in 1 / temperature, so the one place where its slope is 0 is found by Newton's method, kept
    inside an interval that is halved wherever a step would leave it.

    Where every picture is answered rightly, the loss has no minimum (it falls on and on as the temperature goes to 0,
    to a certainty of 100 % that nothing supports): the temperature then stays 1.

    Source: C. Guo, G. Pleiss, Y. Sun, K. Q. Weinberger, On calibration of modern neural networks, ICML 2017.

    Raises:
        DataError: no picture has a label.
    """
    predictions = _some(predictions)
    if not by_parts(predictions, _shortfall).any():
        return 1.0
    low, high, inverse = 1 / HIGHEST, 1 / LOWEST, 1.0
    for _ in range(60):
        slope, curvature = by_parts(predictions, partial(_derivatives, inverse=inverse)).mean(axis=0)
        low, high = (inverse, high) if slope < 0 else (low, inverse)
        step = inverse - slope / curvature if curvature > 0 else 0.0
        following = step if low <= step <= high else float(np.sqrt(low * high))
        if abs(following - inverse) <= 1e-10 * inverse:
            break
        inverse = following
    return float(np.clip(1 / inverse, LOWEST, HIGHEST))


def fit_temperatures(predictions: Predictions) -> Temperature:
    """The temperature that answers are given with: one number, or, with several labels, one a label.

    A label's own temperature needs pictures to be fitted on: where fewer than 20 have it, or fewer than 20 have it
    not, or where its sign alone is always right, the label keeps the temperature fitted on all labels together.

    Raises:
        DataError: no picture has a label.
    """
    shared = fit_temperature(predictions)
    if not predictions.several:
        return shared
    given = predictions.target.sum(axis=0, dtype=np.int64)
    enough = np.minimum(given, len(predictions) - given) >= LEAST_PICTURES
    found = []
    for i, name in enumerate(predictions.classes):
        column = slice(i, i + 1)
        alone = replace(
            predictions, logits=predictions.logits[:, column], target=predictions.target[:, column], classes=(name,)
        )
        found.append(fit_temperature(alone) if enough[i] and _shortfall(alone).any() else shared)
    return tuple(found)


def thresholds(predictions: Predictions, temperature: Temperature = 1.0, rule: Rule = "f1") -> Floats:
    """For each label the probability from which on it is answered.

    Half-way between the two probabilities that it separates, or 0.5 where that separates them too. A label that no
    picture has keeps 0.5.

    Args:
        predictions: with several labels.
        temperature: the one that answers will be given with: thresholds are for probabilities after it.
        rule: "f1": where F1 is highest, of equally good ones the nearest to 0.5.
            {"precision": p}: the lowest one with at least that precision, which finds the most; where none reaches
            it, the one with the highest precision, see `misses`.
            {"recall": r}: the highest one with at least that recall, which errs the least.

    Returns:
        float64 [n_classes], in 0..1; a label is answered where its probability is at least that.

    Raises:
        DataError: no pictures.
        ValueError: predictions of one label a picture.
    """
    if not predictions.several:
        raise ValueError("thresholds are for several labels; with one label the most probable class is the answer")
    predictions = _some(predictions)
    each = np.broadcast_to(temperature, len(predictions.classes))
    return np.array(
        [
            _best_threshold(given == 1, probabilities(logits, several=True, temperature=float(t)), rule)
            for given, logits, t in zip(predictions.target.T, predictions.logits.T, each, strict=True)
        ]
    )


def misses(predictions: Predictions, temperature: Temperature, limits: Floats, rule: Rule) -> list[str]:
    """The labels that do not reach what the rule asks for with these thresholds, on these predictions.

    Only a precision can be out of reach; labels that no picture has are among them.
    """
    if rule == "f1":
        return []
    ((name, least),) = rule.items()
    precision, recall, _ = per_class(
        count(predictions.target, answers(predictions, temperature, limits), len(predictions.classes))
    )
    reached = (precision if name == "precision" else recall) >= least - 1e-12
    return [label for label, fine in zip(predictions.classes, reached, strict=True) if not fine]


def _some(predictions: Predictions) -> Predictions:
    predictions = known(predictions)
    if not len(predictions):
        raise DataError(
            "No picture of the validation part has a label, so certainty cannot be calibrated.",
            "Give validation pictures whose answer is known.",
        )
    return predictions


def _shortfall(predictions: Predictions) -> Floats:
    """[n]: by how much the right answer's logit falls short of being the answer; 0 where the answer is right."""
    z = predictions.logits
    if predictions.several:
        return np.asarray(np.where(predictions.target == 1, -z, z).clip(0).sum(axis=1))
    return np.asarray(z.max(axis=1) - z[np.arange(len(z)), predictions.target])


def _derivatives(predictions: Predictions, inverse: float) -> Floats:
    """[n, 2]: first and second derivative of each picture's log loss by 1 / temperature."""
    z = predictions.logits.astype(np.float64)
    p = predictions.probabilities(1 / inverse)
    if predictions.several:
        first, second = ((p - predictions.target) * z).mean(axis=1), (p * (1 - p) * z**2).mean(axis=1)
    else:
        expected = (p * z).sum(axis=1)
        first = expected - z[np.arange(len(z)), predictions.target]
        second = (p * (z - expected[:, None]) ** 2).sum(axis=1)
    return np.stack([first, second], axis=1)


def _best_threshold(given: Array, p: Floats, rule: Rule) -> float:
    """Of one label: `given` says which pictures have it, `p` how probable it is, both [n]."""
    if not given.any():
        return 0.5
    levels, where = np.unique(-p, return_inverse=True)
    levels = -levels  # falling
    answered = np.bincount(where).cumsum()
    right = np.bincount(where, given).cumsum()
    below = np.append(levels[1:], 0.0)
    middle = (levels + below) / 2
    candidates = np.where((below < 0.5) & (levels >= 0.5), 0.5, np.where(middle > below, middle, levels))
    if rule == "f1":
        score = ratio(2 * right, given.sum() + answered)
        best = candidates[score == score.max()]
        return float(best[np.abs(best - 0.5).argmin()])
    ((name, least),) = rule.items()
    if name == "recall":
        return float(candidates[np.argmax(right / given.sum() >= least - 1e-12)])
    precision = right / answered
    fine = np.flatnonzero(precision >= min(least, precision.max()) - 1e-12)
    return float(candidates[fine[-1]])
