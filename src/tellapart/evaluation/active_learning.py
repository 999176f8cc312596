"""Active learning: the pictures to label next are those that the model is unsure of, and not all of one kind."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from tellapart.core.predictions import Floats
from tellapart.core.vectors import unit_length


def uncertainty(probabilities: Floats, multilabel: bool) -> Floats:
    """Margin uncertainty [n] in 0..1: 1 − the margin between the two highest probabilities (Scheffer et al. 2001).

    With several labels: that of the most doubtful label, which is 1 at a probability of one half.

    Args:
        probabilities: [n, n_classes].
        multilabel: whether a picture may have several labels.
    """
    if multilabel:
        return np.asarray((1 - np.abs(2 * probabilities - 1)).max(axis=1))
    if probabilities.shape[1] < 2:
        return 1 - probabilities[:, 0]
    best = np.sort(probabilities, axis=1)[:, -2:]
    return np.asarray(1 - (best[:, 1] - best[:, 0]))


def ask_next(unsure: Floats, features: npt.NDArray[np.float32], n: int) -> npt.NDArray[np.int64]:
    """Choose pictures one after the other: each is uncertain, and far from those chosen before.

    Each choice has the highest product of uncertainty and cosine distance to the nearest chosen picture. This is the
    greedy k-centre method of Sener & Savarese 2018, weighted by uncertainty.

    Args:
        unsure: [n_pictures], as `uncertainty` gives it.
        features: float32 [n_pictures, d].
        n: how many to choose.

    Returns:
        Positions, int64 [min(n, n_pictures)], to be asked in this order.
    """
    unit = unit_length(features)
    far = np.ones(len(unit))
    left = np.ones(len(unit), bool)
    order = np.empty(min(n, len(unit)), np.int64)
    for i in range(len(order)):
        chosen = int(np.argmax(np.where(left, np.maximum(unsure, 1e-6) * far, -1.0)))
        order[i], left[chosen] = chosen, False
        far = np.minimum(far, np.maximum(1 - unit @ unit[chosen], 0) + 1e-9)
    return order
