"""Fits the out-of-distribution score: class means and covariance of the features, then the limit of the score.

Means and covariance come from training pictures. The limit comes from validation pictures, which they have not seen, so
that it holds for new pictures of the known classes.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from tellapart.core.predictions import Floats, Predictions, Temperature
from tellapart.core.scores import Metric
from tellapart.core.vectors import unit_length
from tellapart.evaluation.intervals import wilson
from tellapart.evaluation.open_set import KnownClasses, OodScore

DIRECTIONS = 128
#: A limit that promises a smaller share than this one and than the share asked for is not applied by default.
LEAST_SHARE = 0.95
_SMALLEST = 1e-3  # of the mean variance: directions in which hardly any training picture differs are noise


def fit_known(features: npt.NDArray[np.float32], target: npt.NDArray[np.int64], n_classes: int) -> KnownClasses:
    """Class means and shared covariance of the features of training pictures.

    With hardly more pictures than classes, the covariance within classes cannot be estimated: that of all pictures
    together takes its place.

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
    n_degrees = len(x) - int((counts > 0).sum())
    centred = x - means[target]
    if n_degrees < 10:
        centred, n_degrees = x - x.mean(axis=0), max(len(x) - 1, 1)
    variances, directions = _principal_components(centred, n_degrees)
    n_features = x.shape[1]
    total = max(float((centred**2).sum() / n_degrees), 1e-12)
    least = _SMALLEST * total / n_features
    k = min(DIRECTIONS, n_features - 1, n_degrees // 2, int((variances > least).sum()))
    rest = max((total - float(variances[:k].sum())) / (n_features - k), least)
    return KnownClasses(
        means[counts > 0].astype(np.float32),
        directions[:, :k].astype(np.float32),
        variances[:k].astype(np.float32),
        rest,
    )


def _principal_components(centred: Floats, n_degrees: int) -> tuple[Floats, Floats]:
    """Variances, falling, and directions [n_features, k], from the smaller of the two Gram matrices."""
    n, n_features = centred.shape
    if n_features <= n:
        variances, directions = np.linalg.eigh(centred.T @ centred / n_degrees)
        return variances[::-1].clip(0), directions[:, ::-1]
    variances, weights = np.linalg.eigh(centred @ centred.T / n_degrees)
    variances, weights = variances[::-1].clip(0), weights[:, ::-1]
    directions = centred.T @ weights / np.sqrt(np.maximum(variances * n_degrees, 1e-12))
    return variances, directions


def fit_ood_score(predictions: Predictions, distance: Floats, temperature: Temperature, share: float) -> OodScore:
    """Standardise distance and doubt on validation pictures, and set the limit of the score.

    Args:
        predictions: of the validation pictures, one label a picture.
        distance: [n], of the same pictures, see `KnownClasses.distance`.
        temperature: the one that answers will be given with.
        share: at least this share of new pictures of the known classes shall be answered, in 0..1. With too few
            validation pictures to promise it, the limit is their highest score, and the result states the share
            that this promises: n / (n + 1). `by_default` is then False if that is below `share` and below 0.95.
    """
    certainty = predictions.probabilities(temperature).max(axis=1)
    scales = []
    for values, least in ((distance, 1e-3), (1 - certainty, 1e-2)):
        scales.append((float(values.mean()), max(float(values.std()), least)))
    n = len(predictions)
    without_limit = OodScore(scales[0], scales[1], math.inf, share, n)
    scores = np.sort(without_limit.of(distance, certainty))
    promised = min(share, n / (n + 1))
    # The m-th lowest of n scores is not exceeded by one more, drawn alike, with probability m / (n + 1).
    m = min(n, math.ceil((n + 1) * share - 1e-9))
    return OodScore(scales[0], scales[1], float(scores[m - 1]), promised, n, promised >= min(share, LEAST_SHARE))


def acceptance(
    predictions: Predictions, distance: Floats, temperature: Temperature, ood_score: OodScore
) -> dict[str, Metric]:
    """What answering "unknown" costs on pictures of the known classes.

    Returns:
        "accepted": the share that is answered. "accuracy_of_accepted": the share of those that is right, left out
        where none is answered. "right_and_accepted": the share of all that is both.
    """
    certainty = predictions.probabilities(temperature).max(axis=1)
    accepted = ood_score.of(distance, certainty) <= ood_score.limit
    right = predictions.logits.argmax(axis=1) == predictions.target
    labelled = predictions.target >= 0
    metrics = {
        "accepted": _share(accepted[labelled]),
        "accuracy_of_accepted": _share(right[labelled & accepted]),
        "right_and_accepted": _share((right & accepted)[labelled]),
    }
    return {name: metric for name, metric in metrics.items() if metric.n}


def _share(yes: npt.NDArray[np.bool_]) -> Metric:
    n = len(yes)
    share = float(yes.mean()) if n else math.nan
    low, high = map(float, wilson(share, n))
    return Metric(share, low, high, n)
