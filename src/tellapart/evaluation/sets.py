"""Prediction sets: classes of which the right one is among them with a stated probability. Split conformal prediction.

On validation pictures, each right class has a probability. The set of a new picture holds every class at least as
probable as all but a few of those: if the new picture is drawn as the validation pictures were, the right class is
missing from its set in no more than the stated share of cases, whatever the network and its certainty are worth.

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
    """For each coverage the probability from which on a class belongs to the set.

    Args:
        predictions: of the validation pictures, with one label a picture.
        temperature: the one that answers will be given with.
        levels: coverages, in 0..1.

    Returns:
        Coverage → threshold, without the coverages for which there are too few pictures, see
        `pictures_needed`.

    Raises:
        ValueError: predictions of several labels a picture.
    """
    if predictions.multilabel:
        raise ValueError("prediction sets are for one label a picture")
    labelled = known(predictions)
    n = len(labelled)
    chances = np.sort(labelled.probabilities(temperature)[np.arange(n), labelled.target])
    # The right class of one picture more lies below the m-th lowest of n with probability m / (n + 1).
    missed = {level: math.floor((n + 1) * (1 - level) + 1e-9) for level in levels}
    return {level: float(chances[m - 1]) for level, m in missed.items() if m >= 1}


def coverages(
    predictions: Predictions, temperature: Temperature, limits: Mapping[float, float]
) -> dict[float, tuple[Metric, float]]:
    """How sets turn out on some pictures: coverage → the share of sets that hold the right class, and the mean size."""
    labelled = known(predictions)
    n = len(labelled)
    chances = labelled.probabilities(temperature)
    found = {}
    for level, least in limits.items():
        sets = prediction_sets(chances, least)
        share = float(sets[np.arange(n), labelled.target].mean())
        low, high = map(float, wilson(share, n))
        found[level] = (Metric(share, low, high, n), float(sets.sum(axis=1).mean()))
    return found


def pictures_needed(coverage: float) -> int:
    """The fewest validation pictures with which prediction sets of a coverage, in 0..1, can be promised at all."""
    return math.ceil(coverage / (1 - coverage) - 1e-9)


def prediction_sets(probabilities: npt.ArrayLike, least: float) -> npt.NDArray[np.bool_]:
    """Which classes belong to each picture's set: those at least this probable, and always the most probable one.

    Args:
        probabilities: [n, n_classes].
        least: see `set_thresholds`.

    Returns:
        bool [n, n_classes].
    """
    chances = np.asarray(probabilities, np.float64)
    return np.asarray((chances >= least) | (chances == chances.max(axis=-1, keepdims=True)))
