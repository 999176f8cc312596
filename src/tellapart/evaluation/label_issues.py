"""Label issues: labels that are probably wrong, from the probabilities of a model that has not seen the pictures.

Confident learning (Northcutt et al. 2021), by the cleanlab package, estimates how many labels are wrong and which. The
ranking also counts the nearest pictures: a label that both the model and they contradict comes before one that only the
model contradicts.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from tellapart.core.extras import require
from tellapart.core.predictions import Floats

Ints = npt.NDArray[np.int64]
Flags = npt.NDArray[np.bool_]
_PURPOSE = "Finding wrong labels"


@dataclass(frozen=True)
class LabelQuality:
    """The quality of the labels of some pictures.

    Attributes:
        score: float64 [n] in 0..1, low where the labels are probably wrong; pictures are ranked by it.
        suspicious: bool [n], those that confident learning takes for wrong.
        suggested: one label: int64 [n], the model's class. Several: uint8 [n, n_classes], the labels with the
            suspicious decisions inverted.
    """

    score: Floats
    suspicious: Flags
    suggested: npt.NDArray[Any]


def label_quality(target: npt.NDArray[Any], probabilities: Floats, agreement: Floats) -> LabelQuality:
    """Score labels by how probable they are to be right.

    Args:
        target: one label: int64 [n], every one of the k classes occurring. Several: uint8 [n, k].
        probabilities: [n, k], of a model that was not trained on the picture.
        agreement: [n], the share of the nearest pictures that have the same label, see `agreement`.

    Raises:
        MissingExtraError: cleanlab is not installed.
    """
    if target.ndim == 2:
        return _multilabel_quality(target, probabilities, agreement)
    rank = require("cleanlab.rank", _PURPOSE, "audit")
    find = require("cleanlab.filter", _PURPOSE, "audit").find_label_issues
    score = rank.get_label_quality_scores(target, probabilities, method="normalized_margin")
    suspicious = np.asarray(find(target, probabilities, n_jobs=1), bool)
    suggested = probabilities.argmax(axis=1).astype(np.int64)
    return LabelQuality((score + agreement) / 2, suspicious & (suggested != target), suggested)


def _multilabel_quality(target: npt.NDArray[Any], probabilities: Floats, agreement: Floats) -> LabelQuality:
    rank = require("cleanlab.multilabel_classification.rank", _PURPOSE, "audit")
    find = require("cleanlab.multilabel_classification.filter", _PURPOSE, "audit").find_multilabel_issues_per_class
    labels = [np.flatnonzero(line).tolist() for line in target]
    score = rank.get_label_quality_scores(labels, probabilities)
    # A label that every picture has, or none, leaves nothing to compare with.
    varies = (target.any(axis=0)) & (~target.astype(bool).all(axis=0))
    flagged = np.zeros(target.shape, bool)
    if varies.any():
        inner = [np.flatnonzero(line).tolist() for line in target[:, varies]]
        flagged[:, varies] = np.asarray(find(inner, probabilities[:, varies], n_jobs=1), bool).reshape(len(target), -1)
    flagged &= (probabilities >= 0.5) != target.astype(bool)
    suggested = np.where(flagged, 1 - target, target).astype(np.uint8)
    return LabelQuality((score + agreement) / 2, np.asarray(flagged.any(axis=1)), suggested)


def agreement(target: npt.NDArray[Any], neighbours: Ints, probabilities: Floats) -> Floats:
    """The share of each picture's neighbours that have its label.

    With several labels: the mean over the labels that it has, or probably has, of the share of neighbours that agree
    on that label; 1 where there is no such label.

    Args:
        target: as in `label_quality`, of all pictures.
        neighbours: [n, k], as `vectors.nearest` gives them for all pictures.
        probabilities: [n, k], as in `label_quality`.
    """
    there = neighbours >= 0
    n_there = np.maximum(there.sum(axis=1), 1)
    if target.ndim == 1:
        same = (target[neighbours] == target[:, None]) & there
        return np.asarray(np.where(there.any(axis=1), same.sum(axis=1) / n_there, 1.0))
    share = np.empty(target.shape)
    for label in range(target.shape[1]):
        same = (target[:, label][neighbours] == target[:, label][:, None]) & there
        share[:, label] = np.where(there.any(axis=1), same.sum(axis=1) / n_there, 1.0)
    counts = (target == 1) | (probabilities >= 0.5)
    n = counts.sum(axis=1)
    return np.asarray(np.where(n > 0, (share * counts).sum(axis=1) / np.maximum(n, 1), 1.0))
