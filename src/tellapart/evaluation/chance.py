"""The accuracy of a constant answer, and whether a network does better."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from tellapart.evaluation.intervals import wilson


def constant_accuracy(target: npt.NDArray[Any]) -> float:
    """The accuracy of the best constant answer: the commonest class; several labels: of each label, the commoner value.

    Args:
        target: as in `Predictions`: int64 [n], -1 where there is no label; several labels: uint8 [n, n_classes].

    Returns:
        In 0..1; NaN where no picture has a label.
    """
    if target.ndim == 2:
        share = target.mean(axis=0) if len(target) else np.full(target.shape[1], np.nan)
        return float(np.maximum(share, 1 - share).mean())
    known = target[target >= 0]
    return float(np.bincount(known).max() / len(known)) if len(known) else float("nan")


def at_chance(accuracy: float, constant: float, n: int) -> bool:
    """Whether n pictures do not show that an accuracy is better than that of a constant answer.

    That is: where its 95 % interval (Wilson) reaches down to it. False where one of them is not known.
    """
    low, _ = wilson(accuracy, n)
    return bool(low <= constant)
