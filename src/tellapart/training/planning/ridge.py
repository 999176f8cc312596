"""A linear probe that is cross-validated in a moment: ridge regression on class indicators, in closed form."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

Floats = npt.NDArray[np.float64]
#: Penalties that are tried, as shares of the mean square of a feature times the number of pictures.
PENALTIES = (1e-2, 1e-1, 1.0, 10.0)


def right_out_of_fold(
    features: npt.NDArray[np.float32],
    target: npt.NDArray[Any],
    fold: npt.NDArray[np.int64],
    unknown: npt.NDArray[np.bool_] | None = None,
    penalties: Sequence[float] = PENALTIES,
) -> Floats:
    """Whether each picture is named right by a probe that was fitted without its fold.

    Least squares towards 1 for a picture's class and 0 for the others (Hoerl & Kennard 1970 for the penalty). It ranks
    networks as a logistic regression does, and costs one product of matrices and a few solutions instead of hundreds of
    passes: so thousands of pictures can be asked. One penalty is taken for all folds, the one with most right.

    Args:
        features: float32 [n, d].
        target: class numbers int64 [n], or labels [n, n_classes].
        fold: int64 [n].
        unknown: bool [n, n_classes]: labels that are not known and do not count.
        penalties: tried in turn.

    Returns:
        [n], 0 or 1; of several labels, the share of the known ones that is right.
    """
    multilabel = target.ndim == 2
    n_classes = target.shape[1] if multilabel else int(target.max()) + 1
    y = torch.from_numpy(target.astype(np.float64)) if multilabel else _indicators(target, n_classes)
    if unknown is not None:  # neither for nor against
        y = torch.where(torch.from_numpy(unknown), torch.tensor(0.5, dtype=torch.float64), y)
    x = torch.from_numpy(features.astype(np.float64))
    x = (x - x.mean(0)) / (x.std(0, correction=0) + 1e-6)
    answers = torch.zeros((len(penalties), len(y), n_classes), dtype=torch.float64)
    for number in np.unique(fold):
        inside = torch.from_numpy(fold == number)
        for k, penalty in enumerate(penalties):
            answers[k, inside] = _answers(x[~inside], y[~inside], x[inside], penalty)
    rights = [_right(answer, target, unknown) for answer in answers.numpy()]
    return max(rights, key=lambda right: float(right.mean()))


def _answers(x: torch.Tensor, y: torch.Tensor, asked: torch.Tensor, penalty: float) -> torch.Tensor:
    """Ridge regression fitted to x, y, asked for others; solved on the smaller side of the matrix."""
    if not len(x):
        return torch.zeros((len(asked), y.shape[1]), dtype=y.dtype)
    mean, centre = y.mean(0), x.mean(0)
    x, asked = x - centre, asked - centre
    strength = penalty * len(x)
    if x.shape[0] <= x.shape[1]:
        gram = x @ x.T + strength * torch.eye(len(x), dtype=x.dtype)
        weight: torch.Tensor = x.T @ torch.linalg.solve(gram, y - mean)
    else:
        gram = x.T @ x + strength * torch.eye(x.shape[1], dtype=x.dtype)
        weight = torch.linalg.solve(gram, x.T @ (y - mean))
    return asked @ weight + mean


def _indicators(target: npt.NDArray[Any], n_classes: int) -> torch.Tensor:
    return torch.nn.functional.one_hot(torch.from_numpy(target.astype(np.int64)), n_classes).double()


def _right(answers: Floats, target: npt.NDArray[Any], unknown: npt.NDArray[np.bool_] | None) -> Floats:
    if target.ndim == 1:
        return np.asarray(answers.argmax(1) == target, np.float64)
    right = ((answers > 0.5) == (target > 0)).astype(np.float64)
    if unknown is None:
        return np.asarray(right.mean(1))
    known = ~unknown
    return np.asarray((right * known).sum(1) / np.maximum(1, known.sum(1)))
