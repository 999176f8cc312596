"""Which given labels are probably wrong: from the probabilities of a model that has not seen the pictures.

Confident learning (Northcutt et al. 2021), by the cleanlab package, says how many labels are wrong and which; the
ranking also asks the neighbours: a label that neither the model nor the most similar pictures agree with is worse than
one that only the model doubts.
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
_WHAT = "Finding wrong labels"


@dataclass(frozen=True)
class Doubts:
    """What speaks against the labels of some pictures.

    Attributes:
        score: float64 [n] in 0..1, low where the labels are probably wrong: what to rank by.
        suspicious: bool [n], those that confident learning takes for wrong.
        suggested: one label: int64 [n], the class that the model would give. Several: uint8 [n, n_classes], the given
            labels with the suspicious decisions turned round.
    """

    score: Floats
    suspicious: Flags
    suggested: npt.NDArray[Any]


def doubts(target: npt.NDArray[Any], probabilities: Floats, agreement: Floats) -> Doubts:
    """Rank labels by how probably they are wrong.

    Args:
        target: one label: int64 [n], every one of the k classes occurring. Several: uint8 [n, k].
        probabilities: [n, k], of a model that was not trained on the picture.
        agreement: [n], the share of the nearest pictures that have the same label (with several labels, the mean over
            the labels that are given or answered), see `agreement`.

    Raises:
        MissingExtraError: cleanlab is not installed.
    """
    if target.ndim == 2:
        return _doubts_of_several(target, probabilities, agreement)
    rank = require("cleanlab.rank", _WHAT, "audit")
    find = require("cleanlab.filter", _WHAT, "audit").find_label_issues
    score = rank.get_label_quality_scores(target, probabilities, method="normalized_margin")
    suspicious = np.asarray(find(target, probabilities, n_jobs=1), bool)
    suggested = probabilities.argmax(axis=1).astype(np.int64)
    return Doubts((score + agreement) / 2, suspicious & (suggested != target), suggested)


def _doubts_of_several(target: npt.NDArray[Any], probabilities: Floats, agreement: Floats) -> Doubts:
    rank = require("cleanlab.multilabel_classification.rank", _WHAT, "audit")
    find = require("cleanlab.multilabel_classification.filter", _WHAT, "audit").find_multilabel_issues_per_class
    labels = [np.flatnonzero(line).tolist() for line in target]
    score = rank.get_label_quality_scores(labels, probabilities)
    # A label that every picture has, or none, leaves nothing to compare with.
    told = (target.any(axis=0)) & (~target.astype(bool).all(axis=0))
    flagged = np.zeros(target.shape, bool)
    if told.any():
        inner = [np.flatnonzero(line).tolist() for line in target[:, told]]
        flagged[:, told] = np.asarray(find(inner, probabilities[:, told], n_jobs=1), bool).reshape(len(target), -1)
    flagged &= (probabilities >= 0.5) != target.astype(bool)
    suggested = np.where(flagged, 1 - target, target).astype(np.uint8)
    return Doubts((score + agreement) / 2, np.asarray(flagged.any(axis=1)), suggested)


def agreement(target: npt.NDArray[Any], neighbours: Ints, probabilities: Floats) -> Floats:
    """The share of each picture's neighbours that have its label.

    With several labels: the mean over the labels that are given, or probable, of the share of neighbours that are
    given the same; 1 where there is none.

    Args:
        target: as in `doubts`, of all pictures.
        neighbours: [n, k], as `vectors.nearest` gives them for all pictures.
        probabilities: [n, k], as in `doubts`.
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
    asked = (target == 1) | (probabilities >= 0.5)
    n_asked = asked.sum(axis=1)
    return np.asarray(np.where(n_asked > 0, (share * asked).sum(axis=1) / np.maximum(n_asked, 1), 1.0))
