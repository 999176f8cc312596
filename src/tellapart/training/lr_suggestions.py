"""What a learning-rate test says: rates to take, read from the losses of a training whose rate rose. No torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from tellapart.errors import TrainingError

Floats = npt.NDArray[np.float64]

BETA = 0.98
FEWEST = 10


@dataclass(frozen=True, eq=False)
class LrSuggestions:
    """Suggested learning rates, and the curve that they are read from (Smith 2017, arXiv 1506.01186).

    Attributes:
        lrs: float64 [n], rising: up to where the loss blew up or stopped being a number.
        losses: float64 [n], as they came.
        smoothed: float64 [n], see `smooth`.
        steepest: where the loss falls fastest against the logarithm of the learning rate.
        valley: half way down the longest way down; the one to take if in doubt. As fastai's `valley`.
        tenth_of_minimum: a tenth of the learning rate with the lowest loss.
        highest_falling: the highest one, up to the lowest loss, at which the loss still falls, and does so at least a
            quarter as fast as where it is steepest; nearer to the lowest loss it is as good as flat.
        rose: whether the loss rose clearly after its lowest point. If not, the test ended too early: go on to
            higher rates.
    """

    lrs: Floats
    losses: Floats
    smoothed: Floats
    steepest: float
    valley: float
    tenth_of_minimum: float
    highest_falling: float
    rose: bool


def sweep(first: float, last: float, n: int) -> Floats:
    """The n learning rates of a test: geometric, from first to last."""
    return np.geomspace(first, last, n)


def smooth(losses: Sequence[float] | Floats, beta: float = BETA) -> Floats:
    """Running mean m ← beta · m + (1 - beta) · loss, over 1 - beta^(t + 1), which corrects the start from m = 0."""
    means = np.empty(len(losses))
    mean = 0.0
    for step, loss in enumerate(losses):
        mean = beta * mean + (1 - beta) * float(loss)
        means[step] = mean / (1 - beta ** (step + 1))
    return means


def blew_up(losses: Sequence[float] | Floats, factor: float = 4.0) -> bool:
    """Whether a test is over: the last loss is not finite, or the smoothed one is above `factor` times its lowest."""
    if not np.isfinite(losses[-1]):
        return True
    smoothed = smooth(losses)
    return bool(smoothed[-1] > factor * smoothed.min())


def suggest(lrs: Sequence[float] | Floats, losses: Sequence[float] | Floats) -> LrSuggestions:
    """Read the suggestions from a test.

    The first tenth of the test is left out: there the smoothed loss is the mean of too few.

    Args:
        lrs: [n], rising.
        losses: [n], the loss of each step, before it.

    Raises:
        TrainingError: fewer than 10 steps before the loss was no number, or a loss that fell by less than 1 %.
    """
    x, y = np.asarray(lrs, np.float64), np.asarray(losses, np.float64)
    if x.shape != y.shape or x.ndim != 1:
        raise ValueError(f"{x.shape} learning rates and {y.shape} losses")
    bad = np.flatnonzero(~np.isfinite(y))
    end = int(bad[0]) if len(bad) else len(y)
    if end < FEWEST:
        raise TrainingError(
            f"The learning-rate test has {end} usable steps; it needs {FEWEST}.",
            "Begin at a lower learning rate, or take more steps.",
        )
    x, y = x[:end], y[:end]
    smoothed = smooth(y)
    start = end // 10
    tested, curve = x[start:], smoothed[start:]
    lowest = int(curve.argmin())
    fall = curve[0] - curve[lowest]
    if fall < 0.01 * abs(curve[0]):
        raise TrainingError(
            "The loss did not fall during the learning-rate test.",
            "Test other learning rates, or check that the labels belong to the pictures.",
        )
    slope = np.gradient(curve, np.log(tested))[: lowest + 1]
    still = np.flatnonzero(slope <= slope.min() / 4)
    return LrSuggestions(
        lrs=x,
        losses=y,
        smoothed=smoothed,
        steepest=float(tested[slope.argmin()]),
        valley=float(tested[_valley(curve)]),
        tenth_of_minimum=float(tested[lowest]) / 10,
        highest_falling=float(tested[still[-1]]),
        rose=bool(len(bad)) or bool(curve[lowest:].max() > curve[lowest] + fall / 10),
    )


def _valley(curve: Floats) -> int:
    """Half way along the longest falling subsequence, as fastai's `valley` (fastai/callback/schedule.py) counts it."""
    length = np.ones(len(curve), int)
    for i in range(1, len(curve)):
        higher = length[:i][curve[:i] > curve[i]]
        length[i] += higher.max(initial=0)
    end = int(length.argmax())
    start = end - int(length[end])
    third = (end - start) / 3
    return max(0, start + int(third) + int(third / 2))
