"""None of these: what the known classes look like in feature space, and from where on a picture is called unknown.

Class means and spread come from training pictures; the limit comes from validation pictures, which the means have not
seen, so that it holds for new pictures of the known classes.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from tellapart.core.predictions import Floats, Predictions, Temperature
from tellapart.core.scores import Metric
from tellapart.core.vectors import unit_length
from tellapart.evaluation.intervals import wilson
from tellapart.evaluation.open_set import Known, Strangeness

DIRECTIONS = 128
#: With fewer validation pictures than this share asks for, nothing can be said of what is known.
LEAST_SHARE = 0.95
_SMALLEST = 1e-3  # of the mean variance: a direction in which no training picture differs proves nothing


def fit_known(features: npt.NDArray[np.float32], target: npt.NDArray[np.int64], n_classes: int) -> Known:
    """Class means and shared spread of training pictures.

    Where there are hardly more pictures than classes, the spread within classes cannot be told, and that of all
    pictures together is taken.

    Args:
        features: [n, n_features].
        target: int64 [n], class numbers; pictures without a label (-1) are left out.
        n_classes: number of classes; those without pictures have no mean.

    Raises:
        ValueError: no picture has a label.
    """
    x = unit_length(features[target >= 0]).astype(np.float64)
    target = target[target >= 0]
    if not len(x):
        raise ValueError("no picture has a label")
    counts = np.bincount(target, minlength=n_classes)
    sums = np.zeros((n_classes, x.shape[1]))
    np.add.at(sums, target, x)
    means = sums / np.maximum(counts, 1)[:, None]
    freedom = len(x) - int((counts > 0).sum())
    centred = x - means[target]
    if freedom < 10:
        centred, freedom = x - x.mean(axis=0), max(len(x) - 1, 1)
    variances, directions = _principal(centred, freedom)
    n_features = x.shape[1]
    total = max(float((centred**2).sum() / freedom), 1e-12)
    least = _SMALLEST * total / n_features
    k = min(DIRECTIONS, n_features - 1, freedom // 2, int((variances > least).sum()))
    rest = max((total - float(variances[:k].sum())) / (n_features - k), least)
    return Known(
        means[counts > 0].astype(np.float32),
        directions[:, :k].astype(np.float32),
        variances[:k].astype(np.float32),
        rest,
    )


def _principal(centred: Floats, freedom: int) -> tuple[Floats, Floats]:
    """Variances, falling, and directions [n_features, k], from the smaller of the two products."""
    n, n_features = centred.shape
    if n_features <= n:
        variances, directions = np.linalg.eigh(centred.T @ centred / freedom)
        return variances[::-1].clip(0), directions[:, ::-1]
    variances, weights = np.linalg.eigh(centred @ centred.T / freedom)
    variances, weights = variances[::-1].clip(0), weights[:, ::-1]
    directions = centred.T @ weights / np.sqrt(np.maximum(variances * freedom, 1e-12))
    return variances, directions


def fit_strangeness(predictions: Predictions, distance: Floats, temperature: Temperature, share: float) -> Strangeness:
    """From where on pictures are called unknown.

    Args:
        predictions: of the validation pictures, one label a picture.
        distance: [n], of the same pictures, see `answering.Known.distance`.
        temperature: the one that answers will be given with.
        share: of new pictures of the known classes, at least this share shall be accepted. Where there are too few
            validation pictures to promise that, the largest strangeness among them is the limit, and the share that
            this can promise, n / (n + 1), is what the result states. `by_default` is then False if that is below both
            the share asked for and 0.95.
    """
    certainty = predictions.probabilities(temperature).max(axis=1)
    scales = []
    for values, least in ((distance, 1e-3), (1 - certainty, 1e-2)):
        scales.append((float(values.mean()), max(float(values.std()), least)))
    n = len(predictions)
    plain = Strangeness(scales[0], scales[1], math.inf, share, n)
    ordered = np.sort(plain.of(distance, certainty))
    reached = min(share, n / (n + 1))
    # The m-th of n values is not exceeded by one more, drawn alike, with probability m / (n + 1).
    m = min(n, math.ceil((n + 1) * share - 1e-9))
    fine = reached >= min(share, LEAST_SHARE)
    return Strangeness(scales[0], scales[1], float(ordered[m - 1]), reached, n, fine)


def judge(
    predictions: Predictions, distance: Floats, temperature: Temperature, strangeness: Strangeness
) -> dict[str, Metric]:
    """What calling strange pictures unknown does to pictures of the known classes.

    Returns:
        "accepted": the share that is answered. "accuracy_of_accepted": the share of those that is right, left out
        where none is. "right_and_accepted": the share of all that is both.
    """
    certainty = predictions.probabilities(temperature).max(axis=1)
    accepted = strangeness.of(distance, certainty) <= strangeness.limit
    right = predictions.logits.argmax(axis=1) == predictions.target
    known = predictions.target >= 0
    found = {
        "accepted": _share(accepted[known]),
        "accuracy_of_accepted": _share(right[known & accepted]),
        "right_and_accepted": _share((right & accepted)[known]),
    }
    return {name: metric for name, metric in found.items() if metric.n}


def _share(yes: npt.NDArray[np.bool_]) -> Metric:
    n = len(yes)
    share = float(yes.mean()) if n else math.nan
    low, high = map(float, wilson(share, n))
    return Metric(share, low, high, n)
