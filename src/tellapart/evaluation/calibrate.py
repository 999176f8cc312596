"""Certainty that can be believed: a temperature, a threshold for each label, and a measure of trust.

Everything here is fitted on validation, never on the pictures that the result is reported for.
"""

from __future__ import annotations

from functools import partial

import numpy as np

from tellapart.errors import DataError
from tellapart.evaluation.metrics import Array, by_parts, known, ratio
from tellapart.records import Floats, Predictions, probabilities

LOWEST, HIGHEST = 0.05, 20.0


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


def thresholds(predictions: Predictions, temperature: float = 1.0) -> Floats:
    """For each label the probability from which on it is answered, such that its F1 is highest.

    Half-way between the two probabilities that it separates, or 0.5 where that separates them too. Of equally good
    ones the nearest to 0.5. A label that no picture has keeps 0.5.

    Args:
        predictions: with several labels.
        temperature: the one that answers will be given with: thresholds are for probabilities after it.

    Returns:
        float64 [n_classes], in 0..1; a label is answered where its probability is at least that.

    Raises:
        DataError: no pictures.
        ValueError: predictions of one label a picture.
    """
    if not predictions.several:
        raise ValueError("thresholds are for several labels; with one label the most probable class is the answer")
    predictions = _some(predictions)
    return np.array(
        [
            _best_threshold(predictions.target[:, i] == 1, predictions.logits[:, i], temperature)
            for i in range(len(predictions.classes))
        ]
    )


def expected_calibration_error(predictions: Predictions, temperature: float = 1.0, bins: int = 15) -> float:
    """How far certainty and truth lie apart: |certainty - share that is right|, averaged over bins of equal width.

    One label: the certainty of the answer against whether it is right. Several: the probability of every label of
    every picture against whether it is given. In 0..1, 0 is best; bins weigh as many pictures (or labels) as they hold.

    Source: M. P. Naeini, G. F. Cooper, M. Hauskrecht, Obtaining well calibrated probabilities using Bayesian binning,
    AAAI 2015, with 15 bins as in Guo et al. 2017.

    Raises:
        DataError: no picture has a label.
    """
    predictions = _some(predictions)
    if predictions.several:
        certainty = by_parts(predictions, lambda part: part.probabilities(temperature)).ravel()
        right = predictions.target.ravel()
    else:
        certainty = by_parts(predictions, lambda part: part.probabilities(temperature).max(axis=1))
        right = predictions.logits.argmax(axis=1) == predictions.target
    index = np.clip(np.ceil(certainty * bins).astype(np.int64) - 1, 0, bins - 1)
    gap = np.bincount(index, certainty, bins) - np.bincount(index, right, bins)
    return float(np.abs(gap).sum() / len(certainty))


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


def _best_threshold(given: Array, logits: Array, temperature: float) -> float:
    if not given.any():
        return 0.5
    p = probabilities(logits, several=True, temperature=temperature)
    levels, where = np.unique(-p, return_inverse=True)
    levels = -levels  # falling
    answered = np.bincount(where).cumsum()
    right = np.bincount(where, given).cumsum()
    f1 = ratio(2 * right, given.sum() + answered)
    below = np.append(levels[1:], 0.0)
    middle = (levels + below) / 2
    candidates = np.where((below < 0.5) & (levels >= 0.5), 0.5, np.where(middle > below, middle, levels))
    best = candidates[f1 == f1.max()]
    return float(best[np.abs(best - 0.5).argmin()])
