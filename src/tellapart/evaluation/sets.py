"""Prediction sets by split conformal prediction: they hold the right class with a stated probability (coverage).

A set holds every class whose probability reaches a threshold: a low quantile of the probabilities of the right classes
of validation pictures. The coverage holds for new pictures that are drawn as the validation pictures were, however good
or bad the network and its calibration are.

Source: M. Sadinle, J. Lei, L. Wasserman, Least ambiguous set-valued classifiers with bounded error levels, JASA 114
(2019); the finite-sample quantile of V. Vovk, A. Gammerman, G. Shafer, Algorithmic learning in a random world (2005).
MAPIE calls the method "lac".
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from tellapart.core.predictions import Predictions, Temperature
from tellapart.core.scores import Metric
from tellapart.evaluation.intervals import wilson
from tellapart.evaluation.metrics import known

#: The coverages for which a training stores a threshold; others cannot be asked for afterwards.
LEVELS = (0.8, 0.9, 0.95, 0.98, 0.99)


def set_thresholds(
    predictions: Predictions, temperature: Temperature = 1.0, levels: tuple[float, ...] = LEVELS
) -> dict[float, float]:
    """The threshold of each coverage: the probability from which on a class belongs to the set.

    Args:
        predictions: of the validation pictures, with one label a picture.
        temperature: of the answers.
        levels: coverages, in 0..1.

    Returns:
        Coverage → threshold, without the coverages for which there are too few pictures, see `pictures_needed`.

    Raises:
        ValueError: predictions of several labels a picture.
    """
    if predictions.multilabel:
        raise ValueError("prediction sets are for one label a picture")
    labelled = known(predictions)
    n = len(labelled)
    of_right_class = np.sort(labelled.probabilities(temperature)[np.arange(n), labelled.target])
    # The right class of one picture more lies below the m-th lowest of n with probability m / (n + 1).
    n_missed = {level: math.floor((n + 1) * (1 - level) + 1e-9) for level in levels}
    return {level: float(of_right_class[m - 1]) for level, m in n_missed.items() if m >= 1}


def coverages(
    predictions: Predictions, temperature: Temperature, thresholds: Mapping[float, float]
) -> dict[float, tuple[Metric, float]]:
    """Coverage asked for → the share of some pictures' sets that hold the right class, and the mean size of a set."""
    labelled = known(predictions)
    n = len(labelled)
    probabilities = labelled.probabilities(temperature)
    observed = {}
    for level, threshold in thresholds.items():
        sets = prediction_sets(probabilities, threshold)
        share = float(sets[np.arange(n), labelled.target].mean())
        low, high = map(float, wilson(share, n))
        observed[level] = (Metric(share, low, high, n), float(sets.sum(axis=1).mean()))
    return observed


def pictures_needed(coverage: float) -> int:
    """The fewest validation pictures that can promise prediction sets of a coverage in 0..1."""
    return math.ceil(coverage / (1 - coverage) - 1e-9)


def prediction_sets(probabilities: npt.ArrayLike, threshold: float) -> npt.NDArray[np.bool_]:
    """The classes of each picture's set: those that reach the threshold, and always the most probable one.

    Args:
        probabilities: [n, n_classes].
        threshold: see `set_thresholds`.

    Returns:
        bool [n, n_classes].
    """
    p = np.asarray(probabilities, np.float64)
    return np.asarray((p >= threshold) | (p == p.max(axis=-1, keepdims=True)))
